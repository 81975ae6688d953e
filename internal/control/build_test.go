package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/store"
)

// workshop is a builder in a map: it takes its time, and fails when told to.
type workshop struct {
	mu     sync.Mutex // guards the following
	takes  time.Duration
	broken map[string]bool // sources that do not build
	has    map[string]bool // artifacts, by id
	builds []string        // operation and version of each build that began
	now    int             // building
	most   int             // at once
	cut    int             // builds whose ctx ended
}

func newWorkshop() *workshop {
	return &workshop{takes: 10 * time.Second, broken: map[string]bool{}, has: map[string]bool{}}
}

// mistake is an error that tells people more.
type mistake struct{ failure app.Failure }

func (m mistake) Error() string        { return m.failure.Detail }
func (m mistake) Failure() app.Failure { return m.failure }

func (s *workshop) Has(a app.Artifact) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[a.ID]
}

func (s *workshop) Build(ctx context.Context, op string, v app.Version) (app.Artifact, error) {
	s.mu.Lock()
	s.builds = append(s.builds, op+" "+v.Version)
	s.now++
	s.most = max(s.most, s.now)
	takes, broken := s.takes, s.broken[v.Source]
	s.mu.Unlock()
	timer := time.NewTimer(takes)
	defer timer.Stop()
	var cut error
	select {
	case <-timer.C:
	case <-ctx.Done():
		cut = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	switch {
	case cut != nil:
		s.cut++
		return app.Artifact{}, cut
	case broken:
		return app.Artifact{}, fmt.Errorf("build %s: %w", v.Version, mistake{app.Failure{Detail: "syntax error", Next: "mend it", Tail: []string{"line 1"}}})
	}
	a := app.Artifact{ID: "built from " + v.Source, Command: "serve"}
	s.has[a.ID] = true
	return a, nil
}

// lose removes an artifact, as a collector or a person does.
func (s *workshop) lose(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.has, id)
}

// fresh is a version of the shop that has sources and no artifact.
func fresh(version string, instances int) app.Version {
	v := shop(version, instances)
	v.Artifact, v.Source = app.Artifact{}, "sources of "+version
	return v
}

func inWorkshop(t *testing.T, test func(t *testing.T, h *house, s *workshop)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := newHouse(t), newWorkshop()
		h.move(h.d, control.Config{Builder: s})
		test(t, h, s)
		if err := h.leave(); err != nil {
			t.Errorf("Run: %v", err)
		}
		h.checkEvents()
	})
}

func TestADeployBuildsFirst(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		var stages []string
		h.leave()
		h.move(h.d, control.Config{Builder: s, Operations: func(op app.Operation) { stages = append(stages, string(op.Stage)) }})
		asked := time.Now()
		h.deploy(fresh("v1", 2))
		if took := time.Since(asked); took < s.takes || took > s.takes+time.Second {
			t.Errorf("took %v, want the build's 10 s", took)
		}
		if got := fmt.Sprint(stages); got != "[building starting starting done]" { // starting: begun, and with a deadline
			t.Errorf("told %s", got)
		}
		if v := h.s.Wishes().Versions[shop("v1", 2).Key]; v.Artifact.ID != "built from sources of v1" || !v.Serving {
			t.Errorf("kept is %+v", v)
		}
		// The same again is there, ready, and nothing is to be done.
		asked = time.Now()
		op, err := h.c.Deploy(control.Deployment{Version: fresh("v1", 2), Promote: true})
		if err != nil || op.Stage != app.StageDone || time.Since(asked) != 0 || len(s.builds) != 1 {
			t.Errorf("the same again: %+v, %v, after %v; builds %v", op, err, time.Since(asked), s.builds)
		}
	})
}

func TestABuildThatFails(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		h.deploy(fresh("v1", 1))
		s.broken["sources of v2"] = true
		op := h.try(fresh("v2", 1))
		f := op.Failure
		if f == nil || f.Cause != app.BuildFailed || f.Detail != "syntax error" || f.Next != "mend it" || len(f.Tail) != 1 {
			t.Fatalf("it ended as %+v, %+v", op, f)
		}
		leftAsItWas(t, h)
		if v := h.s.Wishes().Versions[shop("v2", 1).Key]; v.Serving {
			t.Error("it still serves")
		}
		if len(s.builds) != 2 {
			t.Errorf("builds %v, want no second try", s.builds)
		}
	})
}

func TestACancelledBuildEnds(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		s.takes = time.Hour
		op, err := h.c.Deploy(control.Deployment{Version: fresh("v1", 1), Promote: true})
		wait(time.Minute)
		if err != nil || s.now != 1 {
			t.Fatalf("%v; %d build", err, s.now)
		}
		if _, err := h.c.Cancel(op.ID, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.now != 0 || s.cut != 1 {
			t.Errorf("%d still build, %d were cut", s.now, s.cut)
		}
		if op = h.ended(op, nil); op.Failure == nil || op.Failure.Cause != app.Cancelled {
			t.Errorf("it ended as %+v", op)
		}
	})
}

