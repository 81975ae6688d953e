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
	"holdfast/internal/router"
	"holdfast/internal/store"
)

var front = app.ServiceKey{App: "shop", Service: app.DefaultService}

// split is shares in percent, by version.
func split(shares ...any) app.Split {
	s := app.Split{By: app.ByCookie, Shares: map[string]float64{}}
	for n := 0; n < len(shares); n += 2 {
		s.Shares[shares[n].(string)] = float64(shares[n+1].(int)) / 100
	}
	return s
}

// done fails the test unless an operation was accepted and ended well.
func (h *house) done(op app.Operation, err error) app.Operation {
	h.t.Helper()
	if op = h.ended(op, err); op.Failure != nil {
		h.t.Fatalf("%s of %s ended with %+v", op.Verb, op.Target, *op.Failure)
	}
	return op
}

// refused fails the test unless err is of a kind, and says the words.
func refused(t *testing.T, _ app.Operation, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("the answer is %v, want %v", err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the answer is %q, and says nothing of %q", err, word)
		}
	}
}

// beside deploys v without traffic.
func (h *house) beside(v app.Version) {
	h.t.Helper()
	h.done(h.c.Deploy(control.Deployment{Version: v}))
}

func TestTrafficAndRollback(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		h.beside(shop("v2", 1))
		h.plane.carry(h.in(app.Ready)[0].ID, 50)
		before := h.running()
		if s := h.plane.service(); s.Split.Shares["v1"] != 1 || len(s.Pools["v2"].Instances) != 1 {
			t.Errorf("deployed without promotion: %v, %v", s.Split, s.Pools)
		}

		asked := time.Now()
		op, err := h.c.SetTraffic(front, split("v1", 90, "v2", 10), "me")
		if err != nil || op.Stage != app.StageDone || op.By != "me" {
			t.Fatalf("between ready versions: %+v, %v", op, err)
		}
		h.done(op, err)
		if s := h.plane.service().Split; s.Shares["v2"] != 0.1 || s.By != app.ByCookie || time.Since(asked) != 0 {
			t.Errorf("after %v the split is %v", time.Since(asked), s)
		}
		h.done(h.c.SetTraffic(front, app.Split{Shares: map[string]float64{"v2": 1, "v1": 0}}, ""))
		if s := h.plane.service().Split; len(s.Shares) != 1 || s.By != app.ByCookie {
			t.Errorf("the split is %v", s)
		}
		wait(time.Hour)
		if after := h.running(); !slices.Equal(before, after) || len(h.told(app.Draining)) != 0 {
			t.Errorf("a version that lost its share was touched: %v, then %v", before, after)
		}

		// Back, and back again.
		h.done(h.c.Rollback(front, ""))
		if s := h.plane.service().Split; s.Shares["v1"] != 0.9 {
			t.Errorf("rolled back to %v", s)
		}
		h.done(h.c.Rollback(front, ""))
		if s := h.plane.service().Split; s.Shares["v2"] != 1 {
			t.Errorf("rolled back twice to %v", s)
		}
		if past := h.s.Wishes().Services[front].Past; len(past) != 4 {
			t.Errorf("the past is %v", past)
		}
	})
}

func TestRollbackToWhatWasStoppedOrDeleted(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		op, err := h.c.Rollback(front, "")
		refused(t, op, err, app.ErrNotFound)
		h.deploy(shop("v1", 2))
		op, err = h.c.Rollback(front, "")
		refused(t, op, err, app.ErrNotFound, "never shared")
		h.deploy(shop("v2", 1)) // stops v1
		wait(time.Minute)
		h.apps.boot = 20 * time.Second
		asked := time.Now()
		op = h.done(h.c.Rollback(front, ""))
		if took := time.Since(asked); took < h.apps.boot || took > h.apps.boot+10*time.Second || fmt.Sprint(op.Begun) != "[v1]" {
			t.Errorf("to a stopped version it took %v; begun %v", took, op.Begun)
		}
		if s := h.plane.service(); s.Split.Shares["v1"] != 1 || served(s) != 2 || len(h.running()) != 3 {
			t.Errorf("the split is %v, %v run: v2 goes on", s.Split, h.running())
		}
		h.done(h.c.DeleteVersion(shop("v2", 1).Key, ""))
		op, err = h.c.Rollback(front, "")
		refused(t, op, err, app.ErrNotFound, "v2")
	})
}

