package router

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/edge"
	"holdfast/internal/tunnel"
)

// watched is a router that counts what net/http brings it.
type watched struct {
	*Router
	served atomic.Int64
}

func (w *watched) ServeHTTP(out http.ResponseWriter, req *http.Request) {
	w.served.Add(1)
	w.Router.ServeHTTP(out, req)
}

// Which handshakes go without net/http, and that the others arrive all the same.
func TestStraightWay(t *testing.T) {
	at := func(cut int) func(net.Conn, string) {
		return func(c net.Conn, request string) {
			io.WriteString(c, request[:cut])
			time.Sleep(20 * time.Millisecond) // so that it is two pieces
			io.WriteString(c, request[cut:])
		}
	}
	for _, c := range []struct {
		rule     string
		request  string
		answer   string // of the app; "": it agrees
		send     func(net.Conn, string)
		pause    time.Duration // of the app
		want     string
		straight bool
	}{
		{rule: "a handshake", request: hello, straight: true},
		{rule: "lower-case names", request: strings.Replace(hello, "Upgrade: web", "upgrade: Web", 1), straight: true},
		{rule: "a longer head", request: hello + "Cookie: " + strings.Repeat("x", 3000) + "\r\n", straight: true},
		{rule: "a head beyond what is looked at", request: hello + "Cookie: " + strings.Repeat("x", 5000) + "\r\n"},
		{rule: "in two pieces", request: hello, send: at(50)},
		{rule: "a frame behind it", request: hello, send: func(c net.Conn, request string) { io.WriteString(c, request+"\x81\x80....") }},
		{rule: "an app that takes its time", request: hello, pause: 2 * promptly},
		{rule: "an app that declines", request: hello, answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", want: "HTTP/1.1 403 "},
		{rule: "interim answers", request: hello, answer: "HTTP/1.1 103 Early Hints\r\n\r\n" + agreed + "\r\n"},
		{rule: "a fake 101", request: hello, answer: strings.Replace(agreed, "s3pPL", "AAAAA", 1) + "\r\n", want: "HTTP/1.1 502 "},
		{rule: "an app that hangs up", request: hello, answer: " ", want: "HTTP/1.1 502 "},
		{rule: "two hosts", request: hello + "Host: localhost\r\n", want: "HTTP/1.1 400 "},
		{rule: "no host", request: strings.Replace(hello, "Host: localhost\r\n", "", 1), want: "HTTP/1.1 400 "},
		{rule: "an empty host", request: strings.Replace(hello, "Host: localhost", "Host:", 1)},
		{rule: "a folded line", request: hello + "X-A: b\r\n c\r\n", want: "HTTP/1.1 400 "},
		{rule: "a blank in a name", request: hello + "X A: b\r\n", want: "HTTP/1.1 400 "},
		{rule: "a blank before the colon", request: hello + "X-A : b\r\n", want: "HTTP/1.1 400 "},
		{rule: "a NUL", request: hello + "X-A: \x00\r\n", want: "HTTP/1.1 400 "},
		{rule: "a body", request: hello + "Content-Length: 3\r\n", want: "HTTP/1.1 400 "},
		{rule: "a length of nothing", request: hello + "Content-Length: 0\r\n"},
		{rule: "chunks", request: hello + "Transfer-Encoding: chunked\r\n", want: "HTTP/1.1 400 "},
		{rule: "two readings of where it ends", request: hello + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", want: "HTTP/1.1 400 "},
		{rule: "a bare line end as the end", request: strings.Replace(hello, "\r\nUpgrade", "\r\n\n\r\nUpgrade", 1), want: "HTTP/1.1 400 "},
		{rule: "an expectation", request: hello + "Expect: 100-continue\r\n"},
		{rule: "another host", request: strings.Replace(hello, "Host: localhost", "Host: example.com", 1), want: "HTTP/1.1 404 "},
		{rule: "another version", request: strings.Replace(hello, "Version: 13", "Version: 8", 1), want: "HTTP/1.1 426 "},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var w *watched
			f := openFront(t, Config{}, func(r *Router) http.Handler { w = &watched{Router: r}; return w })
			f.routeTo(rawApp(t, func(_ int, head string, conn net.Conn) {
				time.Sleep(c.pause)
				switch {
				case c.answer != "":
					io.WriteString(conn, c.answer)
				case strings.Contains(head, "Upgrade: websocket"):
					io.WriteString(conn, agreed+"\r\n")
					io.Copy(io.Discard, conn)
				default:
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}))
			conn, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if c.send == nil {
				c.send = func(c net.Conn, request string) { io.WriteString(c, request) }
			}
			c.send(conn, c.request+"\r\n")
			line, err := bufio.NewReader(conn).ReadString('\n')
			if c.want == "" {
				c.want = "HTTP/1.1 101 "
			}
			if err != nil || !strings.HasPrefix(line, c.want) {
				t.Errorf("got %q, %v; want %s", line, err, c.want)
			}
			refused := c.want == "HTTP/1.1 400 " && w.served.Load() == 0
			if got := w.served.Load(); !refused && (got == 0) != c.straight {
				t.Errorf("net/http served %d requests; want straight: %v", got, c.straight)
			}
			conn.Close()
			eventually(t, "nothing is counted any more", func() bool {
				l := f.Load()["a"]
				return l.Sockets == 0 && l.Requests == 0 && f.Router.open.Load() == 0
			})
			if !refused {
				eventually(t, "there is a record of the request", func() bool { return f.access.count("request") > 0 })
			}
			if n := f.access.count("request"); n > 1 {
				t.Errorf("%d records of the request, want one", n)
			}
		})
	}
}

// What net/http serves next on a connection is a request of its own, also where
// the first was a handshake that had begun the straight way.
func TestRequestAfterADeclinedHandshake(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		if req.Header["Upgrade"] != nil {
			w.WriteHeader(403)
		}
		io.WriteString(w, req.URL.Path)
	})
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(conn)
	for _, c := range []struct {
		request string
		status  int
		body    string
	}{{hello + "\r\n", 403, "/ws"}, {"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "/next"}, {hello + "\r\n", 403, "/ws"}} {
		io.WriteString(conn, c.request)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if res.StatusCode != c.status || string(b) != c.body || err != nil {
			t.Errorf("%d %q, %v; want %d %q", res.StatusCode, b, err, c.status, c.body)
		}
	}
	eventually(t, "there are three records", func() bool { return f.access.count("request") >= 3 })
	if n := f.access.count("request"); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

// A server that goes lets go of handshakes that wait for their instance.
func TestStraightWayEndsWithTheServer(t *testing.T) {
	f := &front{t: t, access: &records{}}
	f.tunnels = tunnel.New(tunnel.Config{}, discard)
	f.Router = New(Config{Access: accessTo(f.access)}, f.tunnels)
	l, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked, gone := make(chan struct{}), make(chan struct{})
	f.routeTo(rawApp(t, func(_ int, _ string, conn net.Conn) {
		close(asked)
		conn.Read(make([]byte, 1))
		close(gone)
	}))
	ended := make(chan error, 1)
	go func() {
		ended <- edge.Serve(ctx, []net.Listener{l}, f.Router, edge.Limits{}, 10*time.Millisecond, discard)
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, hello+"\r\n")
	<-asked
	cancel()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the instance was not told")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is counted", func() bool { return f.Load()["a"].Sockets == 0 && f.Router.open.Load() == 0 })
}

