package tunnel

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/internal/app"
)

// speak has a socket's client say something, and waits until it is across.
func (r *rig) speak() {
	r.t.Helper()
	f := frame(true, opText, true, []byte("here"))
	write(r.t, r.client, f)
	wantFrame(r.t, "instance", r.instance, f)
}

func TestShedIdlestFirst(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		var all []*rig
		for i := range 6 {
			all = append(all, join(t, set, fmt.Sprint(i), 0))
			time.Sleep(time.Second)
		}
		all[0].speak() // the oldest, and not idle
		all[2].speak()
		time.Sleep(time.Second)
		if n := set.Shed("i1", 2, app.Rebalanced); n != 2 {
			t.Errorf("Shed = %d, want 2", n)
		}
		for _, i := range []int{1, 3} {
			wantClose(t, "client", all[i].client, false, 1012, "rebalanced")
		}
		// They have not answered yet, and are not chosen again.
		if n := set.Shed("i1", 1, app.Rebalanced); n != 1 {
			t.Errorf("Shed = %d, want 1", n)
		}
		wantClose(t, "client", all[4].client, false, 1012, "rebalanced")
		for _, i := range []int{0, 2, 5} {
			all[i].speak() // nothing was said to them
		}
		for _, i := range []int{1, 3, 4} {
			all[i].client.Write(closing(true, 1012, "rebalanced"))
			readFrame(all[i].instance)
			all[i].instance.Write(closing(false, 1012, "rebalanced"))
			all[i].instance.CloseWrite()
			all[i].wantEnd(ByHoldfast, app.Rebalanced, 1012, "rebalanced")
		}
		if n := set.Count("i1"); n != 3 {
			t.Errorf("Count = %d, want 3", n)
		}
	})
}

func TestShedChoosesNone(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", 0)
		for _, c := range []struct {
			instance string
			n        int
		}{{"i1", 0}, {"i1", -1}, {"i2", 5}} {
			if n := set.Shed(c.instance, c.n, app.Rebalanced); n != 0 {
				t.Errorf("Shed(%s, %d) = %d, want 0", c.instance, c.n, n)
			}
		}
		r.speak()
		set.Drain("i1", time.Now().Add(time.Minute), app.Deployed)
		if n := set.Shed("i1", 5, app.Rebalanced); n != 0 {
			t.Errorf("Shed of an instance that drains = %d, want 0", n)
		}
		wantClose(t, "client", r.client, false, 1012, "deployed")
		elapsed(t, "Close", r.opened, time.Minute)
	})
}

func TestShedTakesNoMoreThanThereAre(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r, s := join(t, set, "r", 0), join(t, set, "s", 0)
		if n := set.Shed("i1", 100, app.Rebalanced); n != 2 {
			t.Errorf("Shed = %d, want 2", n)
		}
		wantClose(t, "client", r.client, false, 1012, "rebalanced")
		wantClose(t, "client", s.client, false, 1012, "rebalanced")
	})
}

func TestBusy(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		a, b := join(t, set, "a", 0), join(t, set, "b", 0)
		time.Sleep(2 * time.Minute)
		if n := set.Busy("i1", time.Minute); n != 0 {
			t.Errorf("Busy = %d of two that are idle for two minutes", n)
		}
		a.speak()
		time.Sleep(30 * time.Second)
		if n := set.Busy("i1", time.Minute); n != 1 {
			t.Errorf("Busy = %d, want 1", n)
		}
		b.speak()
		if n := set.Busy("i1", time.Minute); n != 2 {
			t.Errorf("Busy = %d, want 2", n)
		}
		if n := set.Busy("i2", time.Minute); n != 0 {
			t.Errorf("Busy = %d of an instance that nobody knows", n)
		}
	})
}

// Over real connections, and at the same time from several places.
func TestRealShed(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		why := make(chan error, 1)
		s := newSite(t, secure, echo(why))
		_, c := s.dial(t)
		for len(s.set.Sockets(Filter{})) == 0 {
			time.Sleep(time.Millisecond)
		}
		shed := make(chan int)
		for range 4 {
			go func() { shed <- s.set.Shed("i1", 1, app.Rebalanced) }()
		}
		sum := 0
		for range 4 {
			sum += <-shed
		}
		if sum < 1 {
			t.Errorf("%d were shed, want the one", sum)
		}
		_, _, err := c.Read(context.Background())
		wantStatus(t, "client", err, 1012, "rebalanced")
		s.wantEnd(t, ByHoldfast, app.Rebalanced, 1012, "rebalanced")
	})
}

func BenchmarkBusy(b *testing.B) {
	set := newSet()
	p := set.poolLocked("i1")
	for range 10_000 {
		p.sockets = append(p.sockets, newSocket(set, Socket{}))
	}
	for b.Loop() {
		set.Busy("i1", time.Minute)
	}
}

// The hour passes in ten seconds: for those that are there, as if they were of all
// ages, and for who comes later after their ten seconds.
func TestExpire(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		const hour = 10 * time.Second
		var all []*rig
		for i := range 40 {
			all = append(all, join(t, set, fmt.Sprint("socket-", i), 0))
		}
		time.Sleep(time.Minute)
		since := time.Now()
		pass := func(share float64) (n int) { return set.Expire(testKey, share, since, hour) }
		if n := pass(1); n > 2 {
			t.Errorf("%d sockets are over at once", n)
		}
		time.Sleep(hour / 2)
		first := pass(1)
		if first < 10 || first > 30 {
			t.Errorf("%d of 40 are over after half of the time", first)
		}
		if n := pass(1) + set.Expire(app.Key{App: "other"}, 1, since, hour); n != 0 {
			t.Errorf("%d were chosen twice, or of another version", n)
		}
		late := join(t, set, "late", 0)
		time.Sleep(hour/2 + time.Millisecond)
		pass(1)
		for _, r := range all {
			wantClose(t, "client", r.client, false, 1001, "deadline")
		}
		late.speak()
		time.Sleep(hour)
		if n := pass(1); n != 1 {
			t.Errorf("%d are over, want the late one", n)
		}
		wantClose(t, "client", late.client, false, 1001, "deadline")
	})
}

func TestExpireOfAShare(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		for i := range 40 {
			join(t, set, fmt.Sprint("socket-", i), 0)
		}
		time.Sleep(time.Minute)
		if n := set.Expire(testKey, 0.25, time.Now().Add(-time.Minute), time.Second); n < 3 || n > 20 {
			t.Errorf("%d of 40 are a quarter", n)
		}
	})
}
