package control

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"holdfast/internal/app"
)

// byConnections is automatic scaling as documented, for 100 connections each.
var byConnections = app.Scaling{Min: 2, Max: 20, CoolDown: 2 * time.Minute, Connections: 100}

// byCPU is what an app.yaml says that says nothing.
var byCPU = app.Scaling{Min: 2, Max: 20, CoolDown: 2 * time.Minute, CPU: 0.5}

// carrying is n instances that are long past their start, and carry so many
// connections together.
func carrying(n, open int) []gauge {
	var all []gauge
	for i := range n {
		all = append(all, gauge{ID: fmt.Sprint("i", i), Born: noon.Add(-time.Hour), Stays: true, Open: open / n})
	}
	all[0].Open += open % n
	return all
}

// through has scale look each sampleEvery, from a time on and for so long, and
// returns its answers.
func through(s app.Scaling, h *history, from, long time.Duration, see func(at time.Duration, want int) []gauge) (wants []int) {
	want := h.Want
	for at := from; at <= from+long; at += sampleEvery {
		want, *h = scale(noon.Add(at), s, 1, *h, see(at, want))
		wants = append(wants, want)
	}
	return wants
}

func last(wants []int) int { return wants[len(wants)-1] }

func TestScaleConnections(t *testing.T) {
	t.Parallel()
	manual := app.Scaling{Manual: true, Min: 3, Max: 3}
	for _, c := range []struct {
		name        string
		s           app.Scaling
		there, open int           // instances, and what they carry
		long        time.Duration // looked at for so long
		want        int
	}{
		{"nothing there: the least", byConnections, 0, 0, 0, 2},
		{"nothing to do: the least", byConnections, 2, 0, time.Hour, 2},
		{"manual scaling is constant", manual, 1, 5000, time.Hour, 3},
		{"least is most: constant", app.Scaling{Min: 4, Max: 4, Connections: 1}, 2, 5000, time.Hour, 4},
		{"a zero value is one instance", app.Scaling{}, 0, 0, time.Hour, 1},
		{"most below least: the least", app.Scaling{Min: 4, Max: 1, Connections: 1}, 0, 500, time.Hour, 4},
		{"no target: the least", app.Scaling{Min: 2, Max: 9}, 6, 5000, time.Hour, 2},
		{"found running: as many as there are", byConnections, 12, 0, 0, 12},
		{"found running: within the most", byConnections, 30, 0, 0, 20},
		{"found running: no shrinking for a while", byConnections, 12, 0, shrinkAfter - sampleEvery, 12},
		{"at its target", byConnections, 5, 500, time.Hour, 5},
		{"within the tolerance above it", byConnections, 5, 550, time.Hour, 5},
		{"above the tolerance: as many as it takes", byConnections, 5, 551, time.Hour, 6},
		{"within the tolerance below it", byConnections, 5, 361, time.Hour, 5},
		{"below the tolerance: fewer, and those have room", byConnections, 5, 360, time.Hour, 4},
		{"not before it was so for growAfter", byConnections, 2, 800, growAfter - sampleEvery, 2},
		{"growing at once by no more than growLeast", byConnections, 2, 800, growAfter, 6},
		{"and on from there", byConnections, 2, 800, 2 * growAfter, 8},
		{"growing at once by no more than growMost", byConnections, 8, 2000, growAfter, 16},
		{"never above the most", byConnections, 2, 100_000, time.Hour, 20},
		{"shrinking one at a time", byConnections, 6, 0, shrinkAfter, 5},
		{"one more each shrinkEvery", byConnections, 6, 0, shrinkAfter + 2*shrinkEvery, 3},
		{"never below the least", byConnections, 6, 0, time.Hour, 2},
		{"large ones by a tenth", app.Scaling{Min: 1, Max: 100, Connections: 100}, 60, 0, shrinkAfter, 54},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var h history
			all := []gauge(nil)
			if c.there > 0 {
				all = carrying(c.there, c.open)
			}
			got := through(c.s, &h, 0, c.long, func(time.Duration, int) []gauge { return all })
			if last(got) != c.want {
				t.Errorf("after %v: %d, want %d; all answers: %v", c.long, last(got), c.want, got)
			}
		})
	}
}

