package control

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/internal/app"
)

// A simulated day for scale: people who connect, stay for about an hour where
// they are, and come back when their instance goes; instances that take a while
// to start, use CPU for what they carry, and sometimes die. plan is played by
// its promises: what is missing starts, of what is too much the idlest drains.
//
//	go test ./internal/control -run ScaleDay -days 500        many days
//	go test ./internal/control -run ScaleDay -day 4711 -v     one day of each curve, told
var (
	days   = flag.Int("days", 2, "simulated days to live through, of each curve")
	oneDay = flag.Uint64("day", 0, "the one day to live through and tell")
)

const (
	day     = 24 * time.Hour
	settled = time.Hour        // from then on a steady load must change nothing
	stay    = time.Hour        // how long a socket lives, on average
	moving  = 25 * time.Second // holdfast.drain
)

// curve is how many people want to be connected, and what a day of it promises.
type curve struct {
	name   string
	people func(d *dayWorld, at time.Duration) float64
	noise  float64 // of what is measured, each sample for itself: ± this share
	deaths bool    // instances die now and then
	check  func(d *dayWorld) string
}

var curves = []curve{
	{name: "steady", people: level, check: never},
	{name: "steady, with deaths", people: level, deaths: true, check: never},
	{name: "noisy", people: level, noise: 0.2, check: onlyUp},
	{name: "noisy, with deaths", people: level, noise: 0.2, deaths: true, check: onlyUp},
	{name: "ramp", people: func(d *dayWorld, at time.Duration) float64 {
		rising := min(1, max(0, float64(at-settled)/float64(d.rising)))
		return d.low + (d.high-d.low)*rising
	}, noise: 0.05, check: monotonous},
	{name: "wave", people: func(d *dayWorld, at time.Duration) float64 {
		return d.low + (d.high-d.low)*(1-math.Cos(2*math.Pi*float64(at)/float64(day)))/2
	}, noise: 0.1, deaths: true, check: oneWave},
	{name: "bursts", people: func(d *dayWorld, at time.Duration) float64 {
		if at%(2*time.Hour) < d.burst && at > settled {
			return d.high
		}
		return d.low
	}, noise: 0.05, check: eachBurstOnce},
}

func level(d *dayWorld, at time.Duration) float64 { return d.low }

// dayWorld is one day.
type dayWorld struct {
	t    *testing.T
	seed uint64
	rand *rand.Rand
	tell bool
	c    curve

	s         app.Scaling
	each      float64 // sockets that are one instance's target
	low, high float64 // people
	rising    time.Duration
	burst     time.Duration

	now      time.Duration
	hosts    []*host
	born     int
	homeless float64 // whose instance went
	h        history
	want     int
	answers  []answer
}

type host struct {
	gauge
	sockets float64
	readyAt time.Duration
	leaves  time.Duration // 0: it does not
}

// answer is what scale said, when it said something else than before.
type answer struct {
	at   time.Duration
	want int
}

func TestScaleDay(t *testing.T) {
	t.Parallel()
	for _, c := range curves {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if *oneDay != 0 {
				liveDay(t, c, *oneDay, true)
				return
			}
			first, n := rand.Uint64()>>16, uint64(*days)
			if Race {
				n = 1
			}
			for i := range n {
				if !liveDay(t, c, first+i, false) {
					return
				}
			}
		})
	}
}

func liveDay(t *testing.T, c curve, seed uint64, tell bool) bool {
	r := rand.New(rand.NewPCG(seed, 2026))
	d := &dayWorld{t: t, seed: seed, rand: r, tell: tell, c: c}
	d.s = app.Scaling{Min: 1 + r.IntN(3), Max: 15 + r.IntN(10), CoolDown: time.Duration(60+r.IntN(120)) * time.Second}
	d.each = []float64{20, 100, 1000}[r.IntN(3)]
	kind := r.IntN(3) // by connections, by CPU, by both
	if kind != 1 {
		d.s.Connections = int(d.each)
	}
	if kind != 0 {
		d.s.CPU = 0.5
	}
	d.low = d.each * (1 + 7*r.Float64())
	d.high = d.low + d.each*(2+4*r.Float64())
	d.rising = time.Duration(10+r.IntN(240)) * time.Minute
	d.burst = time.Duration(2+r.IntN(60)) * time.Minute
	// The day begins with as many as its load is worth: where all that there are
	// are worn out by sockets that stay, what they use says little of what they
	// would, and the way there takes hours.
	d.want = min(d.s.Max, max(d.s.Min, whole(c.people(d, 0)/d.each)))
	d.answers = []answer{{0, d.want}}
	d.follow()
	for _, h := range d.hosts {
		h.Born, h.readyAt, h.sockets = noon.Add(-time.Hour), -time.Hour, c.people(d, 0)/float64(len(d.hosts))
	}
	for d.now < day {
		if !d.step(sampleEvery + time.Duration(r.Int64N(int64(time.Second)))) {
			return false
		}
	}
	if broken := c.check(d); broken != "" {
		return d.fail("%s", broken)
	}
	return true
}

