package control

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
)

const (
	// startMost is how long a driver may take to make an instance exist: it may
	// have a large directory to copy on a slow disk.
	startMost = 5 * time.Minute

	// startsMost is how many instances are made to exist at the same time; the
	// others wait their turn. Copying more at once makes none of them faster.
	startsMost = 4

	// warnMost is how long a driver may take to tell an app that it drains: it
	// makes a file and sends a signal.
	warnMost = 5 * time.Second

	// stopRetry is the wait after a driver could not stop an instance.
	stopRetry = time.Second

	// sickDrain is the longest that a sick instance gets for its connections to
	// move away: enough to say goodbye to each, and no longer, since it may hang.
	sickDrain = 5 * time.Second

	// idPart bounds how much of a service's or version's name becomes part of an
	// instance's: drivers make file and socket names of it, which have limits.
	idPart = 24
)

// planLocked asks plan about one version and notes what it decided. The
// functions it returns do it, and are called without the lock.
func (c *Controller) planLocked(ctx context.Context, now time.Time, k app.Key) []func() {
	v := c.versions[k]
	w := wish{Surge: surge, Pause: v.past.pause(), Up: cmp.Or(v.up, app.Deployed)}
	if v.reached {
		w.Up = app.ScaledUp
	}
	if v.lost != "" {
		w.Up = v.lost
	}
	wished := c.wishes.Versions[k]
	var busy map[string]int
	switch {
	case c.closing:
		w.Hurry, w.Down = true, app.ShuttingDown
	case wished.Serving:
		if v.want == 0 {
			return nil // it was asked for in this moment: the next look knows
		}
		w.Want, w.Down = max(1, v.want+c.moreLocked(now, k)), app.ScaledDown
		busy = c.busyLocked(k, w.Want)
		if !c.thereLocked(wished) {
			w.Pause = now.Add(lookEvery) // until it is built
		}
	case len(c.wishes.Versions) == 0 && len(c.wishes.Operations) == 0:
		// Nobody has asked for anything yet, and instances were found running:
		// whose they are will be known in a moment.
		return nil
	case slices.ContainsFunc(v.all, func(i *instance) bool { return i.State < app.Draining }):
		w.Down = leaves(c.wishes, k)
	}

	asked, debugged := c.askedLocked(), c.wishes.Apps[k.App].Debugged
	var facts []fact
	for _, op := range c.drillsLocked(now) {
		if op.Drill.Fault == app.Redeploy && op.Target.ServiceKey() == k.ServiceKey() {
			w.Up = app.Deployed
		}
	}
	for _, i := range v.all {
		if !i.stopped {
			old := c.cfg.Maintenance.due(expires(i.ID, i.Born, v.MaxAge), now)
			if c.metLocked(now, i.ID, app.InstanceRestart) != nil {
				old = i.Born
			}
			facts = append(facts, fact{
				ID: i.ID, State: i.State, Cause: i.Cause, Born: i.Born,
				Expires: old,
				Former: wished.Serving && editionOf(i.ID) != wished.Edition && c.thereLocked(wished) ||
					c.metLocked(now, i.ID, app.Redeploy) != nil,
				Until: i.Until, Idle: i.idle, Load: i.load, Busy: busy[i.ID],
				Exited: i.exited, Stopping: i.stopping || now.Before(i.retry),
				Sick: i.sick, Asked: asked[i.ID] == app.VerbRestart, Unwanted: asked[i.ID] == app.VerbDelete,
				Debugged: slices.Contains(debugged, i.ID),
			})
		}
	}
	var acts []func()
	for _, s := range plan(now, v.Version, w, facts) {
		switch s.Do {
		case Start:
			acts = append(acts, c.startLocked(ctx, now, v.Version, s.Cause))
		case Drain:
			i := c.instances[s.Instance]
			c.goodbyeLocked(i, now, drainFor(v.Version, s.Cause), s.Cause)
			acts = append(acts, c.warnLocked(ctx, i)...)
		case Stop:
			i := c.instances[s.Instance]
			if !i.exited && !i.told && (i.State != app.Draining || c.closing) {
				c.goodbyeLocked(i, now, 0, s.Cause)
				acts = append(acts, c.warnLocked(ctx, i)...)
			}
			acts = append(acts, c.stopLocked(i))
		}
	}
	if wished.Serving && !c.closing {
		acts = append(acts, c.rebalanceLocked(now, wished)...)
	}
	return acts
}

// askedLocked is what operators want to become of instances.
func (c *Controller) askedLocked() map[string]app.Verb {
	asked := map[string]app.Verb{}
	for id := range c.efforts {
		if op := c.wishes.Operations[id]; op.Instance != "" {
			asked[op.Instance] = op.Verb
		}
	}
	return asked
}

// goodbyeLocked lets an instance drain for so long. It counts as a failure if
// the instance was to stay.
func (c *Controller) goodbyeLocked(i *instance, now time.Time, long time.Duration, cause app.Cause) {
	detail := ""
	if cause == app.Unhealthy || cause == app.SlowStart {
		detail = i.complaint
		c.failedLocked(i, now, cause, detail)
	}
	if i.State == app.Draining {
		cause = i.Cause // it was told why; only the time is shorter now
		if c.closing {
			cause = app.ShuttingDown
		}
	}
	i.Until = now.Add(long)
	c.enterLocked(i, now, app.Draining, cause, detail)
}

