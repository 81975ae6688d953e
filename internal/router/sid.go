package router

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Long polling makes one session of many requests, and names it in each: by
// sid=... in the query with engine.io (below socket.io), in the path with
// SockJS. Here such requests and the answers that name new sessions are read.

// sidMax bounds a session's name, in bytes: the libraries' have 8 to 36.
const sidMax = 128

// talk is what a request says of a session of long polling. The zero value is a
// request that says nothing of any.
type talk struct {
	sid    string // the session's name; "" where the app will choose one, or there is none
	begins bool   // it begins a session, or may
	byName bool   // its client chose the name, so that all routers know it from the start
}

func (t talk) none() bool { return t == talk{} }

// listen reads a request. path is without escapes, query as it came.
//
//   - engine.io 3 and 4, under any path: EIO=3 or 4. With sid it speaks of that
//     session; a GET for polling without sid is a handshake. A WebSocket without
//     sid is a session of one connection, which needs nobody's memory.
//   - SockJS, under any prefix: see sockSession.
func listen(method, path, query string) talk {
	if strings.Contains(query, "EIO=") {
		return engineTalk(method, query)
	}
	if sid, verb := sockSession(path); sid != "" && sockBegins(method, verb) != "" {
		return talk{sid: sid, begins: sockBegins(method, verb) == "begins", byName: true}
	}
	return talk{}
}

func engineTalk(method, query string) (t talk) {
	version, transport := "", ""
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "EIO":
			version = value
		case "transport":
			transport = value
		case "sid":
			t.sid = value
		}
	}
	if version != "3" && version != "4" {
		return talk{}
	}
	if t.sid == "" {
		return talk{begins: method == http.MethodGet && transport == "polling"}
	}
	if !validSid(t.sid) {
		return talk{}
	}
	return t
}

// sockSession reads /PREFIX/SERVER/SESSION/TRANSPORT. What looks alike belongs
// to somebody else and must not be touched, so SERVER and SESSION have to be as
// clients make them: three or four digits, and at least eight letters and digits.
func sockSession(path string) (sid, verb string) {
	end := strings.LastIndexByte(path, '/')
	if end < 0 {
		return "", ""
	}
	switch verb = path[end+1:]; verb {
	case "xhr", "xhr_streaming", "xhr_send", "jsonp", "jsonp_send", "eventsource", "htmlfile":
	default:
		return "", ""
	}
	path = path[:end]
	if end = strings.LastIndexByte(path, '/'); end < 0 {
		return "", ""
	}
	path, sid = path[:end], path[end+1:]
	if end = strings.LastIndexByte(path, '/'); end < 1 || len(sid) < 8 || !validSid(sid) {
		return "", ""
	}
	server := path[end+1:]
	if len(server) < 3 || len(server) > 4 || strings.Trim(server, "0123456789") != "" {
		return "", ""
	}
	return sid, verb
}

// sockBegins tells whether a request of SockJS "begins" a session, or "goes on"
// with one; "" for one that the protocol does not have. Those that receive open
// the session if there is none; those that send never do.
func sockBegins(method, verb string) string {
	get, post := method == http.MethodGet, method == http.MethodPost
	switch verb {
	case "xhr", "xhr_streaming":
		if post {
			return "begins"
		}
	case "jsonp", "eventsource", "htmlfile":
		if get {
			return "begins"
		}
	case "xhr_send", "jsonp_send":
		if post {
			return "goes on"
		}
	}
	return ""
}

// validSid: letters, digits, and what the libraries' alphabets have besides.
func validSid(sid string) bool {
	for i := range len(sid) {
		switch c := sid[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_', c == '.', c == '~':
		default:
			return false
		}
	}
	return sid != "" && len(sid) <= sidMax
}

// sidReadMax is how much of a handshake's answer is looked at, in bytes. Those of
// the known servers have 100 to 300, and nearly all begin with the sid.
const sidReadMax = 1 << 10

// sidReader finds the sid in the beginning of an answer that somebody else
// carries. It keeps copies of at most sidReadMax bytes. Its zero value is ready.
type sidReader struct {
	seen []byte
	done bool // nothing more is to be learnt
}

// feed looks at the next bytes of the answer. It returns the sid once, when the
// answer has come to it.
func (r *sidReader) feed(p []byte) (sid string) {
	if r.done {
		return ""
	}
	r.seen = append(r.seen, p[:min(len(p), sidReadMax-len(r.seen))]...)
	sid, more := openPacket(r.seen)
	if r.done = !more || len(r.seen) == sidReadMax; r.done {
		r.seen = nil
	}
	return sid
}

// openPacket reads the sid from the beginning of a handshake's answer; more
// tells that it may lie in what is still to come. An open packet is "0" and a
// JSON object:
//
//	0{"sid":"..."}                 engine.io 4
//	97:0{"sid":"..."}2:40          3: the length in characters
//	\x00\x09\x07\xff0{"sid":"..."}   3, binary: 0 for text, the length in digits
//	___eio[0]("97:0{\"sid\":...    either, for JSONP: within a script's string
func openPacket(b []byte) (sid string, more bool) {
	const jsonp = "___eio["
	if bytes.HasPrefix(b, []byte(jsonp[:min(len(b), len(jsonp))])) {
		open := bytes.IndexByte(b, '"')
		if open < 0 {
			return "", len(b) < len(jsonp)+20 // the index and "](" are shorter
		}
		// What an escape stands for matters only for quotes: no name has others.
		b = bytes.ReplaceAll(bytes.TrimRight(b[open+1:], `\`), []byte(`\"`), []byte(`"`))
	}
	const digitsMax = 6 // of a length: more than the answer may have in all
	switch {
	case len(b) == 0:
		return "", true
	case b[0] == 0:
		end := bytes.IndexByte(b, 0xff)
		if end < 0 {
			return "", len(b) <= 1+digitsMax
		}
		if end > 1+digitsMax {
			return "", false
		}
		b = b[end+1:]
	case b[0] != '0':
		end := bytes.IndexByte(b, ':')
		if end < 0 {
			end = len(b)
		}
		if end > digitsMax || len(bytes.Trim(b[:end], "0123456789")) > 0 {
			return "", false
		}
		if end == len(b) {
			return "", true
		}
		b = b[end+1:]
	}
	if len(b) < 2 {
		return "", len(b) == 0 || b[0] == '0'
	}
	if b[0] != '0' || b[1] != '{' {
		return "", false
	}
	return sidOf(b[1:])
}

// sidOf reads the member "sid" of a JSON object of which the beginning is there.
func sidOf(object []byte) (sid string, more bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	depth, key, isKey := 0, "", false
	for {
		t, err := d.Token()
		if err != nil {
			return "", err == io.EOF || err == io.ErrUnexpectedEOF
		}
		switch v := t.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			if depth == 0 {
				return "", false
			}
			isKey = depth == 1 // a value of the outermost object has ended, or it has begun
			continue
		case string:
			if depth == 1 && isKey {
				key, isKey = v, false
				continue
			}
			if depth == 1 && key == "sid" {
				if !validSid(v) {
					return "", false
				}
				return v, false
			}
		}
		if depth == 1 && key == "sid" {
			return "", false // a number, or nothing
		}
		isKey = depth == 1
	}
}