// readings collects the requests that net/http's server shows its handler.
func readings(head []byte) (all []*http.Request) {
	l := newMemory()
	var mu sync.Mutex
	srv := &http.Server{ErrorLog: silent, Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, req)
	})}
	ended := make(chan struct{})
	go func() { srv.Serve(l); close(ended) }()
	conn, err := l.dial(context.Background())
	if err != nil {
		panic(err)
	}
	go conn.Write(head)
	http.ReadResponse(bufio.NewReader(conn), nil)
	conn.Close()
	srv.Close()
	<-ended
	mu.Lock()
	defer mu.Unlock()
	return all
}

// FuzzStraightRequest: what goes the straight way is a request that net/http's
// server takes too, and to it the same one: method, target, host and headers.
func FuzzStraightRequest(f *testing.F) {
	for _, line := range []string{
		"", "Host: x\r\n", "X A: b\r\n", ": x\r\n", "X:\r\n", "X: a\r\n b\r\n", "X: \x80\r\n", "X: \x7f\r\n", "X: a\rb\r\n", "X: a\n", "x: a\nUpgrade: b\n",
		"Content-Length: 0\r\n", "Transfer-Encoding: identity\r\n", "Transfer-Encoding: chunked\r\n", "Expect: x\r\n", "Trailer: X\r\n", "Pragma: no-cache\r\n", "\tX: b\r\n",
		"sec-websocket-protocol: a\r\nSEC-WEBSOCKET-PROTOCOL: b\r\n", "\r\n", "\n",
	} {
		f.Add("/ws", "localhost", line)
	}
	f.Add("//x/%zz?a b", "localhost", "")
	f.Add("/%41\x80?%zz=#?", "localhost", "")
	f.Add("/a%2Fb%20", "a:b@c", "")
	f.Add("/ HTTP/1.9\r\nX: GET /", "", "")
	template := strings.NewReplacer("/ws", "%target", "Host: localhost", "Host: %host").Replace(hello) + "%line\r\n"
	f.Fuzz(func(t *testing.T, target, host, line string) {
		head := []byte(strings.NewReplacer("%target", target, "%host", host, "%line", line).Replace(template))
		req := openingHandshake(head)
		if req == nil {
			return
		}
		if _, _, ok := hostname(req.Host); !ok {
			return // find refuses it, and so does the server, in other words
		}
		all := readings(head)
		if len(all) != 1 {
			t.Fatalf("net/http reads %d requests in %q", len(all), head)
		}
		want := all[0]
		if req.Method != want.Method || req.RequestURI != want.RequestURI || req.Proto != want.Proto || req.Host != want.Host ||
			req.URL.Path != want.URL.Path || req.URL.RawQuery != want.URL.RawQuery || !reflect.DeepEqual(req.Header, want.Header) ||
			want.ContentLength != 0 || len(want.TransferEncoding) > 0 || req.ContentLength != 0 {
			t.Errorf("%q is\n%+v, to net/http\n%+v", head, req, want)
		}
		if status, _ := handshake(want); status != http.StatusSwitchingProtocols {
			t.Errorf("%q is no handshake to net/http: %d", head, status)
		}
	})
}

