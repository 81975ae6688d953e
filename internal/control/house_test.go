package control_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver"
	"holdfast/internal/driver/memory"
	"holdfast/internal/router"
	"holdfast/internal/store"
)

// house is a controller in fake time: over the memory driver, a fake network
// whose apps do as the test says, and a data plane that remembers its routes.
type house struct {
	t     *testing.T
	d     *memory.Driver
	s     *store.Store
	disk  control.Store       // what control is given; nil: s
	hear  func(control.Event) // hears each event too; nil: nobody
	plane *plane
	apps  *apps

	router control.Router      // nil: plane
	see    func(control.Event) // told each event too; nil: nobody is
	c      *control.Controller
	leave  func() error // ends Run, and returns what it returned

	mu     sync.Mutex // guards the following
	events []control.Event
}

// inHouse runs a test in a bubble of fake time, with a controller that runs.
func inHouse(t *testing.T, test func(t *testing.T, h *house)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.move(h.d, control.Config{})
		test(t, h)
		if err := h.leave(); err != nil {
			t.Errorf("Run: %v", err)
		}
		h.checkEvents()
	})
}

func newHouse(t *testing.T) *house {
	d := memory.New()
	return &house{t: t, d: d, s: store.Memory(), plane: &plane{load: map[string]router.Load{}}, apps: &apps{d: d, feel: map[string]string{}}}
}

// move starts a controller over the driver, as our process does when it starts.
func (h *house) move(d driver.Driver, cfg control.Config) {
	cfg.Dial = h.apps.dial
	cfg.Events = func(e control.Event) {
		if h.see != nil {
			h.see(e)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
		if h.hear != nil {
			h.hear(e)
		}
	}
	r := h.router
	if r == nil {
		r = h.plane
	}
	disk := h.disk
	if disk == nil {
		disk = h.s
	}
	h.c = control.New(d, r, disk, cfg)
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.c.Run(ctx) }()
	h.leave = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
}

// deploy has v serve and get all traffic, and fails the test when it does not.
func (h *house) deploy(v app.Version) {
	h.t.Helper()
	if op := h.try(v); op.Failure != nil {
		h.t.Fatalf("deploy of %s: %+v", v.Key, *op.Failure)
	}
}

// try deploys v, and returns how that ended.
func (h *house) try(v app.Version) app.Operation {
	h.t.Helper()
	op, err := h.c.Deploy(control.Deployment{Version: v, Promote: true})
	return h.ended(op, err)
}

// ended waits for an operation that must have been accepted.
func (h *house) ended(op app.Operation, err error) app.Operation {
	h.t.Helper()
	if err == nil {
		op, err = h.c.Wait(h.t.Context(), op.ID)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return op
}

// wait lets time pass, and what happens in it.
func wait(long time.Duration) {
	time.Sleep(long)
	synctest.Wait()
}

// told returns the events since the start, of the states given or of all, as
// "instance state cause".
func (h *house) told(states ...app.State) (all []control.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if len(states) == 0 || slices.Contains(states, e.Instance.State) {
			all = append(all, e)
		}
	}
	return all
}

// forget drops the events, for a controller that begins anew with what runs.
func (h *house) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = nil
}

// causes returns the causes with which a state was entered, in order.
func (h *house) causes(state app.State) (all []app.Cause) {
	for _, e := range h.told(state) {
		all = append(all, e.Instance.Cause)
	}
	return all
}

// checkEvents sees that every instance's life follows the diagram in app.
func (h *house) checkEvents() {
	h.t.Helper()
	was := map[string]app.State{}
	for _, e := range h.told() {
		i := e.Instance
		old, known := was[i.ID]
		ok := !known
		switch i.State {
		case app.Starting:
			ok = !known
		case app.Ready:
			ok = ok || old == app.Starting || old == app.Unready
		case app.Unready:
			ok = old == app.Ready
		case app.Draining:
			ok = ok || old < app.Draining || i.Cause == app.ShuttingDown
		case app.Stopped:
			ok = ok || old != app.Stopped
		}
		if !ok {
			h.t.Errorf("%s: from %s to %s", i.ID, old, i.State)
		}
		if i.Cause == "" && i.State >= app.Draining {
			h.t.Errorf("%s is %s without a cause", i.ID, i.State)
		}
		was[i.ID] = i.State
	}
}

// in is the instances that are in a state now, by id.
func (h *house) in(state app.State) (all []app.Instance) {
	for _, i := range h.c.Instances() {
		if i.State == state {
			all = append(all, i.Instance)
		}
	}
	return all
}

// of is the ready instances of a version, by id.
func (h *house) of(version string) (all []app.Instance) {
	for _, i := range h.in(app.Ready) {
		if i.Key.Version == version {
			all = append(all, i)
		}
	}
	return all
}

