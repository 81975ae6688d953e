package router

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/edge"
	"holdfast/internal/tunnel"
)

// rawApp is an instance that reads one request's head and writes bytes, for
// answers that net/http would not give. It returns its address and what it read.
func rawApp(t *testing.T, answer func(n int, head string, conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				in := bufio.NewReader(conn)
				var head strings.Builder
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					head.WriteString(line)
					if line == "\r\n" {
						break
					}
				}
				answer(n, head.String(), conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

func saying(answer string) func(int, string, net.Conn) {
	return func(_ int, _ string, conn net.Conn) { io.WriteString(conn, answer) }
}

func (f *front) routeTo(addrs ...string) {
	var p Pool
	for i, a := range addrs {
		p.Instances = append(p.Instances, instance(string(rune('a'+i)), a))
	}
	f.Set(routesTo(p))
}

func TestBytesOfTheTarget(t *testing.T) {
	f := newFront(t, Config{})
	f.routeTo(rawApp(t, func(_ int, head string, conn net.Conn) {
		line, _, _ := strings.Cut(head, "\r\n")
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
	}))
	for _, target := range []string{
		"/", "/?", "/?a=1;b=2&c=%zz&=", "/a%2Fb/%7e~", "//a//b", "/a/../b/./c", "/%e4%f6", "/a%00b", "/a\"<>^`{|}b", "/q?{}|\"", "/caf\xc3\xa9",
		"/a;b=c,d", "/:colon", "/a?b?c",
	} {
		got := f.raw("GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "")
		if want := "\r\n\r\nGET " + target + " HTTP/1.1"; !strings.HasSuffix(got, want) {
			t.Errorf("target %q: got %q", target, got)
		}
	}
	got := f.raw("GET http://shop.localhost/x%2F?y=;z HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n", "")
	if !strings.HasSuffix(got, "GET /x%2F?y=;z HTTP/1.1") {
		t.Errorf("absolute form: got %q", got)
	}
}

func TestHeadersForTheApp(t *testing.T) {
	f := newFront(t, Config{})
	heads := make(chan http.Header, 1)
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		h := req.Header.Clone()
		h["Host"] = []string{req.Host}
		heads <- h
		w.Header().Set("Connection", "X-Inner")
		w.Header().Set("X-Inner", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header()["Date"] = nil
		w.WriteHeader(204)
	})
	answer := f.raw("GET / HTTP/1.1\r\nHost: Shop.LOCALHOST:99\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nProxy-Authorization: p\r\n"+
		"Upgrade: h2c\r\nX-Google-Foo: 1\r\nx-appengine-country: DE\r\nX-AppEngine-User-IP: 6.6.6.6\r\nX_Appengine_City: Rome\r\nX-Appengine-Cntry: near\r\n"+
		"X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX_Forwarded_Proto: https\r\nX-Forwarded-Host: evil\r\n"+
		"Forwarded: for=9.9.9.9\r\nVia: 1.0 fred\r\nX-Cloud-Trace-Context: 105445AA7843bc8bf206b12000100000/77;o=1\r\nAuthorization: keep\r\nCookie: a=b\r\n\r\n", "")
	h := <-heads
	for name, want := range map[string]string{
		"Host": "Shop.LOCALHOST:99", "X-Hop": "", "Keep-Alive": "", "Proxy-Authorization": "", "Upgrade": "", "Connection": "",
		"X-Google-Foo": "", "X-Appengine-User-Ip": "", "X_appengine_city": "", "X_forwarded_proto": "", "X-Appengine-Cntry": "",
		"X-Appengine-Country": "ZZ", "X-Appengine-Region": "?", "X-Appengine-City": "?", "X-Appengine-Citylatlong": "0.000000,0.000000",
		"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "",
		"Forwarded": "", "Via": "1.0 fred, 1.1 holdfast", "Authorization": "keep", "Cookie": "a=b", "User-Agent": "", "Accept-Encoding": "",
	} {
		if got := strings.Join(h[name], "|"); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	trace := h.Get(traceHeader)
	m := f.access.last(t, "request")
	if want := "105445aa7843bc8bf206b12000100000/" + m["id"].(string) + ";o=1"; trace != want {
		t.Errorf("trace = %q, want the client's continued with our id, %q", trace, want)
	}
	for _, gone := range []string{"X-Inner", "Keep-Alive", "Content-Type"} {
		if strings.Contains(answer, gone) {
			t.Errorf("answer has %s: %q", gone, answer)
		}
	}
}

func TestAnswerIsNotDressedUp(t *testing.T) {
	f := newFront(t, Config{})
	f.routeTo(rawApp(t, saying("HTTP/1.1 200 OK\r\nServer: mine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 14\r\n\r\n<html>hi</html")))
	res, _ := f.get("/")
	if ct, ok := res.Header["Content-Type"]; ok {
		t.Errorf("Content-Type %v was made up", ct)
	}
	if res.Header.Get("Server") != "mine" || len(res.Header["Set-Cookie"]) != 2 || res.ContentLength != 14 {
		t.Errorf("got %v", res.Header)
	}
	if c := res.Header["Cache-Control"]; c != nil {
		t.Errorf("Cache-Control %v was added without affinity", c)
	}
}

// Every piece arrives before the next one is written.
func TestEventsArriveAtOnce(t *testing.T) {
	for _, kind := range []string{"text/event-stream", "application/json", ""} {
		f := newFront(t, Config{})
		next := make(chan bool)
		f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
			if kind == "" { // a known length, written in pieces
				w.Header().Set("Content-Length", "18")
			} else {
				w.Header().Set("Content-Type", kind)
			}
			w.(http.Flusher).Flush()
			for range 3 {
				if !<-next {
					return
				}
				io.WriteString(w, "data.\n")
				w.(http.Flusher).Flush()
			}
		})
		res, err := plain.Get(f.url)
		if err != nil {
			t.Fatalf("%q: %v (the head did not arrive before the body)", kind, err)
		}
		in := bufio.NewReader(res.Body)
		for range 3 {
			next <- true
			if line, err := in.ReadString('\n'); err != nil || line != "data.\n" {
				t.Fatalf("%q: got %q, %v", kind, line, err)
			}
		}
		close(next)
		res.Body.Close()
	}
}

func TestBothDirectionsAtOnce(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		in := bufio.NewReader(req.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, "re: "+line)
			w.(http.Flusher).Flush()
		}
	})
	body, feed := io.Pipe()
	req, _ := http.NewRequest("POST", f.url, body)
	res, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		fmt.Fprintf(feed, "line %d\n", i)
		if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("re: line %d\n", i) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	feed.Close()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("end: %q, %v", rest, err)
	}
	res.Body.Close()
}

