package control

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/internal/app"
)

// holding is an instance with so many sockets, of that age, that was ready 5 s after
// its birth.
func holding(id string, sockets int, age time.Duration) weight {
	return weight{id, app.Ready, noon.Add(-age), noon.Add(-age + 5*time.Second), sockets}
}

func being(s app.State, w weight) weight {
	w.State = s
	return w
}

func TestRebalance(t *testing.T) {
	t.Parallel()
	const old, fresh = 24 * time.Hour, time.Minute
	for _, c := range []struct {
		name string
		all  []weight
		want shed
	}{
		{"nobody", nil, shed{}},
		{"one instance has no other", []weight{holding("a", 1000, fresh)}, shed{}},
		{"a fresh one gets some of the one that has most", []weight{holding("a", 1000, old), holding("b", 1200, old), holding("c", 0, fresh)}, shed{"b", 4}},
		{"a portion is at least one", []weight{holding("a", 10, old), holding("b", 0, fresh)}, shed{"a", 1}},
		{"few are not worth it", []weight{holding("a", 4, old), holding("b", 0, fresh)}, shed{}},
		{"a few more are", []weight{holding("a", 5, old), holding("b", 0, fresh)}, shed{"a", 1}},
		{"nor than the mean", []weight{holding("a", 110_000, old), holding("b", 89_900, fresh)}, shed{"a", 399}},
		{"uneven by 20 %", []weight{holding("a", 1100, old), holding("b", 900, fresh)}, shed{}},
		{"worse than 20 %", []weight{holding("a", 1101, old), holding("b", 899, fresh)}, shed{"a", 4}},
		{"nobody is fresh", []weight{holding("a", 1000, old), holding("b", 0, old)}, shed{}},
		{"fresh no more", []weight{holding("a", 1000, old), holding("b", 0, freshFor)}, shed{}},
		{"not yet eased in", []weight{holding("a", 1000, old), holding("b", 0, freshAfter+4*time.Second)}, shed{}},
		{"eased in", []weight{holding("a", 1000, old), holding("b", 0, freshAfter+5*time.Second)}, shed{"a", 2}},
		{"one that starts carries nothing yet", []weight{holding("a", 1000, old), being(app.Starting, holding("b", 0, fresh))}, shed{}},
		{"who drains fills the fresh one", []weight{holding("a", 1000, old), holding("b", 0, fresh), being(app.Draining, holding("c", 1000, old))}, shed{}},
		{"who drains does not fill it", []weight{holding("a", 1000, old), holding("b", 0, fresh), being(app.Draining, holding("c", 100, old))}, shed{"a", 2}},
		{"unready ones keep theirs", []weight{holding("a", 500, old), holding("b", 500, fresh), being(app.Unready, holding("c", 5000, old))}, shed{}},
		{"no sockets at all", []weight{holding("a", 0, old), holding("b", 0, fresh)}, shed{}},
	} {
		got := rebalance(noon, c.all)
		if got.N == 0 {
			got.Instance = ""
		}
		if c.want.N == 0 {
			c.want.Instance = ""
		}
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// However sockets lie, moving them comes to an end within the time for which an
// instance is fresh, moves nobody twice without need, and leaves them even.
func TestRebalanceComesToRest(t *testing.T) {
	t.Parallel()
	for range 300 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 2026))
		var all []weight
		sum := 0
		for i := range 1 + r.IntN(9) {
			w := holding(fmt.Sprint("old", i), r.IntN(1+r.IntN(20_000)), 24*time.Hour)
			all = append(all, w)
		}
		for i := range 1 + r.IntN(3) {
			all = append(all, holding(fmt.Sprint("new", i), 0, freshAfter+5*time.Second))
		}
		over := 0
		for _, w := range all {
			sum += w.Sockets
		}
		mean := float64(sum) / float64(len(all))
		for _, w := range all {
			over += max(0, w.Sockets-int(mean))
		}
		moved, now := 0, noon
		for ; now.Before(noon.Add(freshFor)); now = now.Add(shedEvery) {
			s := rebalance(now, all)
			if s.N == 0 {
				break
			}
			for i := range all {
				if all[i].ID == s.Instance {
					all[i].Sockets -= s.N
				}
			}
			for range s.N { // each goes where the fewest are
				least := &all[0]
				for i := range all {
					if all[i].Sockets < least.Sockets {
						least = &all[i]
					}
				}
				least.Sockets++
			}
			moved += s.N
		}
		least, most := all[0].Sockets, all[0].Sockets
		for _, w := range all {
			least, most = min(least, w.Sockets), max(most, w.Sockets)
		}
		if float64(most-least) > max(spreadNoise, spreadMost*mean)+1 || moved > over {
			t.Fatalf("seed %d: after %v and %d moves, of %d too many: %+v", seed, now.Sub(noon), moved, over, all)
		}
	}
}
