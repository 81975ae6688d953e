package router

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/edge"
)

// seen is what an app is told of its client.
type seen struct{ For, Proto, Host string }

func tells(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nX-For: %s\r\nX-Proto: %s\r\n\r\n",
			acceptKey(r.Header.Get("Sec-Websocket-Key")), r.Header.Get(forwarded), r.Header.Get(forwardedProto))
		return
	}
	json.NewEncoder(w).Encode(seen{r.Header.Get(forwarded), r.Header.Get(forwardedProto), r.Host})
}

func TestTrustedProxiesAreBelieved(t *testing.T) {
	us := netip.MustParsePrefix("127.0.0.1/32")
	inner := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct {
		rule         string
		trusted      []netip.Prefix
		chain, proto string
		want, via    string
	}{
		{"nobody is trusted", nil, "1.2.3.4", "https", "1.2.3.4, 127.0.0.1", "http"},
		{"another is trusted", []netip.Prefix{inner}, "1.2.3.4", "https", "1.2.3.4, 127.0.0.1", "http"},
		{"the peer is", []netip.Prefix{us}, "1.2.3.4", "https", "1.2.3.4", "https"},
		{"what the client wrote before is its own word", []netip.Prefix{us}, "6.6.6.6, 1.2.3.4", "https", "6.6.6.6, 1.2.3.4", "https"},
		{"a chain of trusted ones", []netip.Prefix{us, inner}, "6.6.6.6, 1.2.3.4,10.0.0.9 , 10.1.1.1", "https", "6.6.6.6, 1.2.3.4", "https"},
		{"all are trusted", []netip.Prefix{us, inner}, "10.0.0.9, 10.1.1.1", "", "10.0.0.9", "http"},
		{"nonsense ends the chain", []netip.Prefix{us, inner}, "1.2.3.4, unknown, 10.1.1.1", "", "1.2.3.4, unknown, 10.1.1.1", "http"},
		{"nonsense alone", []netip.Prefix{us}, "unknown", "", "unknown, 127.0.0.1", "http"},
		{"no chain", []netip.Prefix{us}, "", "HTTPS", "127.0.0.1", "https"},
		{"ports and brackets", []netip.Prefix{us, inner}, "[2001:db8::1]:44, 10.1.1.1:5", "", "2001:db8::1", "http"},
		{"IPv4 in IPv6", []netip.Prefix{us}, "::ffff:1.2.3.4", "", "1.2.3.4", "http"},
		{"the last proxy's word", []netip.Prefix{us}, "1.2.3.4", "https, http", "1.2.3.4", "http"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			bothWays(t, func(t *testing.T, newFront func(*testing.T, Config) *front) {
				f := newFront(t, Config{Trusted: c.trusted})
				f.serve(Pool{}, tells)
				head := ""
				if c.chain != "" {
					head += "X-Forwarded-For: " + c.chain + "\r\n"
				}
				if c.proto != "" {
					head += "X-Forwarded-Proto: " + c.proto + "\r\n"
				}
				conn, err := net.Dial("tcp", f.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				in := bufio.NewReader(conn)
				want := c.want + ", 127.0.0.1" // the listener's address
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: shop.localhost\r\n%s\r\n", head)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				var got seen
				if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.For != want || got.Proto != c.via {
					t.Errorf("the app is told %+v, %v; want %q by %s", got, err, want, c.via)
				}
				resp.Body.Close()

				conn2, err := net.Dial("tcp", f.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn2.Close()
				conn2.SetDeadline(time.Now().Add(30 * time.Second))
				fmt.Fprintf(conn2, "GET / HTTP/1.1\r\nHost: shop.localhost\r\n%sUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", head)
				resp, err = http.ReadResponse(bufio.NewReader(conn2), nil)
				if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("handshake: %v, %v", resp, err)
				}
				if got := resp.Header.Get("X-For"); got != want || resp.Header.Get("X-Proto") != c.via {
					t.Errorf("over a handshake the app is told %q by %s; want %q by %s", got, resp.Header.Get("X-Proto"), want, c.via)
				}
			})
		})
	}
}

