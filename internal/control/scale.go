package control

import (
	"math"
	"slices"
	"time"

	"holdfast/internal/app"
)

// # How many instances
//
// The load of a version, divided by what one instance is to carry, is how many
// instances that load is worth: its need. Nothing else is measured. Growing
// asks for the lowest need of the last seconds, so that it is quick and no
// single sample can cause it; shrinking for the highest of the last minutes, so
// that it is patient. Between the two lies a band in which nothing changes.
//
// Load is counted as a sum over all instances, those that drain included: where
// it sits does not matter, so that sockets that stay where they are for an hour,
// or lose their instance and come back elsewhere, change nothing.

const (
	// sampleEvery is the time between two samples of the load; a look costs a
	// list of the driver and a reading of counters.
	sampleEvery = 5 * time.Second

	// growAfter is how long the load must have been worth more instances, at
	// each of three samples, before some are started: an instance takes about
	// as long to start.
	growAfter = 10 * time.Second

	// growMost and growLeast bound how many are started within growAfter: as
	// many as there are, or a few, whichever is more. What is wrong with the
	// load then costs no more than that, and a rising one is followed all the
	// same: from 2 to 20 in half a minute.
	growMost  = 2 // times as many
	growLeast = 4

	// shrinkAfter is how long the load must have been worth less: the
	// stabilisation period of Compute Engine's autoscaler, which is App
	// Engine's.
	shrinkAfter = 10 * time.Minute

	// shrinkEvery is the time between two steps of shrinking, each of one
	// instance or a tenth of all: those whose sockets moved should not have to
	// move again before they have settled.
	shrinkEvery = time.Minute
	shrinkMost  = 0.1

	// tolerance is how far the load may be from what is wanted, in either
	// direction, before that is worth a change.
	tolerance = 0.1

	// cpuWindow is over how long CPU use is averaged when the version does not
	// say: a request is a burst, a minute of them is a load.
	cpuWindow = time.Minute

	// readingsMost bounds what is kept of each instance's CPU use, however long
	// the window.
	readingsMost = 24
)

// gauge is what scale knows of one instance.
type gauge struct {
	ID    string
	Born  time.Time
	Stays bool          // it does not leave already
	Open  int           // requests and sockets
	CPU   time.Duration // used since it was born; 0: not known
}

// history is what scale remembers of a version. Its zero value is a version
// that nothing is known of: as many instances as there are is then where it
// begins, so that our own restart changes nothing.
type history struct {
	Want   int                  // the latest answer; 0: none yet
	Needs  []need               // the latest samples, the oldest first: as far back as shrinkAfter, and one before
	Used   map[string][]reading // CPU time by instance, the oldest first: as far back as the window, and one before
	Grown  time.Time
	Shrunk time.Time
}

// need is how many instances a load was worth. They differ by the instances
// whose CPU use does not count yet: Least takes them to use none, and Most as
// much as their target, so that neither growing nor shrinking is for a guess.
type need struct {
	At          time.Time
	Least, Most float64
}

// reading is the CPU time that an instance had used by then.
type reading struct {
	At   time.Time
	Used time.Duration
}

// scale says how many instances of a version there should be, and what to
// remember for the next time. It is pure, and does not change what it is given.
// cores is what one instance may use; 0 means one.
//
// The answer is between s.Min and s.Max; with manual scaling, and where both are
// the same, it is that. Of several targets the one that asks for most decides. An
// instance's CPU use counts from s.CoolDown after its birth, its connections at
// once: what starts may use CPU for itself alone, but what is connected is load.
func scale(now time.Time, s app.Scaling, cores float64, had history, all []gauge) (int, history) {
	least := max(1, s.Min)
	most := max(least, s.Max)
	if s.Manual || least == most {
		return least, history{}
	}
	h := history{had.Want, had.Needs, had.Used, had.Grown, had.Shrunk}
	if h.Want == 0 {
		for _, g := range all {
			if g.Stays {
				h.Want++
			}
		}
	}
	h.Want = min(max(h.Want, least), most)
	if now.Before(had.next()) {
		return h.Want, h
	}

	h.Used = read(now, s, had.Used, all)
	h.Needs = within(append(slices.Clone(had.Needs), h.need(now, s, cores, all)), now.Add(-shrinkAfter), func(n need) time.Time { return n.At })

	up, sure := h.lowest(now.Add(-growAfter))
	if sure && up > float64(h.Want)*(1+tolerance) && !now.Before(h.Grown.Add(growAfter)) {
		if want := min(whole(up), max(h.Want*growMost, h.Want+growLeast), most); want > h.Want {
			h.Want, h.Grown = want, now
		}
		return h.Want, h
	}
	down, sure := h.highest(now.Add(-shrinkAfter))
	if enough := max(least, whole(down/(1-tolerance))); sure && enough < h.Want && !now.Before(h.Shrunk.Add(shrinkEvery)) {
		h.Want, h.Shrunk = max(enough, h.Want-max(1, int(float64(h.Want)*shrinkMost))), now
	}
	return h.Want, h
}

