package control

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

const (
	// startTries is how many instances of a version may exit, before any was
	// ever ready, until an operation that needs it is given up: what fails three
	// times in a row at its start is not unlucky.
	startTries = 3

	// freshGrace is what an operation that was under way when we started gets at
	// the least: its instances may have got ready while nobody looked, and have
	// to be asked first.
	freshGrace = 30 * time.Second

	// saveRetry is the wait after the store took nothing, and saveTold how often
	// that is told: a full disk stays full for a while.
	saveRetry = time.Second
	saveTold  = time.Minute
)

// effort is what has been seen of an operation's versions since it was asked
// for, or since we started. It is not kept: a restart of ours begins it anew.
type effort struct {
	versions map[app.Key]*attempt
	until    time.Time // when it is given up; zero: not known yet
}

// attempt is what has been seen of one version that an operation needs.
type attempt struct {
	first time.Time    // when its first instance was born, or could not be; zero: not yet
	tries int          // instances that exited
	last  *app.Failure // the latest failure
}

func (e *effort) attempt(k app.Key) *attempt {
	if e.versions[k] == nil {
		e.versions[k] = &attempt{}
	}
	return e.versions[k]
}

// outcome is what has become of an operation, to be written down.
type outcome struct {
	id       string
	stage    app.Stage
	deadline time.Time
	failure  *app.Failure // StageDone: nil if it went well
}

// judgeLocked says what has become of the operations under way. It decides
// from what was just observed.
func (c *Controller) judgeLocked(now time.Time) (all []outcome) {
	if c.closing {
		return nil // what is under way goes on with the next start
	}
	for _, op := range underWay(c.wishes) {
		o := outcome{id: op.ID, stage: op.Stage, deadline: op.Deadline}
		if op.Instance != "" {
			if i := c.instances[op.Instance]; i == nil || i.State == app.Stopped {
				o.stage = app.StageDone
			}
		} else if op.Drill != nil {
			c.judgeDrillLocked(now, op, &o)
		} else {
			c.judgeOneLocked(now, op, &o)
		}
		if o.stage != op.Stage || !o.deadline.Equal(op.Deadline) {
			all = append(all, o)
		}
	}
	return all
}

func (c *Controller) judgeOneLocked(now time.Time, op app.Operation, o *outcome) {
	if gone := missing(c.wishes, op); gone != "" {
		o.stage, o.failure = app.StageDone, &app.Failure{Cause: app.Superseded, Detail: gone}
		return
	}
	o.stage = c.stageLocked(c.wishes, op)
	switch o.stage {
	case app.StageBuilding:
		for _, k := range needs(c.wishes, op) {
			if b := c.building[k]; b != nil && b.ended && b.err != nil {
				o.stage, o.failure = app.StageDone, buildFailure(b.err)
				return
			}
		}
	case app.StageStarting:
		o.failure = c.hopelessLocked(now, op, o)
		if o.failure != nil {
			o.stage = app.StageDone
		}
	}
}

// hopelessLocked says why an operation whose instances get ready is given up,
// nil if it is not, and sets its deadline once it can be known.
func (c *Controller) hopelessLocked(now time.Time, op app.Operation, o *outcome) *app.Failure {
	var deadline, fresh time.Time // fresh: what our own restart makes of it
	known, e := true, c.efforts[op.ID]
	var last *app.Failure
	var waiting []app.Key
	for _, k := range needs(c.wishes, op) {
		v := c.wishes.Versions[k]
		if c.readyLocked(v) >= c.enoughLocked(op, v) {
			continue
		}
		a := e.attempt(k)
		waiting = append(waiting, k)
		if a.last != nil {
			if a.tries >= startTries && !c.versionLocked(k).ready {
				return a.last
			}
			last = a.last
		}
		c.firstLocked(k, a)
		if a.first.IsZero() {
			known = false
			continue
		}
		// The clock starts when the first instance exists, as on App Engine.
		deadline = later(deadline, later(a.first, op.Asked).Add(startBound(v)))
		if op.Asked.Before(c.began) && !a.first.Before(c.began) {
			fresh = later(fresh, a.first.Add(startBound(v)))
		}
	}
	if o.deadline.IsZero() {
		if known {
			o.deadline = wallClock(deadline)
		}
		return nil
	}
	e.until = c.patienceLocked(op, fresh)
	if now.Before(e.until) {
		return nil
	}
	if last != nil {
		return last
	}
	failure := &app.Failure{Cause: app.SlowStart, Next: advice(c.wishes.Versions[waiting[0]], app.SlowStart)}
	for _, i := range c.sortedLocked() {
		if slices.Contains(waiting, i.Key) && i.State != app.Ready && i.State < app.Draining {
			failure.Instance, failure.Detail = i.ID, i.complaint
			break
		}
	}
	return failure
}