// Who is told of by the PROXY protocol is the client, on each way.
func TestEachWayKnowsTheClientBehindAProxy(t *testing.T) {
	f := newFront(t, Config{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	f.serve(Pool{}, tells)
	for name, h := range map[string]http.Handler{"straight": f.Router, "net-http": struct{ http.Handler }{f.Router}} {
		l, err := edge.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			edge.Serve(ctx, []net.Listener{edge.Relayed(l, f.Trusts, discard)}, h, edge.Limits{}, 10*time.Millisecond, discard)
		})
		defer stop()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprint(conn, "PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\nGET / HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-For") != "1.2.3.4, 127.0.0.1" {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
		conn.Close()
		stop()
		running.Wait()
	}
}

// Who comes over a Unix socket has no address: what a trusted one says of another
// counts, and nobody is made up.
func TestClientsOverUnixSockets(t *testing.T) {
	for _, c := range []struct {
		trusted bool
		want    string
	}{{true, "1.2.3.4"}, {false, "1.2.3.4, unknown"}} {
		f := newFront(t, Config{TrustedUnix: c.trusted})
		f.serve(Pool{}, tells)
		dir, err := os.MkdirTemp("", "hf")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l, err := edge.Listen("unix:" + filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			edge.Serve(ctx, []net.Listener{edge.Relayed(l, f.Trusts, discard)}, f.Router, edge.Limits{}, 10*time.Millisecond, discard)
		})
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", addr) }}}
		req, err := http.NewRequest(http.MethodGet, "http://shop.localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(forwarded, "1.2.3.4")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got seen
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.For != c.want {
			t.Errorf("trusted %v: the app is told %+v, %v; want %q", c.trusted, got, err, c.want)
		}
		resp.Body.Close()
		stop()
		running.Wait()
	}
}

// Plain requests for names that have a certificate are led to TLS, others are
// served.
func TestPlainRequestsAreLedToTLS(t *testing.T) {
	bothWays(t, func(t *testing.T, newFront func(*testing.T, Config) *front) {
		f := newFront(t, Config{
			Secure:  func(host string) (string, bool) { return host + ":8443", host == "shop.localhost" },
			Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
			HSTS:    time.Hour,
		})
		f.serve(Pool{}, tells)
		for _, c := range []struct {
			request, proto string
			status         int
			location       string
		}{
			{"GET /a%2Fb?c=d HTTP/1.1\r\nHost: SHOP.localhost.:8080", "", 301, "https://shop.localhost:8443/a%2Fb?c=d"},
			{"GET //evil.example/ HTTP/1.1\r\nHost: shop.localhost", "", 301, "https://shop.localhost:8443//evil.example/"},
			{"POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 0", "", 308, "https://shop.localhost:8443/"},
			{"GET / HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", 301, "https://shop.localhost:8443/"},
			{"GET / HTTP/1.1\r\nHost: localhost", "", 200, ""},
			{"GET / HTTP/1.1\r\nHost: 127.0.0.1", "", 200, ""},
			{"GET / HTTP/1.1\r\nHost: shop.localhost", "https", 200, ""},
			{"GET / HTTP/1.1\r\nHost: example.com", "", 404, ""},
		} {
			conn, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			if c.proto != "" {
				c.request += "\r\nX-Forwarded-Proto: " + c.proto
			}
			fmt.Fprintf(conn, "%s\r\n\r\n", c.request)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.status || resp.Header.Get("Location") != c.location {
				t.Errorf("%s: %d to %q, want %d to %q", strings.ReplaceAll(c.request, "\r\n", " | "), resp.StatusCode, resp.Header.Get("Location"), c.status, c.location)
			}
			if got := resp.Header.Get(strictTransport); (got == "max-age=3600") != (c.proto == "https") {
				t.Errorf("%s: HSTS is %q", c.request, got)
			}
		}
	})
}
