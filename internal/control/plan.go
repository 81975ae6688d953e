package control

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"holdfast/internal/app"
)

// Do is what a step does to an instance.
type Do uint8

// The three things that can be done. Nothing else in the program does them.
const (
	Start Do = iota // a new one
	Drain           // no new traffic; what it carries moves away
	Stop            // end what is left of it
)

func (d Do) String() string { return [...]string{"start", "drain", "stop"}[d] }

// Step is one thing to do, and why.
type Step struct {
	Do       Do
	Instance string // "" with Start: the doer names it
	Cause    app.Cause
}

// emptyFor is how long a draining instance must have carried nothing before it
// is stopped: a request that was given to it a moment before it left is counted
// within a few milliseconds, and this is many times that.
const emptyFor = 250 * time.Millisecond

// lastWord is how long after Until, when the last sockets are told goodbye, an
// instance that still carries some is left alone: its app hears SIGTERM when
// they had the time to go, and does not speak over our reason with its own.
const lastWord = 2 * time.Second

// wish is how many instances of a version there should be, and how to get there.
type wish struct {
	Want  int       // ready ones
	Surge int       // so many more may exist while some are replaced
	Pause time.Time // nothing is started before: the back-off after failures
	Hurry bool      // whatever is there is stopped now, undrained
	Up    app.Cause // why missing ones are started
	Down  app.Cause // why surplus ones leave
}

// fact is what plan knows of one instance: what the driver, the probe and the
// router say of it, and what was decided about it before.
type fact struct {
	ID       string
	State    app.State
	Cause    app.Cause // Draining: why
	Born     time.Time
	Expires  time.Time // it is old from then on; zero: never
	Until    time.Time // Draining: what it still carries then is cut
	Idle     time.Time // Draining: it carries nothing since; zero: it does
	Load     int       // open requests and sockets
	Busy     int       // those of them that are in use; 0 while nobody has to leave for want of wishes
	Exited   bool      // by itself
	Stopping bool      // a stop is under way
	Sick     bool      // liveness failed
	Asked    bool      // an operator wants it replaced
	Former   bool      // the version has other contents now, which can be started
	Unwanted bool      // an operator wants it gone, now
	Debugged bool      // an operator looks into it: it stays as it is
}

// plan says what to do next about the instances of one version. It is pure:
// the same arguments give the same steps, in the same order, and when the
// steps are done and the world has answered, it is asked again. It remembers
// nothing and decides everything.
//
// In words. Exited instances are stopped, so that they are forgotten. Draining
// ones are stopped when empty or out of time. Those that must go, go at once:
// the sick, those that an operator wants gone, and those that never got ready in
// time. Of those that may go, the
// old, those of former contents and those that an operator wants replaced, one at a time is let go; the
// others are kept. Too many kept: those with the fewest and idlest connections leave. Too few: some are started,
// within the surge. Those that leave are drained, but a ready one only if
// enough ready ones remain.
//
// So of its own will it never makes fewer than Want ready, and it never starts
// beyond Want plus Surge. Draining instances are not counted: they may carry
// sockets for a day, and nothing would move meanwhile.
func plan(now time.Time, v app.Version, w wish, all []fact) []Step {
	var steps []Step
	var staying []fact
	var replaced []app.Cause // of those that leave for no lack of wishes
	for _, f := range all {
		switch {
		case f.Stopping:
		case f.Exited:
			steps = append(steps, Step{Stop, f.ID, app.Crashed})
		case w.Hurry:
			steps = append(steps, Step{Stop, f.ID, w.Down})
		case f.State == app.Stopped:
		case f.State == app.Draining:
			if !now.Before(f.Until.Add(lastWord)) || !f.Idle.IsZero() && now.Sub(f.Idle) >= emptyFor {
				steps = append(steps, Step{Stop, f.ID, f.Cause})
			}
		case f.Sick && !f.Debugged:
			// It counts for nothing, ready or not: without a readiness path a
			// hanging app is "ready" for as long as its port accepts.
			steps = append(steps, leave(f, app.Unhealthy))
			replaced = append(replaced, app.Unhealthy)
		case f.Unwanted:
			steps = append(steps, leave(f, app.Requested))
			replaced = append(replaced, app.Requested)
		case f.State == app.Starting && w.Want > 0 && !f.Debugged && !now.Before(f.Born.Add(startBound(v))):
			steps = append(steps, leave(f, app.SlowStart))
		default:
			staying = append(staying, f)
		}
	}

	kept, leaving := choose(now, w, staying)

	ready, present := 0, len(staying)
	for _, f := range staying {
		if f.State == app.Ready {
			ready++
		}
	}
	for _, l := range leaving {
		if l.why == app.Aged || l.why == app.Requested {
			replaced = append(replaced, l.why)
		}
		if l.State == app.Ready {
			if ready-1 < w.Want {
				continue // until a successor is ready
			}
			ready--
		}
		steps = append(steps, leave(l.fact, l.why))
		present--
	}

	if now.Before(w.Pause) {
		return steps
	}
	for i := range min(w.Want-len(kept), w.Want+w.Surge-present) {
		cause := w.Up
		if i < len(replaced) {
			cause = replaced[i]
		}
		steps = append(steps, Step{Do: Start, Cause: cause})
	}
	return steps
}

