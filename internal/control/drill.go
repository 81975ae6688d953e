package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
	"holdfast/internal/probe"
	"holdfast/internal/store"
)

// A drill breaks something on purpose for a while. It is an operation like any
// other, and what it breaks follows from the operation alone: at each look, what
// a drill under way asks for is so, and what none asks for is not. So nothing has
// to be taken back one by one. A drill ends when its time is over, when it is
// cancelled, when another operation of its service comes, or when we do: one that
// was under way when we started is over.
//
//	instance-crash, slow-start   the driver kills
//	hang                         the driver pauses and resumes; it writes down what is paused
//	unhealthy                    readiness has failed, whatever the probe says
//	slow-start                   nobody new passes readiness
//	instance-restart, deploy     plan is told that instances are old, or of former contents
//	scale-out, scale-in          plan is told to want more, or fewer
//	affinity-loss                the routes say so
//	deadline                     the router is asked, again and again
//	edge-restart                 the server is told of the operation, and starts again

const (
	// drillLeast and drillMost bound how long something is broken: nothing would
	// be seen in less, and nobody looks on for longer.
	drillLeast = 100 * time.Millisecond
	drillMost  = 10 * time.Minute

	// breakMost is how long a driver may take to kill, pause or resume an
	// instance: it sends a signal. breakRetry is the wait after it could not.
	breakMost  = 5 * time.Second
	breakRetry = time.Second

	// expireEvery is how often sockets whose hour is over, as a drill has it, are
	// looked for.
	expireEvery = 250 * time.Millisecond

	// hourMost is the longest time in which a drill lets the hour pass.
	hourMost = 30 * time.Second
)

// Drill breaks what d.Fault says for d.Long. It meets d.Share of the service's
// ready instances, by chance, at least one; or that share of its clients. 0 is one
// instance; for a deploy it is all of them, and for clients all. The rest of d is
// filled in. A fault that this server cannot make, or that would leave nothing to
// look at, is app.ErrInvalid; app.ErrBusy is a service with an operation, or
// another drill, under way. Whatever else is asked of the service meanwhile ends
// the drill.
func (c *Controller) Drill(k app.ServiceKey, d app.Drill, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbDrill, Target: k.Version(""), By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if err := knownService(*w, k); err != nil {
			return err
		}
		if err := c.checkDrill(d); err != nil {
			return err
		}
		for _, other := range underWay(*w) {
			if other.Instance == "" && other.Target.ServiceKey() == k {
				return underWayError(other)
			}
		}
		d.Until = op.Asked.Add(d.Long)
		op.Drill = &d
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.aimLocked(w.Services[k], op)
	})
}

func (c *Controller) checkDrill(d app.Drill) error {
	_, breaks := c.driver.(driver.Breaker)
	switch {
	case !d.Fault.Known():
		return fmt.Errorf("there is no drill %q: %w", d.Fault, app.ErrInvalid)
	case !(d.Share >= 0 && d.Share <= 1):
		return fmt.Errorf("a share of %g; want one from 0 to 1: %w", d.Share, app.ErrInvalid)
	case d.Long < drillLeast || d.Long > drillMost:
		return fmt.Errorf("%v is no time for a drill; want %v to %v: %w", d.Long, drillLeast, drillMost, app.ErrInvalid)
	case d.Fault == app.EdgeRestart && !c.cfg.Restarts:
		return fmt.Errorf("this Holdfast cannot start itself again; holdfast serve can: %w", app.ErrInvalid)
	case (d.Fault == app.InstanceCrash || d.Fault == app.SlowStarts || d.Fault == app.Hang) && !breaks:
		return fmt.Errorf("this server's driver cannot kill or pause instances: %w", app.ErrInvalid)
	}
	return nil
}

