package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
)

// TestMain sees that no direction of any socket is left.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			b := make([]byte, 1<<20)
			stacks := string(b[:runtime.Stack(b, true)])
			if !strings.Contains(stacks, "tunnel.(*copier)") && !strings.Contains(stacks, "tunnel.(*loop)") && !strings.Contains(stacks, "tunnel.(*Set)") {
				break
			}
			if time.Now().After(deadline) {
				fmt.Println("sockets are still carried after the tests:\n" + stacks)
				code = 1
				break
			}
		}
	}
	os.Exit(code)
}

// site is a client's way to an app over real connections: the least of a router
// in front of a real WebSocket server.
type site struct {
	set   *Set
	url   string
	http  *http.Client
	ended chan Ending
}

func newSite(t *testing.T, secure bool, serve func(ctx context.Context, c *websocket.Conn)) *site {
	t.Helper()
	s := &site{set: newSet(), ended: make(chan Ending, 16)}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	var apps sync.WaitGroup
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apps.Add(1)
		defer apps.Done()
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("instance: accept: %v", err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		serve(ctx, c)
	}))
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.upgrade(t, w, r, instance.Listener.Addr().String())
	}))
	if secure {
		front.Listener = standing{front.Listener}
		front.StartTLS()
	} else {
		front.Start()
	}
	s.url, s.http = front.URL, front.Client()
	ran := make(chan error)
	runCtx, cancel := context.WithCancel(context.Background())
	go func() { ran <- s.set.Run(runCtx) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		stop()
		apps.Wait()
		front.Close()
		instance.Close()
	})
	return s
}

// standing makes what it accepts fit for loops to carry TLS over.
type standing struct{ net.Listener }

func (l standing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return TLSBase(c), nil
}

func (s *site) upgrade(t *testing.T, w http.ResponseWriter, r *http.Request, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("dial instance: %v", err)
		return
	}
	if err := r.Write(conn); err != nil {
		t.Errorf("pass the request on: %v", err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, r)
	if err != nil || resp.StatusCode != 101 {
		t.Errorf("answer of the instance: %v, %v", resp, err)
		conn.Close()
		return
	}
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	resp.Header.Write(&head)
	head.WriteString("\r\n")
	client.Write(head.Bytes())
	early, _ := br.Peek(br.Buffered())
	sent, _ := rw.Reader.Peek(rw.Reader.Buffered())
	sock := Socket{Instance: "i1", Opened: time.Now(), MaxAge: time.Hour, Done: func(e Ending) { s.ended <- e }}
	if err := s.set.Join(sock, Unread(client, sent), Unread(conn, early)); err != nil {
		t.Errorf("Join: %v", err)
	}
}

func (s *site) dial(t *testing.T) (context.Context, *websocket.Conn) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	c, _, err := websocket.Dial(ctx, s.url, &websocket.DialOptions{HTTPClient: s.http})
	if err != nil {
		stop()
		t.Fatalf("dial: %v", err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow(); stop() })
	return ctx, c
}

func (s *site) wantEnd(t *testing.T, by By, cause app.Cause, code int, reason string) Ending {
	t.Helper()
	select {
	case e := <-s.ended:
		if e.By != by || e.Cause != cause || e.Code != code || e.Reason != reason {
			t.Errorf("Ending = by %s, %s, %d %q; want by %s, %s, %d %q", e.By, e.Cause, e.Code, e.Reason, by, cause, code, reason)
		}
		return e
	case <-time.After(15 * time.Second):
		t.Fatal("the socket did not end")
		return Ending{}
	}
}

func wantStatus(t *testing.T, who string, err error, code websocket.StatusCode, reason string) {
	t.Helper()
	var e websocket.CloseError
	if !errors.As(err, &e) || e.Code != code || e.Reason != reason {
		t.Errorf("%s: %v; want status %d and reason %q", who, err, code, reason)
	}
}

// echo sends back what comes, and reports why it stopped.
func echo(why chan<- error) func(context.Context, *websocket.Conn) {
	return func(ctx context.Context, c *websocket.Conn) {
		for {
			kind, p, err := c.Read(ctx)
			if err != nil {
				why <- err
				return
			}
			if string(p) == "bye" {
				why <- c.Close(4002, "as you wish")
				return
			}
			if err := c.Write(ctx, kind, p); err != nil {
				why <- err
				return
			}
		}
	}
}

func overBoth(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Run("tcp", func(t *testing.T) { test(t, false) })
	t.Run("tls", func(t *testing.T) { test(t, true) })
}

func TestRealEcho(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		why := make(chan error, 1)
		s := newSite(t, secure, echo(why))
		ctx, c := s.dial(t)
		big := make([]byte, 1<<20)
		rand.Read(big)
		for _, p := range [][]byte{[]byte("hello"), nil, big, make([]byte, 600), make([]byte, smallBuffer)} {
			if err := c.Write(ctx, websocket.MessageBinary, p); err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, p) {
				t.Fatalf("echo of %d bytes: %d bytes, %v", len(p), len(got), err)
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Errorf("close: %v", err)
		}
		wantStatus(t, "instance", <-why, websocket.StatusNormalClosure, "done")
		e := s.wantEnd(t, ByClient, app.Closed, 1000, "done")
		if e.FromClient.Binary != 5 || e.FromInstance.Binary != 5 || e.FromClient.Faults+e.FromInstance.Faults != 0 {
			t.Errorf("Traffic = %+v, %+v", e.FromClient, e.FromInstance)
		}
	})
}