// drainFor is how long an instance's connections are given to move away.
func drainFor(v app.Version, cause app.Cause) time.Duration {
	if cause == app.Unhealthy {
		return min(v.Drain, sickDrain)
	}
	return v.Drain
}

// warnLocked tells an instance's app, once, that it drains.
func (c *Controller) warnLocked(ctx context.Context, i *instance) []func() {
	if i.warned != nil || i.started != nil && !closed(i.started) {
		return nil
	}
	i.warned = make(chan struct{})
	c.busy.Add(1)
	return []func(){func() {
		go func() { // ends when the driver's Warn does, at the latest with its bound
			defer c.busy.Done()
			defer close(i.warned)
			ctx, cancel := context.WithTimeout(ctx, warnMost)
			defer cancel()
			if err := c.driver.Warn(ctx, i.ID); err != nil {
				c.log.Warn("warn instance", "instance", i.ID, "err", err)
			}
		}()
	}}
}

// startLocked makes a new instance of v.
func (c *Controller) startLocked(ctx context.Context, now time.Time, v app.Version, cause app.Cause) func() {
	id := c.newIDLocked(v)
	ctx, cancel := context.WithTimeout(ctx, startMost)
	i := &instance{
		Instance:    app.Instance{ID: id, Key: v.Key, Born: now},
		cancelStart: cancel, started: make(chan struct{}),
	}
	c.addLocked(i)
	c.enterLocked(i, now, app.Starting, cause, "")
	c.busy.Add(1)
	return func() {
		go func() { // ends when the driver's Start does, at the latest with ctx
			defer c.busy.Done()
			defer cancel()
			var err error
			select {
			case c.starts <- struct{}{}:
				err = c.driver.Start(ctx, id, v)
				<-c.starts
			case <-ctx.Done():
				err = ctx.Err()
			}
			c.mu.Lock()
			i.startErr = err
			c.mu.Unlock()
			close(i.started)
			c.hint()
		}()
	}
}

// stopLocked ends what is left of an instance.
func (c *Controller) stopLocked(i *instance) func() {
	i.stopping, i.told = true, i.told || !i.exited
	c.busy.Add(1)
	return func() {
		go func() { // ends when the driver's Stop does, at the latest by force
			defer c.busy.Done()
			if i.started != nil {
				i.cancelStart()
				<-i.started
			}
			if i.warned != nil {
				<-i.warned // bounded by warnMost
			}
			ctx, cancel := context.WithTimeout(c.hard, StopGrace+stopSlack)
			defer cancel()
			err := c.driver.Stop(ctx, i.ID, StopGrace)
			c.mu.Lock()
			i.stopping, i.stopped = false, err == nil
			if err != nil {
				i.retry = time.Now().Add(stopRetry)
				c.log.Warn("stop instance", "instance", i.ID, "err", err)
			}
			c.mu.Unlock()
			c.hint()
		}()
	}
}

// newIDLocked names an instance as App Engine does. The name is also what the
// app reads in GAE_INSTANCE.
func (c *Controller) newIDLocked(v app.Version) string {
	for {
		id := fmt.Sprintf("aef-%.*s-%.*s-", idPart, v.Service, idPart, v.Key.Version) + scramble() + v.Edition
		if c.instances[id] == nil {
			return id
		}
	}
}

// scrambled is the length of the part of an id that is by chance.
const scrambled = 4

func scramble() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, scrambled)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// edition names the contents that a version gets under a name that had others.
func edition() string { return scramble() }

// editionOf is the edition of the version that an instance was started from.
func editionOf(id string) string {
	last := id[strings.LastIndexByte(id, '-')+1:]
	if len(last) != 2*scrambled {
		return ""
	}
	return last[scrambled:]
}

// nextLocked is when time alone will make a look worthwhile.
func (c *Controller) nextLocked(now time.Time) time.Time {
	next := now.Add(lookEvery)
	at := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	for _, i := range c.instances {
		v := c.versions[i.Key]
		at(i.retry)
		switch i.State {
		case app.Starting:
			at(i.Born.Add(startBound(v.Version)))
		case app.Ready:
			at(i.Since.Add(stableAfter))
			at(c.cfg.Maintenance.due(expires(i.ID, i.Born, v.MaxAge), now))
		case app.Unready:
			at(c.cfg.Maintenance.due(expires(i.ID, i.Born, v.MaxAge), now))
		case app.Draining:
			at(i.Until.Add(lastWord))
			if i.stopping {
				continue
			}
			if i.idle.IsZero() {
				at(now.Add(min(drainLookMost, max(drainLook, now.Sub(i.Since)/4))))
			} else {
				at(i.idle.Add(emptyFor))
			}
		case app.Stopped:
			at(i.Since.Add(stoppedKept))
		}
	}
	for k, v := range c.versions {
		at(v.past.pause())
		at(v.failed.pause())
		if wished := c.wishes.Versions[k]; wished.Serving {
			at(c.measureNextLocked(now, wished, v))
		}
	}
	for _, e := range c.efforts {
		at(e.until)
	}
	c.drillNextLocked(now, at)
	return next
}
