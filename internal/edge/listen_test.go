package edge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// socketPath is short enough for every system.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func TestUnixSocketsAreListenedOn(t *testing.T) {
	path := socketPath(t)
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var taken *PortTakenError
	if _, err := Listen("unix:" + path); !errors.As(err, &taken) || taken.Error() != "unix:"+path+" is taken" {
		t.Errorf("Listen where somebody does = %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("asking took it away: %v", err)
	} else {
		c.Close()
	}
}

func TestWhatADeadProcessLeftIsNoHindrance(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// One server listens at several addresses of several kinds, and one goodbye
// ends all.
func TestServeListensAtSeveralAddresses(t *testing.T) {
	path := socketPath(t)
	var ls []net.Listener
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "unix:" + path} {
		l, err := Listen(addr)
		if err != nil {
			if addr == "[::1]:0" {
				t.Log("without IPv6:", err)
				continue
			}
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	addrs := make([]net.Addr, len(ls))
	for i, l := range ls {
		addrs[i] = l.Addr()
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ls, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }), Limits{}, time.Second, slog.New(slog.DiscardHandler))
	}()
	for _, a := range addrs {
		c, err := net.Dial(a.Network(), a.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "here" {
			t.Errorf("%s answers %q, %v", a, b, err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
	for _, a := range addrs {
		if c, err := net.Dial(a.Network(), a.String()); err == nil {
			c.Close()
			t.Errorf("%s is still listened on", a)
		}
	}
}

func TestServeEndsWithItsFirstListener(t *testing.T) {
	good, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bad.Close()
	if err := Serve(t.Context(), []net.Listener{good, bad}, http.NotFoundHandler(), Limits{}, time.Second, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Serve = nil")
	}
	if c, err := net.Dial("tcp", good.Addr().String()); err == nil {
		c.Close()
		t.Error("the other is still listened on")
	}
}
