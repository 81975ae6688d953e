// Package memory is a driver in a map: the smallest implementation of the
// contract, for tests of rooms that need something to start and stop. It runs
// nothing, touches no file and no network, and takes no time but what Linger
// asks for, so that it works in fake time (testing/synctest). It passes the
// suite in drivertest, as every driver does. Start at New.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
)

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Breaker = (*Driver)(nil)
)

// Driver keeps instances in a map. Besides the contract it has a few methods
// by which a test plays the app's part: Crash, Exit, Burn, Refuse, Doom and
// Linger, and Heard, by which it listens as the app does.
type Driver struct {
	mu        sync.Mutex // guards the following
	instances map[string]*instance
	watchers  map[*watcher]bool
	addresses int // given out so far
	refuse    func(id string, v app.Version) error
	doom      func(id string, v app.Version) string
	linger    time.Duration
}

type instance struct {
	driver.Running
	version  app.Version
	heard    []string // what Warn has told it
	stopping bool
	force    chan struct{} // closed when the wait for a polite end is over
	gone     chan struct{} // closed when it is not listed any more
}

// watcher is one call of Run.
type watcher struct{ changed chan<- struct{} }

// New returns a driver without instances.
func New() *Driver {
	return &Driver{instances: map[string]*instance{}, watchers: map[*watcher]bool{}}
}

// Refuse makes fn decide whether Start succeeds: an error of fn is Start's and
// nothing is listed. nil, as in the beginning, refuses nothing.
func (d *Driver) Refuse(fn func(id string, v app.Version) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = fn
}

// Doom makes fn decide which instances exit as soon as they are started: what
// fn returns is their Exit, and "" lets them live. nil dooms none.
func (d *Driver) Doom(fn func(id string, v app.Version) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doom = fn
}

// Linger sets how long an app takes to end after the polite signal; 0, as in
// the beginning, is at once. Longer than the grace means it ends by force.
func (d *Driver) Linger(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.linger = t
}

// Crash makes the instance's app end by itself with exit status 1. It says
// whether there was an app to end.
func (d *Driver) Crash(id string) bool { return d.Exit(id, "exit status 1") }

// Exit makes the instance's app end by itself, in the way that Running.Exit
// will say. It says whether there was an app to end.
func (d *Driver) Exit(id, how string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.instances[id]
	if in == nil || in.Exited {
		return false
	}
	in.Exited, in.Exit, in.Ended, in.Paused = true, how, time.Now(), false
	d.hintLocked()
	return true
}

// Burn makes the instance's app use so much more CPU time, if it runs.
func (d *Driver) Burn(id string, t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil && !in.Exited {
		in.CPU += t
	}
}

// Heard is what the instance's app has been told of its draining, in order:
// "file" and, if its version asks for it, "signal". Nothing: it has not.
func (d *Driver) Heard(id string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil {
		return slices.Clone(in.heard)
	}
	return nil
}

// Version returns what the instance was started with.
func (d *Driver) Version(id string) (v app.Version, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil {
		return in.version, true
	}
	return app.Version{}, false
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, id string, v app.Version) error {
	if id == "" {
		return fmt.Errorf("start instance: no id: %w", app.ErrInvalid)
	}
	if v.Artifact.Command == "" {
		return fmt.Errorf("start instance %s: version %s has not been built: %w", id, v.Key, app.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.instances[id] != nil {
		return nil
	}
	if d.refuse != nil {
		if err := d.refuse(id, v); err != nil {
			return fmt.Errorf("start instance %s: %w", id, err)
		}
	}
	d.addresses++
	in := &instance{
		Running: driver.Running{
			ID:  id,
			Key: v.Key,
			// RFC 2606: names under invalid never lead anywhere.
			Addr: fmt.Sprintf("i%d.invalid:8080", d.addresses),
			Born: time.Now(),
		},
		version: v,
		force:   make(chan struct{}),
		gone:    make(chan struct{}),
	}
	if d.doom != nil {
		if how := d.doom(id, v); how != "" {
			in.Exited, in.Exit, in.Ended = true, how, in.Born
		}
	}
	d.instances[id] = in
	d.hintLocked()
	return nil
}

// Stop implements driver.Driver. A second call while one waits ends the
// instance by force, as the process driver has it.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	d.mu.Lock()
	in := d.instances[id]
	if in == nil {
		d.mu.Unlock()
		return nil
	}
	first := !in.stopping
	in.stopping = true
	wait := min(d.linger, grace)
	if in.Exited {
		wait = 0
	}
	if !first {
		closeOnce(in.force) // under mu, like every close of it
	}
	d.mu.Unlock()
	if !first {
		<-in.gone // the first caller is on its way out: nothing it waits for is left
		return nil
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-in.force:
		case <-ctx.Done():
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.instances, id)
	close(in.gone)
	d.hintLocked()
	return nil
}

// Warn implements driver.Driver.
func (d *Driver) Warn(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("warn instance %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.instances[id]
	if in == nil || in.Exited || len(in.heard) > 0 {
		return nil
	}
	in.heard = []string{"file"}
	if in.version.DrainSignal {
		in.heard = append(in.heard, "signal")
	}
	return nil
}

// Kill implements driver.Breaker.
func (d *Driver) Kill(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kill instance %s: %w", id, err)
	}
	d.Exit(id, "killed by SIGKILL")
	return nil
}

// Pause implements driver.Breaker.
func (d *Driver) Pause(ctx context.Context, id string) error { return d.pause(ctx, id, true) }

// Resume implements driver.Breaker.
func (d *Driver) Resume(ctx context.Context, id string) error { return d.pause(ctx, id, false) }

func (d *Driver) pause(ctx context.Context, id string, paused bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pause or resume instance %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil && !in.Exited && in.Paused != paused {
		in.Paused = paused
		d.hintLocked()
	}
	return nil
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Running, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]driver.Running, 0, len(d.instances))
	for _, in := range d.instances {
		list = append(list, in.Running)
	}
	slices.SortFunc(list, func(a, b driver.Running) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Run implements driver.Driver. It gives one hint at once, for whatever
// happened before it watched.
func (d *Driver) Run(ctx context.Context, changed chan<- struct{}) error {
	w := &watcher{changed}
	d.mu.Lock()
	d.watchers[w] = true
	w.hint()
	d.mu.Unlock()
	<-ctx.Done()
	d.mu.Lock()
	delete(d.watchers, w)
	d.mu.Unlock()
	return nil
}

func (d *Driver) hintLocked() {
	for w := range d.watchers {
		w.hint()
	}
}

func (w *watcher) hint() {
	select {
	case w.changed <- struct{}{}:
	default: // one is waiting to be taken: it will do for both
	}
}