// step lets time pass, has scale look, and does what it says.
func (d *dayWorld) step(long time.Duration) bool {
	d.now += long
	share := float64(long) / float64(stay)

	// People go, and come back; those whose instance drains are moved in pace.
	open := d.homeless
	for _, h := range d.hosts {
		h.sockets -= h.sockets * share
		if h.leaves > 0 {
			moved := h.sockets
			if left := h.leaves - d.now; left > 0 {
				moved *= min(1, float64(long)/float64(left+long))
			}
			h.sockets -= moved
			d.homeless += moved
		}
		open += h.sockets
	}
	d.homeless += max(0, d.c.people(d, d.now)-open)
	for d.homeless > 0 {
		idlest := d.idlest()
		if idlest == nil {
			break
		}
		n := min(d.homeless, max(1, d.each/50))
		idlest.sockets += n
		d.homeless -= n
	}

	// Instances work, die, and are gone once they have drained.
	noise := d.noise() // of all together: apart, it would cancel out
	for _, h := range d.hosts {
		use := 0.01 + h.sockets/d.each*0.5*noise
		if d.now < h.readyAt+30*time.Second {
			use = 1 // as it starts
		}
		h.CPU += time.Duration(min(1, use) * float64(long))
		h.Open = int(math.Round(h.sockets * noise))
	}
	if d.c.deaths && d.rand.Float64() < float64(long)/float64(3*time.Hour) && len(d.hosts) > 0 {
		i := d.rand.IntN(len(d.hosts))
		d.say("%s dies with %.0f", d.hosts[i].ID, d.hosts[i].sockets)
		d.homeless += d.hosts[i].sockets
		d.hosts = slices.Delete(d.hosts, i, i+1)
	}
	d.hosts = slices.DeleteFunc(d.hosts, func(h *host) bool { return h.leaves > 0 && h.leaves <= d.now })

	var all []gauge
	for _, h := range d.hosts {
		all = append(all, h.gauge)
	}
	want, h := scale(noon.Add(d.now), d.s, 1, d.h, all)
	if want < max(1, d.s.Min) || want > d.s.Max {
		return d.fail("%d instances, of %d to %d", want, d.s.Min, d.s.Max)
	}
	if want != d.want {
		n := h.Needs[len(h.Needs)-1]
		d.say("%d to %d, need %.2f to %.2f", d.want, want, n.Least, n.Most)
		d.answers = append(d.answers, answer{d.now, want})
	}
	d.want, d.h = want, h
	d.follow()
	return true
}

// follow does what plan would: start, and drain the idlest.
func (d *dayWorld) follow() {
	staying := 0
	for _, h := range d.hosts {
		if h.leaves == 0 {
			staying++
		}
	}
	for ; staying < d.want; staying++ {
		d.born++
		d.hosts = append(d.hosts, &host{
			gauge:   gauge{ID: fmt.Sprintf("i%03d", d.born), Born: noon.Add(d.now), Stays: true},
			readyAt: d.now + 2*time.Second + time.Duration(d.rand.Int64N(int64(20*time.Second))),
		})
	}
	for ; staying > d.want; staying-- {
		h := d.idlest()
		if h == nil {
			return
		}
		h.Stays, h.leaves = false, d.now+moving
	}
}

// idlest is the ready instance with the fewest sockets.
func (d *dayWorld) idlest() (least *host) {
	for _, h := range d.hosts {
		if h.leaves == 0 && h.readyAt <= d.now && (least == nil || h.sockets < least.sockets) {
			least = h
		}
	}
	return least
}

func (d *dayWorld) noise() float64 { return 1 + d.c.noise*(2*d.rand.Float64()-1) }