func TestTrafficToAVersionThatFails(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.beside(shop("v2", 1))
		h.done(h.c.StopVersion(shop("v2", 1).Key, ""))
		wait(time.Minute)
		h.apps.is("v2", "deaf")
		op := h.ended(h.c.SetTraffic(front, split("v1", 50, "v2", 50), ""))
		if op.Failure == nil || op.Failure.Cause != app.SlowStart || !strings.Contains(op.Failure.Next, "PORT") {
			t.Fatalf("it ended as %+v", op)
		}
		leftAsItWas(t, h)
		if h.s.Wishes().Versions[shop("v2", 1).Key].Serving {
			t.Error("v2 still serves")
		}
	})
}

func TestTrafficThatCannotBe(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		for _, c := range []struct {
			s    app.Split
			kind error
			word string
		}{
			{split("v1", 100, "v9", 0), nil, ""},
			{split("v1", 50, "v9", 50), app.ErrNotFound, "v9"},
			{split("v1", 90), app.ErrInvalid, "v1=90 sum to 90 %"},
			{split("v1", 110), app.ErrInvalid, "from 0 to 1"},
			{split(), app.ErrInvalid, "sum to 0 %"},
			{app.Split{By: "moon", Shares: map[string]float64{"v1": 1}}, app.ErrInvalid, "moon"},
		} {
			op, err := h.c.SetTraffic(front, c.s, "")
			if c.kind == nil {
				h.done(op, err)
				continue
			}
			refused(t, op, err, c.kind, c.word)
		}
		op, err := h.c.SetTraffic(app.ServiceKey{App: "shop", Service: "moon"}, split("v1", 100), "")
		refused(t, op, err, app.ErrNotFound, "traffic shop/moon")
		// A sick version keeps the share it has: moving away from it does not wait for it.
		h.beside(shop("v2", 1))
		h.apps.is("v1", "unready")
		wait(time.Minute)
		op, err = h.c.SetTraffic(front, split("v1", 10, "v2", 90), "")
		if h.done(op, err); op.Stage != app.StageDone {
			t.Errorf("away from a sick version: %+v", op)
		}
	})
}

// A version that gets the traffic may be stopped too: it keeps its share, and the
// routes say that there is nothing to wait for.
func TestStopWithTraffic(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		one := shop("v1", 2).Key
		h.done(h.c.StopVersion(one, ""))
		wait(time.Minute)
		s := h.routes().Apps["shop"].Services["default"]
		if p, there := s.Pools["v1"]; there && !p.Stopped || s.Split.Shares["v1"] != 1 || len(h.running()) != 0 {
			t.Errorf("stopped: %+v, running %v", s, h.running())
		}
		h.done(h.c.StartVersion(one, ""))
		s = h.routes().Apps["shop"].Services["default"]
		if p := s.Pools["v1"]; p.Stopped || len(h.running()) != 2 || s.Split.Shares["v1"] != 1 {
			t.Errorf("started: %+v, running %v", s, h.running())
		}
		// The next deploy takes over as from any other.
		h.done(h.c.StopVersion(one, ""))
		h.deploy(shop("v2", 1))
		if got := h.routes().Apps["shop"].Services["default"].Split.Shares; got["v2"] != 1 {
			t.Errorf("after a deploy: %v", got)
		}
	})
}

