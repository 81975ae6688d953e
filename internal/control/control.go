// Package control makes what runs match what was asked for: it observes, plans
// and acts, again and again. It is the only room that sees both planes, and
// the only one that starts, drains or stops instances. It must not know how
// an instance is run, nor what a request looks like.
//
// Start with plan, which decides; look is the loop's one turn around it:
// observe.go gathers the facts, act.go does the steps, verbs.go is what
// operators may ask for.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
	"holdfast/internal/probe"
	"holdfast/internal/router"
	"holdfast/internal/store"
)

const (
	// StopGrace is what an app gets between the polite signal and the other
	// one, as on App Engine.
	StopGrace = 30 * time.Second

	// stopSlack is how much longer than the grace a driver may take to stop an
	// instance until its ending by force is asked for again.
	stopSlack = 10 * time.Second

	// detachGrace is how long Run waits for the stops under way when it ends:
	// our own restart should not take as long as the slowest app's goodbye.
	detachGrace = 5 * time.Second

	// listBound is how long the driver may take to say what runs; listRetry is
	// the wait after it could not.
	listBound = 10 * time.Second
	listRetry = time.Second

	// lookEvery is the longest time between two looks. Everything that matters
	// wakes the loop; this heals what was missed nevertheless.
	lookEvery = time.Minute

	// surge is how many more instances than wanted may exist while one is
	// replaced: a successor must be ready before it goes, and plan replaces one
	// at a time.
	surge = 1

	// drainLook and drainLookMost are how often a draining instance is looked
	// at, to see whether it is empty: soon at first, then less often.
	drainLook     = 250 * time.Millisecond
	drainLookMost = time.Second

	// stoppedKept is how long routes tell of a stopped instance, so that what
	// it carried can still be told why it ended.
	stoppedKept = 5 * time.Second
)

// Config is what a controller is given besides its neighbours. The zero value
// works.
type Config struct {
	App, Service string                         // where hosts lead that name none; "": the only one there is
	Wishes       Wishes                         // of the old mechanism: the store's are not looked at yet
	Builder      Builder                        // makes artifacts; nil: they are there
	Maintenance  Window                         // when the weekly restarts may begin
	Tail         func(instance string) []string // the last lines that an instance wrote; nil: nobody knows
	Operations   func(app.Operation)            // told each change of an operation, in order, by the loop: must not block
	Dial         probe.Dial                     // how probes reach instances; nil: net.Dialer's
	Events       func(Event)                    // told each change of an instance, in order, by the loop: must not block, nor call Deploy or Shutdown
	Log          *slog.Logger                   // nil: none
}

// Event is one change of an instance: Instance.State was entered.
type Event struct {
	Time     time.Time
	Instance app.Instance
	Detail   string // for people: the exit status, what the probe met; may be ""
}

// Controller runs the loop. New makes one.
type Controller struct {
	// Set by New, then constant.
	driver driver.Driver
	router Router
	store  *store.Store
	cfg    Config
	log    *slog.Logger
	wake   chan struct{}      // capacity one: there is something to look at
	ended  chan struct{}      // closed when Run has returned
	empty  chan struct{}      // closed when a shutdown has left nothing
	hard   context.Context    // ends when stops under way shall be done by force
	force  context.CancelFunc // ends hard
	busy   sync.WaitGroup     // starts, stops and watches under way
	starts chan struct{}      // one token for each start under way

	// Owned by Run.
	routes router.Routes // as last set
	routed bool          // they were set once

	mu        sync.Mutex // guards the following
	wishes    Wishes
	versions  map[app.Key]*version // those wished for, and those with instances
	instances map[string]*instance
	deploys   map[ServiceKey]*deploy
	closing   bool // shutting down: nothing is wanted any more
	observed  bool // the driver has been listed once
	events    []Event
	answered  []*deploy // to be told when the routes are set
}

// version is what control remembers of a version.
type version struct {
	app.Version
	known   bool      // Version is more than its Key
	past    past      // failures
	reached bool      // as many as wanted have been ready at once
	ready   bool      // one instance was ready, ever
	lost    app.Cause // of the latest failure, until as many as wanted are ready
	down    app.Cause // why its instances leave, once it is not wanted
}