// FuzzSwitched: the 101 of the straight way is what net/http reads it to be.
func FuzzSwitched(f *testing.F) {
	for _, add := range []string{"", "X: a\r\n b\r\n", "Pragma: no-cache\r\n", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "X:\r\nX:y \r\n", ": \r\n", "\n"} {
		f.Add([]byte(agreed + add + "\r\n\x81\x00"))
	}
	f.Add([]byte("HTTP/1.1 101 \nX: y\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		h, size := switched(answer)
		if h == nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(answer))
		res, err := http.ReadResponse(in, &http.Request{Method: "GET"})
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols || !reflect.DeepEqual(res.Header, h) {
			t.Fatalf("%q is\n%v, to net/http\n%v, %v", answer, h, res, err)
		}
		if rest, _ := io.ReadAll(in); !bytes.Equal(rest, answer[size:]) {
			t.Errorf("%q: %q is behind it, to net/http %q", answer, answer[size:], rest)
		}
	})
}

// BenchmarkHandshake opens sockets through edge, router and tunnels, one after
// the other, on either way. Client and app are here too, which costs the same
// for both; cpu-us/op is the whole process.
func BenchmarkHandshake(b *testing.B) {
	for _, way := range []struct {
		name    string
		handler func(*Router) http.Handler
	}{
		{"straight", func(r *Router) http.Handler { return r }},
		{"net-http", func(r *Router) http.Handler { return struct{ http.Handler }{r} }},
	} {
		b.Run(way.name, func(b *testing.B) {
			theApp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer theApp.Close()
			go func() {
				answer := []byte(agreed + "\r\n")
				for buf := make([]byte, 4096); ; {
					conn, err := theApp.Accept()
					if err != nil {
						return
					}
					conn.Read(buf)
					conn.Write(answer)
					defer conn.Close()
				}
			}()
			tunnels := tunnel.New(tunnel.Config{}, discard)
			r := New(Config{Domains: []string{"localhost"}, Access: slog.New(slog.NewJSONHandler(io.Discard, nil))}, tunnels)
			r.Set(routesTo(Pool{Sockets: app.Sockets{MaxAge: time.Hour}, Instances: []app.Instance{instance("a", theApp.Addr().String())}}))
			l, err := edge.Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { tunnels.Run(ctx) })
			running.Go(func() { edge.Serve(ctx, []net.Listener{l}, way.handler(r), edge.Limits{}, time.Millisecond, discard) })
			defer running.Wait()
			defer cancel()

			request, answer := []byte(hello+"\r\n"), make([]byte, 4096)
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				conn.Write(request)
				if n, err := conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 101 ")) {
					b.Fatalf("%q, %v", answer[:n], err)
				}
				conn.Close()
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
