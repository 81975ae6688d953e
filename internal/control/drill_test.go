package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/router"
)

var shopService = app.ServiceKey{App: "shop", Service: app.DefaultService}

// drill begins a drill, which must be accepted.
func (h *house) drill(f app.Fault, share float64, long time.Duration) app.Operation {
	h.t.Helper()
	op, err := h.c.Drill(shopService, app.Drill{Fault: f, Share: share, Long: long}, "anna")
	if err != nil {
		h.t.Fatal(err)
	}
	if op.Verb != app.VerbDrill || op.Stage != app.StageDrilling || !op.Drill.Until.Equal(op.Asked.Add(long)) {
		h.t.Errorf("%s: accepted as %+v, %+v", f, op, op.Drill)
	}
	return op
}

// states counts the shop's instances by state, as the routes have them.
func (h *house) states() map[app.State]int {
	n := map[app.State]int{}
	for _, i := range h.plane.service().Pools["v1"].Instances {
		n[i.State]++
	}
	return n
}

func (h *house) paused() (ids []string) {
	list, err := h.d.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range list {
		if r.Paused {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func TestDrillCrash(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 4))
		op := h.drill(app.InstanceCrash, 0.5, 10*time.Second)
		if len(op.Drill.Instances) != 2 {
			t.Errorf("half of 4 instances are %v", op.Drill.Instances)
		}
		wait(time.Minute)
		gone := map[string]bool{}
		for _, e := range h.told(app.Stopped) {
			if e.Instance.Cause != app.Crashed || !strings.Contains(e.Detail, "SIGKILL") {
				t.Errorf("%s stopped for %s (%s)", e.Instance.ID, e.Instance.Cause, e.Detail)
			}
			gone[e.Instance.ID] = true
		}
		if len(gone) != 2 || !gone[op.Drill.Instances[0]] || !gone[op.Drill.Instances[1]] || h.states()[app.Ready] != 4 {
			t.Errorf("gone are %v, %v are there, want %v crashed and four ready", gone, h.states(), op.Drill.Instances)
		}
		if op = h.ended(op, nil); op.Failure != nil || op.Ended.Before(op.Drill.Until) {
			t.Errorf("ended as %+v at %v", op.Failure, op.Ended)
		}
	})
}

func TestDrillHang(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 3))
		op := h.drill(app.Hang, 0, 10*time.Second)
		wait(time.Second)
		if got := h.paused(); !slices.Equal(got, op.Drill.Instances) || len(got) != 1 {
			t.Errorf("%v are paused, want %v", got, op.Drill.Instances)
		}
		wait(10 * time.Second)
		if got := h.paused(); got != nil {
			t.Errorf("%v are still paused", got)
		}

		op = h.drill(app.Hang, 1, time.Minute)
		wait(time.Second)
		if got := h.paused(); len(got) != 3 {
			t.Errorf("%v are paused, want all", got)
		}
		if _, err := h.c.Cancel(op.ID, "anna"); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if got := h.paused(); got != nil {
			t.Errorf("%v are still paused after the drill was cancelled", got)
		}

		// Our own polite end leaves nobody behind that hangs.
		h.drill(app.Hang, 1, time.Minute)
		wait(time.Second)
		if err := h.leave(); err != nil {
			t.Fatal(err)
		}
		if got := h.paused(); got != nil {
			t.Errorf("%v hang without us", got)
		}
	})
}

