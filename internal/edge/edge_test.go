package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// serve runs Serve on a free port and returns its address and what ends it.
func serve(t *testing.T, h http.HandlerFunc, grace time.Duration) (addr string, stop func() error) {
	t.Helper()
	return serveWithin(t, h, Limits{}, grace)
}

func serveWithin(t *testing.T, h http.HandlerFunc, limits Limits, grace time.Duration) (addr string, stop func() error) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, []net.Listener{l}, h, limits, grace, slog.New(slog.DiscardHandler)) }()
	stop = func() error { cancel(); err := <-done; done <- err; return err }
	t.Cleanup(func() { stop() })
	return l.Addr().String(), stop
}

func TestATakenPortNamesItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(l.Addr().String())
	var taken *PortTakenError
	if !errors.As(err, &taken) {
		t.Fatalf("Listen = %v, want a PortTakenError", err)
	}
	if runtime.GOOS == "linux" && !strings.Contains(taken.Holder, "edge.test (pid ") {
		t.Errorf("holder %q, want this test", taken.Holder)
	}
}

func TestServeWaitsForRequestsUnderWay(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-release
		io.WriteString(w, "whole")
	}, time.Minute)
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// No newcomers any more, and the one inside is still served.
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if got := <-answer; got != "whole" {
		t.Errorf("answer %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestServeCutsWhatOutlivesTheGrace(t *testing.T) {
	started := make(chan struct{})
	addr, stop := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}, 50*time.Millisecond)
	go http.Get("http://" + addr)
	<-started
	if err := stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	addr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {}, time.Second)
	for size, want := range map[int]string{HeaderBytes - 1000: "200", HeaderBytes + 1000: "431"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", size))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%d bytes of headers: %q, %v; want %s", size, line, err, want)
		}
	}
}

// Who takes nothing of an answer is cut, also of one that follows at once on another
// on the same connection: net/http drops deadlines between the two.
func TestWhoTakesNothingIsCut(t *testing.T) {
	cut := make(chan error, 1)
	addr, _ := serveWithin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			io.WriteString(w, "short")
			return
		}
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				cut <- err
				return
			}
		}
	}, Limits{StallTime: time.Second}, time.Second)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Error("it was not cut")
	}
}
