package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// People look at the console while 9,000 sockets are open: each page is there
// within half a second, and the sockets hardly notice. Windows with and without
// three open pages take turns, so that a machine which changes its pace changes
// it for both. `go test ./e2e -run Watched -v` with HOLDFAST_LONG=1 and without
// the race detector, on a machine that does nothing else, prints the figures.
func TestSocketsAreWatched(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("9,000 sockets for two minutes; HOLDFAST_LONG=1 opens them")
	}
	const (
		sockets  = 9000
		talking  = 50 // of them
		pause    = 20 * time.Millisecond
		windows  = 24
		window   = 4 * time.Second
		settling = time.Second // at the beginning of each, which counts for neither
		pageTime = 500 * time.Millisecond
	)
	f := newFleet(t)
	f.plain = filepath.Join(t.TempDir(), "holdfast")
	if out, err := exec.Command("go", "build", "-o", f.plain, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.start()
	f.up()
	f.do("deploy", copyApp(t, "echo"), "--project=shop", "--version=a")

	// Sockets that say nothing have no goroutine.
	for n := range sockets - talking {
		conn, err := silentSocket(f.front, fmt.Sprintf("127.0.1.%d", 1+n/100))
		if err != nil {
			t.Fatalf("socket %d: %v", n, err)
		}
		defer conn.Close()
	}
	t.Logf("%d sockets are open", sockets-talking)

	var now atomic.Int32 // which windows it is; see the constants
	const neither, alone, watched = 0, 1, 2
	var mu sync.Mutex
	times := map[int32][]time.Duration{}
	ctx, enough := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer enough()
	for n := range talking {
		conn, _, err := websocket.Dial(ctx, "ws://"+f.front+"/ws", &websocket.DialOptions{Host: "shop.localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		all.Go(func() {
			text := []byte(strings.Repeat("x", 128))
			time.Sleep(pause * time.Duration(n) / talking) // they are not to speak in chorus
			beat := time.NewTicker(pause)
			defer beat.Stop()
			for ctx.Err() == nil {
				at, in := time.Now(), now.Load()
				if err := conn.Write(ctx, websocket.MessageText, text); err != nil {
					break
				}
				if _, _, err := conn.Read(ctx); err != nil {
					break
				}
				if took := time.Since(at); in != neither && in == now.Load() {
					mu.Lock()
					times[in] = append(times[in], took)
					mu.Unlock()
				}
				select {
				case <-beat.C:
				case <-ctx.Done():
				}
			}
			if ctx.Err() == nil {
				t.Errorf("socket %d has ended", n)
			}
		})
	}

	// Somebody is signed in.
	jar, _ := cookiejar.New(nil) // no error is ever returned
	person := &http.Client{Jar: jar, Timeout: patience}
	base := "http://" + f.admin + "/console/"
	get := func(url string) time.Duration {
		t.Helper()
		at := time.Now()
		resp, err := person.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "data-live") {
			t.Fatalf("%s: %s, %v", url, resp.Status, err)
		}
		return time.Since(at)
	}
	get(strings.TrimSpace(f.do("console", "--link")))
	pages := []string{"", "services/shop/default", "sockets", "sockets?sort=out&q=127.0.1.7", "timeline", "logs", "settings"}
	slowest := map[string]time.Duration{}
	for n := range windows {
		now.Store(neither)
		watch := n%4 == 1 || n%4 == 2 // alone, watched, watched, alone
		open, closeAll := context.WithCancel(ctx)
		var looking sync.WaitGroup
		if watch {
			for _, at := range []string{"", "sockets", "timeline"} {
				conn, _, err := websocket.Dial(open, strings.Replace(base, "http", "ws", 1)+"live", &websocket.DialOptions{
					HTTPClient: person, HTTPHeader: http.Header{"Origin": {"http://" + f.admin}}})
				if err != nil {
					t.Fatal(err)
				}
				conn.SetReadLimit(4 << 20)
				if err := conn.Write(open, websocket.MessageText, []byte("/console/"+at)); err != nil {
					t.Fatal(err)
				}
				looking.Go(func() {
					defer conn.CloseNow()
					for said := 0; ; said++ {
						if _, _, err := conn.Read(open); err != nil {
							if open.Err() == nil || said == 0 {
								t.Errorf("page %q was told %d times, then: %v", at, said, err)
							}
							return
						}
					}
				})
			}
		}
		time.Sleep(settling)
		if watch {
			now.Store(watched)
		} else {
			now.Store(alone)
		}
		time.Sleep(window - settling)
		now.Store(neither)
		closeAll()
		looking.Wait()
		for _, at := range pages {
			slowest[at] = max(slowest[at], get(base+at))
		}
	}
	enough()
	all.Wait()

	for _, at := range pages {
		t.Logf("page %q was there within %v", at, slowest[at])
		if slowest[at] > pageTime {
			t.Errorf("page %q took %v", at, slowest[at])
		}
	}
	at := func(in int32, q float64) time.Duration {
		slices.Sort(times[in])
		return times[in][int(q*float64(len(times[in])-1))]
	}
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999} {
		a, w := at(alone, q), at(watched, q)
		t.Logf("echo of %d and %d: p%v alone %v, watched %v: %.2f times", len(times[alone]), len(times[watched]), 100*q, a, w, float64(w)/float64(a))
	}
}

// silentSocket is an open WebSocket from an address of the loopback's.
func silentSocket(front, from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := d.Dial("tcp", front)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("%s", resp.Status)
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}
