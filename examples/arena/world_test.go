package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A field with nothing but what a test puts there.
func emptyWorld() *world {
	w := newWorld(1)
	w.sparks, w.pillars = nil, nil
	return w
}

func place(w *world, x, y float64) *body {
	b := w.spawn(false)
	b.pos, b.safe = vec{x, y}, 0
	return b
}

func TestSteeringMovesWithinTheField(t *testing.T) {
	t.Parallel()
	w := emptyWorld()
	b := place(w, 800, 500)
	b.want = vec{1, 0}
	for range 10 {
		w.step()
	}
	if b.pos.x < 900 || b.pos.y != 500 {
		t.Errorf("half a second to the right ends at %v", b.pos)
	}
	if v := length(b.v); v > accel/drag {
		t.Errorf("%v is faster than anybody may be", v)
	}
	for range 200 {
		w.step()
	}
	if b.pos.x > width-radius {
		t.Errorf("the wall does not hold: %v", b.pos)
	}
}

func TestADashIntoSomebodyScattersSparks(t *testing.T) {
	t.Parallel()
	w := emptyWorld()
	a, b := place(w, 500, 500), place(w, 620, 500)
	a.score, b.score = 3, 20
	a.want, a.dash = vec{1, 0}, true
	for range 4 {
		w.step()
	}
	if b.score >= 20 || b.safe == 0 {
		t.Errorf("who was hit has %d of 20 and is safe for %d ticks, want fewer and some", b.score, b.safe)
	}
	if all := a.score + b.score + len(w.sparks); all != 23 {
		t.Errorf("%d, %d and %d on the field are %d, want 23", a.score, b.score, len(w.sparks), all)
	}
	before := b.score
	w.hit(b)
	if b.score != before {
		t.Error("who is safe was hit")
	}
}

func TestADashHasToRest(t *testing.T) {
	t.Parallel()
	w := emptyWorld()
	b := place(w, 100, 500)
	b.want = vec{1, 0}
	dashes := 0
	for range 5 * ticksPerSecond {
		b.dash = true
		was := b.dashing
		if w.step(); b.dashing > was {
			dashes++
		}
	}
	if want := 5*ticksPerSecond/restTicks + 1; dashes != want {
		t.Errorf("%d dashes in 5 s, want %d", dashes, want)
	}
}

func TestSleepersAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := emptyWorld()
	a, b := place(w, 500, 500), place(w, 560, 500)
	b.asleep, b.score = true, 9
	w.sparks = []spark{{pos: b.pos}}
	a.want, a.dash = vec{1, 0}, true
	for range 3 {
		w.step()
	}
	if b.score != 9 || b.pos != (vec{560, 500}) {
		t.Errorf("a sleeper has %d of 9 sparks and lies at %v", b.score, b.pos)
	}
}

// Whatever people do, everything stays on the field and within its bounds, and
// the frame can be read.
func TestRandomPlayKeepsTheRules(t *testing.T) {
	t.Parallel()
	for range 10 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(seed)
		for range playersMax {
			w.spawn(rng.IntN(4) == 0)
		}
		for range 300 {
			for _, b := range w.bodies {
				if rng.IntN(5) == 0 {
					angle := rng.Float64() * 2 * math.Pi
					b.want, b.dash = vec{math.Cos(angle), math.Sin(angle)}, rng.IntN(3) == 0
					b.asleep = rng.IntN(20) == 0
				}
			}
			w.step()
			for _, b := range w.bodies {
				if !(b.pos.x >= 0 && b.pos.x <= width && b.pos.y >= 0 && b.pos.y <= height) || b.score < 0 || b.score > scoreMax {
					t.Fatalf("seed %d, tick %d: body %d at %v with %d sparks", seed, w.tick, b.id, b.pos, b.score)
				}
			}
			if len(w.sparks) > sparksMax {
				t.Fatalf("seed %d: %d sparks", seed, len(w.sparks))
			}
			if got, want := len(w.frame()), 6+12*len(w.bodies)+4*len(w.sparks); got != want {
				t.Fatalf("a frame of %d bytes, want %d", got, want)
			}
		}
		caught := 0
		for _, b := range w.bodies {
			caught += b.score
		}
		if caught == 0 {
			t.Errorf("seed %d: nobody caught anything in 15 s", seed)
		}
	}
}

func TestARoomIsTheSameForItsSeed(t *testing.T) {
	t.Parallel()
	a, b := newWorld(7), newWorld(7)
	if a.name != b.name || len(a.pillars) != len(b.pillars) || a.pillars[0] != b.pillars[0] {
		t.Errorf("%s %v and %s %v", a.name, a.pillars, b.name, b.pillars)
	}
}

func BenchmarkTick(b *testing.B) {
	w := newWorld(1)
	for range playersMax {
		w.spawn(true)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.step()
		w.frame()
	}
}
