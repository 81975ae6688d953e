package router

import (
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	const sock = "/echo/000/kq3vwz5u/"
	for _, c := range []struct {
		method, path, query string
		want                talk
	}{
		{"GET", "/socket.io/", "EIO=4&transport=polling&t=abc", talk{begins: true}},
		{"GET", "/any/where", "t=1&EIO=3&transport=polling", talk{begins: true}},
		{"GET", "/socket.io/", "EIO=4&transport=polling&sid=", talk{begins: true}},
		{"POST", "/socket.io/", "EIO=4&transport=polling", talk{}},
		{"GET", "/socket.io/", "EIO=4&transport=websocket", talk{}},
		{"GET", "/socket.io/", "EIO=2&transport=polling", talk{}},
		{"GET", "/socket.io/", "EIO=5&transport=polling&sid=x", talk{}},
		{"GET", "/socket.io/", "transport=polling", talk{}},
		{"GET", "/search", "q=EIO=4", talk{}},
		{"GET", "/socket.io/", "EIO=4&transport=polling&sid=lv_VI97HAXpY6yYWAAAC", talk{sid: "lv_VI97HAXpY6yYWAAAC"}},
		{"POST", "/socket.io/", "sid=lv_VI97HAXpY6yYWAAAC&EIO=3&transport=polling", talk{sid: "lv_VI97HAXpY6yYWAAAC"}},
		{"GET", "/socket.io/", "EIO=4&transport=websocket&sid=a", talk{sid: "a"}},
		{"GET", "/socket.io/", "EIO=4&transport=polling&sid=a%20b", talk{}},
		{"GET", "/socket.io/", "EIO=4&transport=polling&sid=" + strings.Repeat("a", sidMax+1), talk{}},

		{"POST", sock + "xhr", "", talk{"kq3vwz5u", true, true}},
		{"POST", sock + "xhr_streaming", "t=1", talk{"kq3vwz5u", true, true}},
		{"POST", sock + "xhr_send", "", talk{"kq3vwz5u", false, true}},
		{"GET", sock + "jsonp", "c=f", talk{"kq3vwz5u", true, true}},
		{"POST", sock + "jsonp_send", "", talk{"kq3vwz5u", false, true}},
		{"GET", sock + "eventsource", "", talk{"kq3vwz5u", true, true}},
		{"GET", sock + "htmlfile", "", talk{"kq3vwz5u", true, true}},
		{"POST", "/a/b/1234/0123456789abcdef0123456789abcdef/xhr", "", talk{"0123456789abcdef0123456789abcdef", true, true}},
		{"GET", sock + "xhr", "", talk{}},
		{"OPTIONS", sock + "xhr", "", talk{}},
		{"GET", sock + "websocket", "", talk{}}, // a session of one connection
		{"POST", sock + "xhr/", "", talk{}},
		{"POST", "/echo/00/kq3vwz5u/xhr", "", talk{}},
		{"POST", "/echo/00000/kq3vwz5u/xhr", "", talk{}},
		{"POST", "/api/v1/users123/xhr", "", talk{}},
		{"POST", "/echo/000/short/xhr", "", talk{}},
		{"POST", "/echo/000/kq3vwz5u!/xhr", "", talk{}},
		{"POST", "/000/kq3vwz5u/xhr", "", talk{}}, // no prefix
		{"GET", "/echo/info", "", talk{}},
		{"GET", "/echo", "", talk{}},
		{"GET", "", "", talk{}},
		{"GET", "xhr", "", talk{}},
	} {
		if got := listen(c.method, c.path, c.query); got != c.want {
			t.Errorf("listen(%s %s?%s) = %+v, want %+v", c.method, c.path, c.query, got, c.want)
		}
	}
}

