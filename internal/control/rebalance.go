package control

import (
	"time"

	"holdfast/internal/app"
)

// # Moving sockets to a fresh instance
//
// Sockets stay where they are, so that a fresh instance has few of them for as
// long as an hour, while the others have too many. holdfast.rebalance: gentle
// closes idle ones of those that carry most, a few each second, and their
// clients come back to the one that carries least. It does so only for the sake
// of a fresh instance: whatever else makes sockets uneven is for time to even
// out, and moving people has a price.

const (
	// spreadMost is how uneven sockets may be: the most that a ready instance
	// carries less the fewest, by the mean.
	spreadMost = 0.2

	// spreadNoise is a difference that is never worth moving anybody for: so
	// many come and go by chance.
	spreadNoise = 4

	// freshFor is how long after its birth an instance is fresh. At the pace
	// below half of all sockets move in four minutes, and an instance that
	// takes the documented five minutes to start has ten left.
	freshFor = 15 * time.Minute

	// freshAfter is how long it must have been ready before: for as long as the
	// router eases it in, those who come back would not come to it.
	freshAfter = 15 * time.Second

	// shedEvery is the time between two portions, and shedShare how many of the
	// version's sockets one is, at least one: nobody else notices 0.2 % who
	// connect again.
	shedEvery = time.Second
	shedShare = 0.002
)

// weight is what rebalance knows of one instance.
type weight struct {
	ID      string
	State   app.State
	Born    time.Time
	Since   time.Time // in that state
	Sockets int
}

// shed is sockets to be closed: the n idlest of an instance.
type shed struct {
	Instance string
	N        int
}

// rebalance says which sockets of a version to close now, so that they move to
// a fresh instance; N is 0 for none. It is pure.
//
// The measure is the mean that the ready instances will have: the sockets of
// those that drain come back by themselves, and to the fresh one first. Of an
// instance whose sockets stay with it although it is not ready, they do not
// count.
func rebalance(now time.Time, all []weight) shed {
	var most, fewest *weight
	ready, sum, fresh := 0, 0, false
	for i := range all {
		w := &all[i]
		switch w.State {
		case app.Draining:
			sum += w.Sockets
		case app.Ready:
			ready++
			sum += w.Sockets
			if most == nil || w.Sockets > most.Sockets {
				most = w
			}
			if fewest == nil || w.Sockets < fewest.Sockets {
				fewest = w
			}
			fresh = fresh || now.Sub(w.Born) < freshFor && now.Sub(w.Since) >= freshAfter
		}
	}
	if ready < 2 || !fresh || now.Sub(fewest.Since) < freshAfter {
		return shed{}
	}
	mean := float64(sum) / float64(ready)
	if float64(most.Sockets-fewest.Sockets) <= max(spreadNoise, spreadMost*mean) {
		return shed{}
	}
	portion := max(1, int(shedShare*float64(sum)))
	return shed{most.ID, max(0, min(portion, int(float64(most.Sockets)-mean)))}
}
