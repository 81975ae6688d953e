package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// The rules of the game, in units of the field and ticks. The page knows those
// that it needs to guess where its own player goes until it hears; see rules.
const (
	ticksPerSecond = 20
	width, height  = 1600.0, 1000.0
	radius         = 22.0
	sparkReach     = radius + 12 // from here a spark is caught

	accel     = 1700.0 // units per second, per second
	drag      = 3.4    // of the speed, per second; so nobody is faster than accel/drag
	dashSpeed = 1050.0
	bounce    = 0.7 // of the speed that a wall gives back

	dashTicks = 5  // a dash hits and cannot be steered for so long
	restTicks = 22 // until the next dash
	safeTicks = 36 // who has been hit, or is new, cannot be hit

	sparksLie  = 30 // grow until so many lie about
	sparksMax  = 90 // lie at most, with those that were lost
	growEvery  = 6  // ticks
	goldOneIn  = 14 // sparks
	goldWorth  = 5
	scoreMax   = math.MaxUint16
	loseAtMost = 8 // sparks at a hit, and at least loseAtLeast if one has them
	loseLeast  = 3
)

type vec struct{ x, y float64 }

// A body is a player on the field, as the rules see one.
type body struct {
	id      uint8
	pos, v  vec
	score   int
	asleep  bool // its page is away: nothing happens to it
	bot     bool
	want    vec  // where it is steered, at most 1 long
	dash    bool // asked for since the last tick
	dashing int  // ticks left of each
	resting int
	safe    int
}

type spark struct {
	pos  vec
	gold bool
}

type pillar struct {
	pos vec
	r   float64
}

// A world is one room's field. It knows nothing of people, sockets or time: a
// tick is a call of step.
type world struct {
	name    string
	seed    uint64 // of the name and the pillars
	tick    uint32
	bodies  []*body // by id
	sparks  []spark
	pillars []pillar
	rng     *rand.Rand
}

var (
	names1 = []string{"Amber", "Birch", "Cobalt", "Dusky", "Ember", "Foggy", "Golden", "Hollow", "Indigo", "Jasper", "Lunar", "Misty", "North", "Opal", "Quiet", "Rusty"}
	names2 = []string{"Cove", "Delta", "Fjord", "Haven", "Isle", "Lagoon", "Marsh", "Narrows", "Pool", "Quay", "Reef", "Shoal", "Sound", "Strait", "Tarn", "Wharf"}
)

func newWorld(seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{seed: seed, name: names1[rng.IntN(len(names1))] + " " + names2[rng.IntN(len(names2))]}
	for len(w.pillars) < 6 {
		p := pillar{vec{200 + rng.Float64()*(width-400), 170 + rng.Float64()*(height-340)}, 42 + rng.Float64()*38}
		if !slices.ContainsFunc(w.pillars, func(o pillar) bool { return dist(o.pos, p.pos) < o.r+p.r+6*radius }) {
			w.pillars = append(w.pillars, p)
		}
	}
	w.rng = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for len(w.sparks) < sparksLie {
		w.grow()
	}
	return w
}

// spawn puts a new body on the field.
func (w *world) spawn(bot bool) *body {
	b := &body{pos: w.free(radius), bot: bot, safe: safeTicks}
	for slices.ContainsFunc(w.bodies, func(o *body) bool { return o.id == b.id }) {
		b.id++ // there are fewer than 256
	}
	w.bodies = append(w.bodies, b)
	slices.SortFunc(w.bodies, func(a, b *body) int { return int(a.id) - int(b.id) })
	return b
}

func (w *world) remove(b *body) {
	w.bodies = slices.DeleteFunc(w.bodies, func(o *body) bool { return o == b })
}

// free is a place where something of that size lies on no pillar and on nobody.
func (w *world) free(r float64) vec {
	var p vec
	for range 50 {
		p = vec{60 + w.rng.Float64()*(width-120), 60 + w.rng.Float64()*(height-120)}
		if !slices.ContainsFunc(w.pillars, func(o pillar) bool { return dist(o.pos, p) < o.r+r+6 }) &&
			!slices.ContainsFunc(w.bodies, func(o *body) bool { return dist(o.pos, p) < 2*radius+r }) {
			return p
		}
	}
	return p // a crowded field; step pushes apart
}

func (w *world) grow() {
	if len(w.sparks) < sparksMax {
		w.sparks = append(w.sparks, spark{w.free(12), w.rng.IntN(goldOneIn) == 0})
	}
}

// step is one tick.
func (w *world) step() {
	w.tick++
	for _, b := range w.bodies {
		if b.bot {
			w.think(b)
		}
		b.move(1.0 / ticksPerSecond)
		w.bound(b)
	}
	for i, a := range w.bodies {
		for _, b := range w.bodies[i+1:] {
			w.meet(a, b)
		}
	}
	for _, b := range w.bodies {
		w.catch(b)
	}
	if w.tick%growEvery == 0 && len(w.sparks) < sparksLie {
		w.grow()
	}
}

// move is what the page does too, to guess.
func (b *body) move(dt float64) {
	b.safe, b.resting, b.dashing = max(0, b.safe-1), max(0, b.resting-1), max(0, b.dashing-1)
	if b.asleep {
		b.v, b.dash = vec{}, false
		return
	}
	if b.dash && b.resting == 0 {
		dir := b.want
		if length(dir) < 0.2 {
			dir = b.v
		}
		if n := length(dir); n > 0 {
			b.v = vec{dir.x / n * dashSpeed, dir.y / n * dashSpeed}
			b.dashing, b.resting = dashTicks, restTicks
		}
	}
	b.dash = false
	if b.dashing == 0 {
		b.v.x += (b.want.x*accel - b.v.x*drag) * dt
		b.v.y += (b.want.y*accel - b.v.y*drag) * dt
	}
	b.pos.x += b.v.x * dt
	b.pos.y += b.v.y * dt
}