// aimLocked chooses whom a drill meets.
func (c *Controller) aimLocked(s app.Service, op *app.Operation) error {
	d := op.Drill
	var ready []string
	most := ""
	for _, v := range s.Split.Versions() {
		before := len(ready)
		if known := c.versions[s.Key().Version(v)]; known != nil {
			for _, i := range known.all {
				if i.State == app.Ready && !i.stopping && !i.sick {
					ready = append(ready, i.ID)
				}
			}
		}
		// One that is stopped may have a share too.
		if len(ready) > before && (most == "" || s.Split.Shares[v] > s.Split.Shares[most]) {
			most = v
		}
	}
	if len(ready) == 0 {
		return fmt.Errorf("no instance of it is ready, so there is nothing to be learnt from breaking it: %w", app.ErrInvalid)
	}
	n := max(1, int(d.Share*float64(len(ready))))
	if d.Fault == app.Redeploy && d.Share == 0 {
		n = len(ready)
	}
	switch d.Fault {
	case app.AffinityLoss, app.DeadlinePassed:
		if d.Share == 0 {
			d.Share = 1
		}
	case app.ScaleOut, app.ScaleIn:
		op.Target.Version = most
		d.More = n
		if d.Fault == app.ScaleIn {
			want := c.versionLocked(op.Target).want
			if d.More = -min(n, want-1); d.More >= 0 {
				return fmt.Errorf("version %s has one instance, and none to spare: %w", most, app.ErrInvalid)
			}
		}
	case app.EdgeRestart:
	default:
		rand.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
		d.Instances = slices.Sorted(slices.Values(ready[:n]))
	}
	return nil
}

// yield ends the drills of a service of which something else is asked.
func yield(w *store.Wishes, op app.Operation, now time.Time) {
	if op.Verb == app.VerbDrill || op.Instance != "" {
		return
	}
	for _, other := range underWay(*w) {
		if other.Drill != nil && other.Target.ServiceKey() == op.Target.ServiceKey() {
			finish(w, other, now, &app.Failure{Cause: app.Superseded, Detail: fmt.Sprintf("%s was asked for meanwhile (operation %s)", op.Verb, op.ID)})
		}
	}
}

// judgeDrillLocked says whether a drill is over. One that we find under way when
// we start is: that is what a restart of ours is for, and makes of any other.
func (c *Controller) judgeDrillLocked(now time.Time, op app.Operation, o *outcome) {
	_, there := c.wishes.Services[op.Target.ServiceKey()]
	switch {
	case op.Asked.Before(c.began):
		o.stage = app.StageDone
		if op.Drill.Fault != app.EdgeRestart {
			o.failure = &app.Failure{Cause: app.Interrupted, Detail: "Holdfast ended in the middle; all is as it was before the drill"}
		}
	case !there:
		o.stage, o.failure = app.StageDone, &app.Failure{Cause: app.Superseded, Detail: "the service was deleted meanwhile"}
	case !now.Before(op.Drill.Until):
		o.stage = app.StageDone
	}
}

// drillsLocked is the drills whose faults are to be seen now.
func (c *Controller) drillsLocked(now time.Time) (all []app.Operation) {
	for _, op := range c.drills {
		if !c.closing && !op.Asked.Before(c.began) && now.Before(op.Drill.Until) {
			all = append(all, op)
		}
	}
	return all
}

// metLocked is the drill of one of these faults that meets an instance; nil for
// none.
func (c *Controller) metLocked(now time.Time, id string, faults ...app.Fault) *app.Drill {
	for _, op := range c.drillsLocked(now) {
		if slices.Contains(faults, op.Drill.Fault) && slices.Contains(op.Drill.Instances, id) {
			return op.Drill
		}
	}
	return nil
}

// saysLocked is what the probe says of an instance's readiness, as drills let
// others hear it, and what is wrong with it.
func (c *Controller) saysLocked(now time.Time, i *instance) (probe.Verdict, string) {
	switch {
	case len(c.drills) == 0:
	case c.metLocked(now, i.ID, app.Sickness) != nil:
		return probe.Fail, "a drill has readiness fail"
	case i.State == app.Starting && now.Before(c.heldLocked(now, i)):
		return probe.Unknown, "a drill has starts take long"
	}
	return i.readiness, i.complaint
}

// heldLocked is until when a drill keeps an instance that starts from being ready:
// the zero time where none does. It leaves the instance enough time not to be
// given up for it.
func (c *Controller) heldLocked(now time.Time, i *instance) time.Time {
	for _, op := range c.drillsLocked(now) {
		if op.Drill.Fault != app.SlowStarts || op.Target.ServiceKey() != i.Key.ServiceKey() || i.Born.Before(op.Asked) {
			continue
		}
		held := i.Born.Add(startBound(c.versions[i.Key].Version) / 2)
		if held.After(op.Drill.Until) {
			held = op.Drill.Until
		}
		return held
	}
	return time.Time{}
}