func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	got := f.raw("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc", "no\n")
	if !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.HasSuffix(got, "no\n") {
		t.Errorf("got %q, want the app's 403 while the client still sends", got)
	}
}

func TestExpectContinue(t *testing.T) {
	f := newFront(t, Config{})
	var read atomic.Int64
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/no" {
			w.WriteHeader(417)
			return
		}
		n, _ := io.Copy(io.Discard, req.Body)
		read.Add(n)
		w.WriteHeader(204)
	})
	head := " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	if got := f.raw("PUT /no"+head, ""); !strings.HasPrefix(got, "HTTP/1.1 417 ") {
		t.Errorf("app refuses without reading: got %q", got)
	}
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "PUT /yes"+head)
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v; want 100", line, err)
	}
	io.WriteString(conn, "hello")
	rest, _ := io.ReadAll(in)
	if !strings.Contains(string(rest), "HTTP/1.1 204 ") || read.Load() != 5 {
		t.Errorf("got %q, app read %d", rest, read.Load())
	}
}

func TestTrailersAndInterimAnswers(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-After")
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, req.Trailer.Get("X-Sum"))
		w.Header().Set("X-After", "late")
	})
	got := f.raw("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n", "")
	for _, want := range []string{"HTTP/1.1 103 ", "Link: </a.css>", "Trailer: X-After", "\r\n42\r\n", "X-After: late"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestHeadAndEmptyAnswers(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "HEAD" {
			w.Header().Set("Content-Length", "12345")
			return
		}
		w.WriteHeader(http.StatusNotModified)
	})
	req, _ := http.NewRequest("HEAD", f.url, nil)
	if res, body := f.do(req); res.ContentLength != 12345 || body != "" {
		t.Errorf("HEAD: length %d, body %q", res.ContentLength, body)
	}
	if res, _ := f.get("/"); res.StatusCode != 304 {
		t.Errorf("got %d", res.StatusCode)
	}
}

