package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/tunnel"
)

// lines is how many idle lines the instance a has.
func (f *front) lines() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &f.targets["a"].idle
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.lines)
}

// A request without a body gets the same answer by both ways, and leaves a line
// behind only where the answer's end was seen and more may follow.
func TestDirectAnswers(t *testing.T) {
	for _, c := range []struct {
		rule, method, answer string
		want                 []string
		kept                 bool
	}{
		{"a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			[]string{"HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n", "\r\n\r\nok"}, true},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", []string{"\r\n\r\nok"}, true},
		{"up to the end", "GET", "HTTP/1.1 200 OK\r\n\r\nup to the end", []string{"up to the end", "\r\n0\r\n\r\n"}, false},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", []string{"\r\n\r\nok"}, false},
		{"last one", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", []string{"\r\n\r\nok"}, false},
		{"more than said", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", []string{"\r\n\r\nok"}, false},
		{"nothing", "GET", "HTTP/1.1 204 No Content\r\n\r\n", []string{"HTTP/1.1 204 "}, true},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", []string{"Content-Length: 7\r\n"}, true},
		{"HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []string{"HTTP/1.1 200 "}, true},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\nContent-Length: 9\r\n\r\n", []string{"HTTP/1.1 304 ", "Etag: \"a\"\r\n"}, true},
		{"hints", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nKeep-Alive: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			[]string{"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "\r\n\r\nok"}, true},
		{"trailers", "GET", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
			[]string{"Trailer: X-Sum\r\n", "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"}, true},
		{"trailers unannounced", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
			[]string{"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"}, true},
		{"half a chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhal", []string{"HTTP/1.1 200 OK\r\n"}, false},
		{"a big one", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("0123456789", 30000),
			[]string{"Content-Length: 300000\r\n", "\r\n\r\n" + strings.Repeat("0123456789", 30000)}, true},
	} {
		f := newFront(t, Config{})
		done := make(chan struct{})
		f.routeTo(rawApp(t, func(_ int, _ string, conn net.Conn) {
			io.WriteString(conn, c.answer)
			if c.kept {
				<-done
			}
		}))
		got := f.raw(c.method+" / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "")
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %.200q in %.200q", c.rule, want, got)
			}
		}
		if c.rule == "half a chunk" && strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("half an answer passed for a whole one: %q", got)
		}
		if strings.Contains(got, "Keep-Alive") || c.method == "HEAD" && !strings.HasSuffix(got, "\r\n\r\n") {
			t.Errorf("%s: got %.200q", c.rule, got)
		}
		if n := f.lines(); (n > 0) != c.kept {
			t.Errorf("%s: %d lines kept, want any: %v", c.rule, n, c.kept)
		}
		close(done)
	}
}

// What an app says between requests is not the next one's answer.
func TestUnaskedIsNotAnAnswer(t *testing.T) {
	f := newFront(t, Config{})
	next, said := make(chan struct{}), make(chan struct{})
	f.routeTo(rawApp(t, func(n int, _ string, conn net.Conn) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 0 {
			<-next
			io.WriteString(conn, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\nbad")
			close(said)
			io.Copy(io.Discard, conn)
		}
	}))
	f.get("/")
	close(next)
	<-said
	if res, body := f.get("/"); res.StatusCode != 200 || body != "1" {
		t.Errorf("got %d %q, want the second connection's own answer", res.StatusCode, body)
	}
}

// Lines go when they have waited long enough, and when the router closes.
func TestIdleLinesEnd(t *testing.T) {
	for _, how := range []string{"time", "close"} {
		f := newFront(t, Config{})
		ended := make(chan error, 1)
		f.routeTo(rawApp(t, func(_ int, _ string, conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
			_, err := conn.Read(make([]byte, 1))
			ended <- err
		}))
		f.get("/")
		if how == "close" {
			f.Close()
		}
		if err := <-ended; err != io.EOF {
			t.Errorf("%s: %v, want the connection closed", how, err)
		}
		eventually(t, "nothing kept", func() bool { return f.lines() == 0 })
	}
}

// A client that leaves before the answer begins.
func TestClientLeavesEarly(t *testing.T) {
	f := newFront(t, Config{})
	here, told := make(chan struct{}), make(chan struct{})
	f.serve(Pool{}, func(w http.ResponseWriter, req *http.Request) {
		close(here)
		<-req.Context().Done()
		close(told)
	})
	ctx, leave := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	go plain.Do(req)
	<-here
	leave()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("the instance was not told")
	}
	if m := f.access.last(t, "request"); m["status"] != float64(statusLeft) || m["err"] != errLeft.Error() {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "nobody blamed, nothing counted", func() bool { return f.Load()["a"] == Load{} })
}

// A chunk goes on as soon as it is whole, also when half of the next one came with it.
func TestChunksArriveAtOnce(t *testing.T) {
	f := newFront(t, Config{})
	next := make(chan struct{})
	defer close(next) // frees the app where this test fails
	f.routeTo(rawApp(t, func(_ int, _ string, conn net.Conn) {
		for _, piece := range []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nab\r\n", "2\r\ncd\r\n2", "\r\nef\r\n1\r", "\ng\r\n", "0\r\n\r\n"} {
			io.WriteString(conn, piece)
			<-next
		}
	}))
	res, err := plain.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for _, want := range []string{"", "ab", "cd", "ef", "g", ""} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q at once", got, err, want)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("end: %q, %v", rest, err)
	}
}

// The head that is written says what the rewritten map says.
func TestHeadsAgree(t *testing.T) {
	r := New(Config{}, tunnel.New(tunnel.Config{}, discard))
	req := httptest.NewRequest("GET", "/a?b", nil)
	req.Host = "localhost"
	for _, line := range []string{
		"Accept: a", "Accept: b", "Connection: keep-alive", "Keep-Alive: 5", "Content-Length: 0", "Te: trailers, deflate", "Upgrade: h2c", "Via: 1.0 x", "Via: 1.1 y",
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Google-A: 1", "X-Appengine-User-Id: 1", "X_appengine_city: 1", "Proxy-Authorization: p",
		"Forwarded: for=x", "Cookie: a=b", "Trailer: X", "X-Forwardedly: 1", "Proxy-Connection: x", "Host: other",
	} {
		name, value, _ := strings.Cut(line, ": ")
		req.Header[name] = append(req.Header[name], value)
	}
	if !direct(req) {
		t.Fatal("not a direct request")
	}
	x := r.begin(httptest.NewRecorder(), req)
	text := string(x.appendHead(nil))
	got, err := textproto.NewReader(bufio.NewReader(strings.NewReader(text[strings.Index(text, "\n")+1:]))).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	want := req.Header.Clone()
	dropHops(want)
	outbound(want, x.origin, want[forwarded])
	delete(want, "Content-Length")
	want["Te"] = []string{"trailers"}
	want["Host"] = []string{"localhost"}
	for name := range want {
		if !slices.Equal(want[name], got[name]) {
			t.Errorf("%s: got %q, want %q", name, got[name], want[name])
		}
	}
	for name := range got {
		if want[name] == nil {
			t.Errorf("%s: %q came through", name, got[name])
		}
	}
	if !strings.HasPrefix(text, "GET /a?b HTTP/1.1\r\n") {
		t.Errorf("got %q", text)
	}
}
