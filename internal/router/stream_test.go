package router

//lint:file-ignore SA1019 net/http's own client takes no :protocol, the older one of golang.org/x/net does

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"holdfast/internal/app"
	"holdfast/internal/edge"
	"holdfast/internal/tunnel"
)

// net/http looks at its environment once, when it starts.
func TestMain(m *testing.M) {
	if err := edge.OfferSockets(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// overHTTP2 is newFront behind TLS, for clients that speak HTTP/2.
func overHTTP2(t *testing.T, cfg Config) *front {
	t.Helper()
	lent := httptest.NewTLSServer(nil) // for its certificate
	defer lent.Close()
	f := openFrontAt(t, cfg, func(r *Router) http.Handler { return r }, func(l net.Listener) net.Listener {
		return edge.TLS(l, &tls.Config{Certificates: lent.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}, tunnel.TLSBase)
	})
	f.url = "https://" + f.addr
	trust := lent.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.NextProtos = []string{"h2"}
	over := &http2.Transport{TLSClientConfig: trust, DisableCompression: true} // net/http's own takes no :protocol
	t.Cleanup(over.CloseIdleConnections)
	f.client = &http.Client{Transport: overStream{over}}
	return f
}

// allWays runs a test about sockets over HTTP/1.1 and over HTTP/2.
func allWays(t *testing.T, test func(t *testing.T, newFront func(*testing.T, Config) *front)) {
	bothWays(t, test)
	t.Run("http2", func(t *testing.T) { test(t, overHTTP2) })
}

// overStream sends a WebSocket's handshake as RFC 8441 has it, and shows the
// answer as HTTP/1.1 would have it, for clients that only know that.
type overStream struct{ over *http2.Transport }

func (e overStream) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Upgrade") == "" {
		return e.over.RoundTrip(req)
	}
	key := req.Header.Get("Sec-WebSocket-Key")
	up, out := io.Pipe()
	req = req.Clone(context.WithoutCancel(req.Context())) // over HTTP/1.1 it would end with the handshake
	req.Method, req.Body, req.ContentLength = http.MethodConnect, up, -1
	for _, name := range []string{"Upgrade", "Connection", "Sec-WebSocket-Key"} {
		req.Header.Del(name)
	}
	req.Header[":protocol"] = []string{"websocket"}
	res, err := e.over.RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusOK {
		return res, err
	}
	if res.ProtoMajor != 2 || res.Header.Get("Sec-WebSocket-Accept") != "" {
		return nil, fmt.Errorf("over %s, %v", res.Proto, res.Header)
	}
	res.StatusCode = http.StatusSwitchingProtocols
	res.Header.Set("Upgrade", "websocket")
	res.Header.Set("Connection", "Upgrade")
	res.Header.Set("Sec-WebSocket-Accept", acceptKey(key))
	res.Body = &ends{res.Body, out}
	return res, nil
}

// ends are a stream's two, as one.
type ends struct {
	io.ReadCloser
	out *io.PipeWriter
}

func (e *ends) Write(p []byte) (int, error) { return e.out.Write(p) }
func (e *ends) Close() error                { e.out.Close(); return e.ReadCloser.Close() }

// connect opens a stream for a protocol.
func (f *front) connect(protocol string, header http.Header) (*http.Response, io.WriteCloser) {
	f.t.Helper()
	up, out := io.Pipe()
	f.t.Cleanup(func() { out.Close() })
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodConnect, f.url+"/ws", up)
	if err != nil {
		f.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if protocol != "" {
		req.Header[":protocol"] = []string{protocol}
	}
	res, err := f.client.Transport.(overStream).over.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { res.Body.Close() })
	return res, out
}

var version13 = http.Header{"Sec-Websocket-Version": {"13"}}

// What an app sees of a WebSocket over HTTP/2 is the handshake that it knows.
func TestStreamsHandshake(t *testing.T) {
	f := overHTTP2(t, Config{})
	heads := make(chan string, 1)
	f.routeTo(rawApp(t, func(_ int, head string, conn net.Conn) {
		heads <- head
		_, key, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
		key, _, _ = strings.Cut(key, "\r\n")
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nX-App: 1\r\nSec-WebSocket-Accept: %s\r\n\r\n\x81\x02hi", acceptKey(key))
		io.Copy(io.Discard, conn)
	}))
	res, _ := f.connect("websocket", http.Header{"Sec-Websocket-Version": {"13"}, "Origin": {"https://localhost"}, "Cookie": {"a=b"}, "X-Appengine-City": {"Rome"}})
	if res.StatusCode != 200 || res.Header.Get("X-App") != "1" || res.Header.Get("X-Hop")+res.Header.Get("Upgrade")+res.Header.Get("Sec-Websocket-Accept") != "" {
		t.Errorf("answer: %d %v", res.StatusCode, res.Header)
	}
	frame := make([]byte, 4)
	if _, err := io.ReadFull(res.Body, frame); err != nil || string(frame) != "\x81\x02hi" {
		t.Errorf("the first frame: %q, %v", frame, err)
	}
	head := <-heads
	for _, want := range []string{
		"GET /ws HTTP/1.1\r\n", "Host: " + f.addr + "\r\n", "Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: ",
		"Origin: https://localhost\r\n", "Cookie: a=b\r\n", "X-Forwarded-Proto: https\r\n", "X-Appengine-City: ?\r\n",
	} {
		if strings.Count(head, want) != 1 {
			t.Errorf("app's head has %q %d times:\n%s", want, strings.Count(head, want), head)
		}
	}
	if strings.Contains(strings.ToLower(head), "protocol") {
		t.Errorf("app's head tells of HTTP/2:\n%s", head)
	}
}