// What one sample says is never enough, however loud.
func TestScaleASpikeIsNoLoad(t *testing.T) {
	t.Parallel()
	for _, long := range []time.Duration{sampleEvery, 2 * sampleEvery} {
		h := history{Want: 2}
		got := through(byConnections, &h, 0, time.Hour, func(at time.Duration, want int) []gauge {
			if at >= 20*time.Minute && at < 20*time.Minute+long {
				return carrying(want, 100_000)
			}
			return carrying(want, 150)
		})
		for _, n := range got {
			if n != 2 {
				t.Fatalf("a spike of %v: %v, want 2 throughout", long, got)
			}
		}
	}
}

// The sockets of an instance that leaves are load all the while: where they
// are, and where they come back.
func TestScaleCountsWhatDrains(t *testing.T) {
	t.Parallel()
	h := history{Want: 4}
	got := through(byConnections, &h, 0, 2*time.Hour, func(at time.Duration, want int) []gauge {
		all := carrying(4, 400)
		if at < time.Hour { // half of all are on the one that drains
			all = carrying(4, 200)
			all[0].Stays, all[0].Open = false, 250
		}
		return all
	})
	for i, n := range got {
		if n != 4 {
			t.Fatalf("sample %d: %d, want 4 throughout", i, n)
		}
	}
}

// working is n instances that use so much of a core each, since they were born.
func working(at time.Duration, n int, use float64, born time.Duration) []gauge {
	var all []gauge
	for i := range n {
		age := at - born
		all = append(all, gauge{ID: fmt.Sprint("i", i), Born: noon.Add(born), Stays: true, CPU: time.Second + time.Duration(use*float64(age))})
	}
	return all
}

func TestScaleCPU(t *testing.T) {
	t.Parallel()
	hour := -time.Hour
	late := byCPU
	late.CPUWindow = 10 * time.Minute
	for _, c := range []struct {
		name  string
		s     app.Scaling
		cores float64
		there int
		use   func(at time.Duration) []gauge
		long  time.Duration
		want  int
	}{
		{"at its target", byCPU, 1, 4, func(at time.Duration) []gauge { return working(at, 4, 0.5, hour) }, time.Hour, 4},
		{"no cores said: one", byCPU, 0, 4, func(at time.Duration) []gauge { return working(at, 4, 0.5, hour) }, time.Hour, 4},
		{"above it", byCPU, 1, 4, func(at time.Duration) []gauge { return working(at, 4, 0.9, hour) }, time.Minute, 8},
		{"of two cores", byCPU, 2, 4, func(at time.Duration) []gauge { return working(at, 4, 0.9, hour) }, time.Hour, 4},
		{"below it", byCPU, 1, 8, func(at time.Duration) []gauge { return working(at, 8, 0.2, hour) }, time.Hour, 4},
		{"the mean decides, not the busiest", byCPU, 1, 4, func(at time.Duration) []gauge {
			return append(working(at, 2, 0.95, hour), gauge{ID: "a", Born: noon, Stays: true, CPU: 1}, gauge{ID: "b", Born: noon, Stays: true, CPU: 1})
		}, time.Hour, 4},
		{"use does not count during the cool-down", byCPU, 1, 2, func(at time.Duration) []gauge { return working(at, 2, 1, 0) }, 2 * time.Minute, 2},
		{"and counts after it", byCPU, 1, 2, func(at time.Duration) []gauge { return working(at, 2, 1, 0) }, 2*time.Minute + 30*time.Second, 4},
		{"who starts is not taken to be idle", byCPU, 1, 4, func(at time.Duration) []gauge {
			return working(at, 4, 0, at-time.Minute) // replaced all the time
		}, time.Hour, 4},
		{"CPU use that is not known decides nothing", byCPU, 1, 4, func(at time.Duration) []gauge { return carrying(4, 0) }, time.Hour, 2},
		{"a minute's burst in a window of ten", late, 1, 2, func(at time.Duration) []gauge {
			all := working(at, 2, 0.4, hour)
			for i := range all {
				all[i].CPU += min(max(0, at-30*time.Minute), time.Minute)
			}
			return all
		}, 32 * time.Minute, 2},
		{"which is load in a window of one", byCPU, 1, 2, func(at time.Duration) []gauge {
			all := working(at, 2, 0.4, hour)
			for i := range all {
				all[i].CPU += min(max(0, at-30*time.Minute), time.Minute)
			}
			return all
		}, 32 * time.Minute, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := history{Want: c.there}
			want := 0
			for at := time.Duration(0); at <= c.long; at += sampleEvery {
				want, h = scale(noon.Add(at), c.s, c.cores, h, c.use(at))
			}
			if want != c.want {
				t.Errorf("after %v: %d, want %d (needs %v)", c.long, want, c.want, h.Needs[max(0, len(h.Needs)-3):])
			}
		})
	}
}

