package tunnel

import (
	"cmp"
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
