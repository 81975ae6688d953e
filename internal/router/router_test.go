package router

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/edge"
	"holdfast/internal/tunnel"
)

// front is a router behind the edge, with its tunnels running.
type front struct {
	*Router
	t       testing.TB
	addr    string       // where it listens
	url     string       // http://addr
	client  *http.Client // speaks to it
	tunnels *tunnel.Set
	access  *records
}

// newFront starts a router; everything ends with the test.
func newFront(t *testing.T, cfg Config) *front {
	t.Helper()
	return openFront(t, cfg, func(r *Router) http.Handler { return r })
}

// behindNetHTTP is newFront with a router that does not look ahead: net/http
// reads every request.
func behindNetHTTP(t *testing.T, cfg Config) *front {
	t.Helper()
	return openFront(t, cfg, func(r *Router) http.Handler { return struct{ http.Handler }{r} })
}

// bothWays runs a test about handshakes on each of the ways that they may go.
func bothWays(t *testing.T, test func(t *testing.T, newFront func(*testing.T, Config) *front)) {
	t.Run("straight", func(t *testing.T) { test(t, newFront) })
	t.Run("net-http", func(t *testing.T) { test(t, behindNetHTTP) })
}

func openFront(t testing.TB, cfg Config, handler func(*Router) http.Handler) *front {
	t.Helper()
	return openFrontAt(t, cfg, handler, func(l net.Listener) net.Listener { return l })
}

func openFrontAt(t testing.TB, cfg Config, handler func(*Router) http.Handler, over func(net.Listener) net.Listener) *front {
	t.Helper()
	f := &front{t: t, client: plain, access: &records{}}
	cfg.Access = slog.New(slog.NewJSONHandler(f.access, nil))
	if cfg.Domains == nil {
		cfg.Domains = []string{"localhost"}
	}
	f.tunnels = tunnel.New(tunnel.Config{}, discard)
	f.Router = New(cfg, f.tunnels)
	l, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	f.url = "http://" + f.addr
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.tunnels.Run(ctx) })
	running.Go(func() {
		edge.Serve(ctx, []net.Listener{over(l)}, handler(f.Router), edge.Limits{}, 10*time.Millisecond, discard)
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		f.Close()
	})
	return f
}

// instance is a ready instance of v1 of the default service of shop.
func instance(id, addr string) app.Instance {
	return app.Instance{
		ID:    id,
		Key:   app.Key{App: "shop", Service: app.DefaultService, Version: "v1"},
		Addr:  addr,
		State: app.Ready,
		Since: time.Now().Add(-time.Hour),
	}
}

// routesTo are routes with one pool.
func routesTo(p Pool) Routes {
	return Routes{
		Apps: map[string]App{"shop": {Services: map[string]Service{app.DefaultService: {
			Split: app.Split{By: app.ByRandom, Shares: map[string]float64{"v1": 1}},
			Pools: map[string]Pool{"v1": p},
		}}}},
		Default: Default{App: "shop", Service: app.DefaultService},
	}
}

// serve starts instances with a handler each, named a, b, c ..., and routes to them.
func (f *front) serve(p Pool, handlers ...http.HandlerFunc) []app.Instance {
	f.t.Helper()
	for i, h := range handlers {
		p.Instances = append(p.Instances, instance(string(rune('a'+i)), serving(f.t, h)))
	}
	f.Set(routesTo(p))
	return p.Instances
}

// serving starts an app and returns its address.
func serving(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// refusing is an address where nobody listens: its port is bound as long as the
// test runs, so that nobody else gets it.
func refusing(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

func naming(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }
}

// get asks through the front and returns answer and body.
func (f *front) get(path string, change ...func(*http.Request)) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequest("GET", f.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	return f.do(req)
}

func (f *front) do(req *http.Request) (*http.Response, string) {
	f.t.Helper()
	res, err := f.client.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatalf("%s %s: read body: %v", req.Method, req.URL, err)
	}
	return res, string(body)
}

// plain is a client that follows nothing, keeps no cookies and changes no encoding.
var plain = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

// raw writes bytes to the front and returns what comes back until the front
// closes, or until stop is in it.
func (f *front) raw(request, stop string) string {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		f.t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil || stop != "" && strings.Contains(got.String(), stop) {
			return got.String()
		}
	}
}

// eventually polls until fn is true.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !fn(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// records keeps what the access log got.
type records struct {
	mu  sync.Mutex // guards the following
	all []map[string]any
}

func (r *records) Write(p []byte) (int, error) {
	var m map[string]any
	if err := json.Unmarshal(p, &m); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, m)
	return len(p), nil
}

// last is the newest record with that message; it waits for one.
func (r *records) last(t *testing.T, msg string) (m map[string]any) {
	t.Helper()
	eventually(t, "a record "+msg, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, one := range r.all {
			if one["msg"] == msg {
				m = one
			}
		}
		return m != nil
	})
	return m
}

// any tells whether there is a record like that.
func (r *records) any(like func(map[string]any) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, like)
}

func (r *records) count(msg string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.all {
		if one["msg"] == msg {
			n++
		}
	}
	return n
}

