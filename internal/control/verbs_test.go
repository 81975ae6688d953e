package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/router"
	"holdfast/internal/store"
)

func TestDeployMovesTrafficInOneInstant(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.apps.boot = 3 * time.Second
		h.deploy(shop("v1", 2))
		old := h.in(app.Ready)
		h.plane.carry(old[0].ID, 7)
		least, moved := 2, 0
		h.plane.see(func(r router.Routes) {
			s := r.Apps["shop"].Services["default"]
			least = min(least, served(s))
			if len(s.Split.Shares) != 1 {
				t.Errorf("the split is %v", s.Split)
			}
			if s.Split.Shares["v2"] == 1 && moved == 0 {
				moved = served(s)
				for _, i := range s.Pools["v1"].Instances {
					if i.State != app.Draining || i.Cause != app.Deployed || time.Until(i.Until) != 25*time.Second {
						t.Errorf("when traffic moves, %s is %s for %q until %v", i.ID, i.State, i.Cause, i.Until)
					}
				}
			}
		})
		asked := time.Now()
		h.deploy(shop("v2", 2))
		h.plane.see(nil)
		if took := time.Since(asked); took < h.apps.boot || took > h.apps.boot+2*time.Second {
			t.Errorf("took %v", took)
		}
		if s := h.plane.service(); s.Split.Shares["v2"] != 1 {
			t.Errorf("when Deploy returns the split is %v", s.Split)
		}
		if least != 2 || moved != 2 {
			t.Errorf("least ready %d, ready when traffic moved %d, want 2 and 2", least, moved)
		}
		wait(20 * time.Second)
		if got := names(h.in(app.Draining)); got != old[0].ID {
			t.Errorf("after 20 s %q drains, want the one that carries sockets, %s", got, old[0].ID)
		}
		wait(time.Minute)
		if got := h.running(); len(got) != 2 {
			t.Errorf("running %v", got)
		}
		if got := fmt.Sprint(h.causes(app.Stopped)); got != "[deployed deployed]" {
			t.Errorf("stopped for %s", got)
		}
		if _, there := h.plane.service().Pools["v1"]; there {
			t.Error("the old version is still in the routes")
		}
		if d := h.plane.routes.Default; d.App != "shop" || d.Service != "default" {
			t.Errorf("hosts without a name lead to %v", d)
		}
	})
}

// A deploy that fails leaves everything as it was: traffic with v1, nothing of v2.
func failedDeploy(t *testing.T, h *house, op app.Operation, cause app.Cause, detail string) {
	t.Helper()
	failure := op.Failure
	if failure == nil || op.Stage != app.StageDone {
		t.Fatalf("it ended well: %+v", op)
	}
	if failure.Cause != cause || failure.Detail != detail || failure.Instance == "" {
		t.Errorf("failed for %q, detail %q, instance %q; want %q, %q", failure.Cause, failure.Detail, failure.Instance, cause, detail)
	}
	leftAsItWas(t, h)
}

func leftAsItWas(t *testing.T, h *house) {
	t.Helper()
	wait(time.Minute)
	if s := h.plane.service(); s.Split.Shares["v1"] != 1 || served(s) != 1 {
		t.Errorf("the split is %v, with %d ready", s.Split, served(s))
	}
	if got := h.running(); len(got) != 1 || got[0].Key.Version != "v1" {
		t.Errorf("running %v", got)
	}
	for _, e := range h.told(app.Draining, app.Stopped) {
		if e.Instance.Key.Version == "v1" {
			t.Errorf("v1 was touched: %+v", e)
		}
	}
}

func TestDeployOfWhatNeverListens(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.apps.is("v2", "deaf")
		asked := time.Now()
		op := h.try(shop("v2", 2))
		if took := time.Since(asked); took != 5*time.Minute {
			t.Errorf("took %v, want app_start_timeout_sec", took)
		}
		failedDeploy(t, h, op, app.SlowStart, "nothing listens on its port")
	})
}

func TestDeployOfWhatNeverGetsReady(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.apps.is("v2", "unready")
		op := h.try(shop("v2", 1))
		failedDeploy(t, h, op, app.SlowStart, "GET /ready: answered 503, only 200 passes")
	})
}

func TestDeployOfWhatExits(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.d.Doom(func(string, app.Version) string { return "exit status 3" })
		asked := time.Now()
		op := h.try(shop("v2", 1))
		if took := time.Since(asked); took != 750*time.Millisecond {
			t.Errorf("took %v, want three tries with two pauses", took)
		}
		failedDeploy(t, h, op, app.Crashed, "exit status 3")
		starts := 0
		for _, e := range h.told(app.Starting) {
			if e.Instance.Key.Version == "v2" {
				starts++
			}
		}
		if starts != 3 {
			t.Errorf("%d starts, want 3", starts)
		}

		// And when it is mended, it is deployed without having to wait.
		h.d.Doom(nil)
		asked = time.Now()
		h.deploy(shop("v2", 1))
		if took := time.Since(asked); took > time.Second {
			t.Errorf("the mended one took %v", took)
		}
	})
}

