package control

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/internal/app"
)

// A simulated world for plan: instances that crash, sicken, start slowly or
// never, and carry traffic; operators who change their minds; time. After each
// step the promises of plan's comment are checked against what it asked for.
//
//	go test ./internal/control -run World -worlds 200000     a long run
//	go test ./internal/control -run World -world 4711        one world, told in full
var (
	worlds   = flag.Int("worlds", 500, "simulated worlds to live through")
	oneWorld = flag.Uint64("world", 0, "the one world to live through and tell")
)

// worldSteps is how many times plan is asked in each world, before the calm in
// which everything must come to rest.
const worldSteps = 200

type body struct {
	fact
	readyAt time.Time // when it gets ready; zero: never
	stopsAt time.Time // Stopping: when it is gone
}

type world struct {
	t      *testing.T
	seed   uint64
	tell   bool
	rand   *rand.Rand
	now    time.Time
	v      app.Version
	w      wish
	past   past
	bodies []*body
	born   int
	calm   bool // nothing bad happens any more
}

func TestWorld(t *testing.T) {
	t.Parallel()
	if *oneWorld != 0 {
		live(t, *oneWorld, true)
		return
	}
	n := *worlds
	if testing.Short() {
		n /= 10
	}
	first := rand.Uint64() >> 16
	for i := range uint64(n) {
		if !live(t, first+i, false) {
			return
		}
	}
}

func live(t *testing.T, seed uint64, tell bool) bool {
	r := rand.New(rand.NewPCG(seed, 2026))
	w := &world{t: t, seed: seed, tell: tell, rand: r, now: noon}
	w.v.Ready.Within = time.Minute
	w.v.Drain = []time.Duration{0, 25 * time.Second, 5 * time.Minute}[r.IntN(3)]
	w.w = wish{Want: 1 + r.IntN(5), Surge: 1 + r.IntN(3), Up: app.Deployed, Down: app.ScaledDown}
	for range worldSteps {
		w.happen()
		if !w.step() {
			return false
		}
	}
	return w.rest()
}

func (w *world) chance(percent float64) bool { return w.rand.Float64()*100 < percent }

// happen lets time pass, and whatever may happen in it.
func (w *world) happen() {
	w.now = w.now.Add(time.Duration(w.rand.ExpFloat64() * float64(5*time.Second)))
	if w.chance(3) && !w.calm {
		w.w.Want = w.rand.IntN(6)
		w.say("want %d", w.w.Want)
	}
	if w.chance(0.3) && !w.calm {
		w.w.Hurry = true
	} else if w.chance(20) || w.calm {
		w.w.Hurry = false
	}
	for _, b := range w.bodies {
		if b.Stopping || b.Exited {
			continue
		}
		if !w.calm {
			switch {
			case w.chance(1):
				b.Exited = true
				if b.State != app.Draining {
					w.past = w.past.fail(b.Born, w.now)
				}
				b.State = app.Stopped
				w.say("%s exits", b.ID)
				continue
			case w.chance(0.5) && b.State != app.Draining:
				b.Sick = true
				w.say("%s is sick", b.ID)
			case w.chance(0.5):
				b.Asked = true
				w.say("%s is to be replaced", b.ID)
			}
		}
		switch b.State {
		case app.Starting:
			if !b.readyAt.IsZero() && !w.now.Before(b.readyAt) {
				b.State = app.Ready
			}
		case app.Ready:
			b.Load = w.rand.IntN(50)
			if w.now.Sub(b.readyAt) >= stableAfter {
				w.past = w.past.stable(b.Born)
			}
			if w.chance(1) && !w.calm {
				b.State, b.Load = app.Unready, b.Load/2
			}
		case app.Unready:
			b.Load = w.rand.IntN(b.Load + 1)
			if w.chance(20) || w.calm {
				b.State = app.Ready
			}
		case app.Draining:
			b.Load = w.rand.IntN(b.Load + 1)
			if b.Load > 0 {
				b.Idle = time.Time{}
			} else if b.Idle.IsZero() {
				b.Idle = w.now
			}
		}
	}
	w.bodies = slices.DeleteFunc(w.bodies, func(b *body) bool { return b.Stopping && !w.now.Before(b.stopsAt) })
}