func TestRequestReachesTheApp(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		w.Header().Set("X-App", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s", req.Method, req.Host, req.RequestURI, body)
	})
	req, _ := http.NewRequest("POST", f.url+"/a/b?x=1", strings.NewReader("hello"))
	req.Host = "v1-dot-shop.localhost"
	res, body := f.do(req)
	if want := "POST v1-dot-shop.localhost /a/b?x=1 hello"; res.StatusCode != 418 || body != want || res.Header.Get("X-App") != "yes" {
		t.Errorf("got %d %q %v, want 418 %q", res.StatusCode, body, res.Header, want)
	}
	eventually(t, "nothing open", func() bool { return f.Load()["a"] == Load{} })
	m := f.access.last(t, "request")
	for k, want := range map[string]any{
		"method": "POST", "host": "v1-dot-shop.localhost", "path": "/a/b", "app": "shop", "service": "default", "version": "v1",
		"instance": "a", "client": "127.0.0.1", "status": 418.0, "in": 5.0, "out": float64(len(body)),
	} {
		if m[k] != want {
			t.Errorf("access log: %s = %v, want %v", k, m[k], want)
		}
	}
	if m["err"] != nil || m["tries"] != nil || m["dur"].(float64) <= 0 || m["id"] == "" {
		t.Errorf("access log: %v", m)
	}
}

func TestForeignHost(t *testing.T) {
	f := newFront(t, Config{Domains: []string{"apps.example.org"}})
	f.serve(Pool{}, naming("a"))
	res, body := f.get("/<script>", func(req *http.Request) { req.Host = "evil.example" })
	if res.StatusCode != 404 || !strings.Contains(body, "PROJECT.apps.example.org") || strings.Contains(body, "evil") || strings.Contains(body, "shop") {
		t.Errorf("got %d %q; want 404 that names the hosts' form, neither the asked one nor our applications", res.StatusCode, body)
	}
	if ct := res.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got headers %v", res.Header)
	}
	res, body = f.get("/", func(req *http.Request) {
		req.Host = "evil.example"
		req.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9")
	})
	if !strings.HasPrefix(body, "<!doctype html>") || !strings.Contains(res.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a browser got %v %q, want a page", res.Header, body)
	}
	if m := f.access.last(t, "request"); m["status"] != 404.0 || m["instance"] != nil || !strings.Contains(body, m["id"].(string)) {
		t.Errorf("access log %v does not fit the page", m)
	}
}

func TestMethodsOfTheServer(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, naming("a"))
	for _, c := range []struct{ rule, request, want string }{
		{"CONNECT is refused", "CONNECT shop.localhost:80 HTTP/1.1\r\nHost: shop.localhost:80\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 "},
		{"OPTIONS * is a ping", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
		{"GET * is nothing", "GET * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "},
		{"absolute form", "GET http://shop.localhost/ HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
	} {
		if got := f.raw(c.request, ""); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.rule, got, c.want)
		}
	}
}

func TestCloseRefuses(t *testing.T) {
	f := newFront(t, Config{})
	started, finish := make(chan struct{}), make(chan struct{})
	f.serve(Pool{}, func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-finish
		io.WriteString(w, "whole")
	})
	answer := make(chan string)
	go func() {
		_, body := f.get("/")
		answer <- body
	}()
	<-started
	f.Close()
	f.Close()
	res, _ := f.get("/")
	if res.StatusCode != 503 || !res.Close || res.Header.Get("Retry-After") == "" {
		t.Errorf("after Close: %d, close %v, %v; want 503 and a closed connection", res.StatusCode, res.Close, res.Header)
	}
	close(finish)
	if got := <-answer; got != "whole" {
		t.Errorf("the request under way got %q", got)
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	f := newFront(t, Config{})
	f.Set(routesTo(Pool{}))
	queue := f.table.Load().services["shop"]["default"].waiting
	answer := make(chan *http.Response)
	go func() {
		res, _ := f.get("/")
		answer <- res
	}()
	eventually(t, "one waits", func() bool { return queue.Load() == 1 })
	f.Close()
	if res := <-answer; res.StatusCode != 503 || !res.Close {
		t.Errorf("got %d, close %v", res.StatusCode, res.Close)
	}
}

// Over TLS, with HTTP/2 and with a WebSocket on HTTP/1.1.
func TestTLS(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{Affinity: true}, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/ws" {
			socketApp("a")(w, req)
			return
		}
		fmt.Fprint(w, req.Proto, " ", req.Header.Get("X-Forwarded-Proto"), " ", req.Host, req.RequestURI)
	})
	s := httptest.NewUnstartedServer(f.Router)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	req, _ := http.NewRequest("GET", s.URL, nil)
	req.URL.Opaque = "/a b?c d HTTP/1.1" // HTTP/2 carries that; as HTTP/1 it would be another request
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if want := "HTTP/1.1 https " + s.Listener.Addr().String() + "/a%20b?c%20d%20HTTP/1.1"; string(b) != want || res.ProtoMajor != 2 {
		t.Errorf("got %q over %s, want %q", b, res.Proto, want)
	}
	if c := given(res, affinityCookie); c == nil || !c.Secure {
		t.Errorf("cookie over TLS: %v", res.Header)
	}
	old := s.Client().Transport.(*http.Transport).Clone()
	old.ForceAttemptHTTP2 = false
	old.TLSClientConfig.NextProtos = []string{"http/1.1"}
	defer old.CloseIdleConnections()
	name, end, err := openSocket(s.URL, &http.Client{Transport: old})
	if err != nil || name != "a" {
		t.Fatalf("socket over TLS: %q, %v", name, err)
	}
	end()
}

var discard = slog.New(slog.DiscardHandler)

func accessTo(r *records) *slog.Logger { return slog.New(slog.NewJSONHandler(r, nil)) }