func TestScaleTheLargestTargetDecides(t *testing.T) {
	t.Parallel()
	both := byCPU
	both.Connections = 100
	for _, c := range []struct {
		use        float64
		open, want int
	}{
		{0.5, 10, 4},    // both keep
		{0.1, 700, 7},   // connections
		{0.9, 10, 8},    // CPU
		{0.9, 1500, 15}, // both, connections more
	} {
		h := history{Want: 4}
		got := through(both, &h, 0, time.Minute, func(at time.Duration, want int) []gauge {
			all := working(at, 4, c.use, -time.Hour)
			all[0].Open = c.open
			return all
		})
		if last(got) != c.want {
			t.Errorf("CPU %v and %d open: %d, want %d", c.use, c.open, last(got), c.want)
		}
	}
}

// Other bounds hold at once, in both directions.
func TestScaleFollowsItsBounds(t *testing.T) {
	t.Parallel()
	h := history{Want: 6}
	all := carrying(6, 600)
	s := byConnections
	through(s, &h, 0, time.Hour, func(time.Duration, int) []gauge { return all })
	at := noon.Add(time.Hour + time.Second) // between two samples
	for _, c := range []struct{ least, most, want int }{{2, 4, 4}, {8, 20, 8}, {2, 20, 6}} {
		s.Min, s.Max = c.least, c.most
		if got, _ := scale(at, s, 1, h, all); got != c.want {
			t.Errorf("%d to %d: %d, want %d", c.least, c.most, got, c.want)
		}
	}
}

// More looks, or fewer, are no other load; and what it is given stays as it is.
func TestScaleIsPure(t *testing.T) {
	t.Parallel()
	s := byCPU
	s.Connections = 100
	h := history{Want: 3}
	for at := time.Duration(0); at < 20*time.Minute; at += sampleEvery / 10 {
		all := working(at, 3, 0.6, -time.Hour)
		before := history{h.Want, append([]need(nil), h.Needs...), map[string][]reading{}, h.Grown, h.Shrunk}
		for id, r := range h.Used {
			before.Used[id] = append([]reading(nil), r...)
		}
		one, after := scale(noon.Add(at), s, 1, h, all)
		two, again := scale(noon.Add(at), s, 1, h, all)
		if one != two || !reflect.DeepEqual(after, again) {
			t.Fatalf("at %v: the same question has two answers, %d and %d", at, one, two)
		}
		if len(h.Needs) > 0 && !reflect.DeepEqual(h, before) {
			t.Fatalf("at %v: it changed what it was given", at)
		}
		h = after
	}
	if n := len(h.Needs); n > int(shrinkAfter/sampleEvery)+2 {
		t.Errorf("%d samples are kept", n)
	}
	if h.Want != 4 {
		t.Errorf("want %d, load 0.6 of 0.5 each: 4", h.Want)
	}
	if _, h = scale(noon.Add(time.Hour), s, 1, h, nil); len(h.Used) != 0 {
		t.Errorf("instances that are gone are remembered: %v", h.Used)
	}
}

func BenchmarkScale(b *testing.B) {
	s := byCPU
	s.Connections = 100
	h := history{Want: 20}
	at := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		at += sampleEvery
		_, h = scale(noon.Add(at), s, 1, h, working(at, 20, 0.5, -time.Hour))
	}
}