func TestStopStartDelete(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		one, two := shop("v1", 1).Key, shop("v2", 2).Key
		op, err := h.c.DeleteVersion(one, "")
		refused(t, op, err, app.ErrBusy, "v1=100", "holdfast traffic set default")
		for _, verb := range []func(app.Key, string) (app.Operation, error){h.c.StopVersion, h.c.DeleteVersion} {
			op, err = verb(two, "")
			refused(t, op, err, app.ErrNotFound)
		}
		op, err = h.c.StartVersion(two, "")
		refused(t, op, err, app.ErrNotFound, "start shop/default/v2")

		h.beside(shop("v2", 2))
		h.plane.carry(h.of("v2")[0].ID, 5)
		h.done(h.c.StopVersion(two, ""))
		synctest.Wait()
		for _, e := range h.told(app.Draining) {
			if e.Instance.Cause != app.Requested || e.Instance.Until.Sub(e.Time) != 25*time.Second {
				t.Errorf("stopped for %q, drains for %v", e.Instance.Cause, e.Instance.Until.Sub(e.Time))
			}
		}
		h.done(h.c.StopVersion(two, "")) // again
		wait(time.Minute)
		if got := h.running(); len(got) != 1 {
			t.Errorf("running %v", got)
		}
		h.done(h.c.StartVersion(two, ""))
		if got := len(h.of("v2")); got != 2 {
			t.Errorf("%d started", got)
		}
		if e := h.told(app.Starting); e[len(e)-1].Instance.Cause != app.Requested {
			t.Errorf("started for %s", e[len(e)-1].Instance.Cause)
		}
		h.done(h.c.DeleteVersion(two, ""))
		wait(time.Minute)
		if _, there := h.s.Wishes().Versions[two]; there || len(h.running()) != 1 {
			t.Errorf("deleted, and yet %v, %v", h.s.Wishes().Versions, h.running())
		}
		if got := h.causes(app.Stopped); fmt.Sprint(got) != "[requested requested requested requested]" {
			t.Errorf("stopped for %v", got)
		}
	})
}

func TestTheLastVersionAndTheDefaultService(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.beside(shop("v1", 1)) // no traffic
		op, err := h.c.DeleteVersion(shop("v1", 1).Key, "")
		refused(t, op, err, app.ErrBusy, "last version")
		op, err = h.c.DeleteService(front, "")
		refused(t, op, err, app.ErrBusy, "default service")

		jobs := shop("j1", 2)
		jobs.Service = "jobs"
		h.deploy(jobs)
		op, err = h.c.DeleteVersion(jobs.Key, "")
		refused(t, op, err, app.ErrBusy, "traffic")
		rules := []app.DispatchRule{{Host: "*", Path: "/jobs/*", Service: "jobs"}}
		h.done(h.c.SetDispatch("shop", rules, ""))
		if got := h.routes().Apps["shop"].Dispatch; len(got) != 1 {
			t.Errorf("the routes have the rules %v", got)
		}
		op, err = h.c.SetDispatch("shop", []app.DispatchRule{{Host: "*", Path: "/", Service: "moon"}}, "")
		refused(t, op, err, app.ErrInvalid, "no service moon")
		op, err = h.c.SetDispatch("moon", nil, "")
		refused(t, op, err, app.ErrNotFound)
		op, err = h.c.DeleteService(jobs.ServiceKey(), "")
		h.done(op, err)
		wait(time.Minute)
		if got := h.running(); len(got) != 1 || len(h.s.Wishes().Services) != 1 {
			t.Errorf("running %v, services %v", got, h.s.Wishes().Services)
		}
		if _, there := h.routes().Apps["shop"].Services["jobs"]; there {
			t.Error("the routes still have it")
		}
		op, err = h.c.DeleteService(jobs.ServiceKey(), "")
		refused(t, op, err, app.ErrNotFound)
	})
}

