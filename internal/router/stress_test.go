package router

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// Routes change all the time, instances come, go unready and drain, and not one
// request fails; sockets open and are told goodbye with a frame.
func TestRoutesChangeUnderLoad(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	var all []app.Instance
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, instance(name, serving(t, socketApp(name))))
	}
	f.Set(routesTo(Pool{Affinity: true, Instances: all}))

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	seed := rand.Uint64()
	var loads, changes sync.WaitGroup
	changes.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		for n := 0; ctx.Err() == nil; n++ {
			p := Pool{Affinity: n%3 > 0, Instances: slices.Clone(all)}
			for i := range p.Instances {
				// One at least stays ready.
				if i == n%len(all) {
					continue
				}
				switch one := &p.Instances[i]; rng.IntN(5) {
				case 0:
					one.State = app.Unready
				case 1:
					one.State = app.Starting
				case 2:
					one.Addr = "" // marks it for removal
				case 3:
					if rng.IntN(20) == 0 {
						one.State, one.Cause, one.Until = app.Draining, app.Aged, time.Now().Add(50*time.Millisecond)
					}
				}
			}
			p.Instances = slices.DeleteFunc(p.Instances, func(i app.Instance) bool { return i.Addr == "" })
			f.Set(routesTo(p))
			f.Load()
			time.Sleep(time.Millisecond)
		}
	})
	for range 8 {
		loads.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				if n%2 == 0 {
					fetch(t, client, f.url)
					continue
				}
				res, err := client.Post(f.url, "text/plain", bytes.NewReader(make([]byte, 10_000)))
				if err != nil {
					t.Errorf("seed %d: POST: %v", seed, err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("seed %d: POST: %s", seed, res.Status)
				}
			}
		})
		loads.Go(func() {
			for ctx.Err() == nil {
				name, end, err := openSocket(f.url, plain)
				var closed websocket.CloseError
				switch {
				case err == nil && name != "":
					end()
				case websocket.CloseStatus(err) > 0: // said goodbye at once
				default:
					t.Errorf("seed %d: socket: %v (%v)", seed, err, closed)
					return
				}
			}
		})
	}
	loads.Wait()
	changes.Wait()
	f.Set(routesTo(Pool{Instances: all}))
	eventually(t, "nothing open", func() bool {
		for _, l := range f.Load() {
			if l.Requests != 0 || l.Sockets != 0 {
				return false
			}
		}
		return true
	})
	for id, l := range f.Load() {
		if l.Errors != 0 {
			t.Errorf("seed %d: %s: %+v", seed, id, l)
		}
	}
}

// BenchmarkServeHTTP is a small request through the router alone: the client is
// a recorder, the instance a real server.
func BenchmarkServeHTTP(b *testing.B) {
	theApp := httptest.NewServer(http.HandlerFunc(naming("hello")))
	defer theApp.Close()
	for _, affinity := range []bool{false, true} {
		name := "plain"
		if affinity {
			name = "affinity"
		}
		b.Run(name, func(b *testing.B) {
			r := New(Config{Secret: secret}, tunnel.New(tunnel.Config{}, discard))
			defer r.Close()
			i := instance("a", theApp.Listener.Addr().String())
			r.Set(routesTo(Pool{Affinity: affinity, Instances: []app.Instance{i}}))
			req := httptest.NewRequest("GET", "/", nil)
			req.Host = "localhost"
			if affinity {
				ses := newSession()
				ses.instance, ses.issued = "a", time.Now()
				req.Header.Set("Cookie", "GAESA="+r.sealer.seal(i.Key, ses))
			}
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				if r.ServeHTTP(w, req); w.Code != 200 {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