func TestRefusedConnectionIsHidden(t *testing.T) {
	f := newFront(t, Config{})
	good := serving(t, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%d %v", len(b), err)
	})
	f.routeTo(refusing(t), good, refusing(t))
	body := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 12 {
		req, _ := http.NewRequest("POST", f.url, bytes.NewReader(body))
		if i%2 == 1 {
			req.ContentLength = -1
		}
		if res, got := f.do(req); res.StatusCode != 200 || got != "1048576 <nil>" {
			t.Fatalf("request %d: %d %q, want the whole body to have arrived", i, res.StatusCode, got)
		}
	}
	if l := f.Load(); l["a"].Errors == 0 || l["c"].Errors == 0 || l["b"].Errors != 0 {
		t.Errorf("Load = %v, want errors counted on a and c alone", l)
	}
	for id, l := range f.Load() {
		if id != "b" && l.Requests != 0 {
			t.Errorf("%s still counts %d requests", id, l.Requests)
		}
	}
}

func TestAllRefuse(t *testing.T) {
	f := newFront(t, Config{Wait: 600 * time.Millisecond})
	f.routeTo(refusing(t), refusing(t))
	res, body := f.get("/")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || strings.Contains(body, "127.0.0.1") {
		t.Errorf("got %d %v %q, want 503 with Retry-After that tells no addresses", res.StatusCode, res.Header, body)
	}
	if m := f.access.last(t, "request"); m["tries"].(float64) < 2 || !strings.Contains(m["err"].(string), "refused") {
		t.Errorf("access log: %v", m)
	}
}

// All ready instances refuse, then a table with a good one comes.
func TestRefusedUntilReplaced(t *testing.T) {
	f := newFront(t, Config{})
	f.routeTo(refusing(t))
	addr := serving(t, naming("successor"))
	answer := make(chan string)
	go func() {
		_, body := f.get("/")
		answer <- body
	}()
	eventually(t, "a refusal", func() bool { return f.Load()["a"].Errors > 0 })
	p := Pool{Instances: []app.Instance{instance("b", addr)}}
	f.Set(routesTo(p))
	if got := <-answer; got != "successor" {
		t.Errorf("got %q", got)
	}
}

func TestWaitForReady(t *testing.T) {
	f := newFront(t, Config{})
	i := instance("a", serving(t, naming("there")))
	i.State = app.Starting
	f.Set(routesTo(Pool{Instances: []app.Instance{i}}))
	answers := make(chan string, 20)
	for range cap(answers) {
		go func() {
			_, body := f.get("/")
			answers <- body
		}()
	}
	queue := f.table.Load().services["shop"]["default"].waiting
	eventually(t, "20 wait", func() bool { return queue.Load() == 20 })
	f.Set(routesTo(Pool{Instances: []app.Instance{i}})) // a change that does not help
	i.State = app.Ready
	f.Set(routesTo(Pool{Instances: []app.Instance{i}}))
	for range cap(answers) {
		if got := <-answers; got != "there" {
			t.Errorf("got %q", got)
		}
	}
	if n := queue.Load(); n != 0 {
		t.Errorf("%d still count as waiting", n)
	}
}

func TestWaitEnds(t *testing.T) {
	f := newFront(t, Config{Wait: 50 * time.Millisecond})
	f.Set(routesTo(Pool{}))
	res, body := f.get("/")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "2" || !strings.Contains(body, "No instance") {
		t.Errorf("nobody comes: %d %v %q", res.StatusCode, res.Header, body)
	}

	h := newFront(t, Config{Wait: time.Hour})
	h.Set(routesTo(Pool{Stopped: true}))
	if res, body := h.get("/"); res.StatusCode != 503 || !strings.Contains(body, "is stopped") {
		t.Errorf("stopped: %d %q", res.StatusCode, body)
	}

	g := newFront(t, Config{})
	g.Set(routesTo(Pool{}))
	queue := g.table.Load().services["shop"]["default"].waiting
	ctx, leave := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", g.url, nil)
	go plain.Do(req)
	eventually(t, "one waits", func() bool { return queue.Load() == 1 })
	leave()
	if m := g.access.last(t, "request"); m["status"] != float64(statusLeft) || m["err"] != errLeft.Error() {
		t.Errorf("client left: %v", m)
	}

	queue.Store(waitersMax)
	if res, body := g.get("/"); res.StatusCode != 503 || !strings.Contains(body, "Too many") {
		t.Errorf("crowd: %d %q", res.StatusCode, body)
	}
	queue.Store(0)

	done := make(chan int)
	go func() {
		res, _ := g.get("/")
		done <- res.StatusCode
	}()
	eventually(t, "another waits", func() bool { return queue.Load() == 1 })
	g.Set(Routes{})
	if got := <-done; got != 404 {
		t.Errorf("the application goes meanwhile: %d, want 404", got)
	}
}