// after is the answers since then, and the one that held before them.
func (d *dayWorld) after(from time.Duration) (held int, later []answer) {
	for _, a := range d.answers {
		if a.at < from {
			held = a.want
		} else {
			later = append(later, a)
		}
	}
	return held, later
}

// never: once it has settled, a steady load changes nothing.
func never(d *dayWorld) string {
	held, later := d.after(settled)
	if len(later) > 0 {
		return fmt.Sprintf("%d held, and then %v, on a steady load", held, later)
	}
	return d.fits()
}

// onlyUp: noise may show late that a little more is needed, and never shakes it.
func onlyUp(d *dayWorld) string {
	held, later := d.after(settled)
	if len(later) > 2 || slices.ContainsFunc(later, func(a answer) bool { return a.want < held }) {
		return fmt.Sprintf("%d held, and then %v, on a steady load with noise", held, later)
	}
	return d.fits()
}

// fits: as many as it takes, within the tolerance in both directions.
func (d *dayWorld) fits() string {
	need := d.low / d.each
	low := min(d.s.Max, max(d.s.Min, int(math.Floor(need/(1+tolerance)/(1+d.c.noise)))))
	high := min(d.s.Max, max(d.s.Min, whole(need*(1+d.c.noise)/(1-tolerance))+1))
	if d.want < low || d.want > high {
		return fmt.Sprintf("%d instances for a load of %.2f, want %d to %d", d.want, need, low, high)
	}
	return ""
}

// monotonous: a load that only rises is only ever followed upwards, and is met.
func monotonous(d *dayWorld) string {
	held, later := d.after(settled)
	for _, a := range later {
		if a.want < held {
			return fmt.Sprintf("from %d to %d at %v of a rising load: %v", held, a.want, a.at, later)
		}
		held = a.want
	}
	// The bound: what was needed growAfter and two samples ago, and for CPU use
	// its window, is there now, but for the tolerance.
	late := growAfter + 3*sampleEvery
	if d.s.CPU > 0 {
		late += cpuWindow + d.s.CoolDown
	}
	for at := settled; at < day; at += time.Minute {
		held, _ := d.after(at)
		need := d.c.people(d, at-late) / d.each / (1 + tolerance) / (1 + d.c.noise)
		if held < min(d.s.Max, int(math.Floor(need))) {
			return fmt.Sprintf("%d instances at %v, where the load was worth %.2f %v before", held, at, need, late)
		}
	}
	return ""
}

// oneWave: one way up and one way down, and not much to and fro.
func oneWave(d *dayWorld) string {
	_, later := d.after(settled)
	sum, most, was := 0, 0, d.answers[0].want
	for _, a := range later {
		sum += max(a.want-was, was-a.want)
		was, most = a.want, max(most, a.want)
	}
	if bound := 2*(most-d.s.Min) + 4; sum > bound {
		return fmt.Sprintf("%d instances came and went in a day of one wave up to %d, want at most %d: %v", sum, most, bound, later)
	}
	if top := d.high / d.each; most < min(d.s.Max, int(math.Floor(top/(1+tolerance)))) {
		return fmt.Sprintf("%d instances at most, where the load was worth %.2f", most, top)
	}
	return ""
}

// eachBurstOnce: a burst is answered, and given back, at most once.
func eachBurstOnce(d *dayWorld) string {
	_, later := d.after(settled)
	turns, up, was := 0, false, d.answers[0].want
	for _, a := range later {
		if (a.want > was) != up {
			up = !up
			turns++
		}
		was = a.want
	}
	if most := 2 * int(day/(2*time.Hour)); turns > most {
		return fmt.Sprintf("%d changes of direction in %d bursts: %v", turns, most/2, later)
	}
	return ""
}

func (d *dayWorld) say(format string, args ...any) {
	if d.tell {
		d.t.Logf("%9s  "+format, append([]any{d.now.Round(time.Second)}, args...)...)
	}
}

func (d *dayWorld) fail(format string, args ...any) bool {
	d.t.Errorf("day %d of %q at %v (%+v, %v a target): "+format+"\n(again with: go test ./internal/control -run 'ScaleDay/%[2]s' -v -day %[1]d)",
		append([]any{d.seed, d.c.name, d.now.Round(time.Second), d.s, d.each}, args...)...)
	return false
}