// Whoever comes after us, however we ended, finds the drill over and undoes it.
func TestDrillDiesWithUs(t *testing.T) {
	for _, fault := range []app.Fault{app.Hang, app.Sickness, app.AffinityLoss} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.move(h.d, control.Config{})
				v := shop("v1", 3)
				v.Affinity = true
				h.deploy(v)
				wait(time.Minute)
				op := h.drill(fault, 0, 10*time.Minute)
				wait(5 * time.Second)
				broken := func() bool {
					return h.paused() != nil || h.states()[app.Ready] < 3 || h.plane.service().Pools["v1"].Forget > 0
				}
				if !broken() {
					t.Error("nothing is broken")
				}
				if err := h.leave(); err != nil {
					t.Fatal(err)
				}
				if fault == app.Hang { // as it is when we are killed: nobody resumed it
					if err := h.d.Pause(context.Background(), op.Drill.Instances[0]); err != nil {
						t.Fatal(err)
					}
				}
				wait(time.Second)
				h.move(h.d, control.Config{})
				wait(5 * time.Second)
				if broken() {
					t.Errorf("still broken: %v are paused, states %v, %+v", h.paused(), h.states(), h.plane.service().Pools["v1"])
				}
				if op = h.ended(op, nil); op.Failure == nil || op.Failure.Cause != app.Interrupted {
					t.Errorf("ended as %+v, want interrupted", op.Failure)
				}
				if err := h.leave(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestDrillUnhealthy(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 3))
		began := len(h.told())
		op := h.drill(app.Sickness, 0.4, 20*time.Second)
		wait(time.Second)
		if got := h.states(); got[app.Unready] != 1 || got[app.Ready] != 2 {
			t.Errorf("states %v, want one unready", got)
		}
		wait(30 * time.Second)
		if got := h.states(); got[app.Ready] != 3 || len(h.told()) != began+2 {
			t.Errorf("states %v after %d events, want all ready again, and nobody replaced", got, len(h.told())-began)
		}
		if op = h.ended(op, nil); op.Failure != nil {
			t.Errorf("ended as %+v", op.Failure)
		}
	})
}

func TestDrillReplaces(t *testing.T) {
	for _, c := range []struct {
		fault app.Fault
		cause app.Cause
		n     int
	}{{app.InstanceRestart, app.Aged, 1}, {app.Redeploy, app.Deployed, 3}} {
		t.Run(string(c.fault), func(t *testing.T) {
			inHouse(t, func(t *testing.T, h *house) {
				h.deploy(shop("v1", 3))
				least := 3
				h.plane.see(func(r router.Routes) { least = min(least, served(r.Apps["shop"].Services["default"])) })
				op := h.drill(c.fault, 0, time.Minute)
				if len(op.Drill.Instances) != c.n {
					t.Errorf("meets %v, want %d", op.Drill.Instances, c.n)
				}
				wait(2 * time.Minute)
				h.plane.see(nil)
				var left []string
				for _, e := range h.told(app.Draining) {
					if e.Instance.Cause != c.cause {
						t.Errorf("%s leaves for %s, want %s", e.Instance.ID, e.Instance.Cause, c.cause)
					}
					left = append(left, e.Instance.ID)
				}
				slices.Sort(left)
				if !slices.Equal(left, op.Drill.Instances) || least < 3 {
					t.Errorf("%v left, %d ready at the least; want %v and three", left, least, op.Drill.Instances)
				}
			})
		})
	}
}

func TestDrillScales(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 3))
		if op := h.drill(app.ScaleOut, 0.7, 30*time.Second); op.Drill.More != 2 || op.Target.Version != "v1" {
			t.Errorf("70 %% more of three is %+v", op.Drill)
		}
		wait(10 * time.Second)
		if got := h.states(); got[app.Ready] != 5 {
			t.Errorf("states %v, want five ready", got)
		}
		wait(time.Minute)
		if got := h.states(); got[app.Ready] != 3 {
			t.Errorf("states %v, want three again", got)
		}
		h.drill(app.ScaleIn, 1, 30*time.Second)
		wait(10 * time.Second)
		if got := h.states(); got[app.Ready] != 1 {
			t.Errorf("states %v, want the one that is left", got)
		}
		wait(time.Minute)
		if got := h.states(); got[app.Ready] != 3 {
			t.Errorf("states %v, want three again", got)
		}
	})
}

