package tunnel

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/internal/app"
)

// drainMemory is how long a drain is remembered after its until, and after the
// call, for sockets whose handshake was under way. A handshake that takes
// longer finds its instance gone.
const drainMemory = 5 * time.Minute

// pool is what the set knows of one instance.
type pool struct {
	instance string
	key      *app.Key  // of the last one that joined
	sockets  []*socket // in no order
	drain    drain
}

func (p *pool) addLocked(t *socket, key app.Key) {
	if p.key == nil || *p.key != key {
		p.key = &key
	}
	t.pool, t.key = p, p.key
	t.place = int32(len(p.sockets))
	p.sockets = append(p.sockets, t)
}

func (p *pool) removeLocked(t *socket) {
	last := len(p.sockets) - 1
	moved := p.sockets[last]
	p.sockets[t.place], moved.place = moved, t.place
	p.sockets[last] = nil
	p.sockets = p.sockets[:last]
}

// drain says that an instance's sockets are to be closed, the last at until.
type drain struct {
	on    bool // false: it is not draining
	until time.Time
	cause app.Cause
	since time.Time // of the call
}

func (d drain) forgotten(now time.Time) bool {
	return !d.on || now.Sub(d.until) >= drainMemory && now.Sub(d.since) >= drainMemory
}

// orders is what a socket of the instance is told at once.
func (d drain) orders(paced bool) orders {
	o := orders{notice: d.cause}
	if !paced {
		o.say = because(d.cause)
	}
	return o
}

// Drain says goodbye to the instance's sockets, the idlest first, spread evenly
// from now to until, the last one at until, with cause as the reason; so also to those that
// join it later. An until that has passed means all of them now, at once and
// without Run. Repeating a call changes nothing; another until or cause plans
// anew for those that are still open. An instance without sockets is fine.
//
// With app.Crashed what the instance wrote before its death is passed on first.
// A connection of an instance that ends without a Close frame waits half a
// second for that call. Drain does not block.
func (s *Set) Drain(instance string, until time.Time, cause app.Cause) {
	now := time.Now()
	s.mu.Lock()
	p := s.poolLocked(instance)
	if p.drain.on && p.drain.until.Equal(until) && p.drain.cause == cause {
		s.mu.Unlock()
		return
	}
	p.drain = drain{on: true, until: until, cause: cause, since: now}
	sockets := slices.Clone(p.sockets)
	s.forgetLocked(now)
	paced := now.Before(until)
	if paced {
		// Of those that are idle for as long, the oldest first: they lose the
		// least to their deadline.
		idle := make(map[*socket]int64, len(sockets)) // as it may change while they are sorted
		for _, t := range sockets {
			idle[t] = t.active.Load()
		}
		slices.SortFunc(sockets, func(a, b *socket) int {
			return cmp.Or(cmp.Compare(idle[a], idle[b]), cmp.Compare(a.opened, b.opened), cmp.Compare(a.id, b.id))
		})
		step := float64(until.Sub(now)) / float64(max(1, len(sockets)))
		for i, t := range sockets {
			s.planLocked(t, s.clock.instant(now.Add(time.Duration(step*float64(i+1)))))
		}
	}
	s.mu.Unlock()
	s.nudge()
	s.log.Debug("drain", "instance", instance, "cause", cause, "sockets", len(sockets), "until", until)

	o := drain{cause: cause}.orders(paced)
	for _, t := range sockets {
		t.carrier.order(t, o)
	}
}

// slot is when a socket that joins a draining instance is closed: at any time
// of what is left.
func (d drain) slot(now time.Time) time.Time {
	return now.Add(time.Duration(rand.Float64() * float64(d.until.Sub(now))))
}

// planLocked sets when the socket has to be told goodbye: at when, or
// at its deadline if that comes first.
func (s *Set) planLocked(t *socket, when instant) {
	s.schedule.set(t, sooner(when, t.deadline))
}

// leaver is a socket whose time has come, and why.
type leaver struct {
	*socket
	cause app.Cause
}

// dueLocked takes those out of the schedule whose time has come.
func (s *Set) dueLocked(now instant) []leaver {
	var all []leaver
	for t := s.schedule.due(now); t != nil; t = s.schedule.due(now) {
		cause := t.pool.drain.cause
		if cause == "" || t.deadline.past(now) {
			cause = app.Deadline
		}
		all = append(all, leaver{t, cause})
	}
	return all
}

// forgetLocked drops what is known of instances without sockets whose drain is
// long over.
func (s *Set) forgetLocked(now time.Time) {
	for id, p := range s.pools {
		if len(p.sockets) == 0 && p.drain.forgotten(now) {
			delete(s.pools, id)
		}
	}
}