func TestLimits(t *testing.T) {
	const limit = 100_000
	f := newFront(t, Config{Body: limit})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		if err == nil {
			fmt.Fprint(w, n)
		}
	})
	for _, c := range []struct {
		rule    string
		bytes   int
		chunked bool
		status  int
	}{
		{"as much as allowed", limit, false, 200},
		{"as much as allowed, chunked", limit, true, 200},
		{"one more", limit + 1, false, 413},
		{"one more, chunked", limit + 1, true, 413},
		{"much more, chunked", 20 * limit, true, 413},
	} {
		req, _ := http.NewRequest("POST", f.url, bytes.NewReader(make([]byte, c.bytes)))
		if c.chunked {
			req.ContentLength = -1
		}
		// Who sends on while he is refused is told so, and cut when he does not
		// listen: which of the two his system shows him first is chance.
		res, err := plain.Do(req)
		if c.status == 413 && (errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.rule, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || c.status == 200 && string(body) != fmt.Sprint(limit) {
			t.Errorf("%s: %d %q, want %d", c.rule, res.StatusCode, body, c.status)
		}
	}
	if l := f.Load()["a"]; l.Errors != 0 {
		t.Errorf("Load = %+v: a client's mistake counts as the instance's", l)
	}
	if got := f.raw("GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", edge.HeaderBytes+8192)+"\r\n\r\n", ""); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("long head: %.80q", got)
	}
}

func TestBadAnswers(t *testing.T) {
	big := "X-Big: " + strings.Repeat("x", 70<<10) + "\r\n"
	for _, c := range []struct{ rule, answer string }{
		{"head over 64 KB", "HTTP/1.1 200 OK\r\n" + big + "\r\n"},
		{"not HTTP", "220 smtp ready\r\n\r\n"},
		{"nothing", ""},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-"},
		{"101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{"status 000", "HTTP/1.1 000 Hm\r\n\r\n"},
		{"status 99", "HTTP/1.1 099 Hm\r\n\r\n"},
	} {
		f := newFront(t, Config{})
		f.routeTo(rawApp(t, saying(c.answer)))
		res, body := f.get("/")
		if res.StatusCode != 502 || strings.Contains(body, "127.0.0.1") {
			t.Errorf("%s: %d %.80q, want 502", c.rule, res.StatusCode, body)
		}
		if l := f.Load()["a"]; l.Errors == 0 {
			t.Errorf("%s: not counted: %+v", c.rule, l)
		}
	}
	f := newFront(t, Config{})
	f.routeTo(rawApp(t, saying("HTTP/1.1 200 OK\r\nX-Big: "+strings.Repeat("x", 60<<10)+"\r\nContent-Length: 2\r\n\r\nok")))
	if res, body := f.get("/"); res.StatusCode != 200 || body != "ok" {
		t.Errorf("a head of 60 KB: %d %q, want 200", res.StatusCode, body)
	}
}

func TestBrokenRequestBody(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) })
	got := f.raw("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n", "")
	if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "Connection: close\r\n") {
		t.Errorf("got %q, want 400 and a closed connection", got)
	}
	eventually(t, "nobody blamed", func() bool { return f.Load()["a"] == Load{} })
}

