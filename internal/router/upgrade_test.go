package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// socketApp names itself: over HTTP, and as first message of a WebSocket that
// then echoes.
func socketApp(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/ws" {
			io.WriteString(w, name)
			return
		}
		c, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		ctx := context.Background()
		if c.Write(ctx, websocket.MessageText, []byte(name)) != nil {
			return
		}
		for {
			kind, b, err := c.Read(ctx)
			if err != nil {
				return
			}
			if c.Write(ctx, kind, b) != nil {
				return
			}
		}
	}
}

// openSocket opens /ws and returns the instance's name and how to close it.
func openSocket(url string, client *http.Client) (name string, end func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return "", nil, err
	}
	_, b, err := c.Read(ctx)
	return string(b), func() { c.Close(websocket.StatusNormalClosure, "bye") }, err
}

func dialSocket(t *testing.T, f *front, o *websocket.DialOptions) (*websocket.Conn, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.HTTPClient = f.client
	c, res, err := websocket.Dial(ctx, f.url+"/ws", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return c, res
}

func read(t *testing.T, c *websocket.Conn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, b, err := c.Read(ctx)
	return string(b), err
}

func TestSocket(t *testing.T) { allWays(t, testSocket) }

func testSocket(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{Affinity: true}, socketApp("a"), socketApp("b"))
	c, res := dialSocket(t, f, &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if c.Subprotocol() != "chat" || given(res, affinityCookie) == nil || res.Header["Cache-Control"] != nil {
		t.Errorf("101: subprotocol %q, %v; want the app's, and the affinity cookie", c.Subprotocol(), res.Header)
	}
	home, err := read(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if l := f.Load()[home]; l != (Load{Sockets: 1}) {
		t.Errorf("Load = %+v, want one socket", l)
	}
	ctx := context.Background()
	for _, m := range []string{"x", strings.Repeat("y", 20_000)} {
		c.Write(ctx, websocket.MessageText, []byte(m))
		if got, err := read(t, c); got != m {
			t.Fatalf("echo of %d bytes: %d bytes, %v", len(m), len(got), err)
		}
	}
	if _, body := f.get("/", withCookie(affinityCookie, given(res, affinityCookie).Value)); body != home {
		t.Errorf("the 101's cookie leads to %s, the socket is on %s", body, home)
	}
	c.Close(4001, "enough")
	m := f.access.last(t, "socket")
	from := m["from_client"].(map[string]any)
	if m["by"] != "client" || m["cause"] != string(app.Closed) || m["code"] != 4001.0 || m["reason"] != "enough" ||
		m["instance"] != home || m["version"] != "v1" || from["text"] != 2.0 || from["bytes"].(float64) < 20_000 ||
		from["largest"] != 20_000.0 || from["faults"] != 0.0 || m["dur"].(float64) <= 0 {
		t.Errorf("access log: %v", m)
	}
	if l := f.Load()[home]; l != (Load{}) {
		t.Errorf("Load after the end = %+v", l)
	}
	eventually(t, "a record of the handshake, with the socket's id", func() bool {
		return f.access.any(func(one map[string]any) bool {
			return one["msg"] == "request" && one["id"] == m["id"] && (one["status"] == 101.0 || one["status"] == 200.0 && one["proto"] == "HTTP/2.0")
		})
	})
}

// The table of sockets tells who was led by a cookie.
func TestSocketKnowsItsAffinity(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{Affinity: true}, socketApp("a"), socketApp("b"))
	var all []tunnel.Status
	open := func(n int) { // the 101 is with the client a moment before
		t.Helper()
		eventually(t, "the socket is in the table", func() bool { all = f.tunnels.Sockets(tunnel.Filter{}); return len(all) == n })
	}
	_, res := dialSocket(t, f, nil)
	open(1)
	dialSocket(t, f, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {affinityCookie + "=" + given(res, affinityCookie).Value}}})
	open(2)
	if all[0].Affinity != tunnel.Chosen || all[1].Affinity != tunnel.ByCookie || all[0].Instance != all[1].Instance {
		t.Errorf("Sockets = %+v, want the second one to come by its cookie", all)
	}
}

const hello = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

const agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

// The app gets the client's handshake and the platform's headers; bytes that
// either side sent along with its head are not lost.
func TestHandshakeBytes(t *testing.T) { bothWays(t, testHandshakeBytes) }