func TestWhatAnOperationNeedsStays(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.beside(shop("v2", 1))
		h.done(h.c.StopVersion(shop("v2", 1).Key, ""))
		wait(time.Minute)
		h.apps.boot = time.Minute
		under, err := h.c.SetTraffic(front, split("v2", 100), "")
		if err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		busy := []string{under.ID, "traffic of shop/default", "holdfast operations cancel " + under.ID}
		for _, verb := range []func() (app.Operation, error){
			func() (app.Operation, error) { return h.c.StopVersion(shop("v2", 1).Key, "") },
			func() (app.Operation, error) { return h.c.DeleteVersion(shop("v2", 1).Key, "") },
			func() (app.Operation, error) { return h.c.SetTraffic(front, split("v1", 100), "") },
			func() (app.Operation, error) { return h.c.Rollback(front, "") },
			func() (app.Operation, error) { return h.c.StartVersion(shop("v1", 1).Key, "") },
			func() (app.Operation, error) {
				return h.c.Deploy(control.Deployment{Version: shop("v3", 1), Promote: true})
			},
		} {
			op, err := verb()
			if errors.Is(err, app.ErrNotFound) {
				continue // there is nothing to roll back to
			}
			refused(t, op, err, app.ErrBusy, busy...)
		}
		// A whole restore may take it away all the same.
		w := h.s.Wishes()
		if err := h.s.Update(func(now *store.Wishes) error { delete(now.Versions, shop("v2", 1).Key); return nil }); err != nil {
			t.Fatal(err)
		}
		op := h.ended(under, nil)
		if op.Failure == nil || op.Failure.Cause != app.Superseded || !strings.Contains(op.Failure.Detail, "v2 was deleted") {
			t.Errorf("it ended as %+v", op)
		}
		if got := w.Services[front].Split; !slices.Equal(got.Versions(), []string{"v1"}) {
			t.Errorf("the split is %v", got)
		}
		leftAsItWas(t, h)
	})
}

func TestScaling(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		k := shop("v1", 1).Key
		h.done(h.c.SetScaling(k, app.Scaling{Manual: true, Min: 3, Max: 3}, ""))
		wait(10 * time.Second)
		if got := len(h.in(app.Ready)); got != 3 {
			t.Errorf("%d ready, want 3", got)
		}
		for _, s := range []app.Scaling{{}, {Min: 3, Max: 2}, {Min: -1, Max: 2}} {
			op, err := h.c.SetScaling(k, s, "")
			refused(t, op, err, app.ErrInvalid)
		}
		op, err := h.c.SetScaling(shop("v9", 1).Key, app.Scaling{Min: 1, Max: 1}, "")
		refused(t, op, err, app.ErrNotFound)
	})
}

func TestADeployUnderLoadStartsAsManyAsCarryIt(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		auto := func(version string) app.Version {
			v := shop(version, 2)
			v.Scaling = app.Scaling{Min: 2, Max: 10, Connections: 100}
			return v
		}
		h.deploy(auto("v1"))
		h.plane.carry(h.of("v1")[0].ID, 550)
		wait(5 * time.Minute)
		if got := len(h.of("v1")); got != 6 {
			t.Fatalf("%d run for 550 sockets, 100 each", got)
		}
		least := 10
		h.plane.see(func(r router.Routes) { least = min(least, served(r.Apps["shop"].Services["default"])) })
		h.deploy(auto("v2"))
		h.plane.see(nil)
		if least != 6 {
			t.Errorf("at the least %d served, want 6", least)
		}
	})
}

func TestDeleteInstance(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 2))
		id := h.in(app.Ready)[0].ID
		h.plane.carry(id, 3)
		op, err := h.c.DeleteInstance(id, "me")
		synctest.Wait()
		if got := names(h.in(app.Draining)); got != id {
			t.Errorf("drains: %q", got)
		}
		again, errAgain := h.c.RestartInstance(id, "")
		refused(t, again, errAgain, app.ErrNotFound)
		cancel, errCancel := h.c.Cancel(op.ID, "")
		refused(t, cancel, errCancel, app.ErrInvalid, "leaves already")
		asked := time.Now()
		h.done(op, err)
		if took := time.Since(asked); took < 25*time.Second || took > 30*time.Second {
			t.Errorf("it was gone after %v", took)
		}
		if got := h.in(app.Ready); len(got) != 2 || fmt.Sprint(h.causes(app.Starting)) != "[deployed deployed requested]" {
			t.Errorf("ready %s, started for %v", names(got), h.causes(app.Starting))
		}
	})
}

func TestARestartThatWaitsIsBusyAndCanBeCancelled(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		id := h.in(app.Ready)[0].ID
		h.d.Refuse(func(string, app.Version) error { return errors.New("no space left on device") }) // no successor
		op, err := h.c.RestartInstance(id, "")
		if err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		again, err := h.c.DeleteInstance(id, "")
		refused(t, again, err, app.ErrBusy, op.ID, "instance "+id)
		// It is not forgotten with us.
		h.leave()
		h.events = nil
		h.move(h.d, control.Config{})
		wait(10 * time.Second)
		if _, err := h.c.Cancel(op.ID, "me"); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if got := h.running(); len(got) != 1 || got[0].ID != id {
			t.Errorf("running %v, want the one there was", got)
		}
	})
}