func TestDrillSlowStart(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 3))
		h.drill(app.SlowStarts, 0, time.Minute)
		wait(50 * time.Second)
		if got := h.states(); got[app.Ready] != 2 || got[app.Starting] != 1 {
			t.Errorf("states %v, want one that takes its time", got)
		}
		wait(20 * time.Second)
		if got := h.states(); got[app.Ready] != 3 {
			t.Errorf("states %v, want three ready", got)
		}
	})
}

func TestDrillOfClients(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 2)
		v.Affinity = true
		h.deploy(v)
		h.drill(app.AffinityLoss, 0.25, 10*time.Second)
		wait(time.Second)
		if got := h.plane.service().Pools["v1"].Forget; got != 0.25 {
			t.Errorf("%v of the sessions are forgotten", got)
		}
		wait(10 * time.Second)
		if got := h.plane.service().Pools["v1"].Forget; got != 0 {
			t.Errorf("%v of the sessions are forgotten after the drill", got)
		}
		h.drill(app.DeadlinePassed, 0, 10*time.Second)
		wait(20 * time.Second)
		h.plane.mu.Lock()
		defer h.plane.mu.Unlock()
		if n := len(h.plane.expired); n < 30 || n > 60 || h.plane.expired[0] != "shop/default/v1 1 5s" {
			t.Errorf("sockets were looked for %d times, first %q", n, h.plane.expired[:1])
		}
	})
}

// A drill stands in nobody's way.
func TestDrillYields(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		op := h.drill(app.Sickness, 0, 10*time.Minute)
		if _, err := h.c.Drill(shopService, app.Drill{Fault: app.Hang, Long: time.Second}, ""); !errors.Is(err, app.ErrBusy) {
			t.Errorf("a second drill: %v, want busy", err)
		}
		h.deploy(shop("v2", 2))
		if op = h.ended(op, nil); op.Failure == nil || op.Failure.Cause != app.Superseded {
			t.Errorf("ended as %+v, want superseded", op.Failure)
		}
	})
}

func TestDrillRefused(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		ask := func(k app.ServiceKey, d app.Drill) error {
			_, err := h.c.Drill(k, d, "")
			return err
		}
		if err := ask(shopService, app.Drill{Fault: app.Hang, Long: time.Second}); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("of a service that is not there: %v", err)
		}
		h.deploy(shop("v1", 1))
		for _, d := range []app.Drill{
			{Fault: "earthquake", Long: time.Second}, {Fault: app.Hang}, {Fault: app.Hang, Long: time.Hour},
			{Fault: app.Hang, Long: time.Second, Share: -1}, {Fault: app.Hang, Long: time.Second, Share: 1.5},
			{Fault: app.ScaleIn, Long: time.Second}, {Fault: app.EdgeRestart, Long: time.Second},
		} {
			if err := ask(shopService, d); !errors.Is(err, app.ErrInvalid) {
				t.Errorf("%+v: %v, want invalid", d, err)
			}
		}
		if n := len(h.s.Wishes().Operations); n != 1 {
			t.Errorf("%d operations are kept, want the deploy alone", n)
		}
	})
}

// An edge-restart is done by our having been away.
func TestDrillEdgeRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		var told []app.Operation
		cfg := control.Config{Restarts: true, Operations: func(op app.Operation) { told = append(told, op) }}
		h.move(h.d, cfg)
		h.deploy(shop("v1", 1))
		op := h.drill(app.EdgeRestart, 0, time.Minute)
		wait(time.Second)
		if last := told[len(told)-1]; last.ID != op.ID || last.Stage != app.StageDrilling {
			t.Errorf("told of %+v", last)
		}
		if err := h.leave(); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		h.move(h.d, cfg)
		wait(time.Second)
		if op = h.ended(op, nil); op.Failure != nil {
			t.Errorf("ended as %+v", op.Failure)
		}
		if err := h.leave(); err != nil {
			t.Fatal(err)
		}
	})
}
