package bus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMessagesReachWhoIsSubscribed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, p := w.join("shop"), w.join("shop"), w.join("shop")
	a.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
	a.want(`*["psubscribe" "n?w*" :2]`, "PSUBSCRIBE", "n?w*")
	b.wantPart(`"proto" :3`, "HELLO", "3")
	b.want(`>["ssubscribe" "news" :1]`, "SSUBSCRIBE", "news")
	p.want(":2", "PUBLISH", "news", "first")
	p.want(":1", "SPUBLISH", "news", "second")
	p.want(":0", "PUBLISH", "nothing", "third")
	a.gets(`*["message" "news" "first"]`)
	a.gets(`*["pmessage" "n?w*" "news" "first"]`)
	b.gets(`>["smessage" "news" "second"]`)
	p.want(`*["news" :1]`, "PUBSUB", "NUMSUB", "news")
	p.want(":1", "PUBSUB", "NUMPAT")
	got := w.bus.Stats()["shop"]
	want := Stats{Connections: 3, Channels: 2, Patterns: 1, Subscriptions: 3, Published: 3, Delivered: 3}
	if got != want {
		t.Errorf("Stats: got %+v, want %+v", got, want)
	}
}

func TestApplicationsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.join("one"), w.join("two")
	a.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
	a.want(`*["psubscribe" "*" :2]`, "PSUBSCRIBE", "*")
	b.want("*[]", "PUBSUB", "CHANNELS")
	b.want(`*["news" :0]`, "PUBSUB", "NUMSUB", "news")
	b.want(":0", "PUBSUB", "NUMPAT")
	b.want(":0", "PUBLISH", "news", "for nobody")
	a.want(`*["pong" "still nothing"]`, "PING", "still nothing")

	wrong := "-WRONGPASS invalid username-password pair or user is disabled."
	s := dial(t, w.addr.String())
	s.want("-NOAUTH Authentication required.", "PUBSUB", "CHANNELS")
	s.want("-NOAUTH Authentication required.", "SUBSCRIBE", "news")
	s.wantPart("-NOAUTH HELLO", "HELLO", "3")
	s.want(wrong, "AUTH", "one", w.bus.Password("two"))
	s.want(wrong, "AUTH", w.bus.Password("one"))
	s.want(wrong, "HELLO", "3", "AUTH", "one", "")
	s.want("+OK", "AUTH", "one", w.bus.Password("one"))
	s.wantPart("another application", "AUTH", "two", w.bus.Password("two"))
	s.want("+RESET", "RESET")
	s.want("-NOAUTH Authentication required.", "PUBLISH", "news", "x")
	s.wantPart("another application", "AUTH", "two", w.bus.Password("two"))

	// The same installation has the same passwords, another one has others.
	if again := New(w.bus.cfg); again.Password("one") != w.bus.Password("one") {
		t.Error("another password after a restart")
	}
	if other := New(Config{Secret: []byte("another")}); other.Password("one") == w.bus.Password("one") {
		t.Error("another installation has the same password")
	}
}

func TestOtherCommandsAreToldWhereToGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.join("shop")
	for _, cmd := range []string{"GET k", "SET k v", "EVAL x 0", "LPUSH a b", "FLUSHALL", "CONFIG GET save", "CLIENT KILL x", "CLIENT LIST", "COMMAND DOCS", "MULTI"} {
		c.wantPart("carries messages only", strings.Fields(cmd)...)
	}
	c.wantPart("`holdfast serve --redis redis://HOST:PORT` connects apps to a real Redis or Valkey", "GET", "k")
	c.wantPart(`-ERR unknown command 'a  b'`, "a\r\nb")
	c.want("+PONG", "PING")
}

// A slow subscriber is cut at its bound. Who publishes does not wait for it,
// and who reads misses nothing.
func TestASlowSubscriberIsCutAndNobodyElseNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow, good, p := w.join("shop"), w.join("shop"), w.join("shop")
	slow.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
	good.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
	const n = 64
	body := strings.Repeat("x", 512<<10) // 32 MiB: the kernel's buffers hold 6 or so
	var reading sync.WaitGroup
	defer reading.Wait()
	got := make(chan struct{}, n)
	reading.Go(func() {
		for range n {
			if text, err := readReply(good.r); err != nil || len(text) < len(body) {
				t.Errorf("the good subscriber got %.40q, %v", text, err)
				break
			}
			got <- struct{}{}
		}
		close(got)
	})
	for i := range n {
		p.send("PUBLISH", "news", body)
		if r := p.reply(); r != ":2" && r != ":1" {
			t.Fatalf("message %d: %s", i, r)
		}
		<-got
	}
	reading.Wait()
	p.want(`*["news" :1]`, "PUBSUB", "NUMSUB", "news")
	if s := w.bus.Stats()["shop"]; s.Cut != 1 || s.Connections != 2 || s.Subscriptions != 1 {
		t.Errorf("Stats: %+v", s)
	}
	if _, err := io.Copy(io.Discard, slow.net); err != nil && errors.Is(err, net.ErrClosed) {
		t.Errorf("the slow one: %v", err)
	}
	w.waitHeld("shop", 0)
}

