package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver"
	"holdfast/internal/driver/memory"
	"holdfast/internal/router"
	"holdfast/internal/store"
)

func TestTenDaysWithoutAMomentWithoutAReadyInstance(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 2)
		v.Ready.Interval, v.Live.Interval = 5*time.Minute, 5*time.Minute // fewer questions, quicker test
		h.apps.boot = 2 * time.Second
		h.deploy(v)
		first := h.in(app.Ready)
		least := 2
		h.plane.see(func(r router.Routes) { least = min(least, served(r.Apps["shop"].Services["default"])) })
		h.plane.carry(first[0].ID, 3)
		wait(10 * 24 * time.Hour)
		h.plane.see(nil)

		if least < 2 {
			t.Errorf("at some moment %d of 2 were ready", least)
		}
		if got := h.causes(app.Draining); fmt.Sprint(got) != "[aged aged]" {
			t.Errorf("drained for %v, want the two of the first week, once each", got)
		}
		for _, e := range h.told(app.Draining) {
			age := e.Time.Sub(e.Instance.Born)
			if age > v.MaxAge+time.Minute || age < v.MaxAge*9/10 {
				t.Errorf("%s left after %v, want a week or up to a tenth less", e.Instance.ID, age)
			}
			if e.Instance.Until.Sub(e.Time) != v.Drain {
				t.Errorf("%s may drain for %v, want %v", e.Instance.ID, e.Instance.Until.Sub(e.Time), v.Drain)
			}
		}
		for _, e := range h.told(app.Stopped) {
			long := time.Duration(0)
			for _, d := range h.told(app.Draining) {
				if d.Instance.ID == e.Instance.ID {
					long = e.Time.Sub(d.Time)
				}
			}
			if carries := e.Instance.ID == first[0].ID; carries && long < v.Drain || !carries && long > 2*time.Second {
				t.Errorf("%s drained for %v; carries sockets: %v", e.Instance.ID, long, carries)
			}
		}
		starts := h.told(app.Starting)
		if len(starts) != 4 || starts[2].Instance.Cause != app.Aged {
			t.Errorf("%d starts, want 4, the last two for age", len(starts))
		}
	})
}

func TestACrashIsToldAtOnceAndReplaced(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		wait(time.Hour)
		victim := h.in(app.Ready)[0].ID
		crashed := time.Now()
		h.d.Exit(victim, "killed by SIGKILL")
		synctest.Wait() // no time passes: the hint alone must do
		pool := h.plane.service().Pools["v1"].Instances
		n := slices.IndexFunc(pool, func(i app.Instance) bool { return i.ID == victim })
		if n < 0 || pool[n].State != app.Stopped || pool[n].Cause != app.Crashed {
			t.Fatalf("the routes say %+v", pool)
		}
		if e := h.told(app.Stopped); len(e) != 1 || e[0].Detail != "killed by SIGKILL" {
			t.Errorf("told %+v", e)
		}
		wait(2 * time.Second)
		if got := h.in(app.Ready); len(got) != 2 || strings.Contains(names(got), victim) {
			t.Errorf("ready two seconds later: %s", names(got))
		}
		starts := h.told(app.Starting)
		if last := starts[len(starts)-1]; last.Instance.Cause != app.Crashed || last.Time.Sub(crashed) != 250*time.Millisecond {
			t.Errorf("the successor was started after %v for %s", last.Time.Sub(crashed), last.Instance.Cause)
		}
		wait(10 * time.Second)
		if all := h.c.Instances(); len(all) != 2 {
			t.Errorf("still remembered: %v", all)
		}
		if got := len(h.plane.service().Pools["v1"].Instances); got != 2 {
			t.Errorf("%d instances in the routes, want the stopped one forgotten", got)
		}
	})
}