// patienceLocked is until when an operation is waited for: its deadline. One
// that was under way when we started gets a little more, and all of the time
// its version asks for if its instances had to be started anew.
func (c *Controller) patienceLocked(op app.Operation, fresh time.Time) time.Time {
	if !op.Asked.Before(c.began) {
		return op.Deadline
	}
	return later(op.Deadline, later(fresh, c.began.Add(freshGrace)))
}

// firstLocked notes when the first instance of a version came to exist.
func (c *Controller) firstLocked(k app.Key, a *attempt) {
	if !a.first.IsZero() {
		return
	}
	for _, i := range c.versionLocked(k).all {
		if i.listed && i.State < app.Draining && (a.first.IsZero() || i.Born.Before(a.first)) {
			a.first = i.Born
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// advice is what a person can do about a version that does not get ready.
func advice(v app.Version, cause app.Cause) string {
	switch cause {
	case app.SlowStart:
		text := "the app has to listen on the port that the environment variable PORT names"
		if v.Ready.Path != "" {
			text += fmt.Sprintf(" and to answer GET %s with 200 (readiness_check)", v.Ready.Path)
		}
		return text + "; if it only needs longer, raise readiness_check.app_start_timeout_sec"
	case app.Crashed:
		return "the app must not exit: see what it wrote last"
	}
	return ""
}

// settle writes down what has become of operations and builds, in one
// transaction. If the store takes nothing, all stays as it was, traffic goes
// on, and it is tried again.
func (c *Controller) settle(now time.Time, outcomes []outcome, made []*building) {
	if len(outcomes)+len(made) == 0 || now.Before(c.saveNext) {
		return
	}
	for _, o := range outcomes {
		if f := o.failure; f != nil && f.Instance != "" && f.Tail == nil && c.cfg.Tail != nil {
			f.Tail = c.cfg.Tail(f.Instance)
		}
	}
	err := c.store.Update(func(w *store.Wishes) error {
		for _, b := range made {
			if v, ok := w.Versions[b.key]; ok && b.err == nil && v.Source == b.source {
				v.Artifact = b.artifact
				w.Versions[b.key] = v
			}
		}
		for _, o := range outcomes {
			op, ok := w.Operations[o.id]
			if !ok || op.Stage == app.StageDone {
				continue // somebody has cancelled it meanwhile
			}
			if o.stage == app.StageDone {
				finish(w, op, wallClock(now), o.failure)
				continue
			}
			op.Stage, op.Deadline = o.stage, o.deadline
			w.Operations[op.ID] = op
		}
		return nil
	})
	if err != nil {
		c.saveNext = now.Add(saveRetry)
		if c.unsaved.IsZero() || now.Sub(c.unsaved) >= saveTold {
			c.unsaved = now
			c.log.Error("save what became of operations; traffic goes on, and it is tried again", "err", err)
		}
		return
	}
	c.unsaved = time.Time{}
	c.mu.Lock()
	c.takenLocked(now, made)
	c.mu.Unlock()
}
