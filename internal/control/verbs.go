package control

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"holdfast/internal/app"
)

const (
	// startTries is how many instances of a new version may exit, before any
	// was ever ready, until the deploy is given up: what fails three times in a
	// row at its start is not unlucky.
	startTries = 3

	// forceBound is how long a shutdown that ran out of time waits for the
	// instances that were ended by force.
	forceBound = 5 * time.Second
)

// DeployError is why a version did not come to serve. Traffic has not moved.
type DeployError struct {
	Key      app.Key
	Instance string // the one whose failure decided it; "" if there was none
	Cause    app.Cause
	Detail   string // how it exited, or what the readiness check met
}

func (e *DeployError) Error() string {
	text := fmt.Sprintf("deploy %s: %s", e.Key, e.Cause)
	if e.Instance != "" {
		text += ": instance " + e.Instance
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// deploy is one that is under way.
type deploy struct {
	v        app.Version
	asked    time.Time
	deadline time.Time    // zero until the first instance exists
	fresh    bool         // v was not wanted before: failing withdraws it
	tries    int          // instances that exited
	last     *DeployError // the latest failure
	err      error        // the answer
	done     chan struct{}
}

// DeployAndWait is the old mechanism until Deploy does it. It brings v up beside what serves, and when as many of its instances as
// it wants are ready, moves all traffic of its service to it in one instant
// and stops serving the service's other versions, whose instances drain.
//
// It blocks until then, and needs Run running. When v's instances are not
// ready within v.Ready.Within, or exit startTries times before one was ready,
// v is withdrawn, and the error is a *DeployError; when ctx ends, v is
// withdrawn too. A second deploy of one service meanwhile is app.ErrBusy, other
// contents under the key of a version that serves are app.ErrExists. To deploy
// again what serves succeeds when it is ready, and changes its scaling.
func (c *Controller) DeployAndWait(ctx context.Context, v app.Version) error {
	if v.App == "" || v.Service == "" || v.Version == "" || v.Artifact.Command == "" {
		return fmt.Errorf("deploy %s: its names or its artifact are missing: %w", v.Key, app.ErrInvalid)
	}
	c.mu.Lock()
	service := serviceOf(v.Key)
	old, serves := c.wishes.Versions[v.Key]
	switch {
	case c.closing:
		c.mu.Unlock()
		return fmt.Errorf("deploy %s: everything is being stopped: %w", v.Key, app.ErrBusy)
	case c.deploys[service] != nil:
		c.mu.Unlock()
		return fmt.Errorf("deploy %s: another deploy of this service is under way: %w", v.Key, app.ErrBusy)
	case serves && !same(old, v):
		c.mu.Unlock()
		return fmt.Errorf("deploy %s: it serves with other contents; choose another version: %w", v.Key, app.ErrExists)
	}
	d := &deploy{v: v, asked: time.Now(), fresh: !serves, done: make(chan struct{})}
	c.deploys[service] = d
	if d.fresh { // what was learned of an earlier attempt is not held against it
		fresh := c.versionLocked(v.Key)
		fresh.past, fresh.lost, fresh.ready, fresh.reached = past{}, "", false, false
	}
	c.wishes = c.wishes.with(v)
	c.mu.Unlock()
	c.hint()

	select {
	case <-d.done:
	case <-ctx.Done():
		c.mu.Lock()
		if c.deploys[service] == d {
			c.answerLocked(d, fmt.Errorf("deploy %s: %w", v.Key, context.Cause(ctx)), app.Requested)
			c.mu.Unlock()
			c.hint()
			return d.err
		}
		c.mu.Unlock()
		<-d.done // it has just been decided otherwise
	case <-c.ended:
		return fmt.Errorf("deploy %s: control has ended: %w", v.Key, app.ErrBusy)
	}
	return d.err
}

// same says whether two versions differ in nothing but what may change.
func same(a, b app.Version) bool {
	a.Scaling, a.Serving, a.CreatedAt, a.Artifact.Dir = b.Scaling, b.Serving, b.CreatedAt, b.Artifact.Dir
	return reflect.DeepEqual(a, b)
}

// settleLocked answers the deploys that have come to an end, well or badly.
func (c *Controller) settleLocked(now time.Time) {
	for _, d := range c.deploys {
		v := c.versionLocked(d.v.Key)
		late := !d.deadline.IsZero() && !now.Before(d.deadline)
		switch {
		case c.closing:
			c.answerLocked(d, &DeployError{Key: d.v.Key, Cause: app.ShuttingDown}, app.ShuttingDown)
		case c.readyLocked(d.v.Key) >= want(d.v):
			c.moveLocked(d)
		case !v.ready && d.tries >= startTries:
			c.answerLocked(d, d.last, d.last.Cause)
		case late && d.last != nil:
			c.answerLocked(d, d.last, d.last.Cause)
		case late:
			failure := &DeployError{Key: d.v.Key, Cause: app.SlowStart}
			for _, i := range c.sortedLocked() {
				if i.Key == d.v.Key && i.State != app.Ready && i.State != app.Stopped {
					failure.Instance, failure.Detail = i.ID, i.complaint
					break
				}
			}
			c.answerLocked(d, failure, app.SlowStart)
		case d.deadline.IsZero():
			// The clock starts when the first instance exists, as on App Engine.
			for _, i := range c.sortedLocked() {
				if i.Key == d.v.Key && i.listed {
					from := i.Born
					if from.Before(d.asked) {
						from = d.asked
					}
					d.deadline = from.Add(startBound(d.v))
					break
				}
			}
		}
	}
}

// moveLocked gives the service's traffic to the deployed version.
func (c *Controller) moveLocked(d *deploy) {
	for k := range c.wishes.Versions {
		if k != d.v.Key && serviceOf(k) == serviceOf(d.v.Key) {
			c.versionLocked(k).down = app.Deployed
		}
	}
	c.wishes = c.wishes.moved(d.v.Key)
	c.log.Info("deployed", "app", d.v.App, "service", d.v.Service, "version", d.v.Version, "dur", time.Since(d.asked))
	c.answerLocked(d, nil, "")
}

// answerLocked ends a deploy; with an error what it began is undone, for the
// given cause.
func (c *Controller) answerLocked(d *deploy, err error, cause app.Cause) {
	delete(c.deploys, serviceOf(d.v.Key))
	d.err = err
	c.answered = append(c.answered, d)
	if err != nil && d.fresh {
		c.wishes = c.wishes.without(d.v.Key)
		c.versionLocked(d.v.Key).down = cause
		c.log.Info("withdrawn", "app", d.v.App, "service", d.v.Service, "version", d.v.Version, "cause", string(cause), "err", err)
	}
}

// Restart has the instance replaced: a successor is ready before it drains. It
// does not wait for that. An instance that does not run, or leaves already, is
// app.ErrNotFound.
func (c *Controller) Restart(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.instances[id]
	if i == nil || i.State == app.Draining || i.State == app.Stopped {
		return fmt.Errorf("restart instance %s: %w", id, app.ErrNotFound)
	}
	i.asked = true
	c.hint()
	return nil
}

// Shutdown stops everything: nothing is started any more, and every instance
// is told to stop at once, with StopGrace. It returns nil when none is left.
// When ctx ends before, the rest is ended by force. It needs Run running; what
// was asked for is not undone, deploys under way are.
func (c *Controller) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.hint()
	select {
	case <-c.empty:
		return nil
	case <-c.ended:
	case <-ctx.Done():
		c.force()
		bound := time.NewTimer(forceBound)
		defer bound.Stop()
		select {
		case <-c.empty:
			return nil
		case <-c.ended:
		case <-bound.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.leftLocked(); n > 0 {
		return fmt.Errorf("shut down: %d instances are left", n)
	}
	return nil
}
