package bus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of a test, on a slow and loaded machine too.
const patience = 30 * time.Second

// world is a bus that serves.
type world struct {
	t    testing.TB
	bus  *Bus
	addr net.Addr
	end  func()
}

func newWorld(t testing.TB) *world {
	l, _, err := Listen(filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l)
}

func serve(t testing.TB, l net.Listener) *world {
	w := &world{t: t, bus: New(Config{Secret: []byte("of a test"), Log: slog.New(slog.DiscardHandler)}), addr: l.Addr()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.bus.Run(ctx, l) }()
	ended := false
	w.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run did not return within %s", patience)
		}
	}
	t.Cleanup(w.end)
	return w
}

// client speaks the protocol as bytes: what a library hides is looked at here.
type client struct {
	t   testing.TB
	net net.Conn
	r   *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return &client{t, nc, bufio.NewReader(nc)}
}

// join is a client of an application, in RESP 2.
func (w *world) join(app string) *client {
	w.t.Helper()
	c := dial(w.t, w.addr.String())
	c.want("+OK", "AUTH", app, w.bus.Password(app))
	return c
}

func wire(args ...string) []byte {
	b := appendArray(nil, len(args))
	for _, a := range args {
		b = appendBulk(b, a)
	}
	return b
}

func (c *client) send(args ...string) {
	c.t.Helper()
	if _, err := c.net.Write(wire(args...)); err != nil {
		c.t.Fatalf("%q: %v", args, err)
	}
}

// reply reads one answer or message, as one line of text.
func (c *client) reply() string {
	c.t.Helper()
	text, err := readReply(c.r)
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	return text
}

// want sends a command and compares its answer.
func (c *client) want(want string, args ...string) {
	c.t.Helper()
	c.send(args...)
	if got := c.reply(); got != want {
		c.t.Fatalf("%q: got %s, want %s", args, got, want)
	}
}

func (c *client) gets(want string) {
	c.t.Helper()
	if got := c.reply(); got != want {
		c.t.Fatalf("got %s, want %s", got, want)
	}
}

// wantPart is want for answers with words of ours.
func (c *client) wantPart(want string, args ...string) {
	c.t.Helper()
	c.send(args...)
	if got := c.reply(); !strings.Contains(got, want) {
		c.t.Fatalf("%q: got %s, want it to contain %s", args, got, want)
	}
}

func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "null", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return strconv.Quote(string(b[:n])), err
	case '%':
		n *= 2
		fallthrough
	case '*', '>':
		var parts []string
		for range n {
			p, err := readReply(r)
			if err != nil {
				return "", err
			}
			parts = append(parts, p)
		}
		return fmt.Sprintf("%c[%s]", line[0], strings.Join(parts, " ")), nil
	case '_':
		return "null", nil
	case '+', '-', ':':
		return line, nil
	}
	return "", fmt.Errorf("no answer begins with %q", line)
}
