// Package control makes what runs match what was asked for: it observes, plans
// and acts, again and again. It is the only room that sees both planes, and
// the only one that starts, drains or stops instances. It must not know how
// an instance is run, nor what a request looks like.
//
// What was asked for is the store's to know, and is read from it at each look:
// verbs.go and deploy.go write it, operate.go brings it to its end. Start with
// plan, which decides what is done to instances; look is the loop's one turn
// around it: observe.go gathers the facts, act.go does the steps.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// Store is what control needs of *store.Store.
type Store interface {
	Wishes() store.Wishes
	Changed() <-chan struct{}
	Update(func(w *store.Wishes) error) error
}

// Config is what a controller is given besides its neighbours. The zero value
// works.
type Config struct {
	App, Service string       // where hosts lead that name none; "": the only one there is
	Builder      Builder      // makes artifacts; nil: every version has one that is there
	Maintenance  Window       // when instances may be replaced for their age
	Restarts     bool         // who is told of an edge-restart drill starts this process again
	Dial         probe.Dial   // how probes reach instances; nil: net.Dialer's
	Log          *slog.Logger // nil: none

	// Tail is the last lines that an instance wrote, for people who want to
	// know why it failed; nil: nobody knows. It may read files.
	Tail func(instance string) []string

	// Events is told each change of an instance, and Operations each operation
	// when it is accepted, changes its stage and ends: in order, by the loop.
	// They must not block. nil: nobody listens.
	Events     func(Event)
	Operations func(app.Operation)
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
	store  Store // its transactions may take mu: nobody who holds mu calls Update
	cfg    Config
	log    *slog.Logger
	wake   chan struct{}      // capacity one: there is something to look at
	ended  chan struct{}      // closed when Run has returned
	empty  chan struct{}      // closed when a shutdown has left nothing
	hard   context.Context    // ends when stops under way shall be done by force
	force  context.CancelFunc // ends hard
	busy   sync.WaitGroup     // starts, stops, builds and watches under way
	starts chan struct{}      // one token for each start under way
	builds chan struct{}      // one token for each build under way

	// Owned by Run.
	routes   router.Routes // as last set
	routed   bool          // they were set once
	unsaved  time.Time     // when it was last told that the store takes nothing
	saveNext time.Time     // what could not be saved is not tried again before

	mu        sync.Mutex // guards the following
	wishes    store.Wishes
	changed   <-chan struct{}      // closed when the store has other wishes
	versions  map[app.Key]*version // those that serve, and those with instances
	instances map[string]*instance // changed by addLocked and dropLocked alone
	efforts   map[string]*effort   // for each operation under way
	drills    []app.Operation      // under way, as of wishes
	building  map[app.Key]*building
	began     time.Time // when the driver was first listed; zero: not yet
	closing   bool      // shutting down: nothing is wanted any more
	events    []Event
	told      []app.Operation // that Operations is to be told of
	settled   store.Wishes    // the wishes that the routes show
	acted     chan struct{}   // closed when settled is replaced
	counts    counts          // for Numbers
}

// version is what control remembers of a version.
type version struct {
	app.Version
	known   bool        // Version is more than its Key
	all     []*instance // in every state, by id
	past    past        // failures
	reached bool        // as many as wanted have been ready at once
	ready   bool        // one instance was ready, ever
	want    int         // how many there should be, at the latest look; 0: not known yet
	load    history     // by which that was decided
	shed    time.Time   // when sockets of it were last moved to a fresh instance
	lost    app.Cause   // of the latest failure, until as many as wanted are ready
	up      app.Cause   // why its first instances are started; "": a deploy
	there   string      // id of its artifact, once the builder has been seen to have it
	failed  past        // builds that failed though no operation waited for them
}

// instance is what control remembers of an instance. What it carries is the
// router's to know, and what runs is the driver's.
type instance struct {
	app.Instance
	adopted  bool // found running, not started by us
	presumed bool // ready without having been asked
	listed   bool // by the driver, at the last look
	exited   bool // by itself, or never came to be
	stable   bool // was ready for stableAfter
	idle     time.Time
	load     int // requests and sockets
	sockets  int

	// How it feels, as the probe says.
	watch     context.CancelFunc // ends the watch; nil: not watched
	readiness probe.Verdict
	sick      bool
	complaint string // what the last question failed with
	checks    checks
	detail    string // of the state it is in

	// The CPU time it has used: by now, at an earlier moment, and since then.
	used   time.Duration
	usedAt time.Duration
	usedT  time.Time
	cores  float64 // on average, until that moment from the one before

	// What is being done to it.
	cancelStart context.CancelFunc
	started     chan struct{} // closed when the driver's Start has returned; nil: adopted
	startErr    error         // set before started is closed
	warned      chan struct{} // closed when its app has been told that it drains; nil: it does not yet
	told        bool          // to stop, while it lived: if it exits now, that is not a crash
	stopping    bool
	stopped     bool      // the driver's Stop has succeeded
	retry       time.Time // not stopped again before

	// What drills do to it.
	paused    bool      // as the driver lists it
	killed    bool      // it was asked to be
	breaking  bool      // the driver is at it
	breakNext time.Time // and is not asked again before
}

// New makes a controller of the driver's instances and the router's traffic,
// who does what the store says. It starts nothing: Run does.
func New(d driver.Driver, r Router, s Store, cfg Config) *Controller {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controller{
		driver: d, router: r, store: s, cfg: cfg, log: cfg.Log,
		wake:      make(chan struct{}, 1),
		ended:     make(chan struct{}),
		empty:     make(chan struct{}),
		starts:    make(chan struct{}, startsMost),
		builds:    make(chan struct{}, buildsMost),
		versions:  map[app.Key]*version{},
		instances: map[string]*instance{},
		efforts:   map[string]*effort{},
		building:  map[app.Key]*building{},
		acted:     make(chan struct{}),
		counts:    newCounts(),
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
	var changed <-chan struct{} // nil until the first look
	for ctx.Err() == nil && err == nil {
		select {
		case <-ctx.Done():
			continue
		case <-changed:
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
		c.mu.Lock()
		changed = c.changed
		c.mu.Unlock()
	}

	cancel()
	<-watched
	late := time.AfterFunc(detachGrace, c.force)
	defer late.Stop()
	c.busy.Wait()
	c.unbreak()
	return err
}

// hint wakes the loop.
func (c *Controller) hint() {
	select {
	case c.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}
