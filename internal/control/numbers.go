package control

import (
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tally"
)

// Numbers is what happened since this process began, and what scaling sees now.
type Numbers struct {
	Versions   map[app.Key]VersionNumbers
	UnderWay   map[Phase]int          // operations, by where they are
	Operations map[OperationEnd]int64 // that ended
	Phases     map[Phase]tally.Spread // how long operations were in each stage
}

// VersionNumbers is what happened to one version's instances.
type VersionNumbers struct {
	Started map[app.Cause]int64 // instances, by why
	Left    map[app.Cause]int64 // instances that drain or are gone, by why
	Ups     int64               // decisions that more are wanted
	Downs   int64               // that fewer are

	Want  int     // instances, at the latest look; 0: it does not serve
	Need  float64 // what the load is worth in instances, by the latest sample; 0 without a sample
	Doubt float64 // how much more it may be worth, as some instances' CPU use does not count yet
}

// Phase is a stage of operations of one verb.
type Phase struct {
	Verb  app.Verb
	Stage app.Stage
}

// OperationEnd tells operations apart that ended.
type OperationEnd struct {
	Verb  app.Verb
	Cause app.Cause // why it failed; "": it did not
}

// phases are the buckets for stages of operations: a build that is found again, a
// start, a build with its dependencies, a slow one.
func phases() tally.Bounds {
	return tally.Bounds{time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute}
}

// counts is Numbers as it is counted, under Controller.mu.
type counts struct {
	versions map[app.Key]*versionCounts
	ended    map[OperationEnd]int64
	phases   map[Phase]*tally.Histogram
	since    map[string]time.Time // when each operation under way came to its stage
}

type versionCounts struct {
	started, left map[app.Cause]int64
	ups, downs    int64
	touched       time.Time
}

// countsKept is how long a version that is not known any more is still told of.
const countsKept = 10 * time.Minute

func newCounts() counts {
	return counts{map[app.Key]*versionCounts{}, map[OperationEnd]int64{}, map[Phase]*tally.Histogram{}, map[string]time.Time{}}
}

// countLocked is where a version is counted. It forgets those that are long gone.
func (c *Controller) countLocked(k app.Key, now time.Time) *versionCounts {
	v := c.counts.versions[k]
	if v == nil {
		for k, other := range c.counts.versions {
			if _, wished := c.wishes.Versions[k]; !wished && c.versions[k] == nil && now.Sub(other.touched) > countsKept {
				delete(c.counts.versions, k)
			}
		}
		v = &versionCounts{started: map[app.Cause]int64{}, left: map[app.Cause]int64{}}
		c.counts.versions[k] = v
	}
	v.touched = now
	return v
}

// countEntryLocked counts an instance that enters a state from another.
func (c *Controller) countEntryLocked(i *instance, now time.Time, from, to app.State, cause app.Cause) {
	switch {
	case to == app.Starting && cause != "": // found running, it began before us
		c.countLocked(i.Key, now).started[cause]++
	case to >= app.Draining && from < app.Draining:
		c.countLocked(i.Key, now).left[cause]++
	}
}

// countOperationLocked counts an operation that was accepted or came further.
// known says that it was there before.
func (c *Controller) countOperationLocked(old app.Operation, known bool, op app.Operation, now time.Time) {
	if known && old.Stage == op.Stage {
		return
	}
	if since, ok := c.counts.since[op.ID]; ok && known {
		p := Phase{op.Verb, old.Stage}
		if c.counts.phases[p] == nil {
			c.counts.phases[p] = tally.New(phases())
		}
		c.counts.phases[p].Add(now.Sub(since))
	}
	if op.Stage != app.StageDone {
		c.counts.since[op.ID] = now
		return
	}
	delete(c.counts.since, op.ID)
	end := OperationEnd{Verb: op.Verb}
	if op.Failure != nil {
		end.Cause = op.Failure.Cause
	}
	c.counts.ended[end]++
}

// Numbers tells what was counted.
func (c *Controller) Numbers() Numbers {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := Numbers{
		Versions: map[app.Key]VersionNumbers{}, UnderWay: map[Phase]int{},
		Operations: clonedCounts(c.counts.ended), Phases: map[Phase]tally.Spread{},
	}
	for k, counted := range c.counts.versions {
		n.Versions[k] = VersionNumbers{
			Started: clonedCounts(counted.started), Left: clonedCounts(counted.left),
			Ups: counted.ups, Downs: counted.downs,
		}
	}
	for k, v := range c.versions {
		told := n.Versions[k]
		told.Want = v.want
		if samples := len(v.load.Needs); samples > 0 {
			last := v.load.Needs[samples-1]
			told.Need, told.Doubt = last.Least, last.Most-last.Least
		}
		n.Versions[k] = told
	}
	for _, op := range underWay(c.wishes) {
		n.UnderWay[Phase{op.Verb, op.Stage}]++
	}
	for p, h := range c.counts.phases {
		n.Phases[p] = h.Spread()
	}
	return n
}

func clonedCounts[K comparable](m map[K]int64) map[K]int64 {
	out := make(map[K]int64, len(m))
	for k, n := range m {
		out[k] = n
	}
	return out
}