// routes is what the data plane was told last.
func (h *house) routes() router.Routes {
	h.plane.mu.Lock()
	defer h.plane.mu.Unlock()
	return h.plane.routes
}

// running is what the driver runs.
func (h *house) running() []driver.Running {
	list, err := h.d.List(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// plane is a data plane that carries what the test says.
type plane struct {
	mu      sync.Mutex // guards the following
	routes  router.Routes
	sets    int
	load    map[string]router.Load
	watch   func(router.Routes) // sees each value that is set
	busy    map[string]int      // of the sockets, by instance
	shed    []shed
	expired []string
	looks   int
}

func (p *plane) Set(r router.Routes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes = r
	p.sets++
	if p.watch != nil {
		p.watch(r)
	}
}

// see has fn see each value that is set from now on; nil ends it, and then
// what fn has noted may be read.
func (p *plane) see(fn func(router.Routes)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = fn
}

func (p *plane) Load() map[string]router.Load {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	load := map[string]router.Load{}
	for id, l := range p.load {
		load[id] = l
	}
	return load
}

// counted is how often a controller has looked.
func (p *plane) counted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looks
}

func (p *plane) carry(id string, sockets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.load[id] = router.Load{Sockets: sockets}
}

// Busy is what the test says.
func (p *plane) Busy(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy[id]
}

// Shed closes what it is asked to close at once, and remembers it.
func (p *plane) Shed(id string, n int, cause app.Cause) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.load[id]
	n = min(n, l.Sockets)
	l.Sockets -= n
	p.load[id] = l
	p.shed = append(p.shed, shed{id, n, cause, time.Now()})
	return n
}

// Expire remembers that it was asked.
func (p *plane) Expire(k app.Key, share float64, since time.Time, within time.Duration) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expired = append(p.expired, fmt.Sprintf("%s %g %v", k, share, within))
	return 0
}

// shed is one portion of sockets that were closed.
type shed struct {
	instance string
	n        int
	cause    app.Cause
	at       time.Time
}

// service is the shop's default service, as it was set last.
func (p *plane) service() router.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routes.Apps["shop"].Services["default"]
}

// served counts the ready instances that a split leads to.
func served(s router.Service) int {
	n := 0
	for v := range s.Split.Shares {
		for _, i := range s.Pools[v].Instances {
			if i.State == app.Ready {
				n++
			}
		}
	}
	return n
}

// apps is the fake network, and what the apps on it do: "" is fine, and any of
// deaf (nothing listens), unready, sick (both checks fail) and hung. It is set
// for an instance, or for a version.
type apps struct {
	d *memory.Driver

	mu   sync.Mutex // guards the following
	feel map[string]string
	boot time.Duration // from the start until the app listens
}

func (a *apps) is(name, feeling string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.feel[name] = feeling
}

func (a *apps) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	list, err := a.d.List(ctx)
	if err != nil {
		return nil, err
	}
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	for _, r := range list {
		if r.Addr != addr {
			continue
		}
		a.mu.Lock()
		feeling, boot := a.feel[r.ID]+a.feel[r.Key.Version], a.boot
		a.mu.Unlock()
		if r.Exited || feeling == "deaf" || time.Since(r.Born) < boot {
			return nil, refused
		}
		client, server := net.Pipe()
		go answer(server, feeling) // ends when the client closes
		return client, nil
	}
	return nil, refused
}

func answer(conn net.Conn, feeling string) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	status := "200 OK"
	switch {
	case feeling == "hung":
		io.Copy(io.Discard, conn)
		return
	case feeling == "sick", feeling == "unready" && req.URL.Path == "/ready":
		status = "503 Service Unavailable"
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
}

// shop is a version of the shop with so many instances and the documented
// defaults.
func shop(version string, instances int) app.Version {
	return app.Version{
		Key:      app.Key{App: "shop", Service: app.DefaultService, Version: version},
		Artifact: app.Artifact{ID: version, Command: "serve"},
		Scaling:  app.Scaling{Manual: true, Min: instances, Max: instances},
		Ready:    app.Check{Path: "/ready", Timeout: 4 * time.Second, Interval: 5 * time.Second, Failures: 2, Successes: 2, Within: 5 * time.Minute},
		Live:     app.Check{Path: "/live", Timeout: 4 * time.Second, Interval: 30 * time.Second, Failures: 4, Successes: 2, InitialDelay: 5 * time.Minute},
		Drain:    25 * time.Second,
		MaxAge:   7 * 24 * time.Hour,
	}
}

func names(all []app.Instance) string {
	var words []string
	for _, i := range all {
		words = append(words, i.ID)
	}
	return strings.Join(words, " ")
}