// instance is what control remembers of an instance. What it carries is the
// router's to know, and what runs is the driver's.
type instance struct {
	app.Instance
	adopted  bool // found running, not started by us
	presumed bool // ready without having been asked
	listed   bool // by the driver, at the last look
	exited   bool // by itself, or never came to be
	asked    bool // an operator wants it replaced
	stable   bool // was ready for stableAfter
	idle     time.Time
	load     int

	// How it feels, as the probe says.
	watch     context.CancelFunc // ends the watch; nil: not watched
	readiness probe.Verdict
	sick      bool
	complaint string // what the last question failed with

	// What is being done to it.
	cancelStart context.CancelFunc
	started     chan struct{} // closed when the driver's Start has returned; nil: adopted
	startErr    error         // set before started is closed
	told        bool          // to stop, while it lived: if it exits now, that is not a crash
	stopping    bool
	stopped     bool      // the driver's Stop has succeeded
	retry       time.Time // not stopped again before
}

// New makes a controller of the driver's instances and the router's traffic.
// It starts nothing: Run does.
func New(d driver.Driver, r Router, s *store.Store, cfg Config) *Controller {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controller{
		driver: d, router: r, store: s, cfg: cfg, log: cfg.Log,
		wake:      make(chan struct{}, 1),
		ended:     make(chan struct{}),
		empty:     make(chan struct{}),
		starts:    make(chan struct{}, startsMost),
		wishes:    cfg.Wishes,
		versions:  map[app.Key]*version{},
		instances: map[string]*instance{},
		deploys:   map[ServiceKey]*deploy{},
	}
	c.hard, c.force = context.WithCancel(context.Background())
	return c
}

// Run makes what runs match what is wished until ctx ends, and returns when
// everything it started has ended. The instances go on: to end them is
// Shutdown's, before. Run is called once.
func (c *Controller) Run(ctx context.Context) error {
	defer close(c.ended)
	defer c.force()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	hints := make(chan struct{}, 1)
	watched := make(chan error, 1)
	go func() { watched <- c.driver.Run(ctx, hints) }() // ends with ctx; awaited below

	var err error
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && err == nil {
		select {
		case <-ctx.Done():
			continue
		case <-hints:
		case <-c.wake:
		case <-timer.C:
		case err = <-watched:
			watched <- nil // for the wait below
			switch {
			case ctx.Err() != nil:
				err = nil
			case err == nil:
				err = errors.New("watch instances: the driver has stopped watching")
			default:
				err = fmt.Errorf("watch instances: %w", err)
			}
			continue
		}
		timer.Reset(c.look(ctx))
	}

	cancel()
	<-watched
	late := time.AfterFunc(detachGrace, c.force)
	defer late.Stop()
	c.busy.Wait()
	return err
}

// hint wakes the loop.
func (c *Controller) hint() {
	select {
	case c.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// look is one turn: observe, plan, act. It returns how long the next may wait
// unless something happens.
func (c *Controller) look(ctx context.Context) time.Duration {
	c.mu.Lock()
	expected := c.expectedLocked()
	c.mu.Unlock()

	listing, cancel := context.WithTimeout(ctx, listBound)
	running, err := c.driver.List(listing)
	cancel()
	if ctx.Err() != nil {
		return lookEvery
	}
	load := c.router.Load()

	c.mu.Lock()
	now := time.Now()
	var next time.Time
	var acts []func()
	if err != nil {
		// What is not known is not acted upon.
		c.log.Warn("list instances", "err", err)
		next = now.Add(listRetry)
	} else {
		c.observeLocked(ctx, now, running, expected, load)
		c.settleLocked(now)
		for _, k := range c.versionKeysLocked() {
			acts = append(acts, c.planLocked(ctx, now, k)...)
		}
		next = c.nextLocked(now)
	}
	routes := c.routesLocked()
	events, answered := c.events, c.answered
	c.events, c.answered = nil, nil
	observed := c.observed
	left := !c.closing || !observed || err != nil || c.leftLocked() > 0
	c.mu.Unlock()

	// Traffic first: what leaves must get nothing new when it is told to go.
	if observed && (!c.routed || !reflect.DeepEqual(routes, c.routes)) {
		c.routes, c.routed = routes, true
		c.router.Set(routes)
	}
	for _, act := range acts {
		act()
	}
	if c.cfg.Events != nil {
		for _, e := range events {
			c.cfg.Events(e)
		}
	}
	for _, d := range answered {
		close(d.done)
	}
	if !left {
		select {
		case <-c.empty:
		default:
			close(c.empty)
		}
	}
	return max(0, time.Until(next))
}
