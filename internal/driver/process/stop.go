package process

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// stop is a Stop that is under way.
type stop struct {
	force  context.CancelFunc // ends the grace
	forced context.Context
	done   chan struct{}
	err    error // set before done is closed
}

// Stop implements driver.Driver. The polite signal is SIGTERM to the app's
// process group. A second call while one waits ends the grace of the first, as
// the end of ctx does. An error means that something could not be ended or
// removed; the instance is then still listed and may be stopped again.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	d.mu.Lock()
	in := d.instances[id]
	if in == nil {
		d.mu.Unlock()
		return nil
	}
	if s := in.stop; s != nil {
		s.force()
		d.mu.Unlock()
		<-s.done // bounded: the first one has only forceMax left
		return s.err
	}
	forced, force := context.WithCancel(ctx)
	s := &stop{force: force, forced: forced, done: make(chan struct{})}
	in.stop = s
	d.mu.Unlock()
	defer force()

	s.err = d.end(in, s.forced, grace)
	if s.err != nil {
		s.err = fmt.Errorf("stop instance %s: %w", id, s.err)
	}
	d.mu.Lock()
	if s.err == nil && d.instances[id] == in {
		delete(d.instances, id)
	}
	in.stop = nil
	d.hintLocked()
	d.mu.Unlock()
	close(s.done)
	return s.err
}

// end ends what runs and removes what is left of it. When polite ends, force
// begins.
func (d *Driver) end(in *instance, polite context.Context, grace time.Duration) error {
	in.cancel()
	<-in.started // bounded: a start that was cancelled has only unmake left
	d.mu.Lock()
	listed := d.instances[in.record.ID] == in
	d.mu.Unlock()
	if !listed {
		return nil // the start failed, and took everything with it
	}
	if d.settle(in) == nil && grace > 0 && polite.Err() == nil {
		if err := d.resume(in); err != nil {
			d.log.Warn("resume instance", "instance", in.record.ID, "err", err)
		}
		d.signal(in, syscall.SIGTERM)
		bound, cancel := context.WithTimeout(polite, grace)
		d.await(bound, in)
		cancel()
	}
	if d.settle(in) == nil {
		d.signal(in, syscall.SIGUSR1)
		d.awaitFor(in, forceMax)
	}
	if d.settle(in) == nil { // a keeper that does not end what it keeps
		d.signal(in, syscall.SIGKILL)
		d.awaitFor(in, forceMax)
	}
	if d.settle(in) == nil {
		return errors.New("its keeper cannot be killed: it hangs in the kernel")
	}
	if err := removeGroups(in.record.Groups); err != nil {
		return err
	}
	if err := discard(in.dir); err != nil {
		return err
	}
	in.mu.Lock()
	in.alive.Close()
	in.alive = nil
	in.mu.Unlock()
	return nil
}

func (d *Driver) awaitFor(in *instance, t time.Duration) {
	bound, cancel := context.WithTimeout(context.Background(), t)
	defer cancel()
	d.await(bound, in)
}

// signal sends sig to the keeper, if that is still alive.
func (d *Driver) signal(in *instance, sig syscall.Signal) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.alive == nil || in.exit != nil {
		return
	}
	if err := signalIf(in.keeper.PID, sig, func() bool { return !lockFree(in.alive) }); err != nil {
		d.log.Warn("signal keeper", "instance", in.record.ID, "err", err)
	}
}
