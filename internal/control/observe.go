package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
	"holdfast/internal/probe"
	"holdfast/internal/router"
)

// presumeAfter is how old an instance that is found running must be to be
// presumed ready. A restart of ours must not be an outage of theirs; and one
// that is presumed wrongly costs little, since the router tries another when a
// connection is refused. Younger ones are asked first, which takes a moment.
const presumeAfter = 15 * time.Second

// coresOver is the shortest time over which an instance's use of the CPU is
// averaged: the kernel counts it in steps of some milliseconds.
const coresOver = time.Second

// expectedLocked is the instances that a list which begins now must contain,
// and those that it must not contain any more.
func (c *Controller) expectedLocked() map[string]bool {
	expected := map[string]bool{}
	for id, i := range c.instances {
		if i.stopped {
			expected[id] = false
		} else if i.started == nil || closed(i.started) {
			expected[id] = true
		}
	}
	return expected
}

// observeLocked takes in what the driver lists, what the probes have said
// since the last look, and what the router carries.
func (c *Controller) observeLocked(ctx context.Context, now time.Time, running []driver.Running, expected map[string]bool, load map[string]router.Load) {
	if c.began.IsZero() {
		c.began = now
	}
	for _, i := range c.instances {
		i.listed = false
	}
	for _, r := range running {
		i := c.instances[r.ID]
		if i == nil {
			i = &instance{Instance: app.Instance{ID: r.ID, Key: r.Key, State: app.Starting, Since: now}, adopted: true}
			c.addLocked(i)
		}
		i.listed = true
		if i.State == app.Stopped {
			continue
		}
		i.Addr, i.Born = r.Addr, r.Born
		i.usesLocked(now, r.CPU)
		i.paused = r.Paused
		if r.Exited && !i.told {
			c.endLocked(i, now, r.Exit)
		}
	}
	for id, i := range c.instances {
		listable, known := expected[id]
		switch {
		case i.stopped:
			if i.State != app.Stopped {
				c.enterLocked(i, now, app.Stopped, i.Cause, "")
			}
			if known && !listable && !i.listed && now.Sub(i.Since) >= stoppedKept {
				c.dropLocked(i)
			}
		case i.State == app.Stopped || i.told:
		case i.started != nil && closed(i.started) && i.startErr != nil:
			c.endLocked(i, now, i.startErr.Error())
		case known && !i.listed:
			c.endLocked(i, now, "it is gone, and its driver does not say why")
		}
	}
	for _, i := range c.sortedLocked() {
		c.feelLocked(ctx, i, now)
		carried := load[i.ID]
		i.load, i.sockets = carried.Requests+carried.Sockets, carried.Sockets
		switch {
		case i.State != app.Draining || i.load > 0:
			i.idle = time.Time{}
		case i.idle.IsZero() && now.After(i.Since):
			i.idle = now
		}
	}
	for k, v := range c.versions {
		wished := c.wishes.Versions[k].Serving
		if !wished && len(v.all) == 0 {
			delete(c.versions, k)
			continue
		}
		if !wished {
			v.want, v.load = 0, history{}
			continue
		}
		c.scaleLocked(now, v)
		if c.readyLocked(v.Version) >= v.want {
			v.reached, v.lost = true, ""
		}
	}
}

func (c *Controller) versionLocked(k app.Key) *version {
	v := c.versions[k]
	if v == nil {
		v = &version{Version: app.Version{Key: k}}
		if wished, ok := c.wishes.Versions[k]; ok {
			v.Version, v.known = wished, true
		}
		c.versions[k] = v
	}
	return v
}

// addLocked and dropLocked keep c.instances and each version's own in step.
func (c *Controller) addLocked(i *instance) {
	c.instances[i.ID] = i
	v := c.versionLocked(i.Key)
	n, _ := slices.BinarySearchFunc(v.all, i.ID, func(i *instance, id string) int { return strings.Compare(i.ID, id) })
	v.all = slices.Insert(v.all, n, i)
}

func (c *Controller) dropLocked(i *instance) {
	delete(c.instances, i.ID)
	v := c.versions[i.Key]
	v.all = slices.DeleteFunc(v.all, func(other *instance) bool { return other == i })
}

func compareKeys(a, b app.Key) int {
	return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Service, b.Service), strings.Compare(a.Version, b.Version))
}

func (c *Controller) versionKeysLocked() []app.Key {
	return slices.SortedFunc(maps.Keys(c.versions), compareKeys)
}

// usesLocked takes in how much CPU time an instance has used.
func (i *instance) usesLocked(now time.Time, used time.Duration) {
	long := now.Sub(i.usedT)
	i.used = used
	if used == 0 || !i.usedT.IsZero() && long < coresOver {
		return
	}
	if !i.usedT.IsZero() {
		i.cores = float64(used-i.usedAt) / float64(long)
	}
	i.usedAt, i.usedT = used, now
}