func TestTwoBuildsAtOnce(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		var all []app.Operation
		for n := range 5 {
			v := fresh("v1", 1)
			v.Service = fmt.Sprint("s", n)
			op, err := h.c.Deploy(control.Deployment{Version: v, Promote: true})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, op)
		}
		asked := time.Now()
		for _, op := range all {
			if op = h.ended(op, nil); op.Failure != nil {
				t.Errorf("%+v", op.Failure)
			}
		}
		if took := time.Since(asked); s.most != 2 || took < 3*s.takes || took > 3*s.takes+time.Second {
			t.Errorf("%d at once, %v in all", s.most, took)
		}
		for n, build := range s.builds {
			first := n / 2 * 2 // the two of a pair begin together
			if !slices.ContainsFunc(all[first:min(first+2, len(all))], func(op app.Operation) bool { return strings.HasPrefix(build, op.ID) }) {
				t.Errorf("built in the order %v", s.builds)
			}
		}
	})
}

func TestAnArtifactThatIsLostIsBuiltAgain(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		h.deploy(fresh("v1", 2))
		h.leave()
		s.lose("built from sources of v1")
		s.broken["sources of v1"] = true
		h.events = nil
		h.move(h.d, control.Config{Builder: s})
		wait(10 * time.Minute)
		if got := len(h.in(app.Ready)); got != 2 {
			t.Errorf("%d ready: those that run need no build", got)
		}
		// It takes a minute between two, 10 s each.
		if n := len(s.builds); n < 9 || n > 16 {
			t.Errorf("%d builds in ten minutes", n)
		}
		h.d.Crash(h.in(app.Ready)[0].ID)
		wait(time.Second)
		if got := len(h.running()); got != 1 {
			t.Errorf("%d run, want none started of what is not there", got)
		}
		s.mu.Lock()
		clear(s.broken)
		s.mu.Unlock()
		wait(3 * time.Minute)
		if got := len(h.in(app.Ready)); got != 2 {
			t.Errorf("%d ready after the build", got)
		}
	})
}

func TestABuildOutlivesUs(t *testing.T) {
	inWorkshop(t, func(t *testing.T, h *house, s *workshop) {
		op, err := h.c.Deploy(control.Deployment{Version: fresh("v1", 1), Promote: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // each start builds anew, until one has the time
			wait(5 * time.Second)
			h.leave()
			h.move(h.d, control.Config{Builder: s})
		}
		if op = h.ended(op, nil); op.Failure != nil {
			t.Errorf("it ended as %+v", op.Failure)
		}
		if s.cut != 3 || len(s.builds) != 4 {
			t.Errorf("%d were cut of %v", s.cut, s.builds)
		}
	})
}

// full is a store whose disk is full when it is told to be, and before which
// somebody may be quicker.
type full struct {
	*store.Store
	mu    sync.Mutex
	is    bool
	tries int
	first func() // is called before the next Update; nil: nothing
}

func (f *full) Update(fn func(*store.Wishes) error) error {
	f.mu.Lock()
	f.tries++
	is, first := f.is, f.first
	f.first = nil
	f.mu.Unlock()
	if first != nil {
		first()
	}
	if is {
		return errors.New("write: no space left on device")
	}
	return f.Store.Update(fn)
}

func (f *full) set(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.is, f.tries = is, 0
}

func TestAFullDiskStopsChangesAndNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		disk := &full{Store: h.s}
		var out lines
		h.disk = disk
		h.move(h.d, control.Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
		h.deploy(shop("v1", 2))
		h.apps.boot = time.Minute
		op, err := h.c.Deploy(control.Deployment{Version: shop("v2", 2), Promote: true})
		wait(10 * time.Second)
		disk.set(true)
		if _, err := h.c.SetScaling(shop("v1", 2).Key, app.Scaling{Min: 3, Max: 3}, ""); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("a change is answered with %v", err)
		}
		wait(10 * time.Minute)
		h.d.Crash(h.in(app.Ready)[0].ID) // replaced, disk or not
		wait(3 * time.Minute)
		if s := h.plane.service(); s.Split.Shares["v1"] != 1 || served(s) != 2 {
			t.Errorf("traffic goes to %v, %d ready", s.Split.Shares, served(s))
		}
		if n := strings.Count(out.String(), "no space left"); n < 12 || n > 14 {
			t.Errorf("told %d times in 13 minutes", n)
		}
		if disk.tries < 600 || disk.tries > 1000 {
			t.Errorf("tried %d times in 13 minutes", disk.tries)
		}
		disk.set(false)
		if op = h.ended(op, err); op.Failure != nil {
			t.Errorf("it ended as %+v", op.Failure)
		}
		if s := h.plane.service(); s.Split.Shares["v2"] != 1 || served(s) != 2 {
			t.Errorf("traffic goes to %v, %d ready", s.Split.Shares, served(s))
		}
		h.leave()
	})
}

// Between the judgement that all is ready and the transaction that says so,
// somebody takes it back: then it is taken back, and nothing has moved.
func TestACancelThatIsQuickerThanThePromotion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		disk := &full{Store: h.s}
		h.disk = disk
		h.move(h.d, control.Config{})
		h.deploy(shop("v1", 1))
		h.apps.boot = 30 * time.Second
		op, err := h.c.Deploy(control.Deployment{Version: shop("v2", 1), Promote: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second) // its deadline is written: the next transaction is the promotion
		disk.mu.Lock()
		disk.first = func() {
			if _, err := h.c.Cancel(op.ID, "me"); err != nil {
				t.Error(err)
			}
		}
		disk.mu.Unlock()
		if op = h.ended(op, nil); op.Failure == nil || op.Failure.Cause != app.Cancelled || time.Since(op.Asked) < h.apps.boot {
			t.Errorf("it ended as %+v", op)
		}
		leftAsItWas(t, h)
		h.leave()
	})
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