func TestTheAppIsWarnedBeforeItStops(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 2)
		v.DrainSignal = true
		h.deploy(v)
		all := h.in(app.Ready)
		h.plane.carry(all[0].ID, 3)
		h.deploy(shop("v2", 1))
		synctest.Wait()
		if got := h.d.Heard(all[0].ID); fmt.Sprint(got) != "[file signal]" {
			t.Errorf("when it drains, the app has heard %v", got)
		}
		h.d.Linger(time.Minute)
		two := h.in(app.Ready)[0].ID
		if got := h.d.Heard(two); len(got) != 0 {
			t.Errorf("one that stays has heard %v", got)
		}
		go h.c.Shutdown(h.t.Context()) // ends before Run does
		wait(time.Second)
		if got := h.d.Heard(two); fmt.Sprint(got) != "[file]" {
			t.Errorf("before it stops, the app has heard %v", got)
		}
		wait(time.Minute)
	})
}

func TestAReplacedVersionNeedsItsNameFree(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		h.plane.carry(h.in(app.Ready)[0].ID, 1)
		h.deploy(shop("v2", 1))
		other := shop("v1", 1)
		other.Env = map[string]string{"A": "B"}
		op, err := h.c.Deploy(control.Deployment{Version: other, Promote: true})
		refused(t, op, err, app.ErrBusy, "still drain", "choose another")
		h.done(h.c.Deploy(control.Deployment{Version: shop("v1", 1)})) // the same contents: at once
		h.done(h.c.StopVersion(other.Key, ""))
		wait(time.Minute)
		h.deploy(other)
		if got := h.s.Wishes().Versions[other.Key].Env["A"]; got != "B" {
			t.Error("it was not replaced")
		}
	})
}

func TestAVersionIsNamedByItsContents(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("", 1)
		v.Artifact = app.Artifact{ID: "x", Dir: "/here", Command: "serve"}
		first := h.done(h.c.Deploy(control.Deployment{Version: v, Promote: true}))
		v.Scaling.Min, v.Scaling.Max, v.Artifact.Dir = 2, 2, "/there"
		second := h.done(h.c.Deploy(control.Deployment{Version: v, Promote: true}))
		if first.Target != second.Target || len(first.Target.Version) != 11 || len(h.running()) != 2 {
			t.Errorf("named %s, then %s; running %v", first.Target, second.Target, h.running())
		}
		v.Env = map[string]string{"A": "B"}
		if third := h.done(h.c.Deploy(control.Deployment{Version: v, Promote: true})); third.Target == first.Target {
			t.Errorf("other contents have the same name %s", third.Target)
		}
	})
}

func TestDeployKeepsOthersWhenToldTo(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		op := h.done(h.c.Deploy(control.Deployment{Version: shop("v2", 1), Promote: true, KeepOthers: true}))
		wait(time.Minute)
		if got := h.running(); len(got) != 2 || len(op.Stop) != 0 {
			t.Errorf("running %v", got)
		}
	})
}

func TestEndedOperationsAreBounded(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.deploy(shop("v1", 1))
		last := ""
		for n := range 250 {
			op, err := h.c.SetScaling(shop("v1", 1).Key, app.Scaling{Manual: true, Min: 1, Max: 1 + n%2}, "")
			if err != nil || op.ID <= last {
				t.Fatalf("%q after %q, %v", op.ID, last, err)
			}
			last = op.ID
		}
		w := h.s.Wishes()
		if _, there := w.Operations[last]; len(w.Operations) != 200 || !there {
			t.Errorf("%d are kept, the last one: %v", len(w.Operations), there)
		}
		op, err := h.c.Wait(t.Context(), "op-000000000")
		refused(t, op, err, app.ErrNotFound)
	})
}