// moreLocked is how many more instances of a version than otherwise are wanted.
func (c *Controller) moreLocked(now time.Time, k app.Key) (n int) {
	for _, op := range c.drillsLocked(now) {
		if op.Drill.More != 0 && op.Target == k {
			n += op.Drill.More
		}
	}
	return n
}

// forgetLocked is the share of a service's sessions that are to be forgotten.
func (c *Controller) forgetLocked(now time.Time, k app.ServiceKey) float64 {
	for _, op := range c.drillsLocked(now) {
		if op.Drill.Fault == app.AffinityLoss && op.Target.ServiceKey() == k {
			return op.Drill.Share
		}
	}
	return 0
}

// breakLocked makes of instances what drills under way ask for, and makes good
// what none asks for any more.
func (c *Controller) breakLocked(ctx context.Context, now time.Time) (acts []func()) {
	for _, op := range c.drillsLocked(now) {
		if op.Drill.Fault != app.DeadlinePassed {
			continue
		}
		hour, split := min(hourMost, op.Drill.Long/2), c.wishes.Services[op.Target.ServiceKey()].Split
		for _, v := range split.Versions() {
			k := op.Target.ServiceKey().Version(v)
			acts = append(acts, func() { c.router.Expire(k, op.Drill.Share, op.Asked, hour) })
		}
	}
	breaker, ok := c.driver.(driver.Breaker)
	if !ok {
		return acts
	}
	for _, i := range c.instances {
		stays := i.listed && !i.exited && !i.stopping && i.State < app.Draining
		if !i.listed || i.exited || i.stopping || i.breaking || now.Before(i.breakNext) {
			continue
		}
		hangs := stays && c.metLocked(now, i.ID, app.Hang) != nil
		switch {
		case stays && !i.killed && c.metLocked(now, i.ID, app.InstanceCrash, app.SlowStarts) != nil:
			acts = append(acts, c.strikeLocked(ctx, i, "kill", breaker.Kill))
		case hangs && !i.paused:
			acts = append(acts, c.strikeLocked(ctx, i, "pause", breaker.Pause))
		case !hangs && i.paused:
			acts = append(acts, c.strikeLocked(ctx, i, "resume", breaker.Resume))
		}
	}
	return acts
}

// strikeLocked has the driver do something to an instance. Whether it is done is
// the driver's to tell at the next look.
func (c *Controller) strikeLocked(ctx context.Context, i *instance, what string, do func(context.Context, string) error) func() {
	i.breaking = true
	c.busy.Add(1)
	return func() {
		go func() { // ends when the driver's method does, at the latest with its bound
			defer c.busy.Done()
			ctx, cancel := context.WithTimeout(ctx, breakMost)
			defer cancel()
			err := do(ctx, i.ID)
			c.mu.Lock()
			i.breaking = false
			if err != nil {
				i.breakNext = time.Now().Add(breakRetry)
				c.log.Warn("drill", "does", what, "instance", i.ID, "err", err)
			} else {
				i.killed = i.killed || what == "kill"
				c.log.Info("drill", "does", what, "instance", i.ID)
			}
			c.mu.Unlock()
			c.hint()
		}()
	}
}

// unbreak resumes what a drill has paused, before we end: instances go on
// without us, and should not hang until we are back.
func (c *Controller) unbreak() {
	breaker, ok := c.driver.(driver.Breaker)
	if !ok {
		return
	}
	c.mu.Lock()
	var paused []string
	for _, i := range c.sortedLocked() {
		if i.paused || i.breaking {
			paused = append(paused, i.ID)
		}
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), breakMost)
	defer cancel()
	for _, id := range paused {
		if err := breaker.Resume(ctx, id); err != nil {
			c.log.Warn("drill", "does", "resume", "instance", id, "err", err)
		}
	}
}

// drillNextLocked tells at of the times at which drills make a look worthwhile.
func (c *Controller) drillNextLocked(now time.Time, at func(time.Time)) {
	for _, op := range c.drillsLocked(now) {
		at(op.Drill.Until)
		if op.Drill.Fault == app.DeadlinePassed {
			at(now.Add(expireEvery))
		}
	}
	for _, i := range c.instances {
		at(i.breakNext)
		if i.State == app.Starting && len(c.drills) > 0 {
			at(c.heldLocked(now, i))
		}
	}
}
