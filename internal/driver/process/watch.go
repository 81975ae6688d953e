package process

import (
	"context"
	"sync"
	"time"
)

// watcher is one call of Run.
type watcher struct {
	changed chan<- struct{}
	wake    chan struct{} // there may be more to watch; capacity one
}

func (w *watcher) hint() {
	select {
	case w.changed <- struct{}{}:
	default: // one is waiting to be taken: it will do for both
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (d *Driver) hintLocked() {
	for w := range d.watchers {
		w.hint()
	}
}

func (d *Driver) hint() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hintLocked()
}

// Run implements driver.Driver: one goroutine for each instance that runs,
// parked until its keeper ends. When ctx ends, instances go on.
func (d *Driver) Run(ctx context.Context, changed chan<- struct{}) error {
	w := &watcher{changed: changed, wake: make(chan struct{}, 1)}
	d.mu.Lock()
	d.watchers[w] = true
	w.hint() // for whatever happened before we watched
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.watchers, w)
		d.mu.Unlock()
	}()

	var wg sync.WaitGroup
	defer wg.Wait() // they end with ctx
	watched := map[*instance]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		d.mu.Lock()
		now := map[*instance]bool{}
		for _, in := range d.instances {
			now[in] = true
		}
		d.mu.Unlock()
		for in := range watched {
			if !now[in] {
				delete(watched, in)
			}
		}
		for in := range now {
			if watched[in] {
				continue
			}
			watched[in] = true
			wg.Go(func() {
				select {
				case <-in.started:
				case <-ctx.Done():
					return
				}
				if d.await(ctx, in) == nil && d.settle(in) != nil {
					d.log.Debug("instance ended", "instance", in.record.ID)
					d.hint()
				}
			})
		}
	}
}

// await blocks until the instance's keeper has ended, and returns nil, or until
// ctx ends.
func (d *Driver) await(ctx context.Context, in *instance) error {
	in.mu.Lock()
	pid, running := in.keeper.PID, in.alive != nil && in.exit == nil
	in.mu.Unlock()
	if !running {
		return nil
	}
	return awaitEnd(ctx, pid, func() bool { return ended(in) })
}

// ended says whether the keeper's lock is free.
func ended(in *instance) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.exit != nil || in.alive == nil || lockFree(in.alive)
}

const (
	// pollFirst and pollMost bound how often we ask where the system cannot
	// tell us: soon at first, for what ends quickly, then seldom.
	pollFirst = 2 * time.Millisecond
	pollMost  = 250 * time.Millisecond
)

// pollEnd asks ended until it says so or ctx ends.
func pollEnd(ctx context.Context, ended func() bool) error {
	for wait := pollFirst; !ended(); wait = min(2*wait, pollMost) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