func TestStoppedVersionsAreBounded(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		err := h.s.Update(func(w *store.Wishes) error {
			for n := range 209 {
				v := shop(fmt.Sprint("old", n), 1)
				v.CreatedAt = time.Now().Add(time.Duration(n-300) * time.Hour)
				w.Versions[v.Key] = v
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 4 {
			h.deploy(shop(fmt.Sprint("v", n), 1))
		}
		w := h.s.Wishes()
		_, oldest := w.Versions[shop("old2", 1).Key]
		_, next := w.Versions[shop("old3", 1).Key]
		_, past := w.Versions[shop("v0", 1).Key]
		if len(w.Versions) != 210 || oldest || !next || !past {
			t.Errorf("%d versions are kept; of the oldest %v, of the next %v, what a rollback leads to %v", len(w.Versions), oldest, next, past)
		}
	})
}

// An operation that is under way goes on with the next start.
func TestOperationsOutliveUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.move(h.d, control.Config{})
		h.deploy(shop("v1", 1))
		begin := func(version, feeling string) app.Operation {
			h.apps.is(version, feeling)
			op, err := h.c.Deploy(control.Deployment{Version: shop(version, 1), Promote: true})
			if err != nil {
				t.Fatal(err)
			}
			wait(10 * time.Second)
			h.leave()
			return op
		}
		// Down for an hour: what got ready meanwhile is promoted at once.
		op := begin("v2", "deaf")
		if h.s.Wishes().Operations[op.ID].Deadline.IsZero() {
			t.Error("no deadline is kept")
		}
		wait(time.Hour)
		h.apps.is("v2", "")
		h.move(h.d, control.Config{})
		h.done(op, nil)
		// What did not gets a short grace, its deadline long past.
		op = begin("v3", "deaf")
		wait(time.Hour)
		began := time.Now()
		h.move(h.d, control.Config{})
		wait(time.Second)
		if got := h.s.Wishes().Operations[op.ID]; got.Stage == app.StageDone && got.Failure != nil {
			t.Errorf("it was given up at once: %+v", got.Failure)
		}
		if op = h.ended(op, nil); op.Failure != nil {
			if took := time.Since(began); took < 30*time.Second || took > time.Minute {
				t.Errorf("given up after %v", took)
			}
		}
		h.leave()
		// When nothing of it runs any more it gets all of its time.
		h.move(h.d, control.Config{})
		wait(time.Minute)
		op = begin("v4", "deaf")
		for _, r := range h.running() {
			if r.Key.Version == "v4" {
				h.d.Stop(context.Background(), r.ID, 0)
			}
		}
		wait(time.Hour)
		began = time.Now()
		h.move(h.d, control.Config{})
		wait(4 * time.Minute)
		h.apps.is("v4", "")
		if op = h.ended(op, nil); op.Failure != nil {
			t.Errorf("after %v it ended as %+v", time.Since(began), op.Failure)
		}
		h.leave()
	})
}

// Weekly restarts keep to the window; an operator's do not.
func TestMaintenanceKeepsToItsWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		v := shop("v1", 2)
		v.Ready.Interval, v.Live.Interval = time.Hour, time.Hour // fewer questions, quicker test
		v.MaxAge = 3 * 24 * time.Hour
		h.move(h.d, control.Config{Maintenance: control.Window{From: 2 * time.Hour, To: 5 * time.Hour}})
		h.deploy(v)
		wait(10 * 24 * time.Hour)
		n := 0
		for _, e := range h.told(app.Starting) {
			if e.Instance.Cause != app.Aged {
				continue
			}
			n++
			if hour := e.Time.Hour(); hour < 2 || hour >= 5 {
				t.Errorf("replaced at %s", e.Time)
			}
		}
		if n < 4 || n > 6 {
			t.Errorf("%d were replaced in 10 days, 2 instances of 3 days", n)
		}
		for time.Now().Hour() != 12 {
			wait(time.Hour)
		}
		h.done(h.c.RestartInstance(h.in(app.Ready)[0].ID, ""))
		if hour := time.Now().Hour(); hour != 12 {
			t.Errorf("an operator's restart waited until %s", time.Now())
		}
		h.leave()
	})
}