// leave is the step by which an instance goes. One that never got ready has
// never had traffic, and so nothing to drain.
func leave(f fact, why app.Cause) Step {
	if f.State == app.Starting {
		return Step{Stop, f.ID, why}
	}
	return Step{Drain, f.ID, why}
}

// leaver is an instance that is to go when it may.
type leaver struct {
	fact
	why app.Cause
}

// choose says which instances are kept and which leave, the least missed first.
func choose(now time.Time, w wish, staying []fact) (kept []fact, leaving []leaver) {
	kept = slices.Clone(staying)

	// At most one is replaced at a time, however many would be due: those that
	// are moved should not meet the next replacement right away.
	oldest := -1
	for i, f := range kept {
		due := f.Asked || f.Former || !f.Debugged && !f.Expires.IsZero() && !now.Before(f.Expires)
		if due && (oldest < 0 || before(f, kept[oldest])) {
			oldest = i
		}
	}
	if oldest >= 0 && w.Want > 0 {
		why := app.Aged
		if kept[oldest].Former {
			why = app.Deployed
		}
		if kept[oldest].Asked {
			why = app.Requested
		}
		leaving = append(leaving, leaver{kept[oldest], why})
		kept = slices.Delete(kept, oldest, oldest+1)
	}

	// What starts has no traffic yet, what is unready gets none; then the idlest.
	// A connection that is in use weighs twice as much as one that only waits:
	// the one disturbs somebody, the other is only opened again.
	slices.SortStableFunc(kept, func(a, b fact) int {
		return cmp.Or(cmp.Compare(missed(a), missed(b)), cmp.Compare(a.Load+a.Busy, b.Load+b.Busy), a.Born.Compare(b.Born), cmp.Compare(a.ID, b.ID))
	})
	for len(kept) > max(0, w.Want) && !(kept[0].Debugged && w.Want > 0) {
		leaving = append(leaving, leaver{kept[0], w.Down})
		kept = kept[1:]
	}
	return kept, leaving
}

// before orders those that are due for replacement: the asked for, those of former
// contents, then the
// longest overdue.
func before(a, b fact) bool {
	if a.Asked != b.Asked {
		return a.Asked
	}
	if a.Former != b.Former {
		return a.Former
	}
	return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID)) < 0
}

// missed ranks instances by how much they would be missed.
func missed(f fact) int {
	switch {
	case f.Debugged:
		return 3
	case f.State == app.Starting:
		return 0
	case f.State == app.Unready:
		return 1
	}
	return 2
}

// startBound is how long an instance may take to get ready.
func startBound(v app.Version) time.Duration {
	if v.Ready.Within > 0 {
		return v.Ready.Within
	}
	return defaultWithin
}

// defaultWithin is App Engine's app_start_timeout_sec, for a Version that says
// nothing.
const defaultWithin = 300 * time.Second

// expires is from when an instance counts as old: zero for never. The moment
// is up to ageJitter of maxAge early, never late, so that instances that were
// started together do not leave together; and it is the same after our own
// restart, because it comes from the id.
func expires(id string, born time.Time, maxAge time.Duration) time.Time {
	if maxAge <= 0 {
		return time.Time{}
	}
	return born.Add(maxAge - time.Duration(spread(id)*ageJitter*float64(maxAge)))
}

// spread maps an id to a number from 0 to below 1, always the same.
func spread(id string) float64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return float64(h.Sum64()>>11) / (1 << 53)
}

// ageJitter spreads a week's restarts over the week's last 17 hours.
const ageJitter = 0.1

// past is what the recent endings of a version's instances amount to. Without
// it an instance that never gets ready would be replaced at the speed of the
// loop. Its zero value is a version without failures.
type past struct {
	Failures int       // rounds of them, since the last that stayed ready
	Last     time.Time // when Failures last grew
}

const (
	backoffFirst = 250 * time.Millisecond // after a first failure
	backoffMost  = time.Minute            // it doubles up to this

	// stableAfter is how long an instance must stay ready until the failures
	// before its birth are forgotten: the longest pause, so that a version that
	// fails in a loop never looks stable in between.
	stableAfter = backoffMost
)

// fail counts the end of an instance that was to stay. Ten instances that
// crash together are one failure, not ten: only one that was born after the
// last failure shows that trying again did not help.
func (p past) fail(born, now time.Time) past {
	if p.Failures == 0 || born.After(p.Last) {
		return past{p.Failures + 1, now}
	}
	return p
}

// stable forgets the failures before the birth of an instance that has been
// ready for stableAfter.
func (p past) stable(born time.Time) past {
	if born.After(p.Last) {
		return past{}
	}
	return p
}

// pause is until when nothing should be started.
func (p past) pause() time.Time {
	if p.Failures == 0 {
		return time.Time{}
	}
	wait := backoffFirst
	for i := 1; i < p.Failures && wait < backoffMost; i++ {
		wait *= 2
	}
	return p.Last.Add(min(wait, backoffMost))
}
