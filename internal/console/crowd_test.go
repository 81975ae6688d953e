package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/tunnel"
)

const (
	crowdInstances = 200
	crowdSockets   = 10_000
)

// crowd is a fleet as large as the console is made for, in a table.
type crowd struct {
	Control
	Sockets
	instances []control.Instance
	sockets   []tunnel.Status
}

func (c crowd) Instances() []control.Instance { return c.instances }

// crowdSocketsOf is a crowd's Sockets: two of its interfaces have a method of the
// same name.
type crowdSocketsOf struct{ crowd }

func (c crowdSocketsOf) Sockets(f tunnel.Filter) (all []tunnel.Status) {
	for _, s := range c.sockets {
		if (f.Instance == "" || f.Instance == s.Instance) && (f.ID == "" || f.ID == s.ID) {
			all = append(all, s)
		}
	}
	return all
}

func (c crowdSocketsOf) CloseMatching(tunnel.Filter, app.Cause, int, string) (int, error) {
	return 0, nil
}

// newCrowd is a world with a crowd in two versions, somebody signed in.
func newCrowd(t testing.TB) *world {
	now := time.Now()
	var c crowd
	for n := range crowdInstances {
		k := app.Key{App: "shop", Service: "default", Version: fmt.Sprintf("20261127t1200%02d", n%2)}
		id := fmt.Sprintf("aef-default-%s-%04d", k.Version, n)
		i := app.Instance{ID: id, Key: k, Addr: "127.0.0.1:1", State: app.State(n % 4), Since: now, Born: now.Add(-time.Duration(n) * time.Second)}
		if i.State == app.Draining {
			i.Cause, i.Until = app.Deployed, now.Add(time.Minute)
		}
		c.instances = append(c.instances, control.Instance{Instance: i, Sockets: crowdSockets / crowdInstances, Requests: 1, CPU: .5})
	}
	for n := range crowdSockets {
		i := c.instances[n%crowdInstances]
		c.sockets = append(c.sockets, tunnel.Status{
			ID: fmt.Sprint(1<<60 + n), Key: i.Key, Instance: i.ID, Client: fmt.Sprintf("10.0.%d.%d", n/250, n%250), Affinity: tunnel.Affinity(n % 3),
			Opened: now.Add(-time.Duration(n) * time.Second), Idle: time.Duration(n) * time.Millisecond, FromClient: tunnel.Traffic{Bytes: int64(n), Text: int64(n)},
		})
	}
	w := newWorld(t, func(e *Engine) { c.Control = e.Control; e.Control, e.Sockets = c, crowdSocketsOf{c} })
	w.deploy("20261127t120000", 0)
	w.signIn(w.token)
	for n := range 1000 {
		w.request(c.instances[0].Key, 200+n%2*300)
		w.journal.ToldInstance(now, c.instances[n%crowdInstances].Instance, "")
	}
	return w
}

var crowdPages = []string{"", "services/shop/default", "sockets", "sockets?sort=idle&q=10.0.1", "timeline", "instances/aef-default-20261127t120000-0000"}

// At 10,000 sockets on 200 instances, each page stays one that a browser takes.
func TestPagesOfACrowdStaySmall(t *testing.T) {
	const most = 160 << 10
	w := newCrowd(t)
	for _, path := range crowdPages {
		start := time.Now()
		status, page := w.get(path)
		if status != http.StatusOK || len(page) > most {
			t.Errorf("%q: %d, %d bytes, want at most %d", path, status, len(page), most)
		}
		t.Logf("%q: %d bytes in %v", path, len(page), time.Since(start))
	}
	_, page := w.get("")
	if n := strings.Count(page, `class="cell `) - 5; n != crowdInstances { // five are the legend's
		t.Errorf("%d cells for %d instances", n, crowdInstances)
	}
	has(t, page, "10\u202f000", "50 instances with 2\u202f500 sockets left, deployed")
	_, page = w.get("sockets?affinity=sid&idle=3.6s&age=1s&service=default")
	want := 0
	for n := range crowdSockets {
		if n%3 == int(tunnel.BySid) && n >= 3600 {
			want++
		}
	}
	has(t, page, `<b id="matching">`+count(want)+"</b>", "idle for 3.6s", "open for 1s", "by sid")
	for path, want := range map[string]int{"sockets?affinity=x": 400, "sockets?idle=long": 400, "sockets?age=-1s": 400} {
		if status, _ := w.get(path); status != want {
			t.Errorf("%q: %d, want %d", path, status, want)
		}
	}
}

func BenchmarkPagesOfACrowd(b *testing.B) {
	w := newCrowd(b)
	for _, path := range crowdPages {
		b.Run("page="+path, func(b *testing.B) {
			for b.Loop() {
				if status, _ := w.get(path); status != http.StatusOK {
					b.Fatal(status)
				}
			}
		})
	}
}