// waitHeld waits until an application holds so many bytes.
func (w *world) waitHeld(app string, want int64) {
	w.t.Helper()
	w.bus.mu.Lock()
	s := w.bus.spaces[app]
	w.bus.mu.Unlock()
	deadline := time.Now().Add(patience)
	for s.held.Load() != want {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d bytes are held, want %d", s.held.Load(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

// Who sends without reading stops being read, and is answered in the end.
func TestPipelining(t *testing.T) {
	t.Parallel()
	for _, subscribed := range []bool{false, true} {
		w := newWorld(t)
		c := w.join("shop")
		want := ":0"
		c.wantPart(`"proto" :3`, "HELLO", "3")
		if subscribed {
			c.want(`>["subscribe" "other" :1]`, "SUBSCRIBE", "other")
		}
		const n = 100_000
		sent := make(chan error, 1)
		go func() { // ends when all is sent or the connection is closed
			_, err := c.net.Write([]byte(strings.Repeat(string(wire("PUBLISH", "news", "x")), n)))
			sent <- err
		}()
		for i := range n {
			if got := c.reply(); got != want {
				t.Fatalf("answer %d: got %s, want %s", i, got, want)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		w.waitHeld("shop", 0)
	}
}

// All subscribers see the messages of all publishers in one order.
func TestOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const publishers, each = 4, 200
	var subs [3]*client
	for i := range subs {
		subs[i] = w.join("shop")
		subs[i].want(`*["psubscribe" "*" :1]`, "PSUBSCRIBE", "*")
	}
	var all sync.WaitGroup
	for i := range publishers {
		p := w.join("shop")
		all.Go(func() {
			for n := range each {
				p.net.Write(wire("PUBLISH", "news", fmt.Sprint(i, "/", n)))
				if got, err := readReply(p.r); got != ":3" {
					t.Errorf("publish: %s, %v", got, err)
				}
			}
		})
	}
	all.Wait()
	for n := range publishers * each {
		first := subs[0].reply()
		for i := range subs[1:] {
			if got := subs[i+1].reply(); got != first {
				t.Fatalf("message %d: one got %s, another %s", n, got, first)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.join("shop")
	c.wantPart("too long", "SUBSCRIBE", strings.Repeat("x", nameBytesMax+1))
	c.wantPart("too long", "PSUBSCRIBE", strings.Repeat("x", patternBytesMax+1))
	c.wantPart("too long", "PUBLISH", strings.Repeat("x", nameBytesMax+1), "")
	c.wantPart("too long", "PUBSUB", "CHANNELS", strings.Repeat("*x", patternBytesMax))

	many := []string{"SUBSCRIBE"}
	for i := range channelsPerConnMax {
		many = append(many, fmt.Sprint("c", i))
	}
	c.send(many...)
	for range channelsPerConnMax {
		c.reply()
	}
	c.wantPart("a connection may have", "SUBSCRIBE", "one more")
	c.wantPart(fmt.Sprintf(`"c1" :%d`, channelsPerConnMax), "SUBSCRIBE", "c1")

	p := w.join("shop")
	for i := range patternsPerAppMax {
		p.send("PSUBSCRIBE", fmt.Sprint("p", i))
		p.reply()
	}
	p.wantPart("an application may have", "PSUBSCRIBE", "one more")

	for _, bad := range []string{
		fmt.Sprintf("*1\r\n$%d\r\n", messageBytesMax+1),
		fmt.Sprintf("*%d\r\n", argsMax+1),
		"*1\r\n$9223372036854775807\r\n", "*9223372036854775808\r\n", "*1\r\n$-5\r\n", "*2\r\n:1\r\n",
		strings.Repeat("x", lineBytesMax+2),
		"*" + strings.Repeat("1", 100),
		`"open` + "\r\n",
	} {
		c := w.join("shop")
		c.net.Write([]byte(bad))
		if got := c.reply(); !strings.HasPrefix(got, "-ERR Protocol error") {
			t.Errorf("%.30q: %s", bad, got)
		}
		if b, err := io.ReadAll(c.r); len(b) > 0 || err != nil {
			t.Errorf("%.30q: then %q, %v", bad, b, err)
		}
	}
	s := dial(t, w.addr.String())
	s.net.Write([]byte("*2\r\n$4\r\nAUTH\r\n$20000\r\n"))
	s.gets("-ERR Protocol error: unauthenticated bulk length")
}

func TestAnApplicationHasSoManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSpace("shop")
	s.conns = connsPerAppMax
	w.bus.mu.Lock()
	w.bus.spaces["shop"] = s
	w.bus.mu.Unlock()
	c := dial(t, w.addr.String())
	c.wantPart("-ERR max number of clients", "AUTH", "shop", w.bus.Password("shop"))
	c.want("+OK", "AUTH", "other", w.bus.Password("other"))
}

// An endpoint that comes again is found where it was.
func TestThePortIsKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "port")
	l, moved, err := Listen(path)
	if err != nil || moved {
		t.Fatal(moved, err)
	}
	first := serve(t, l)
	c := first.join("shop")
	first.end()
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		var op *net.OpError
		if !errors.As(err, &op) || op.Timeout() {
			t.Errorf("the connection after the end: %v", err)
		}
	}
	l, moved, err = Listen(path)
	if err != nil || moved || l.Addr().String() != first.addr.String() {
		t.Fatalf("Listen again: %v, moved %v, %v", l.Addr(), moved, err)
	}
	again := serve(t, l)
	again.join("shop").want("+PONG", "PING")

	other, moved, err := Listen(path)
	if err != nil || !moved {
		t.Fatalf("while the port is taken: moved %v, %v", moved, err)
	}
	other.Close()
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.join("shop")
	c.net.Write([]byte("SUBSCRIBE a b\r\nQUIT\r\nPING\r\n"))
	c.gets(`*["subscribe" "a" :1]`)
	c.gets(`*["subscribe" "b" :2]`)
	c.gets("+OK")
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		t.Errorf("after QUIT: %q, %v", rest, err)
	}
	p := w.join("shop")
	p.want("*[]", "PUBSUB", "CHANNELS")
	p.want(":0", "PUBLISH", "a", "")
}