func TestRealCloseByInstance(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		why := make(chan error, 1)
		s := newSite(t, secure, echo(why))
		ctx, c := s.dial(t)
		if err := c.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Read(ctx)
		wantStatus(t, "client", err, 4002, "as you wish")
		if err := <-why; err != nil {
			t.Errorf("instance: %v", err)
		}
		s.wantEnd(t, ByInstance, app.Closed, 4002, "as you wish")
	})
}

func TestRealDrain(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		why := make(chan error, 1)
		s := newSite(t, secure, echo(why))
		ctx, c := s.dial(t)
		start := time.Now()
		s.set.Drain("i1", time.Now().Add(50*time.Millisecond), app.Deployed)
		_, _, err := c.Read(ctx)
		wantStatus(t, "client", err, 1012, "deployed")
		wantStatus(t, "instance", <-why, 1012, "deployed")
		s.wantEnd(t, ByHoldfast, app.Deployed, 1012, "deployed")
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("a polite ending took %v", d)
		}
	})
}

func TestRealCrash(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		dead := make(chan struct{})
		s := newSite(t, secure, func(ctx context.Context, c *websocket.Conn) {
			c.Write(ctx, websocket.MessageText, []byte("last words"))
			c.CloseNow()
			close(dead)
		})
		ctx, c := s.dial(t)
		<-dead
		s.set.Drain("i1", time.Now(), app.Crashed)
		if _, p, err := c.Read(ctx); string(p) != "last words" {
			t.Errorf("client read %q, %v", p, err)
		}
		_, _, err := c.Read(ctx)
		wantStatus(t, "client", err, 1012, "crashed")
		s.wantEnd(t, ByInstance, app.Crashed, 1012, "crashed")
	})
}

// tcpPair is a real connection: near is ours, far the peer's.
func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return n.(*net.TCPConn), f.(*net.TCPConn)
}

func TestRealReset(t *testing.T) {
	t.Parallel()
	nearC, c := tcpPair(t)
	nearI, i := tcpPair(t)
	set := newSet()
	ended := make(chan Ending, 1)
	if err := set.Join(Socket{Instance: "i1", Opened: time.Now(), Done: func(e Ending) { ended <- e }}, nearC, nearI); err != nil {
		t.Fatal(err)
	}
	i.SetLinger(0) // Close resets
	i.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	g, err := readFrame(c)
	if want := (got{fin: true, op: opClose, payload: "\x03\xf3lost"}); err != nil || g != want {
		t.Errorf("client got %+v, %v; want %+v", g, err, want)
	}
	c.Write(closing(true, 1011, ""))
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("client: Read = %d, %v; want the end of the stream", n, err)
	}
	c.Close()
	if e := <-ended; e.By != ByInstance || e.Cause != app.Lost || e.Code != 1011 {
		t.Errorf("Ending = %+v", e)
	}
}

// A client over TLS that stalls is cut at the bound too, although tls.Conn
// would like to take leave of it.
func TestStalledTLSClient(t *testing.T) {
	t.Parallel()
	why := make(chan error, 1)
	s := newSite(t, true, func(ctx context.Context, c *websocket.Conn) {
		for {
			if err := c.Write(ctx, websocket.MessageBinary, make([]byte, 32<<20)); err != nil { // more than any kernel keeps
				why <- err
				return
			}
		}
	})
	dialed, c := s.dial(t)
	if _, _, err := c.Reader(dialed); err != nil { // the message begins; it is never read to its end
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	start := time.Now()
	if err := s.set.CloseAll(ctx, app.ShuttingDown); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CloseAll: %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("CloseAll took %v", d)
	}
	s.wantEnd(t, ByHoldfast, app.ShuttingDown, CodeAbnormal, "")
	<-why
}

func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{128, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			nearC, c := tcpPair(b)
			nearI, i := tcpPair(b)
			set := newSet()
			ended := make(chan Ending, 1)
			if err := set.Join(Socket{Instance: "i1", Opened: time.Now(), Done: func(e Ending) { ended <- e }}, nearC, nearI); err != nil {
				b.Fatal(err)
			}
			m := frame(true, opBinary, true, make([]byte, size))
			back := make([]byte, len(m))
			go func() {
				p := make([]byte, len(m))
				for {
					if _, err := io.ReadFull(i, p); err != nil {
						return
					}
					i.Write(p)
				}
			}()
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				c.Write(m)
				if _, err := io.ReadFull(c, back); err != nil {
					b.Fatal(err)
				}
			}
			c.Close()
			i.Close()
			<-ended
		})
	}
}
