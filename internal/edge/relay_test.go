package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// whose answers with whom it thinks a request is from.
var whose = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })

// relayedServer serves whose behind Relayed, over TLS if cfg is not nil.
func relayedServer(t *testing.T, trusted string, h http.Handler, cfg *tls.Config) net.Addr {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr()
	l = Relayed(l, func(a netip.Addr) bool { return a.String() == trusted }, slog.New(slog.DiscardHandler))
	if cfg != nil {
		l = TLS(l, cfg, nil)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, []net.Listener{l}, h, Limits{}, time.Second, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return addr
}

// ask sends parts, each when the one before has been taken in all likelihood,
// and reads the answer.
func ask(t *testing.T, conn net.Conn, parts ...string) (status int, body string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	for _, p := range parts {
		io.WriteString(conn, p)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func dialTCP(t *testing.T, a net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

const request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

func TestTrustedProxiesSayWhoConnects(t *testing.T) {
	addr := relayedServer(t, "127.0.0.1", whose, nil)
	v1, v2 := "PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n", proxyV2(0x21, 0x21, ends6...)
	for name, c := range map[string]struct {
		parts []string
		want  string
	}{
		"version 1":             {[]string{v1 + request}, "1.2.3.4:4660"},
		"version 1 in pieces":   {[]string{"P", "ROXY TCP4 1.2.3", ".4 5.6.7.8 4660 80\r", "\n", request}, "1.2.3.4:4660"},
		"version 2":             {[]string{v2 + request}, "[2001:db8::1]:4660"},
		"version 2 in pieces":   {[]string{v2[:3], v2[3:20], v2[20:], request}, "[2001:db8::1]:4660"},
		"a check of its health": {[]string{proxyV2(0x20, 0) + request}, ""},
		"no header":             {[]string{request}, ""},
		"no header, in pieces":  {[]string{"P", "OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialTCP(t, addr)
			if c.want == "" {
				c.want = conn.LocalAddr().String()
			}
			if status, got := ask(t, conn, c.parts...); status != 200 || got != c.want {
				t.Errorf("the request is from %q (%d), want %s", got, status, c.want)
			}
		})
	}
	for name, bad := range map[string]string{"nonsense": "PROXY TCP4 nonsense\r\n", "two": v1 + v1, "half and gone": "PROXY TC"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialTCP(t, addr)
			go func() { io.WriteString(conn, bad); conn.CloseWrite() }()
			if status, got := ask(t, conn); status != 0 && status != 400 {
				t.Errorf("it is answered with %d, from %s", status, got)
			}
		})
	}
}

// What strangers say of others is no request.
func TestStrangersAreNotBelieved(t *testing.T) {
	addr := relayedServer(t, "192.0.2.1", whose, nil)
	for name, head := range map[string]string{"version 1": "PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n", "version 2": proxyV2(0x21, 0x11, ends4...)} {
		if status, got := ask(t, dialTCP(t, addr), head+request); status != 400 {
			t.Errorf("%s: %d from %s", name, status, got)
		}
	}
	conn := dialTCP(t, addr)
	if status, got := ask(t, conn, request); status != 200 || got != conn.LocalAddr().String() {
		t.Errorf("a plain request: %d from %s", status, got)
	}
}

// The header stands before the handshake.
func TestTrustedProxiesCarryTLS(t *testing.T) {
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	addr := relayedServer(t, "127.0.0.1", whose, TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &lent.TLS.Certificates[0], nil }))
	roots := x509.NewCertPool()
	roots.AddCert(lent.Certificate())
	raw := dialTCP(t, addr)
	fmt.Fprint(raw, "PROXY TCP4 1.2.3.4 5.6.7.8 4660 443\r\n")
	if status, got := ask(t, tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "example.com"}), request); status != 200 || got != "1.2.3.4:4660" {
		t.Errorf("%d from %q", status, got)
	}
}

// looksAhead is whose, and says to whom it takes a connection to belong.
type looksAhead struct {
	http.Handler
	shown chan string
}

func (l looksAhead) Take(conn *net.TCPConn, client net.Addr, first []byte) net.Conn {
	l.shown <- fmt.Sprintf("%s says %.3s", client, first)
	return conn
}

// Who looks ahead sees the request and not the header, and what it leaves is
// still from whom the proxy said.
func TestWhoLooksAheadSeesTheClient(t *testing.T) {
	if !canPeek {
		t.Skip("nobody looks ahead here")
	}
	h := looksAhead{whose, make(chan string, 1)}
	addr := relayedServer(t, "127.0.0.1", h, nil)
	if status, got := ask(t, dialTCP(t, addr), "PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n", request); status != 200 || got != "1.2.3.4:4660" {
		t.Errorf("%d from %q", status, got)
	}
	if got := <-h.shown; got != "1.2.3.4:4660 says GET" {
		t.Errorf("it is shown %q", got)
	}
}

// A proxy that connects ahead and says nothing holds nobody up, neither others
// nor the end.
func TestSilentProxiesHoldNobodyUp(t *testing.T) {
	addr := relayedServer(t, "127.0.0.1", whose, nil)
	for range 10 {
		dialTCP(t, addr)
	}
	if status, _ := ask(t, dialTCP(t, addr), request); status != 200 {
		t.Errorf("beside silent ones: %d", status)
	}
}

// Over a Unix socket as well.
func TestTrustedProxiesOverUnixSockets(t *testing.T) {
	path := socketPath(t)
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l = Relayed(l, func(a netip.Addr) bool { return !a.IsValid() }, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, []net.Listener{l}, whose, Limits{}, time.Second, slog.New(slog.DiscardHandler))
	}()
	defer func() { stop(); <-done }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, got := ask(t, c, "PROXY TCP4 1.2.3.4 5.6.7.8 4660 80\r\n"+request); status != 200 || got != "1.2.3.4:4660" {
		t.Errorf("%d from %q", status, got)
	}
}