// bound keeps b on the field and off the pillars.
func (w *world) bound(b *body) {
	for _, p := range w.pillars {
		d, reach := dist(p.pos, b.pos), p.r+radius
		if d >= reach {
			continue
		}
		n := unit(p.pos, b.pos, d)
		b.pos = vec{p.pos.x + n.x*reach, p.pos.y + n.y*reach}
		if in := b.v.x*n.x + b.v.y*n.y; in < 0 {
			b.v.x -= (1 + bounce) * in * n.x
			b.v.y -= (1 + bounce) * in * n.y
		}
	}
	b.pos.x, b.v.x = wall(b.pos.x, b.v.x, width)
	b.pos.y, b.v.y = wall(b.pos.y, b.v.y, height)
}

func wall(at, v, end float64) (float64, float64) {
	if at < radius {
		return radius, math.Abs(v) * bounce
	}
	if at > end-radius {
		return end - radius, -math.Abs(v) * bounce
	}
	return at, v
}

// meet pushes two that touch apart. Who dashes into somebody takes nothing: the
// other loses sparks, and both can be quick to catch them.
func (w *world) meet(a, b *body) {
	d := dist(a.pos, b.pos)
	if d >= 2*radius || a.asleep || b.asleep {
		return
	}
	n := unit(a.pos, b.pos, d)
	gap := (2*radius - d) / 2
	a.pos = vec{a.pos.x - n.x*gap, a.pos.y - n.y*gap}
	b.pos = vec{b.pos.x + n.x*gap, b.pos.y + n.y*gap}
	if in := (b.v.x-a.v.x)*n.x + (b.v.y-a.v.y)*n.y; in < 0 { // equal masses change their speeds along n
		a.v.x, a.v.y = a.v.x+in*n.x, a.v.y+in*n.y
		b.v.x, b.v.y = b.v.x-in*n.x, b.v.y-in*n.y
	}
	aHits, bHits := a.dashing > 0, b.dashing > 0
	if aHits && !bHits {
		w.hit(b)
	}
	if bHits && !aHits {
		w.hit(a)
	}
}

// hit scatters some of what b has.
func (w *world) hit(b *body) {
	if b.safe > 0 {
		return
	}
	b.safe = safeTicks
	lost := min(b.score, max(loseLeast, min(loseAtMost, b.score/4)))
	b.score -= lost
	for range min(lost, sparksMax-len(w.sparks)) {
		angle, far := w.rng.Float64()*2*math.Pi, 60+w.rng.Float64()*80
		p := vec{b.pos.x + math.Cos(angle)*far, b.pos.y + math.Sin(angle)*far}
		p = vec{min(max(p.x, 20), width-20), min(max(p.y, 20), height-20)}
		for _, o := range w.pillars {
			if d := dist(o.pos, p); d < o.r+14 {
				n := unit(o.pos, p, d)
				p = vec{o.pos.x + n.x*(o.r+14), o.pos.y + n.y*(o.r+14)}
			}
		}
		w.sparks = append(w.sparks, spark{pos: p})
	}
}

func (w *world) catch(b *body) {
	if b.asleep {
		return
	}
	w.sparks = slices.DeleteFunc(w.sparks, func(s spark) bool {
		if dist(s.pos, b.pos) > sparkReach {
			return false
		}
		worth := 1
		if s.gold {
			worth = goldWorth
		}
		b.score = min(b.score+worth, scoreMax)
		return true
	})
}

// think steers a bot: to what is near and worth while, around what is in the
// way, and now and then into somebody who has much.
func (w *world) think(b *body) {
	best, at := -1.0, vec{}
	for _, s := range w.sparks {
		value := 1 / (dist(s.pos, b.pos) + 60)
		if s.gold {
			value *= 3
		}
		if value > best {
			best, at = value, s.pos
		}
	}
	for _, o := range w.bodies {
		if d := dist(o.pos, b.pos); o != b && !o.asleep && o.safe == 0 && o.score > b.score && d < 190 && b.resting == 0 {
			at = o.pos
			b.dash = d < 130 && w.rng.IntN(12) == 0
		}
	}
	if best < 0 {
		at = vec{width / 2, height / 2}
	}
	n := unit(b.pos, at, dist(b.pos, at))
	for _, p := range w.pillars {
		if d := dist(p.pos, b.pos); d < p.r+2.4*radius {
			away := unit(p.pos, b.pos, d)
			n.x, n.y = n.x-away.y*0.9+away.x*0.4, n.y+away.x*0.9+away.y*0.4
		}
	}
	if l := length(n); l > 0 {
		b.want = vec{n.x / l * 0.5, n.y / l * 0.5} // half as fast as people
	}
}

func length(a vec) float64  { return math.Hypot(a.x, a.y) }
func dist(a, b vec) float64 { return math.Hypot(a.x-b.x, a.y-b.y) }

// unit is the direction from a to b, which are d apart.
func unit(a, b vec, d float64) vec {
	if d == 0 {
		return vec{1, 0}
	}
	return vec{(b.x - a.x) / d, (b.y - a.y) / d}
}