func TestDeployThatIsCancelled(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.apps.is("v2", "deaf")
		op, err := h.c.Deploy(control.Deployment{Version: shop("v2", 2), Promote: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if now, err := h.c.Wait(ctx, op.ID); !errors.Is(err, context.DeadlineExceeded) || now.Stage != app.StageStarting {
			t.Fatalf("Wait: %+v, %v", now, err)
		}
		if _, err := h.c.Cancel(op.ID, "me"); err != nil {
			t.Fatal(err)
		}
		if op = h.ended(op, nil); op.Failure == nil || op.Failure.Cause != app.Cancelled || op.Failure.Detail != "by me" {
			t.Errorf("it ended as %+v", op)
		}
		for _, id := range []string{op.ID, "op-nothing"} {
			if _, err := h.c.Cancel(id, ""); err == nil {
				t.Errorf("Cancel(%s) succeeded", id)
			}
		}
		leftAsItWas(t, h)
		if got := fmt.Sprint(h.causes(app.Stopped)); got != "[requested requested]" {
			t.Errorf("stopped for %s", got)
		}
	})
}

func TestOneDeployOfAServiceAtATime(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.apps.boot = 10 * time.Second
		first, err := h.c.Deploy(control.Deployment{Version: shop("v1", 1), Promote: true})
		wait(time.Second)
		if _, err := h.c.Deploy(control.Deployment{Version: shop("v2", 1)}); !errors.Is(err, app.ErrBusy) || !strings.Contains(err.Error(), "holdfast operations cancel "+first.ID) {
			t.Errorf("a second deploy of the service: %v", err)
		}
		other := shop("v2", 1)
		other.Service = "jobs"
		h.deploy(other) // of another service: at the same time
		if op := h.ended(first, err); op.Failure != nil {
			t.Errorf("the first: %+v", op)
		}
		if got := h.running(); len(got) != 2 {
			t.Errorf("running %v", got)
		}
		if d := h.plane.routes.Default; d.App != "shop" || d.Service != "default" {
			t.Errorf("hosts without a name lead to %v", d)
		}
	})
}

func TestDeployOfWhatServesAlready(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 1)
		h.deploy(v)
		before := h.running()
		h.deploy(v)
		wait(time.Minute)
		if after := h.running(); len(after) != 1 || after[0] != before[0] {
			t.Errorf("running before %v, after %v", before, after)
		}
		v.Env = map[string]string{"A": "B"}
		if _, err := h.c.Deploy(control.Deployment{Version: v, Promote: true}); !errors.Is(err, app.ErrExists) {
			t.Errorf("with other contents: %v", err)
		}
		// Failing to deploy it again does not withdraw it.
		h.apps.is(before[0].ID, "unready")
		wait(time.Minute)
		v = shop("v1", 1)
		if op := h.try(v); op.Failure == nil {
			t.Error("it is unready, and yet deployed")
		}
		wait(time.Minute)
		if after := h.running(); len(after) == 0 {
			t.Error("a version that serves was withdrawn")
		}
	})
}

func TestDeployOfNothing(t *testing.T) {
	t.Parallel()
	c := control.New(nil, nil, store.Memory(), control.Config{})
	for _, v := range []app.Version{{}, {Key: app.Key{App: "a", Service: "b", Version: "c"}}, {Artifact: app.Artifact{Command: "x"}}} {
		if _, err := c.Deploy(control.Deployment{Version: v}); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("Deploy(%+v): %v", v, err)
		}
	}
}

func TestShutdownLeavesNothing(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		h.plane.carry(h.in(app.Ready)[0].ID, 9)
		h.deploy(shop("v2", 2)) // one of v1 still drains
		h.apps.is("v3", "deaf")
		under, err := h.c.Deploy(control.Deployment{Version: shop("v3", 2), Promote: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		h.d.Linger(10 * time.Second)
		asked := time.Now()
		if err := h.c.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(asked); took != 10*time.Second {
			t.Errorf("took %v, want the apps' own 10 s, all at once", took)
		}
		if got := h.running(); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		if op := h.s.Wishes().Operations[under.ID]; op.Stage != app.StageStarting {
			t.Errorf("the deploy under way does not wait for the next start: %+v", op)
		}
		if _, err := h.c.Deploy(control.Deployment{Version: shop("v4", 1)}); !errors.Is(err, app.ErrBusy) {
			t.Errorf("a deploy afterwards: %v", err)
		}
		stopped := 0
		for _, cause := range h.causes(app.Stopped) {
			if cause == app.ShuttingDown {
				stopped++
			}
		}
		if stopped != 5 {
			t.Errorf("%d stopped for it, want 5: %v", stopped, h.causes(app.Stopped))
		}
		wait(time.Hour)
		if got := h.running(); len(got) != 0 {
			t.Errorf("started afterwards: %v", got)
		}
		if err := h.c.Shutdown(t.Context()); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

func TestShutdownInAHurry(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		h.d.Linger(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		asked := time.Now()
		if err := h.c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(asked); took != 2*time.Second || len(h.running()) != 0 {
			t.Errorf("took %v, left %v", took, h.running())
		}
	})
}

func TestShutdownGivesTheGraceAndNoMore(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.d.Linger(time.Hour)
		asked := time.Now()
		if err := h.c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(asked); took != control.StopGrace {
			t.Errorf("took %v", took)
		}
	})
}

func TestTheEndOfRunLeavesInstancesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.move(h.d, control.Config{})
		h.deploy(shop("v1", 2))
		h.d.Linger(time.Hour)
		h.deploy(shop("v2", 2)) // v1 is being stopped, slowly
		wait(10 * time.Second)
		asked := time.Now()
		h.leave()
		if took := time.Since(asked); took != 5*time.Second {
			t.Errorf("took %v, want a short wait for the stops under way", took)
		}
		if got := h.running(); len(got) != 2 || got[0].Key.Version != "v2" {
			t.Errorf("running %v, want v2 as it was", got)
		}
	})
}