func TestACrashLoopIsSlowedAndForgiven(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		wait(time.Hour)
		h.d.Doom(func(string, app.Version) string { return "exit status 1" })
		h.d.Crash(h.in(app.Ready)[0].ID)
		wait(5 * time.Minute)
		starts := h.told(app.Starting)
		var gaps []time.Duration
		last := h.told(app.Stopped)[0].Time
		for _, e := range starts[1:] {
			gaps = append(gaps, e.Time.Sub(last).Round(time.Millisecond))
			last = e.Time
		}
		want := "[250ms 500ms 1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s]"
		if got := fmt.Sprint(gaps); got != want {
			t.Errorf("restarted after\n     %s\nwant %s", got, want)
		}
		h.d.Doom(nil)
		wait(10 * time.Minute) // long enough ready to be forgiven
		now := time.Now()
		h.d.Crash(h.in(app.Ready)[0].ID)
		wait(2 * time.Second)
		starts = h.told(app.Starting)
		if got := starts[len(starts)-1].Time.Sub(now); got != 250*time.Millisecond {
			t.Errorf("after ten good minutes, restarted after %v", got)
		}
	})
}

func TestUnreadyKeepsItsPlaceAndGetsNoTraffic(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		id := h.in(app.Ready)[0].ID
		h.apps.is(id, "unready")
		wait(11 * time.Second)
		if got := h.in(app.Unready); names(got) != id {
			t.Fatalf("unready: %s, want %s", names(got), id)
		}
		if e := h.told(app.Unready); len(e) != 1 || e[0].Detail != "GET /ready: answered 503, only 200 passes" {
			t.Errorf("told %+v", e)
		}
		wait(time.Hour)
		if n := len(h.told(app.Starting)); n != 2 {
			t.Errorf("%d were started, want none but the first two", n)
		}
		h.apps.is(id, "")
		wait(11 * time.Second)
		if got := len(h.in(app.Ready)); got != 2 {
			t.Errorf("%d ready, want 2 again", got)
		}
	})
}

func TestTheSickAreReplaced(t *testing.T) {
	for _, feeling := range []string{"sick", "hung"} {
		t.Run(feeling, func(t *testing.T) {
			inHouse(t, func(t *testing.T, h *house) {
				h.deploy(shop("v1", 1))
				wait(time.Hour)
				id := h.in(app.Ready)[0].ID
				h.plane.carry(id, 5)
				h.apps.is(id, feeling)
				since := time.Now()
				wait(4 * time.Minute)
				drained := h.told(app.Draining)
				if len(drained) != 1 || drained[0].Instance.ID != id || drained[0].Instance.Cause != app.Unhealthy {
					t.Fatalf("drained: %+v", drained)
				}
				// Four failures, 30 s apart, and 4 s for the last if it hangs.
				if after := drained[0].Time.Sub(since); after < 81*time.Second || after > 124*time.Second {
					t.Errorf("drained after %v", after)
				}
				if drain := drained[0].Instance.Until.Sub(drained[0].Time); drain != 5*time.Second {
					t.Errorf("it may drain for %v, want a short time", drain)
				}
				if !strings.HasPrefix(drained[0].Detail, "GET /") {
					t.Errorf("the detail is %q", drained[0].Detail)
				}
				if got := h.in(app.Ready); len(got) != 1 || got[0].ID == id {
					t.Errorf("ready now: %s", names(got))
				}
				if got := h.causes(app.Stopped); fmt.Sprint(got) != "[unhealthy]" {
					t.Errorf("stopped for %v", got)
				}
			})
		})
	}
}

func TestASlowStartIsReplacedWithBackoff(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		wait(time.Hour)
		h.apps.is("v1", "deaf")
		h.d.Crash(h.in(app.Ready)[0].ID)
		wait(16 * time.Minute)
		if got := h.causes(app.Stopped); fmt.Sprint(got) != "[crashed slow-start slow-start slow-start]" {
			t.Errorf("stopped for %v", got)
		}
		if e := h.told(app.Draining)[0]; e.Detail != "nothing listens on its port" || e.Time.Sub(e.Instance.Born) != 5*time.Minute {
			t.Errorf("after %v: %s", e.Time.Sub(e.Instance.Born), e.Detail)
		}
		h.apps.is("v1", "")
		wait(time.Minute)
		if len(h.in(app.Ready)) != 1 {
			t.Errorf("not ready again: %v", h.c.Instances())
		}
	})
}

