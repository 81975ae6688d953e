package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Clients ask without a pause and sockets stay open while one deploy, split,
// restart and scaling follows the other: not one request fails, and each socket
// ends with a frame that says why. Changes to another service, however many,
// cost this one's sockets nothing.
func TestLoadDuringEverything(t *testing.T) {
	t.Parallel()
	long := 15 * time.Second
	people, sockets, changes := 20, 100, 200
	if os.Getenv("HOLDFAST_LONG") != "" {
		long, people, sockets, changes = 5*time.Minute, 50, 500, 1000
	}
	f := newFleet(t)
	dir := copyApp(t, "echo")
	replaceIn(t, filepath.Join(dir, "app.yaml"), "runtime: go", "runtime: go\nbeta_settings:\n  holdfast.drain: 2s")
	f.start()
	f.up()
	f.do("deploy", dir, "--project=shop", "--version=a")
	f.do("deploy", dir, "--project=shop", "--service=other", "--version=x", "--instances=1")
	f.do("deploy", dir, "--project=shop", "--service=other", "--version=y", "--instances=1", "--no-promote", "--env=N=y")

	// The sockets.
	watching, enough := context.WithCancel(t.Context())
	defer enough()
	var ended atomic.Int64
	var all sync.WaitGroup
	ends := map[string]int{}
	var mu sync.Mutex
	open := make(chan struct{}, sockets)
	for n := range sockets {
		all.Go(func() {
			for first := true; watching.Err() == nil; first = false {
				conn, _, err := websocket.Dial(watching, "ws://"+f.front+"/ws", &websocket.DialOptions{Host: "shop.localhost"})
				if err != nil {
					if watching.Err() == nil {
						t.Errorf("socket %d is not opened: %v", n, err)
					}
					open <- struct{}{}
					return
				}
				if first {
					open <- struct{}{}
				}
				_, _, err = conn.Read(watching)
				conn.CloseNow()
				if watching.Err() != nil {
					return
				}
				ended.Add(1)
				var closed websocket.CloseError
				if !errors.As(err, &closed) || closed.Code != websocket.StatusServiceRestart || !explained[closed.Reason] {
					t.Errorf("socket %d ended with %v, which explains nothing", n, err)
				}
				mu.Lock()
				ends[closed.Reason]++
				mu.Unlock()
			}
		})
	}
	for range sockets {
		<-open
	}

	// Changes to the other service.
	token, err := os.ReadFile(filepath.Join(f.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for n := range changes {
		body := fmt.Sprintf(`{"by":"random","shares":{"x":%d,"y":1}}`, 1+n%50)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+f.admin+"/holdfast/v1/apps/shop/services/other/traffic", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			t.Fatalf("change %d: %s", n, resp.Status)
		}
	}
	if n := ended.Load(); n > 0 {
		t.Errorf("%d changes to another service ended %d sockets", changes, n)
	}
	t.Logf("%d changes to another service in %v", changes, time.Since(began))

	// Everything.
	var asked atomic.Int64
	for n := range people {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for watching.Err() == nil {
				status, body, err := f.ask(watching, client, "shop.localhost", "/")
				if watching.Err() != nil {
					return
				}
				if err != nil || status != http.StatusOK {
					t.Errorf("client %d: %d, %v: %.200s", n, status, err, body)
					return
				}
				asked.Add(1)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	now := "a"
	for n, until := 0, time.Now().Add(long); n < 4 || time.Now().Before(until) && !t.Failed(); n++ {
		switch n % 4 {
		case 0:
			now = fmt.Sprintf("v%d", n)
			f.do("deploy", dir, "--project=shop", "--version="+now, "--env=N="+now, "--no-stop-previous-version")
		case 1:
			ids := f.running()
			f.try("instances", "restart", ids[rng.IntN(len(ids))]) // it may just have gone
		case 2:
			var other string
			for _, v := range list[versionRow](f, "versions", "--service=default") {
				if v.Serving && v.Version != now {
					other = v.Version
				}
			}
			if other != "" {
				f.do("traffic", "set", "default", now+"=60,"+other+"=40", "--project=shop", "--by=random")
				f.do("traffic", "set", "default", now+"=100", "--project=shop")
				f.do("versions", "stop", other, "--project=shop", "--service=default")
			}
		case 3:
			f.do("versions", "scale", now, "--instances="+fmt.Sprint(2+n/4%2), "--project=shop", "--service=default")
		}
	}
	f.settled()
	enough()
	all.Wait()
	t.Logf("%d requests, %d sockets ended: %v", asked.Load(), ended.Load(), ends)
	if asked.Load() < 1000 {
		t.Errorf("only %d requests were made: no load", asked.Load())
	}
}

// explained are the causes with which an operator's changes end sockets.
var explained = map[string]bool{"deployed": true, "requested": true, "scaled-down": true, "rebalanced": true}
