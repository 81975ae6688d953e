package control_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
)

// scaled is a version that scales by itself, for 100 sockets each.
func scaled(version string, least, most int) app.Version {
	v := shop(version, least)
	v.Scaling = app.Scaling{Min: least, Max: most, CoolDown: 2 * time.Minute, Connections: 100}
	return seldomAsked(v)
}

// seldomAsked has instances asked how they are as seldom as may be: days of
// questions take longer than all that is tested.
func seldomAsked(v app.Version) app.Version {
	v.Ready.Interval, v.Live.Interval = 5*time.Minute, 5*time.Minute
	return v
}

// inTown is inHouse with a crowd that moves every second.
func inTown(t *testing.T, test func(t *testing.T, h *house, c *crowd)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		c := newCrowd(h.d)
		h.router = c
		h.move(h.d, control.Config{})
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					c.step()
				}
			}
		}()
		test(t, h, c)
		close(stop)
		<-stopped
		if err := h.leave(); err != nil {
			t.Errorf("Run: %v", err)
		}
		h.checkEvents()
		for _, w := range c.wrong {
			t.Error(w)
		}
	})
}

func TestConnectionsScale(t *testing.T) {
	inTown(t, func(t *testing.T, h *house, c *crowd) {
		c.come(150, 0)
		h.deploy(scaled("v1", 2, 10))
		wait(30 * time.Minute)
		if n := len(h.in(app.Ready)); n != 2 {
			t.Fatalf("%d ready for 150 sockets, want 2", n)
		}
		c.come(680, 0)
		wait(time.Minute)
		if n := len(h.in(app.Ready)); n != 7 {
			t.Errorf("%d ready a minute after 680 came, want 7", n)
		}
		for i, e := range h.told(app.Starting) {
			want := app.ScaledUp
			if i < 2 {
				want = app.Deployed
			}
			if e.Instance.Cause != want {
				t.Errorf("start %d: cause %s, want %s", i, e.Instance.Cause, want)
			}
		}
		wait(time.Hour)
		if n := len(h.told(app.Starting)) + len(h.told(app.Draining)); n != 7 {
			t.Errorf("%d comings and goings on a steady load, want the 7 starts: %v", n, h.causes(app.Draining))
		}
		c.come(80, 0)
		wait(2 * time.Hour) // they go when their hour is over
		if n := len(h.in(app.Ready)); n != 2 {
			t.Errorf("%d ready for 80 sockets and the rest of 680, want 2", n)
		}
		if got := h.causes(app.Draining); len(got) != 5 || slices.ContainsFunc(got, func(c app.Cause) bool { return c != app.ScaledDown }) {
			t.Errorf("left for %v, want five times scaled-down", got)
		}
		if len(h.told(app.Starting)) != 7 {
			t.Errorf("%d starts, want no more than the 7: those who moved made none", len(h.told(app.Starting)))
		}
	})
}

// The one that leaves is the one that is missed least, and it is drained.
func TestTheIdlestLeaves(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(scaled("v1", 1, 10))
		first := h.in(app.Ready)[0].ID
		h.plane.carry(first, 400)
		wait(time.Minute)
		all := h.in(app.Ready)
		if len(all) != 4 {
			t.Fatalf("%d ready for 400 sockets, want 4", len(all))
		}
		// 80, 60, 50 and 40 sockets; of the fewest most are in use.
		h.plane.mu.Lock()
		h.plane.busy = map[string]int{all[3].ID: 40, all[2].ID: 5}
		h.plane.mu.Unlock()
		for i, n := range []int{80, 60, 50, 40} {
			h.plane.carry(all[i].ID, n)
		}
		wait(10*time.Minute + 10*time.Second)
		leaving := h.in(app.Draining)
		if len(leaving) != 1 || leaving[0].ID != all[2].ID || leaving[0].Cause != app.ScaledDown {
			t.Fatalf("leaving: %+v, want %s, scaled-down", leaving, all[2].ID)
		}
		if heard := h.d.Heard(all[2].ID); len(heard) == 0 {
			t.Errorf("its app was not told that it drains")
		}
		h.plane.carry(all[2].ID, 50)
		wait(10 * time.Second)
		if got := h.in(app.Draining); len(got) != 1 {
			t.Errorf("it carries sockets and has %v left, and is gone", 10*time.Second)
		}
	})
}

