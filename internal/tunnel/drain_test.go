package tunnel

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
)

// told answers a goodbye like a good client and app, and sends the time since
// start when it came.
func (r *rig) told(start time.Time, at chan<- time.Duration) {
	if g, err := readFrame(r.client); err != nil || g.op != opClose {
		r.t.Errorf("client got %+v, %v; want a Close frame", g, err)
	}
	at <- time.Since(start)
	r.client.Write(closing(true, 1012, ""))
	readFrame(r.instance)
	r.instance.Write(closing(false, 1012, ""))
	r.instance.CloseWrite()
}

// crowd joins n sockets of one instance; the times of their goodbyes since
// start come from the function it returns, sorted.
func crowd(t *testing.T, set *Set, n int, start time.Time) func() []time.Duration {
	at := make(chan time.Duration, n)
	for i := range n {
		r := join(t, set, fmt.Sprint(i), 0)
		go r.told(start, at)
	}
	return func() []time.Duration {
		var ds []time.Duration
		for range n {
			ds = append(ds, <-at)
		}
		slices.Sort(ds)
		return ds
	}
}

func TestDrainPace(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		start := time.Now()
		const n, window = 50, 25 * time.Second
		times := crowd(t, set, n, start)
		set.Drain("i1", start.Add(window), app.Deployed)
		time.Sleep(window / 2)
		synctest.Wait()
		if c := set.Count("i1"); c != n/2 {
			t.Errorf("half way %d sockets are left of %d", c, n)
		}
		set.Drain("i1", start.Add(window), app.Deployed) // changes nothing
		for i, d := range times() {
			if want := window * time.Duration(i+1) / n; d != want {
				t.Errorf("goodbye %d after %v, want %v", i, d, want)
			}
		}
	})
}

func TestDrainPlansAnew(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		start := time.Now()
		times := crowd(t, set, 10, start)
		set.Drain("i1", start.Add(100*time.Second), app.Deployed)
		time.Sleep(55 * time.Second)
		set.Drain("i1", start.Add(60*time.Second), app.Deployed)
		want := []time.Duration{10, 20, 30, 40, 50, 56, 57, 58, 59, 60}
		for i, d := range times() {
			if d != want[i]*time.Second {
				t.Errorf("goodbye %d after %v, want %v", i, d, want[i]*time.Second)
			}
		}
	})
}

func TestDrainNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newSet() // without Run
		start := time.Now()
		times := crowd(t, set, 10, start)
		set.Drain("i1", time.Time{}, app.Requested)
		for i, d := range times() {
			if d != 0 {
				t.Errorf("goodbye %d after %v", i, d)
			}
		}
		synctest.Wait()
		if n := set.Count("i1"); n != 0 {
			t.Errorf("Count = %d", n)
		}
	})
}

// A handshake that was under way when the drain began gets its slot too.
func TestJoinWhileDraining(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		start := time.Now()
		const window = 20 * time.Second
		set.Drain("i1", start.Add(window), app.Aged)
		time.Sleep(window / 2)
		times := crowd(t, set, 100, start)()
		if first, last := times[0], times[99]; first < window/2 || last > window || last-first < window/4 {
			t.Errorf("goodbyes from %v to %v, want them spread from %v to %v", first, last, window/2, window)
		}
	})
}

func TestDeadlineBeforeSlot(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", 10*time.Second)
		set.Drain("i1", time.Now().Add(time.Minute), app.Deployed)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		elapsed(t, "Close", r.opened, 10*time.Second)
	})
}

func TestDrainOfAnotherInstance(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		set.Drain("i2", time.Time{}, app.Crashed)
		wantClose(t, "client", r.client, false, 1001, "deadline")
	})
}

func TestDrainsAreForgotten(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		for i := range 1000 {
			set.Drain(fmt.Sprint(i), time.Now().Add(time.Second), app.Deployed)
		}
		time.Sleep(2*drainMemory + time.Second)
		synctest.Wait()
		set.mu.Lock()
		defer set.mu.Unlock()
		if len(set.pools) != 0 {
			t.Errorf("%d instances are still known", len(set.pools))
		}
	})
}

func TestCloseCodes(t *testing.T) {
	for cause, want := range map[app.Cause]int{
		app.Deployed: 1012, app.ScaledDown: 1012, app.Aged: 1012, app.Unhealthy: 1012,
		app.Crashed: 1012, app.Requested: 1012, app.Rebalanced: 1012,
		app.ShuttingDown: 1001, app.Deadline: 1001, app.Lost: 1011,
	} {
		if got := CloseCode(cause); got != want {
			t.Errorf("CloseCode(%s) = %d, want %d", cause, got, want)
		}
	}
	long := make([]byte, 200)
	for i := range long {
		long[i] = "ä"[i%2]
	}
	if f := closeFrame(1012, string(long), false); len(f) != 2+2+122 || int(f[1]) != len(f)-2 {
		t.Errorf("a long reason made a frame of %d bytes: % x", len(f), f[:4])
	}
}