// step asks plan, checks what it answers, and does it.
func (w *world) step() bool {
	w.w.Pause = w.past.pause()
	asked := w.w
	if asked.Hurry {
		asked.Want = 0
	}
	facts := make([]fact, len(w.bodies))
	ready, present := 0, 0 // as promised: sick ones are none, draining ones do not count
	byID := map[string]*body{}
	for i, b := range w.bodies {
		facts[i] = b.fact
		byID[b.ID] = b
		if b.State == app.Ready && !b.Sick && !b.Stopping {
			ready++
		}
		if b.State < app.Draining && !b.Stopping {
			present++
		}
	}
	slices.SortFunc(facts, func(a, b fact) int { return cmp.Compare(a.ID, b.ID) })
	steps := plan(w.now, w.v, asked, facts)
	if again := plan(w.now, w.v, asked, facts); !slices.Equal(steps, again) {
		return w.fail("the same question has two answers: %s, then %s", said(steps), said(again))
	}
	if len(steps) > 0 {
		w.say("%s", said(steps))
	}

	touched := map[string]bool{}
	for _, s := range steps {
		if s.Cause == "" {
			return w.fail("%s %s without a cause", s.Do, s.Instance)
		}
		if s.Do == Start {
			if w.now.Before(asked.Pause) {
				return w.fail("a start %v before the pause is over", asked.Pause.Sub(w.now))
			}
			w.start()
			present++
			if present > asked.Want+asked.Surge {
				return w.fail("%d present, wanted %d with a surge of %d", present, asked.Want, asked.Surge)
			}
			continue
		}
		b := byID[s.Instance]
		switch {
		case b == nil:
			return w.fail("%s of %q, which is not there", s.Do, s.Instance)
		case touched[b.ID] || b.Stopping:
			return w.fail("%s of %s, which is being treated", s.Do, b.ID)
		case s.Do == Drain && b.State != app.Ready && b.State != app.Unready:
			return w.fail("drain of %s, which is %s", b.ID, b.State)
		case s.Do == Stop && !asked.Hurry && !b.Exited && b.State != app.Starting && b.State != app.Draining:
			return w.fail("stop of %s, which is %s and has not drained", b.ID, b.State)
		case s.Do == Stop && !asked.Hurry && b.State == app.Draining && b.Load > 0 && w.now.Before(b.Until):
			return w.fail("stop of %s, which carries %d and has %v left", b.ID, b.Load, b.Until.Sub(w.now))
		}
		touched[b.ID] = true
		if b.State < app.Draining {
			present--
		}
		if b.State == app.Ready && !b.Sick {
			ready--
			if ready < asked.Want {
				return w.fail("%s of %s leaves %d ready, wanted %d", s.Do, b.ID, ready, asked.Want)
			}
		}
		if s.Cause == app.Unhealthy || s.Cause == app.SlowStart {
			w.past = w.past.fail(b.Born, w.now)
		}
		if s.Do == Drain {
			b.State, b.Cause, b.Until = app.Draining, s.Cause, w.now.Add(w.v.Drain)
		} else {
			b.Stopping = true
			b.stopsAt = w.now.Add(time.Duration(w.rand.ExpFloat64() * float64(3*time.Second)))
		}
	}
	for _, b := range w.bodies {
		if b.State == app.Draining && !b.Stopping && !touched[b.ID] && !w.now.Before(b.Until.Add(lastWord)) {
			return w.fail("%s still drains %v after its time", b.ID, w.now.Sub(b.Until))
		}
	}
	return true
}

func (w *world) start() {
	w.born++
	b := &body{fact: fact{ID: fmt.Sprintf("i%03d", w.born), State: app.Starting, Born: w.now}}
	if w.chance(90) || w.calm {
		b.readyAt = w.now.Add(time.Duration(w.rand.ExpFloat64() * float64(10*time.Second)))
		if w.calm {
			b.readyAt = w.now.Add(time.Second)
		}
	}
	if !w.calm { // in the calm nobody gets old
		b.Expires = w.now.Add(time.Duration(1+w.rand.IntN(20)) * time.Minute)
	}
	w.bodies = append(w.bodies, b)
}

// rest lets the world calm down: then it must come to exactly what is wanted.
func (w *world) rest() bool {
	w.calm = true
	for range 3000 {
		w.happen()
		if !w.step() {
			return false
		}
		ready, others := 0, 0
		for _, b := range w.bodies {
			due := b.Asked || !b.Expires.IsZero() && !w.now.Before(b.Expires)
			if b.State == app.Ready && !b.Sick && !b.Stopping && !due {
				ready++
			} else {
				others++
			}
		}
		if ready == w.w.Want && others == 0 {
			return true
		}
	}
	return w.fail("it does not come to rest: wanted %d, there are %v", w.w.Want, w.describe())
}

func (w *world) describe() (all []string) {
	for _, b := range w.bodies {
		all = append(all, fmt.Sprintf("%s %s", b.ID, b.State))
	}
	return all
}

func (w *world) say(format string, args ...any) {
	if w.tell {
		w.t.Logf("%8s  "+format, append([]any{w.now.Sub(noon).Round(time.Millisecond)}, args...)...)
	}
}

func (w *world) fail(format string, args ...any) bool {
	w.t.Errorf("world %d at %v: "+format+"\n(again with: go test ./internal/control -run World -v -world %[1]d)",
		append([]any{w.seed, w.now.Sub(noon)}, args...)...)
	return false
}