func TestRestartHasASuccessorReadyFirst(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.apps.boot = 3 * time.Second
		h.deploy(shop("v1", 1))
		id := h.in(app.Ready)[0].ID
		least := 1
		h.plane.see(func(r router.Routes) { least = min(least, served(r.Apps["shop"].Services["default"])) })
		restart, err := h.c.RestartInstance(id, "me")
		if err != nil {
			t.Fatal(err)
		}
		if op := h.ended(restart, nil); op.Failure != nil || op.Instance != id || len(h.running()) != 1 {
			t.Errorf("it ended as %+v, with %v running", op, h.running())
		}
		wait(time.Minute)
		h.plane.see(nil)
		if got := h.in(app.Ready); len(got) != 1 || got[0].ID == id || least != 1 {
			t.Errorf("ready: %s; the least was %d", names(got), least)
		}
		if got := fmt.Sprint(h.causes(app.Starting), h.causes(app.Draining), h.causes(app.Stopped)); got != "[deployed requested] [requested] [requested]" {
			t.Errorf("causes %s", got)
		}
		for _, gone := range []string{id, "nobody"} {
			if _, err := h.c.RestartInstance(gone, ""); !errors.Is(err, app.ErrNotFound) {
				t.Errorf("RestartInstance(%s): %v", gone, err)
			}
		}
	})
}

func TestAnotherNumberOfInstances(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.deploy(shop("v1", 3))
		all := h.in(app.Ready)
		if len(all) != 3 {
			t.Fatalf("%d ready, want 3", len(all))
		}
		h.plane.carry(all[0].ID, 5)
		h.plane.carry(all[2].ID, 4)
		h.deploy(shop("v1", 2))
		synctest.Wait()
		if got := names(h.in(app.Draining)); got != all[1].ID {
			t.Errorf("drains: %s, want the idle %s", got, all[1].ID)
		}
		if got := fmt.Sprint(h.causes(app.Starting), h.causes(app.Draining)); got != "[deployed scaled-up scaled-up] [scaled-down]" {
			t.Errorf("causes %s", got)
		}
	})
}

// Our own restart: a controller ends, another one begins, nobody notices.
func TestOurOwnRestartChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		v := shop("v1", 2)
		h.move(h.d, control.Config{})
		h.deploy(v)
		wait(time.Hour)
		before := h.running()
		if err := h.leave(); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)

		// With the wishes known: ready in the very first routes.
		h.plane, h.events = &plane{load: map[string]router.Load{}}, nil
		first := -1
		h.plane.see(func(r router.Routes) {
			if first < 0 {
				first = served(r.Apps["shop"].Services["default"])
			}
		})
		h.move(h.d, control.Config{})
		wait(time.Hour)
		h.plane.see(nil)
		if first != 2 {
			t.Errorf("%d ready in the first routes, want 2", first)
		}
		if after := h.running(); !slices.Equal(before, after) {
			t.Errorf("running before %v, after %v", before, after)
		}
		if got := fmt.Sprint(h.causes(app.Ready)); len(h.told()) != 2 || got != "[ ]" {
			t.Errorf("told %+v", h.told())
		}
		h.leave()

		// Without: nothing is touched until somebody asks, and then at once.
		h.plane, h.events, h.s = &plane{load: map[string]router.Load{}}, nil, store.Memory()
		h.move(h.d, control.Config{})
		wait(time.Hour)
		if after := h.running(); !slices.Equal(before, after) {
			t.Errorf("before anything was asked for: running before %v, after %v", before, after)
		}
		asked := time.Now()
		h.deploy(v)
		if took := time.Since(asked); took > 0 {
			t.Errorf("deploying what runs took %v", took)
		}
		wait(time.Hour)
		if after := h.running(); !slices.Equal(before, after) {
			t.Errorf("after the deploy: running before %v, after %v", before, after)
		}
		h.leave()

		// Of a version that nobody knows any more: drained and stopped.
		h.plane, h.events, h.s = &plane{load: map[string]router.Load{}}, nil, store.Memory()
		h.move(h.d, control.Config{})
		h.deploy(shop("v2", 1))
		wait(time.Minute)
		if got := h.running(); len(got) != 1 || got[0].Key.Version != "v2" {
			t.Errorf("running %v, want v2 alone", got)
		}
		if got := fmt.Sprint(h.causes(app.Stopped)); got != "[deployed deployed]" {
			t.Errorf("stopped for %s", got)
		}
		h.leave()
	})
}

func TestAYoungAdoptedInstanceIsAskedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		v := shop("v1", 1)
		h.apps.boot = 20 * time.Second
		if err := h.d.Start(t.Context(), "found", v); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		h.move(h.d, control.Config{})
		asked := time.Now()
		h.deploy(v)
		if took := time.Since(asked); took < 19*time.Second || took > 24*time.Second {
			t.Errorf("ready after %v, want when the app listens", took)
		}
		if got := names(h.in(app.Ready)); got != "found" {
			t.Errorf("ready: %s", got)
		}
		h.leave()
	})
}

func TestAnAdoptedInstanceThatIsUnwellIsFoundOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		v := shop("v1", 1)
		h.apps.is("found", "deaf")
		if err := h.d.Start(t.Context(), "found", v); err != nil {
			t.Fatal(err)
		}
		if err := h.d.Start(t.Context(), "dead", v); err != nil {
			t.Fatal(err)
		}
		wait(time.Hour)
		h.d.Crash("dead")
		h.move(h.d, control.Config{})
		h.deploy(v)
		wait(11 * time.Second)
		if got := names(h.in(app.Unready)); got != "found" {
			t.Errorf("unready: %q, of %v", got, h.c.Instances())
		}
		wait(5 * time.Minute) // liveness fails too
		if got := h.in(app.Ready); len(got) != 0 {
			t.Logf("ready: %v", got)
		}
		if got := fmt.Sprint(h.causes(app.Stopped)); !strings.HasPrefix(got, "[crashed unhealthy") {
			t.Errorf("stopped for %s", got)
		}
		h.leave()
	})
}

func TestARefusingDriverIsAskedWithBackoff(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		wait(time.Hour)
		tries := 0
		h.d.Refuse(func(string, app.Version) error { tries++; return errors.New("no space left on device") })
		h.d.Crash(h.in(app.Ready)[0].ID)
		wait(time.Minute)
		if tries < 6 || tries > 9 {
			t.Errorf("asked %d times in a minute", tries)
		}
		if e := h.told(app.Stopped)[1]; e.Instance.Cause != app.Crashed || !strings.Contains(e.Detail, "no space left") {
			t.Errorf("told %+v", e)
		}
		h.d.Refuse(nil)
		wait(2 * time.Minute)
		if len(h.in(app.Ready)) != 1 {
			t.Errorf("not ready again: %v", h.c.Instances())
		}
	})
}

// stubborn is a driver that fails when it is told to.
type stubborn struct {
	*memory.Driver
	list, stop func() error
}

func (d *stubborn) List(ctx context.Context) ([]driver.Running, error) {
	if err := d.list(); err != nil {
		return nil, err
	}
	return d.Driver.List(ctx)
}

func (d *stubborn) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := d.stop(); err != nil {
		return err
	}
	return d.Driver.Stop(ctx, id, grace)
}

func TestADriverThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		lists, stops := 0, 0
		flaky := func(n *int) func() error {
			return func() error {
				if *n++; *n%3 != 0 {
					return errors.New("try again")
				}
				return nil
			}
		}
		h.move(&stubborn{h.d, flaky(&lists), flaky(&stops)}, control.Config{})
		h.deploy(shop("v1", 2))
		h.deploy(shop("v2", 2))
		wait(time.Minute)
		if got := h.running(); len(got) != 2 || got[0].Key.Version != "v2" {
			t.Errorf("running %v", got)
		}
		for range 3 {
			h.d.Crash(h.in(app.Ready)[0].ID)
			wait(time.Minute)
		}
		if got := len(h.in(app.Ready)); got != 2 {
			t.Errorf("%d ready", got)
		}
		if err := h.c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := h.running(); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		h.leave()
		h.checkEvents()
	})
}

func TestRunEndsWithItsDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		broken := errors.New("inotify is gone")
		c := control.New(&blind{h.d, broken}, h.plane, store.Memory(), control.Config{})
		if err := c.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("Run: %v", err)
		}
		op, err := c.Deploy(control.Deployment{Version: shop("v1", 1), Promote: true})
		if err != nil {
			t.Errorf("Deploy afterwards: %v", err) // the next start does it
		}
		if _, err := c.Wait(t.Context(), op.ID); !errors.Is(err, app.ErrBusy) {
			t.Errorf("Wait afterwards: %v", err)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown afterwards: %v", err)
		}
	})
}

type blind struct {
	*memory.Driver
	err error
}

func (d *blind) Run(context.Context, chan<- struct{}) error { return d.err }