func TestStreamsThatOpenNothing(t *testing.T) {
	f := overHTTP2(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not here", http.StatusForbidden) })
	for _, c := range []struct {
		rule, protocol string
		header         http.Header
		want           int
	}{
		{"declined by the app", "websocket", version13, 403},
		{"another protocol", "connect-udp", version13, 501},
		{"no protocol", "", nil, 405},
		{"no version", "websocket", nil, 400},
		{"another version", "websocket", http.Header{"Sec-Websocket-Version": {"8"}}, 400},
		{"another host", "websocket", http.Header{"Sec-Websocket-Version": {"13"}, "Host": {"elsewhere"}}, 400},
	} {
		if c.rule == "no protocol" || c.rule == "another host" {
			continue // Go's client does not send them; see the edge's tests
		}
		res, _ := f.connect(c.protocol, c.header)
		if b, _ := io.ReadAll(res.Body); res.StatusCode != c.want || len(b) == 0 {
			t.Errorf("%s: %d %q, want %d", c.rule, res.StatusCode, b, c.want)
		}
	}
	eventually(t, "nothing open", func() bool { return f.Load()["a"] == Load{} && f.Router.open.Load() == 0 })
	if f.access.count("socket") != 0 {
		t.Error("a socket was logged")
	}
}

// The end of either stream, and the loss of a client, reach the other end as
// they do over HTTP/1.1.
func TestStreamsEnd(t *testing.T) {
	f := overHTTP2(t, Config{})
	over := make(chan error, 1)
	f.serve(Pool{}, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			over <- err
			return
		}
		defer c.CloseNow()
		_, _, err = c.Read(context.Background())
		over <- err
	})
	t.Run("client resets", func(t *testing.T) {
		res, _ := f.connect("websocket", version13)
		res.Body.Close() // RST_STREAM
		if err := <-over; websocket.CloseStatus(err) != -1 {
			t.Errorf("the app got %v", err)
		}
		if m := f.access.last(t, "socket"); m["by"] != "client" || m["cause"] != string(app.Lost) || m["proto"] != "HTTP/2.0" {
			t.Errorf("record: %v", m)
		}
	})
	t.Run("client ends", func(t *testing.T) {
		res, out := f.connect("websocket", version13)
		out.Close() // END_STREAM
		if err := <-over; !errors.Is(err, io.EOF) {
			t.Errorf("the app got %v, want the end of the stream", err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Errorf("the client got %v, want the end of the stream", err)
		}
	})
	eventually(t, "nothing open", func() bool { return f.Load()["a"] == Load{} && f.Router.open.Load() == 0 })
}

// A client that reads nothing holds up its own socket and no other stream of its
// connection, and is cut when we say goodbye.
func TestStreamsThatStall(t *testing.T) {
	f := overHTTP2(t, Config{})
	full := make(chan struct{})
	f.serve(Pool{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			io.WriteString(w, "served")
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for err == nil { // until it is stuck
			err = c.Write(ctx, websocket.MessageBinary, make([]byte, 64<<10))
		}
		close(full)
	})
	res, _ := f.connect("websocket", version13)
	<-full
	if res, body := f.get("/"); body != "served" || res.ProtoMajor != 2 {
		t.Errorf("another stream: %d %q", res.StatusCode, body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	f.tunnels.CloseAll(ctx, app.ShuttingDown)
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("the client got all, and the end of the stream; it was cut within a message")
	}
	eventually(t, "nothing open", func() bool { return f.Load()["a"].Sockets == 0 && f.Router.open.Load() == 0 })
}

// The contract of net.Conn that the tunnels count on.
func TestStreamIsAConnection(t *testing.T) {
	streams, done := make(chan *stream), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		st := newStream(w, r)
		streams <- st
		st.pump()
		done <- struct{}{}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	up, out := io.Pipe()
	req, _ := http.NewRequest("POST", s.URL, up)
	answered := make(chan *http.Response)
	go func() {
		res, err := s.Client().Do(req)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	st := <-streams
	res := <-answered
	defer res.Body.Close()

	p := make([]byte, 10)
	st.SetReadDeadline(past)
	if _, err := st.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after its deadline: %v", err)
	}
	st.SetReadDeadline(time.Time{})
	big := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	var sent sync.WaitGroup
	sent.Go(func() { out.Write(big) })
	var got []byte
	for len(got) < len(big) {
		n, err := st.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	sent.Wait()
	if !bytes.Equal(got, big) {
		t.Error("other bytes came than were sent")
	}
	woken := make(chan error, 1)
	go func() { _, err := st.Read(p); woken <- err }()
	st.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read when its deadline passes: %v", err)
	}
	go func() {
		var err error
		for err == nil { // until nothing more is taken
			_, err = st.Write(big)
		}
		woken <- err
	}()
	time.Sleep(20 * time.Millisecond) // most probably it waits by then; else it does so later
	st.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write when its deadline passes: %v", err)
	}
	st.Close()
	st.Close()
	<-done
	if _, err := st.Write(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}