func TestAnswerCutShort(t *testing.T) {
	f := newFront(t, Config{})
	f.routeTo(rawApp(t, saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")))
	res, err := plain.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer passed for a whole one: %q", b)
	}
	if m := f.access.last(t, "request"); m["status"] != 200.0 || !strings.Contains(fmt.Sprint(m["err"]), "EOF") {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "counted", func() bool { return f.Load()["a"] == Load{Errors: 1} })
}

// A kept-alive connection that the app closes: safe requests go again, a POST
// that was written does not.
func TestClosedKeepAlive(t *testing.T) {
	f := newFront(t, Config{})
	var posts atomic.Int64
	f.routeTo(rawApp(t, func(n int, head string, conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
		// The second request on this connection is read and never answered.
		buf := make([]byte, 4096)
		k, _ := conn.Read(buf)
		if bytes.HasPrefix(buf[:k], []byte("POST")) {
			posts.Add(1)
		}
	}))
	f.get("/")
	if res, _ := f.get("/"); res.StatusCode != 200 {
		t.Errorf("GET on a connection that closes: %d, want it sent again", res.StatusCode)
	}
	// What may not be sent twice has connections of its own: the first POST
	// makes one.
	post := func() int {
		req, _ := http.NewRequest("POST", f.url, nil)
		res, _ := f.do(req)
		return res.StatusCode
	}
	if first, second := post(), post(); first != 200 || second != 502 || posts.Load() != 1 {
		t.Errorf("POST on a connection that closes: %d, then %d, sent %d times; want 200, 502 and once", first, second, posts.Load())
	}
}

func TestConnectionsAreKept(t *testing.T) {
	f := newFront(t, Config{})
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(naming("a"))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	f.routeTo(s.Listener.Addr().String())
	for range 50 {
		f.get("/")
	}
	// Not exactly one: a slow machine may take longer than idleConn in between.
	if n := conns.Load(); n > 10 {
		t.Errorf("50 requests took %d connections to the instance", n)
	}
}

// A client that leaves ends its request at the instance, and is nobody's fault.
func TestClientLeaves(t *testing.T) {
	f := newFront(t, Config{})
	told := make(chan struct{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-req.Context().Done()
		close(told)
	})
	ctx, leave := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	res, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(res.Body, make([]byte, 5))
	leave()
	res.Body.Close()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("the instance was not told")
	}
	if m := f.access.last(t, "request"); m["status"] != 200.0 || m["err"] != errLeft.Error() {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "nothing counted", func() bool { return f.Load()["a"] == Load{} })
}

// memory is a network in memory, for bubbles of synctest.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (m *memory) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case m.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// The hour, the wait and the handshake's minute, in fake time.
func TestTimeBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		appNet, frontNet := newMemory(), newMemory()
		log := &records{}
		tunnels := tunnel.New(tunnel.Config{}, discard)
		r := New(Config{
			Dial:   func(ctx context.Context, _ string) (net.Conn, error) { return appNet.dial(ctx) },
			Access: accessTo(log),
		}, tunnels)
		r.Set(routesTo(Pool{Instances: []app.Instance{instance("a", "app:1")}}))

		theApp := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/stream" {
				for {
					if _, err := io.WriteString(w, "."); err != nil {
						return
					}
					w.(http.Flusher).Flush()
					select {
					case <-time.After(time.Minute):
					case <-req.Context().Done():
						return
					}
				}
			}
			<-req.Context().Done()
		})}
		server := &http.Server{Handler: r}
		var all sync.WaitGroup
		all.Go(func() { theApp.Serve(appNet) })
		all.Go(func() { server.Serve(frontNet) })
		client := &http.Client{Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return frontNet.dial(ctx) },
			DisableKeepAlives: true,
		}}

		start := time.Now()
		res, err := client.Get("http://localhost/silent")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if took := time.Since(start); res.StatusCode != 504 || took != time.Hour {
			t.Errorf("no answer: %d after %v, want 504 after an hour", res.StatusCode, took)
		}

		start = time.Now()
		res, err = client.Get("http://localhost/stream")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if took := time.Since(start); err == nil || took != time.Hour || len(b) < 60 {
			t.Errorf("endless answer: %d bytes, %v after %v; want it cut after an hour", len(b), err, took)
		}
		synctest.Wait()
		if m := log.last(t, "request"); m["err"] != errResponse.Error() || m["status"] != 200.0 {
			t.Errorf("access log: %v", m)
		}

		start = time.Now()
		req, _ := http.NewRequest("GET", "http://localhost/ws", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		res, err = client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if took := time.Since(start); res.StatusCode != 504 || took != handshakeMax {
			t.Errorf("silent handshake: %d after %v, want 504 after %v", res.StatusCode, took, handshakeMax)
		}

		r.Set(routesTo(Pool{}))
		start = time.Now()
		res, err = client.Get("http://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if took := time.Since(start); res.StatusCode != 503 || took != WaitMax {
			t.Errorf("no instance: %d after %v, want 503 after %v", res.StatusCode, took, WaitMax)
		}

		r.Close()
		client.CloseIdleConnections()
		server.Close()
		theApp.Close()
		all.Wait()
	})
}