func testHandshakeBytes(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	heads, early := make(chan string, 1), make(chan string, 1)
	f.routeTo(rawApp(t, func(_ int, head string, conn net.Conn) {
		heads <- head
		io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"+agreed+"X-App: 1\r\n\r\n\x81\x02hi")
		buf := make([]byte, 7)
		io.ReadFull(conn, buf)
		early <- string(buf)
	}))
	got := f.raw(strings.Replace(hello, "/ws ", "/ws/a%2fb?x=1;y ", 1)+"Origin: http://localhost\r\nSec-WebSocket-Protocol: a, b\r\nX-Appengine-City: Rome\r\n"+
		"Cookie: k=v\r\n\r\n\x81\x81\x01\x02\x03\x04\x60", "\x02hi")
	if !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.Contains(got, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") ||
		!strings.Contains(got, "X-App: 1\r\n") || !strings.Contains(got, "\x81\x02hi") {
		t.Errorf("client got %q", got)
	}
	head := <-heads
	for _, want := range []string{
		"GET /ws/a%2fb?x=1;y HTTP/1.1\r\n", "Host: localhost\r\n", "Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Version: 13\r\n",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Protocol: a, b\r\n", "Origin: http://localhost\r\n", "Cookie: k=v\r\n",
		"X-Forwarded-For: 127.0.0.1, 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Appengine-City: ?\r\n", "X-Cloud-Trace-Context: ", "Via: 1.1 holdfast\r\n",
	} {
		if strings.Count(head, want) != 1 {
			t.Errorf("app's head has %q %d times:\n%s", want, strings.Count(head, want), head)
		}
	}
	if got := <-early; got != "\x81\x81\x01\x02\x03\x04\x60" {
		t.Errorf("early bytes: %q", got)
	}
}

func TestHandshakesThatOpenNothing(t *testing.T) { bothWays(t, testHandshakesThatOpenNothing) }

func testHandshakesThatOpenNothing(t *testing.T, newFront func(*testing.T, Config) *front) {
	key := "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, c := range []struct {
		rule, request, want string
		reaches             bool
	}{
		{"wrong version", strings.Replace(hello, "Version: 13", "Version: 8", 1), "426", false},
		{"no version", strings.Replace(hello, "Sec-WebSocket-Version: 13\r\n", "", 1), "426", false},
		{"no key", strings.Replace(hello, key, "", 1), "400", false},
		{"two keys", hello + key, "400", false},
		{"short key", strings.Replace(hello, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIA==", 1), "400", false},
		{"POST", strings.Replace(hello, "GET", "POST", 1) + "Content-Length: 0\r\n", "400", false},
		{"a body", hello + "Content-Length: 3\r\n", "400", false},
		{"a chunked body", hello + "Transfer-Encoding: chunked\r\n", "400", false},
		{"HTTP/1.0: a plain request", strings.Replace(hello, "HTTP/1.1", "HTTP/1.0", 1), "200", true},
		{"not named by Connection: a plain request", strings.Replace(hello, "keep-alive, Upgrade", "close", 1), "200", true},
		{"h2c: a plain request", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "200", true},
	} {
		f := newFront(t, Config{})
		heads := make(chan string, 1)
		f.routeTo(rawApp(t, func(_ int, head string, conn net.Conn) {
			heads <- head
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}))
		got := f.raw(c.request+"\r\n", "\r\n\r\n")
		if _, status, _ := strings.Cut(got, " "); !strings.HasPrefix(status, c.want) {
			t.Errorf("%s: got %q, want %s", c.rule, got, c.want)
		}
		if c.want == "426" && !strings.Contains(strings.ToLower(got), "sec-websocket-version: 13\r\n") {
			t.Errorf("%s: %q does not name the version", c.rule, got)
		}
		select {
		case head := <-heads:
			if !c.reaches || strings.Contains(head, "pgrade") || strings.Contains(head, "Http2-Settings") {
				t.Errorf("%s: the app got %q", c.rule, head)
			}
		default:
			if c.reaches {
				t.Errorf("%s: did not reach the app", c.rule)
			}
		}
	}
}

func TestAppDeclines(t *testing.T) { bothWays(t, testAppDeclines) }

func testAppDeclines(t *testing.T, newFront func(*testing.T, Config) *front) {
	for _, c := range []struct{ rule, answer, status, body string }{
		{"with a length", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: origin\r\nKeep-Alive: 5\r\n\r\nno", "HTTP/1.1 403 ", "no"},
		{"chunked", "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\nX-Why: origin\r\n\r\n2\r\nno\r\n0\r\n\r\n", "HTTP/1.1 401 ", "no"},
		{"until the end", "HTTP/1.1 200 OK\r\nX-Why: origin\r\n\r\nno", "HTTP/1.1 200 ", "no"},
		{"of another version", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nX-Why: origin\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 426 ", "no"},
		{"empty", "HTTP/1.1 204 No Content\r\nX-Why: origin\r\n\r\n", "HTTP/1.1 204 ", ""},
	} {
		f := newFront(t, Config{})
		f.routeTo(rawApp(t, saying(c.answer)))
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, hello+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.rule, err)
		}
		b, err := io.ReadAll(res.Body)
		conn.Close()
		if !strings.HasPrefix("HTTP/1.1 "+res.Status, c.status) || string(b) != c.body || err != nil || res.Header.Get("X-Why") != "origin" || res.Header["Keep-Alive"] != nil ||
			res.StatusCode == 426 && res.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: %s %v %q %v", c.rule, res.Status, res.Header, b, err)
		}
		eventually(t, "nothing open", func() bool { return f.Load()["a"].Sockets == 0 })
		if f.access.count("socket") != 0 {
			t.Errorf("%s: a socket was logged", c.rule)
		}
	}
}

func TestDeclineCutShort(t *testing.T) { bothWays(t, testDeclineCutShort) }

func testDeclineCutShort(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.routeTo(rawApp(t, saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nhalf")))
	got := f.raw(hello+"\r\n", "")
	if !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.HasSuffix(got, "half") {
		t.Errorf("got %q", got)
	}
	eventually(t, "counted", func() bool { return f.Load()["a"] == Load{Errors: 1} })
}

func TestFakeSwitch(t *testing.T) { bothWays(t, testFakeSwitch) }

func testFakeSwitch(t *testing.T, newFront func(*testing.T, Config) *front) {
	for _, c := range []struct{ rule, answer string }{
		{"wrong accept", strings.Replace(agreed, "s3pPL", "AAAAA", 1) + "\r\n"},
		{"no accept", "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"another protocol", strings.Replace(agreed, "websocket", "h2c", 1) + "\r\n"},
		{"no Connection", strings.Replace(agreed, "Connection: Upgrade\r\n", "", 1) + "\r\n"},
		{"head over 64 KB", agreed + "X: " + strings.Repeat("x", 70<<10) + "\r\n\r\n"},
		{"only interim answers", strings.Repeat("HTTP/1.1 103 Hints\r\n\r\n", 20)},
		{"not HTTP", "hello there\r\n\r\n"},
		{"nothing", ""},
	} {
		f := newFront(t, Config{})
		f.routeTo(rawApp(t, saying(c.answer)))
		if got := f.raw(hello+"\r\n", "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("%s: %.100q, want 502", c.rule, got)
		}
		eventually(t, "nothing open, one error", func() bool { return f.Load()["a"] == Load{Errors: 1} })
	}
}

func TestSocketGoesToAnInstanceThatAccepts(t *testing.T) {
	allWays(t, testSocketGoesToAnInstanceThatAccepts)
}

func testSocketGoesToAnInstanceThatAccepts(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	good := serving(t, socketApp("good"))
	f.routeTo(refusing(t), good)
	for range 4 {
		c, _ := dialSocket(t, f, nil)
		if got, err := read(t, c); got != "good" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if l := f.Load(); l["a"].Sockets != 0 || l["b"].Sockets != 4 {
		t.Errorf("Load = %v", l)
	}
}

func TestClientLeavesDuringHandshake(t *testing.T) { bothWays(t, testClientLeavesDuringHandshake) }

func testClientLeavesDuringHandshake(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	arrived, gone := make(chan struct{}), make(chan struct{})
	f.routeTo(rawApp(t, func(_ int, _ string, conn net.Conn) {
		close(arrived)
		conn.Read(make([]byte, 1))
		close(gone)
	}))
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, hello+"\r\n")
	<-arrived
	conn.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the instance was not told")
	}
	if m := f.access.last(t, "request"); m["status"] != float64(statusLeft) {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "nothing counted", func() bool { return f.Load()["a"] == Load{} })
}

// What Set says of an instance reaches its sockets: Unready keeps them,
// Draining and Stopped end them with cause, and one that is listed no more too.
func TestSocketsOfLeavingInstances(t *testing.T) { allWays(t, testSocketsOfLeavingInstances) }

func testSocketsOfLeavingInstances(t *testing.T, newFront func(*testing.T, Config) *front) {
	for _, c := range []struct {
		rule  string
		leave func(i *app.Instance) bool // false: not listed any more
		cause app.Cause
	}{
		{"draining", func(i *app.Instance) bool {
			i.State, i.Cause, i.Until = app.Draining, app.Aged, time.Now().Add(50*time.Millisecond)
			return true
		}, app.Aged},
		{"stopped", func(i *app.Instance) bool { i.State, i.Cause = app.Stopped, app.Crashed; return true }, app.Crashed},
		{"gone", func(i *app.Instance) bool { return false }, app.ScaledDown},
	} {
		f := newFront(t, Config{})
		all := f.serve(Pool{}, socketApp("a"))
		conn, _ := dialSocket(t, f, nil)
		read(t, conn)

		all[0].State, all[0].Cause = app.Unready, app.Unhealthy
		f.Set(routesTo(Pool{Instances: all}))
		conn.Write(context.Background(), websocket.MessageText, []byte("still here"))
		if got, err := read(t, conn); got != "still here" {
			t.Fatalf("%s: while unready: %q %v", c.rule, got, err)
		}
		all[0].Cause = ""
		f.Set(routesTo(Pool{Instances: all}))

		p := Pool{}
		if c.leave(&all[0]) {
			p.Instances = all
		}
		f.Set(routesTo(p))
		f.Set(routesTo(p))
		_, err := read(t, conn)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || !strings.Contains(closed.Reason, string(c.cause)) {
			t.Errorf("%s: the client got %v, want a Close that says %s", c.rule, err, c.cause)
		}
		if m := f.access.last(t, "socket"); m["by"] == "client" || m["cause"] != string(c.cause) {
			t.Errorf("%s: access log: %v", c.rule, m)
		}
		f.Set(routesTo(p))
		if l, ok := f.Load()["a"]; ok && l.Sockets != 0 {
			t.Errorf("%s: Load = %+v", c.rule, l)
		}
	}
}

// Those that are shed come back elsewhere: where the fewest are.
func TestShedSockets(t *testing.T) { allWays(t, testShedSockets) }

func testShedSockets(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	all := f.serve(Pool{}, socketApp("a"))
	idle, _ := dialSocket(t, f, nil)
	read(t, idle)
	busy, _ := dialSocket(t, f, nil)
	read(t, busy)
	time.Sleep(200 * time.Millisecond) // idleness is known to a tenth of a second
	busy.Write(context.Background(), websocket.MessageText, []byte("here"))
	read(t, busy)
	if n := f.Busy("a"); n != 2 { // both, by what is lately
		t.Errorf("Busy = %d, want 2", n)
	}

	fresh := instance("b", serving(t, socketApp("b")))
	fresh.Since = time.Now().Add(-time.Minute) // eased in
	f.Set(routesTo(Pool{Instances: append(all, fresh)}))
	if n := f.Shed("a", 1, app.Rebalanced); n != 1 {
		t.Errorf("Shed = %d, want 1", n)
	}
	_, err := read(t, idle)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 1012 || closed.Reason != "rebalanced" {
		t.Errorf("the idle client got %v, want 1012 rebalanced", err)
	}
	again, _ := dialSocket(t, f, nil)
	if at, err := read(t, again); at != "b" {
		t.Errorf("it came back to %q (%v), want b", at, err)
	}
	busy.Write(context.Background(), websocket.MessageText, []byte("still here"))
	if got, err := read(t, busy); got != "still here" {
		t.Errorf("the busy client: %q %v", got, err)
	}
	if m := f.access.last(t, "socket"); m["by"] != "holdfast" || m["cause"] != "rebalanced" {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "one socket on each", func() bool { l := f.Load(); return l["a"].Sockets == 1 && l["b"].Sockets == 1 })
}

func TestSocketAge(t *testing.T) { allWays(t, testSocketAge) }

func testSocketAge(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{Sockets: app.Sockets{MaxAge: 50 * time.Millisecond}}, socketApp("a"))
	c, _ := dialSocket(t, f, nil)
	read(t, c)
	if _, err := read(t, c); websocket.CloseStatus(err) < 0 {
		t.Errorf("got %v, want a Close frame", err)
	}
	if m := f.access.last(t, "socket"); m["cause"] != string(app.Deadline) || m["by"] != "holdfast" {
		t.Errorf("access log: %v", m)
	}
}

func TestJoinAfterShutdown(t *testing.T) { allWays(t, testJoinAfterShutdown) }

func testJoinAfterShutdown(t *testing.T, newFront func(*testing.T, Config) *front) {
	f := newFront(t, Config{})
	f.serve(Pool{}, socketApp("a"))
	f.tunnels.CloseAll(context.Background(), app.ShuttingDown)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, f.url+"/ws", &websocket.DialOptions{HTTPClient: f.client})
	if err == nil {
		_, _, err = c.Read(ctx)
	}
	if err == nil {
		t.Error("a socket lives though no more are taken")
	}
	if m := f.access.last(t, "socket"); m["cause"] != string(app.ShuttingDown) || m["err"] == nil {
		t.Errorf("access log: %v", m)
	}
	eventually(t, "nothing open", func() bool { return f.Load()["a"].Sockets == 0 })
}