// openings are answers to handshakes as servers give them, and the sid in them.
var openings = []struct{ rule, answer, sid string }{
	{"engine.io 4", `0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`, "lv_VI97HAXpY6yYWAAAC"},
	{"engine.io 3", `96:0{"sid":"qMRWXQpUjPnOwfV0AAAA","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":5000}2:40`, "qMRWXQpUjPnOwfV0AAAA"},
	{"engine.io 3, binary", "\x00\x09\x06\xff" + `0{"sid":"qMRWXQpUjPnOwfV0AAAA","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":5000}` + "\x00\x02\xff40", "qMRWXQpUjPnOwfV0AAAA"},
	{"JSONP, 3", `___eio[0]("96:0{\"sid\":\"qMRWXQpUjPnOwfV0AAAA\",\"upgrades\":[],\"pingInterval\":25000}");`, "qMRWXQpUjPnOwfV0AAAA"},
	{"JSONP, 4", `___eio[12]("0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[]}");`, "lv_VI97HAXpY6yYWAAAC"},
	{"another order, and spaces", "0{\"upgrades\": [\"sid\", {\"sid\": \"wrong\"}], \"pingInterval\": 25000,\n \"sid\": \"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d\"}", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"},
	{"a value that reads sid", `0{"x":"sid","y":"z"}`, ""},
	{"no sid", `0{"upgrades":[]}`, ""},
	{"a number", `0{"sid":7}`, ""},
	{"odd letters", `0{"sid":"a b"}`, ""},
	{"an error", `{"code":5,"message":"Unsupported protocol version"}`, ""},
	{"a page", "<!doctype html>", ""},
	{"another packet", `4{"sid":"a"}`, ""},
	{"digits only", "1234567890", ""},
	{"binary for ever", "\x00\x09\x09\x09\x09\x09\x09\x09", ""},
	{"a script", "___nothing", ""},
	{"nothing", "", ""},
}

// However the answer is cut, the sid is found once, as soon as it is there.
func TestSidReader(t *testing.T) {
	for _, c := range openings {
		for size := 1; size <= len(c.answer)+1; size++ {
			var r sidReader
			got := ""
			for rest := c.answer; rest != ""; {
				n := min(size, len(rest))
				if sid := r.feed([]byte(rest[:n])); sid != "" {
					if got != "" {
						t.Errorf("%s: twice", c.rule)
					}
					got = sid
					if at := strings.Index(c.answer, sid) + len(sid); size == 1 && len(c.answer)-len(rest) > at+2 {
						t.Errorf("%s: found only after %d bytes, it ends at %d", c.rule, len(c.answer)-len(rest), at)
					}
				}
				rest = rest[n:]
			}
			if got != c.sid {
				t.Errorf("%s in pieces of %d: %q, want %q", c.rule, size, got, c.sid)
			}
		}
	}
	var r sidReader
	if got := r.feed([]byte(`0{"x":"` + strings.Repeat("y", sidReadMax) + `","sid":"abc"}`)); got != "" || !r.done || r.seen != nil {
		t.Errorf("behind %d bytes: %q, done %v", sidReadMax, got, r.done)
	}
}

func FuzzSidReader(f *testing.F) {
	for _, c := range openings {
		f.Add([]byte(c.answer), uint8(7))
	}
	f.Fuzz(func(t *testing.T, answer []byte, cut uint8) {
		var whole, cuts sidReader
		want := whole.feed(answer)
		if want != "" && (!validSid(want) || !strings.Contains(strings.ReplaceAll(string(answer), `\`, ""), want) && !strings.Contains(string(answer), `\u`)) {
			t.Fatalf("%q: sid %q", answer, want)
		}
		got := ""
		for rest := answer; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			if sid := cuts.feed(rest[:n]); sid != "" && got == "" {
				got = sid
			}
			if len(cuts.seen) > sidReadMax {
				t.Fatalf("%d bytes are kept", len(cuts.seen))
			}
			rest = rest[n:]
		}
		if got != want {
			t.Fatalf("%q: %q whole, %q in pieces of %d", answer, want, got, cut+1)
		}
	})
}

func FuzzListen(f *testing.F) {
	f.Add("POST", "/echo/000/kq3vwz5u/xhr", "")
	f.Add("GET", "/socket.io/", "EIO=4&transport=polling&sid=abc")
	f.Add("GET", "////", "&&&EIO=4&=&")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		got := listen(method, path, query)
		if got.sid != "" && !validSid(got.sid) {
			t.Fatalf("sid %q", got.sid)
		}
		if got.byName {
			parts := strings.Split(path, "/")
			if len(parts) < 4 || parts[len(parts)-2] != got.sid || len(parts[len(parts)-3]) < 3 || len(parts[len(parts)-3]) > 4 {
				t.Fatalf("%s: session %q", path, got.sid)
			}
		} else if !got.none() && !strings.Contains(query, "EIO=") {
			t.Fatalf("%s?%s: %+v", path, query, got)
		}
	})
}
