package tunnel

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"holdfast/internal/app"
)

// Shed says goodbye to at most n of the instance's sockets at once, those that
// are idle for longest, for cause, and returns how many there were. Those that
// it chose before and that are still closing are not chosen again. Of an
// instance that drains it chooses none: they have their times. It does not
// wait for the ends.
func (s *Set) Shed(instance string, n int, cause app.Cause) int {
	s.mu.Lock()
	p := s.pools[instance]
	if p == nil || p.drain.on || n <= 0 {
		s.mu.Unlock()
		return 0
	}
	type idler struct {
		*socket
		active int64 // as it may change while they are sorted
	}
	all := make([]idler, 0, len(p.sockets))
	for _, t := range p.sockets {
		if !t.shed {
			all = append(all, idler{t, t.active.Load()})
		}
	}
	s.mu.Unlock()

	// Not under the lock, which everybody who joins needs. As in Drain, of those
	// that are idle for as long, the oldest first.
	slices.SortFunc(all, func(a, b idler) int {
		return cmp.Or(cmp.Compare(a.active, b.active), cmp.Compare(a.opened, b.opened), cmp.Compare(a.id, b.id))
	})
	all = all[:min(n, len(all))]
	s.mu.Lock()
	for _, t := range all {
		t.shed = true
	}
	s.mu.Unlock()
	for _, t := range all {
		t.carrier.order(t.socket, orders{say: because(cause)})
	}
	return len(all)
}

// Expire says goodbye, for their deadline, to those of a version's sockets whose
// time is over as a drill has it, and returns how many: of a share of all, from 0
// to 1, those that are older than within, where those that were there at since
// have their ages then spread evenly over that time, as after a long while. Called
// again and again it lets the hour pass in within; it leaves nothing to undo.
// Sockets that end already are left alone. It does not wait for the ends.
func (s *Set) Expire(key app.Key, share float64, since time.Time, within time.Duration) int {
	now := time.Now()
	s.mu.Lock()
	var due []*socket
	for _, p := range s.pools {
		if p.drain.on {
			continue // they have their times
		}
		for _, t := range p.sockets {
			if *t.key != key || t.shed {
				continue
			}
			chance := drawn(t.id)
			if chance >= share {
				continue
			}
			end := s.clock.time(t.opened).Add(within)
			if end.Before(since.Add(within)) {
				end = since.Add(time.Duration(chance / share * float64(within)))
			}
			if !now.Before(end) {
				t.shed = true
				due = append(due, t)
			}
		}
	}
	s.mu.Unlock()
	for _, t := range due {
		t.carrier.order(t, orders{say: because(app.Deadline)})
	}
	return len(due)
}

// drawn maps a socket's name to a number from 0 to below 1, always the same.
func drawn(id string) float64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	x := h.Sum64() // whose high bits hardly move with the last letters
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Busy is how many of the instance's sockets something came over within so long,
// from either end. It takes a few microseconds for a thousand sockets.
func (s *Set) Busy(instance string, within time.Duration) int {
	since := int64(s.clock.now().add(-within))
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if p := s.pools[instance]; p != nil {
		for _, t := range p.sockets {
			if t.active.Load() >= since {
				n++
			}
		}
	}
	return n
}