// endLocked notes that an instance ended by itself.
func (c *Controller) endLocked(i *instance, now time.Time, detail string) {
	i.exited = true
	if i.State != app.Draining {
		c.failedLocked(i, now, app.Crashed, detail)
	}
	c.enterLocked(i, now, app.Stopped, app.Crashed, detail)
}

// failedLocked counts the failure of an instance that was to stay.
func (c *Controller) failedLocked(i *instance, now time.Time, cause app.Cause, detail string) {
	v := c.versionLocked(i.Key)
	v.past, v.lost = v.past.fail(i.Born, now), cause
	if i.startErr != nil {
		v.there = "" // perhaps because it is not
	}
	for _, e := range c.efforts {
		a := e.versions[i.Key]
		if a == nil {
			continue
		}
		a.last = &app.Failure{Cause: cause, Instance: i.ID, Detail: detail, Next: advice(v.Version, cause)}
		a.first = cmp.Or(a.first, now)
		if cause == app.Crashed {
			a.tries++
		}
	}
}

// feelLocked follows what the probe says of an instance, and has it watched
// while there is a reason to.
func (c *Controller) feelLocked(ctx context.Context, i *instance, now time.Time) {
	v := c.versions[i.Key]
	if v == nil || !v.known || !i.listed || i.stopping {
		return
	}
	readiness, complaint := c.saysLocked(now, i)
	switch {
	case i.State == app.Starting && i.adopted && i.watch == nil && now.Sub(i.Born) >= min(presumeAfter, startBound(v.Version)):
		i.presumed = true
		c.enterLocked(i, now, app.Ready, "", "found running")
	case i.State == app.Starting && readiness == probe.Pass,
		i.State == app.Unready && readiness == probe.Pass:
		c.enterLocked(i, now, app.Ready, "", "")
	case i.State == app.Ready && readiness == probe.Fail:
		c.enterLocked(i, now, app.Unready, "", complaint)
	}
	switch i.State {
	case app.Ready:
		v.ready = true
		if !i.stable && now.Sub(i.Since) >= stableAfter {
			i.stable = true
			v.past = v.past.stable(i.Born)
		}
	case app.Draining, app.Stopped:
		return
	}
	if i.watch == nil {
		c.watchLocked(ctx, i, v.Version)
	}
}

// watchLocked has an instance asked how it is, until it leaves or ctx ends.
func (c *Controller) watchLocked(ctx context.Context, i *instance, v app.Version) {
	ctx, i.watch = context.WithCancel(ctx)
	if i.presumed {
		i.readiness = probe.Pass
	}
	target := probe.Target{Addr: i.Addr, Born: i.Born, Ready: v.Ready, Live: v.Live, Presumed: i.presumed, Answered: i.checks.add}
	c.busy.Go(func() { // ends with ctx
		probe.Watch(ctx, c.cfg.Dial, target, func(r probe.Report) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch r.Kind {
			case probe.Readiness:
				i.readiness = r.Verdict
			case probe.Liveness:
				i.sick = r.Verdict == probe.Fail
			}
			if r.Err != nil {
				i.complaint = r.Err.Error()
			}
			c.hint()
		})
	})
}

// enterLocked is the one place where an instance's state changes.
func (c *Controller) enterLocked(i *instance, now time.Time, state app.State, cause app.Cause, detail string) {
	c.countEntryLocked(i, now, i.State, state, cause)
	i.State, i.Cause, i.Since, i.detail = state, cause, now, detail
	if state != app.Draining {
		i.Until = time.Time{}
	}
	if (state == app.Draining || state == app.Stopped) && i.watch != nil {
		i.watch()
	}
	c.events = append(c.events, Event{now, i.Instance, detail})
	attrs := []any{"app", i.Key.App, "service", i.Key.Service, "version", i.Key.Version, "instance", i.ID}
	if cause != "" {
		attrs = append(attrs, "cause", string(cause))
	}
	if state == app.Draining {
		attrs = append(attrs, "carries", i.load, "until", i.Until)
	}
	if detail != "" {
		attrs = append(attrs, "detail", detail)
	}
	c.log.Info("instance "+state.String(), attrs...)
}

// readyLocked counts a version's ready instances, of its present contents.
func (c *Controller) readyLocked(v app.Version) int {
	n := 0
	if known := c.versions[v.Key]; known != nil {
		for _, i := range known.all {
			if i.State == app.Ready && !i.sick && editionOf(i.ID) == v.Edition {
				n++
			}
		}
	}
	return n
}

// leftLocked counts the instances of which something may be left.
func (c *Controller) leftLocked() int {
	n := 0
	for _, i := range c.instances {
		if !i.stopped {
			n++
		}
	}
	return n
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
