package router

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

var shop = app.Key{App: "shop", Service: app.DefaultService, Version: "v1"}

func TestRequestsAreCounted(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
	})
	for _, path := range []string{"/", "/", "/missing"} {
		f.get(path)
	}
	f.get("/", func(req *http.Request) { req.Host = "stranger.example" })
	eventually(t, "four requests", func() bool { return f.access.count("request") == 4 })
	n := f.Numbers()
	for class, want := range []int64{0, 0, 2, 0, 1, 0} {
		if got := n[shop].Requests[class]; got.Count != want || want > 0 && got.Sum <= 0 {
			t.Errorf("class %d: %d requests that took %v, want %d", class, got.Count, got.Sum, want)
		}
	}
	if len(n[shop].Unserved) != 0 {
		t.Errorf("unserved: %v, want none", n[shop].Unserved)
	}
	if got := n[app.Key{}].Unserved[Unserved{Cause: UnknownHost}]; got != 1 || n[app.Key{}].Requests[4].Count != 1 {
		t.Errorf("of no service: %+v, want one refused for its host", n[app.Key{}])
	}
	if m := f.access.last(t, "request"); m["cause"] != string(UnknownHost) {
		t.Errorf("access log: cause %v, want %s", m["cause"], UnknownHost)
	}
}

func TestVersionsWithoutRoutesAreToldOfForAWhile(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, naming("a"))
	f.get("/")
	eventually(t, "a record", func() bool { return f.access.count("request") == 1 })
	f.Set(Routes{})
	if got := f.Numbers()[shop].Requests[2].Count; got != 1 {
		t.Errorf("%d requests after the version left, want 1", got)
	}
	f.mu.Lock()
	for _, c := range f.counted {
		c.gone = time.Now().Add(-countsKept)
	}
	f.mu.Unlock()
	f.Set(Routes{})
	if n := f.Numbers(); len(n) != 1 {
		t.Errorf("much later: %d versions are told of, want only the strays", len(n))
	}
}

// What open sockets carry is told while they are open, and never shrinks when
// they end.
func TestOpenSocketsAreCounted(t *testing.T) { bothWays(t, testOpenSocketsAreCounted) }

func testOpenSocketsAreCounted(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{}, socketApp("a"))
	c, _ := dialSocket(t, f, nil)
	if _, err := read(t, c); err != nil {
		t.Fatal(err)
	}
	c.Write(context.Background(), websocket.MessageText, []byte("hello"))
	if _, err := read(t, c); err != nil {
		t.Fatal(err)
	}
	n := f.Numbers()[shop]
	if n.Open != 1 || n.FromClient.Text != 1 || n.FromInstance.Text != 2 || n.FromClient.Bytes < 5 {
		t.Errorf("while it is open: %+v", n)
	}
	if n.Handshakes[Opened] != 1 {
		eventually(t, "the handshake is over", func() bool { return f.Numbers()[shop].Handshakes[Opened] == 1 })
	}
	c.Close(websocket.StatusNormalClosure, "")
	eventually(t, "its end", func() bool {
		later := f.Numbers()[shop]
		if later.FromClient.Text < 1 || later.FromInstance.Bytes < n.FromInstance.Bytes {
			t.Fatalf("what was counted shrank: %+v after %+v", later, n)
		}
		return later.Endings[Ending{tunnel.ByClient, app.Closed}] == 1
	})
	n = f.Numbers()[shop]
	if n.Open != 0 || n.FromClient.Close != 1 || n.Lifetimes.Count != 1 {
		t.Errorf("after its end: %+v", n)
	}
}

func TestHandshakesAreCounted(t *testing.T) { bothWays(t, testHandshakesAreCounted) }

func testHandshakesAreCounted(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{Sockets: app.Sockets{MaxPerClient: 1, AllowedOrigins: []string{"self"}}}, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		socketApp("a")(w, req)
	})
	ask := func(path, origin string, want int) {
		t.Helper()
		req := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		if origin != "" {
			req += "Origin: " + origin + "\r\n"
		}
		got := f.raw(req+"\r\n", "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+http.StatusText(want)) && !strings.Contains(got, " "+http.StatusText(want)) {
			t.Errorf("%s from %q: got %q, want %d", path, origin, got, want)
		}
	}
	ask("/no", "", http.StatusForbidden)
	ask("/ws", "https://elsewhere.example", http.StatusForbidden)
	eventually(t, "the first are over", func() bool {
		n := f.Numbers()[shop].Handshakes
		return n[Declined] == 1 && n[Refused] == 1
	})
	c, _ := dialSocket(t, f, nil)
	if _, err := read(t, c); err != nil {
		t.Fatal(err)
	}
	ask("/ws", "", http.StatusTooManyRequests)
	var n Numbers
	eventually(t, "four handshakes", func() bool {
		n = f.Numbers()[shop]
		return n.Handshakes[Opened]+n.Handshakes[Declined]+n.Handshakes[Refused]+n.Handshakes[Left] == 4
	})
	if n.Handshakes[Opened] != 1 || n.Handshakes[Declined] != 1 || n.Handshakes[Refused] != 2 {
		t.Errorf("handshakes: %v", n.Handshakes)
	}
	if n.Unserved[Unserved{true, ForeignOrigin}] != 1 || n.Unserved[Unserved{true, TooManySockets}] != 1 {
		t.Errorf("refused: %v", n.Unserved)
	}
}

func TestAffinityIsCounted(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	all := f.serve(Pool{Affinity: true}, naming("a"), naming("b"))
	res, home := f.get("/")
	cookie := withCookie(affinityCookie, given(res, affinityCookie).Value)
	f.get("/", cookie)
	f.get("/", cookie)
	at := 0
	if home == "b" {
		at = 1
	}
	all[at].State, all[at].Cause, all[at].Until = app.Draining, app.Aged, time.Now().Add(time.Minute)
	f.Set(routesTo(Pool{Affinity: true, Instances: all}))
	f.get("/", cookie)
	eventually(t, "four requests", func() bool { return f.access.count("request") == 4 })
	got := f.Numbers()[shop].Affinity
	if got.Cookie != 2 || got.New != 1 || got.Lost[app.Aged] != 1 || len(got.Lost) != 1 {
		t.Errorf("affinity: %+v, want 2 hits, 1 new client, 1 lost as its instance aged", got)
	}

	// Long after the instance has left it is still known why.
	f.Set(routesTo(Pool{Affinity: true, Instances: all[1-at : 2-at]}))
	f.get("/", cookie)
	eventually(t, "five requests", func() bool { return f.access.count("request") == 5 })
	if got := f.Numbers()[shop].Affinity.Lost[app.Aged]; got != 2 {
		t.Errorf("lost to an aged instance: %d, want 2", got)
	}
}
