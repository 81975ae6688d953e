package router

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
)

// tryOpen opens a socket and returns the status of the handshake's answer.
func tryOpen(t *testing.T, f *front, header http.Header) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, f.url+"/ws", &websocket.DialOptions{HTTPHeader: header, HTTPClient: f.client})
	if err == nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	if resp == nil {
		t.Fatal(err)
	}
	return conn, resp.StatusCode
}

func TestAllowedOrigins(t *testing.T) { allWays(t, testAllowedOrigins) }

func testAllowedOrigins(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	anyOrigin := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err == nil {
			defer c.CloseNow()
			c.Read(r.Context())
		}
	}
	f.serve(Pool{Sockets: app.Sockets{AllowedOrigins: []string{"self", "https://app.example.org", "https://*.example.net"}}}, anyOrigin)
	for origin, want := range map[string]int{
		"":                              101, // no browser
		f.url:                           101,
		"https://app.example.org":       101,
		"HTTPS://App.Example.org":       101,
		"https://a.b.example.net":       101,
		"http://app.example.org":        403,
		"https://example.net":           403,
		"https://evilexample.net":       403,
		"https://app.example.org:8443":  403,
		"https://app.example.org.evil":  403,
		"null":                          403,
		"https://x@a.example.net.evil/": 403,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		if _, got := tryOpen(t, f, header); got != want {
			t.Errorf("Origin %q: %d, want %d", origin, got, want)
		}
	}
	if _, got := tryOpen(t, f, http.Header{"Origin": {f.url, f.url}}); got != 403 {
		t.Errorf("two Origins: %d, want 403", got)
	}
}

func TestSocketsPerClient(t *testing.T) { bothWays(t, testSocketsPerClient) }

func testSocketsPerClient(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{Sockets: app.Sockets{MaxPerClient: 2}}, socketApp("a"))
	first, got := tryOpen(t, f, nil)
	if got != 101 {
		t.Fatalf("the first: %d", got)
	}
	if _, got := tryOpen(t, f, nil); got != 101 {
		t.Fatalf("the second: %d", got)
	}
	if _, got := tryOpen(t, f, nil); got != http.StatusTooManyRequests {
		t.Fatalf("the third: %d, want 429", got)
	}
	// A place is free again when one has ended, and no other claim is left over.
	first.CloseNow()
	eventually(t, "a place is free", func() bool { _, got := tryOpen(t, f, nil); return got == 101 })
	f.tunnels.CloseAll(t.Context(), app.ShuttingDown)
	eventually(t, "all places are given back", func() bool {
		f.Router.clients.mu.Lock()
		defer f.Router.clients.mu.Unlock()
		return len(f.Router.clients.open) == 0
	})
}

// What the tunnel has to enforce reaches it.
func TestPolicyReachesTheTunnel(t *testing.T) { allWays(t, testPolicyReachesTheTunnel) }

func testPolicyReachesTheTunnel(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{Sockets: app.Sockets{MaxMessageBytes: 1000}}, socketApp("a"))
	c, got := tryOpen(t, f, nil)
	if got != 101 {
		t.Fatal(got)
	}
	read(t, c)
	c.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 1001)))
	for {
		if _, err := read(t, c); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
				t.Errorf("got %v, want 1009", err)
			}
			return
		}
	}
}

func TestHousehold(t *testing.T) {
	for a, want := range map[string]string{
		"203.0.113.7":      "203.0.113.7/32",
		"2001:db8:1:2::99": "2001:db8:1:2::/64",
	} {
		if got := household(netip.MustParseAddr(a)).String(); got != want {
			t.Errorf("household(%s) = %s, want %s", a, got, want)
		}
	}
}

// When the router has as many sockets as it may have, the next one is refused
// and those inside go on.
func TestFullOfSockets(t *testing.T) { bothWays(t, testFullOfSockets) }

func testFullOfSockets(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{Sockets: 2})
	f.serve(Pool{}, socketApp("a"))
	first, _ := tryOpen(t, f, nil)
	second, _ := tryOpen(t, f, nil)
	if _, got := tryOpen(t, f, nil); got != http.StatusServiceUnavailable {
		t.Fatalf("the third: %d, want 503", got)
	}
	read(t, second) // its name
	if err := second.Write(t.Context(), websocket.MessageText, []byte("still here")); err != nil {
		t.Error(err)
	}
	if got, err := read(t, second); err != nil {
		t.Errorf("a socket inside: %q, %v", got, err)
	}
	first.CloseNow()
	eventually(t, "a place is free", func() bool { _, got := tryOpen(t, f, nil); return got == 101 })
	f.tunnels.CloseAll(t.Context(), app.ShuttingDown)
	eventually(t, "nothing is counted any more", func() bool { return f.Router.open.Load() == 0 })
}