// next is when the next sample is due.
func (h history) next() time.Time {
	if len(h.Needs) == 0 {
		return time.Time{}
	}
	return h.Needs[len(h.Needs)-1].At.Add(sampleEvery)
}

// whole rounds up, but for what is only the noise of a division.
func whole(f float64) int { return int(math.Ceil(f - 1e-9)) }

// need is what the load is worth now.
func (h history) need(now time.Time, s app.Scaling, cores float64, all []gauge) need {
	n := need{At: now}
	if s.Connections > 0 {
		open := 0
		for _, g := range all {
			open += g.Open
		}
		n.Least = float64(open) / float64(s.Connections)
		n.Most = n.Least
	}
	if s.CPU > 0 {
		if cores <= 0 {
			cores = 1
		}
		var counted, guessed float64
		for _, g := range all {
			first := reading{}
			if readings := h.Used[g.ID]; len(readings) > 0 {
				first = readings[0]
			}
			switch {
			case g.CPU == 0: // where it is not known it decides nothing
			case !first.At.IsZero() && first.At.Before(now):
				counted += max(0, float64(g.CPU-first.Used)) / float64(now.Sub(first.At)) / cores / s.CPU
			case g.Stays:
				guessed++
			}
		}
		n.Least = max(n.Least, counted)
		n.Most = max(n.Most, counted+guessed)
	}
	return n
}

// read adds what the instances have used by now to the readings, and drops what
// is too old, or of instances that are gone.
func read(now time.Time, s app.Scaling, had map[string][]reading, all []gauge) map[string][]reading {
	if s.CPU <= 0 {
		return nil
	}
	window := s.CPUWindow
	if window <= 0 {
		window = cpuWindow
	}
	used := make(map[string][]reading, len(all))
	for _, g := range all {
		readings := slices.Clone(had[g.ID])
		last := len(readings) - 1
		// Not every sample of a long window: it only has to begin somewhere.
		due := last < 0 || now.Sub(readings[last].At) >= window/(readingsMost-2)
		if due && g.CPU > 0 && !now.Before(g.Born.Add(s.CoolDown)) {
			readings = append(readings, reading{now, g.CPU})
		}
		if readings = within(readings, now.Add(-window), func(r reading) time.Time { return r.At }); len(readings) > 0 {
			used[g.ID] = readings
		}
	}
	return used
}

// within drops what is before since, but for the last such, which held until
// the one after it.
func within[T any](all []T, since time.Time, at func(T) time.Time) []T {
	for len(all) > 1 && !at(all[1]).After(since) {
		all = all[1:]
	}
	return all
}

// lowest is the lowest Least since then; not sure while less than that is known.
func (h history) lowest(since time.Time) (n float64, sure bool) {
	n = math.Inf(1)
	for _, s := range slices.Backward(h.Needs) {
		n = min(n, s.Least)
		if !s.At.After(since) {
			return n, true
		}
	}
	return 0, false
}

// highest is the highest Most since then; not sure while less than that is known.
func (h history) highest(since time.Time) (n float64, sure bool) {
	for _, s := range slices.Backward(h.Needs) {
		n = max(n, s.Most)
		if !s.At.After(since) {
			return n, true
		}
	}
	return 0, false
}