func TestCPUScales(t *testing.T) {
	inTown(t, func(t *testing.T, h *house, c *crowd) {
		c.come(300, 0.01)
		v := seldomAsked(shop("v1", 2))
		v.Scaling = app.Scaling{Min: 2, Max: 20, CoolDown: 2 * time.Minute, CPU: 0.5}
		v.Resources.CPU = 1
		h.deploy(v)
		wait(110 * time.Second)
		if n := len(h.told(app.Starting)); n != 2 {
			t.Errorf("%d starts during the cool-down, want 2", n)
		}
		wait(time.Hour)
		// 3 cores, at half of one each, and what each takes for itself.
		if n := len(h.in(app.Ready)); n < 5 || n > 7 {
			t.Errorf("%d ready for 3 cores, want 5 to 7", n)
		}
	})
}

// What runs when we start is where scaling begins, however little there is to do.
func TestOurRestartScalesNothing(t *testing.T) {
	inTown(t, func(t *testing.T, h *house, c *crowd) {
		c.come(800, 0)
		h.deploy(scaled("v1", 2, 10))
		wait(5 * time.Minute)
		before := names(h.in(app.Ready))
		if n := len(h.in(app.Ready)); n < 8 {
			t.Fatalf("%d ready for 800 sockets", n)
		}
		if err := h.leave(); err != nil {
			t.Fatal(err)
		}
		c.restart()
		h.forget()
		c.come(0, 0) // nobody has come back yet
		wait(30 * time.Second)
		h.move(h.d, control.Config{})
		wait(9 * time.Minute)
		if after := names(h.in(app.Ready)); after != before {
			t.Errorf("ready 9 minutes after our restart: %s, want %s", after, before)
		}
		c.come(800, 0)
		wait(2 * time.Hour)
		if after := names(h.in(app.Ready)); after != before {
			t.Errorf("ready two hours after our restart: %s, want %s", after, before)
		}
	})
}

func TestBoundsOfScalingHoldAtOnce(t *testing.T) {
	inTown(t, func(t *testing.T, h *house, c *crowd) {
		c.come(500, 0)
		v := scaled("v1", 2, 10)
		h.deploy(v)
		wait(5 * time.Minute)
		for _, b := range []struct{ least, most, want int }{{2, 3, 3}, {8, 10, 8}, {4, 4, 4}} {
			s := v.Scaling
			s.Min, s.Max = b.least, b.most
			op, err := h.c.SetScaling(v.Key, s, "a test")
			h.ended(op, err)
			wait(2 * time.Minute)
			if n := len(h.in(app.Ready)); n != b.want {
				t.Errorf("%d to %d: %d ready, want %d", b.least, b.most, n, b.want)
			}
		}
	})
}

// Who does not scale is not looked at for its load.
func TestScalingCostsNothingWhereThereIsNone(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		wait(10 * time.Minute)
		before := h.plane.counted()
		wait(time.Hour)
		if n := h.plane.counted() - before; n > 100 {
			t.Errorf("%d looks in an hour in which nothing happened, want about 60", n)
		}
	})
}

func TestRebalancing(t *testing.T) {
	for _, c := range []struct {
		name                string
		rebalance, affinity bool
		want                bool
	}{
		{"gentle", true, false, true},
		{"unasked", false, false, false},
		{"with session affinity they would come back", true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTown(t, func(t *testing.T, h *house, p *crowd) {
				p.come(2000, 0)
				v := seldomAsked(shop("v1", 2))
				v.Rebalance, v.Affinity = c.rebalance, c.affinity
				h.deploy(v)
				wait(time.Hour)
				if n := p.endings(app.Rebalanced); n != 0 {
					t.Errorf("%.0f sockets were moved between two that carry the same", n)
				}
				s := v.Scaling
				s.Min, s.Max = 4, 4
				op, err := h.c.SetScaling(v.Key, s, "a test")
				h.ended(op, err)
				wait(10 * time.Second)
				began := p.endings(app.Rebalanced)
				wait(time.Minute)
				if n := p.endings(app.Rebalanced) - began; n > 61*4 {
					t.Errorf("%.0f of 2000 sockets were moved within a minute, want at most 4 a second", n)
				}
				wait(8 * time.Minute)
				all := p.carried()
				even := all[len(all)-1]-all[0] <= 0.25*500
				if even != c.want {
					t.Errorf("after ten minutes they carry %.0f, want even: %v", all, c.want)
				}
				moved := p.endings(app.Rebalanced)
				if c.want && (moved < 500 || moved > 1100) || !c.want && moved != 0 {
					t.Errorf("%.0f sockets were moved; 1000 are too many on the old ones", moved)
				}
				wait(2 * time.Hour)
				if again := p.endings(app.Rebalanced); again > moved+50 {
					t.Errorf("%.0f sockets were moved, and %.0f later on", moved, again-moved)
				}
			})
		})
	}
}
