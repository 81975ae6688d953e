// Package drivertest is the suite that every driver passes: the contract of
// package driver, in tests. It knows nothing of how instances run; what it
// cannot do through the contract (make an app crash, restart the driver) the
// driver's own test lends it in a Subject. Start at Test.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
)

const (
	// patience is how long the suite waits for what must happen. Generous: a
	// loaded machine is slow, and only a failure takes this long.
	patience = 20 * time.Second

	// grace is longer than patience, so that a test notices when something
	// waited for a grace that it should not have waited for.
	grace = 2 * patience
)

// Subject is a driver without instances, made for one test, and what the suite
// needs beside it.
type Subject struct {
	Driver driver.Driver

	// Polite is a version whose instances run until they are asked to end, and
	// then end at once. Stubborn's ignore the polite signal. Brief's end by
	// themselves with exit status 3 as soon as they start.
	Polite, Stubborn, Brief app.Version

	// Heeding's instances run as Polite's do and ask for the signal that says
	// that they drain. Busy's use CPU time in portions, for Work; it is the zero
	// Version where the driver cannot tell CPU time.
	Heeding, Busy app.Version

	// Settle returns once the instance's app runs, so that what it does with
	// signals is as its version says.
	Settle func(t *testing.T, id string)

	// Crash makes the instance's app end by itself with a non-zero exit.
	Crash func(t *testing.T, id string)

	// Heard is what an instance's app, of Polite or of Heeding, has been told of
	// its draining until now, in order: "file" when it finds its drain file,
	// "signal" for each signal. Nothing is told before Settle has returned.
	Heard func(t *testing.T, id string) []string

	// Work makes an instance of Busy use a portion of CPU time, some of it in
	// a process that ends with it: 20 ms at least.
	Work func(t *testing.T, id string)

	// Restart puts a new driver in the place of the one that is there, whose
	// Run has ended, as a new process of ours would.
	Restart func(t *testing.T) driver.Driver
}

// Test runs the suite. open is called once for each test of it and cleans up
// with t.Cleanup, instances included.
func Test(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"a started instance is listed whole", startIsListed},
		{"a second start does nothing", startTwice},
		{"a start that cannot be leaves nothing", startRefused},
		{"stop leaves nothing", stopForgets},
		{"an exit is hinted and listed until stop", exitIsNoticed},
		{"a crash is hinted and listed until stop", crashIsNoticed},
		{"who ignores the polite signal ends by force", stopForces},
		{"the end of the context ends the grace", stopGivesUp},
		{"a second stop ends the grace", stopTwice},
		{"stop while starting leaves nothing", stopWhileStarting},
		{"an id can be used again", startAgain},
		{"a warning is heard once", warn},
		{"a warning of nobody does nothing", warnNobody},
		{"a warning after a restart", warnAfterRestart},
		{"a killed app has crashed", kill},
		{"a paused app goes on when it is resumed", pause},
		{"a pause outlives a restart", pauseAfterRestart},
		{"a paused app hears that it is stopped", stopPaused},
		{"CPU time is told", cpu},
		{"calls from everywhere", concurrent},
		{"a restart keeps what is there", restart},
		{"run returns when its context ends", runReturns},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &subject{Subject: open(t), t: t}
			s.watch()
			c.test(t, s)
		})
	}
}

// subject is a Subject with its Run under way.
type subject struct {
	Subject
	t       *testing.T
	changed chan struct{}
	unwatch func() // ends Run and waits for it; may be called again
}

func (s *subject) watch() {
	s.changed = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d, changed := s.Driver, s.changed
	go func() { done <- d.Run(ctx, changed) }()
	s.unwatch = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				s.t.Errorf("Run = %v, want nil", err)
			}
		case <-time.After(patience):
			s.t.Errorf("Run did not return within %v of its context's end", patience)
		}
	})
	s.t.Cleanup(s.unwatch)
}

func (s *subject) start(id string, v app.Version) {
	s.t.Helper()
	if err := s.Driver.Start(context.Background(), id, v); err != nil {
		s.t.Fatalf("Start(%s) = %v", id, err)
	}
}

func (s *subject) list() []driver.Running {
	s.t.Helper()
	list, err := s.Driver.List(context.Background())
	if err != nil {
		s.t.Fatalf("List = %v", err)
	}
	if !slices.IsSortedFunc(list, func(a, b driver.Running) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	}) {
		s.t.Errorf("List is not in the order of ids: %v", ids(list))
	}
	return list
}

func ids(list []driver.Running) []string {
	out := []string{}
	for _, r := range list {
		out = append(out, r.ID)
	}
	return out
}

// wantIDs checks what is listed.
func (s *subject) wantIDs(want ...string) {
	s.t.Helper()
	if got := ids(s.list()); !slices.Equal(got, want) {
		s.t.Errorf("List = %v, want %v", got, want)
	}
}

func (s *subject) find(id string) (driver.Running, bool) {
	s.t.Helper()
	for _, r := range s.list() {
		if r.ID == id {
			return r, true
		}
	}
	return driver.Running{}, false
}

// untilExited waits as control does: it looks again at every hint, and only then.
func (s *subject) untilExited(id string) driver.Running {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		r, ok := s.find(id)
		if !ok {
			s.t.Fatalf("instance %s exited and is not listed; only Stop forgets", id)
		}
		if r.Exited {
			return r
		}
		select {
		case <-s.changed:
		case <-deadline:
			s.t.Fatalf("no hint led to the exit of %s within %v; listed: %+v", id, patience, r)
		}
	}
}

// stop stops and fails when that took as long as a grace.
func (s *subject) stop(id string) {
	s.t.Helper()
	began := time.Now()
	if err := s.Driver.Stop(context.Background(), id, grace); err != nil {
		s.t.Errorf("Stop(%s) = %v", id, err)
	}
	if took := time.Since(began); took >= grace {
		s.t.Errorf("Stop(%s) took %v, the whole grace", id, took)
	}
	if _, ok := s.find(id); ok {
		s.t.Errorf("instance %s is listed after Stop", id)
	}
}

func startIsListed(t *testing.T, s *subject) {
	before := time.Now()
	s.start("b", s.Polite)
	s.start("a", s.Polite)
	after := time.Now()
	s.wantIDs("a", "b")
	addrs := map[string]bool{}
	for _, r := range s.list() {
		if r.Key != s.Polite.Key || r.Exited || r.Exit != "" || !r.Ended.IsZero() {
			t.Errorf("listed as %+v, want it running, with key %s", r, s.Polite.Key)
		}
		// A second of room: some systems tell birth in whole ones.
		if r.Born.Before(before.Add(-time.Second)) || r.Born.After(after.Add(time.Second)) {
			t.Errorf("born %v, want between %v and %v", r.Born, before, after)
		}
		if r.Addr == "" || addrs[r.Addr] {
			t.Errorf("address %q is empty or given twice", r.Addr)
		}
		addrs[r.Addr] = true
	}
}

func startTwice(t *testing.T, s *subject) {
	s.start("a", s.Polite)
	first := still(s.list())
	s.start("a", s.Polite)
	other := s.Polite
	other.Key.Version = "other"
	s.start("a", other)
	if again := still(s.list()); !slices.Equal(first, again) {
		t.Errorf("List = %+v after a second Start, want %+v", again, first)
	}
	// An exited instance is still there: only Stop makes room for another.
	s.Settle(t, "a")
	s.Crash(t, "a")
	s.untilExited("a")
	s.start("a", s.Polite)
	if r, _ := s.find("a"); !r.Exited {
		t.Errorf("Start revived an exited instance: %+v", r)
	}
}

func startRefused(t *testing.T, s *subject) {
	ctx := context.Background()
	unbuilt := s.Polite
	unbuilt.Artifact = app.Artifact{}
	if err := s.Driver.Start(ctx, "a", unbuilt); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("Start of a version without artifact = %v, want %v", err, app.ErrInvalid)
	}
	if err := s.Driver.Start(ctx, "", s.Polite); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("Start without id = %v, want %v", err, app.ErrInvalid)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Driver.Start(ended, "a", s.Polite); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with an ended context = %v, want %v", err, context.Canceled)
	}
	s.wantIDs()
}

func stopForgets(t *testing.T, s *subject) {
	s.stop("never-was")
	s.start("a", s.Polite)
	s.start("b", s.Polite)
	s.Settle(t, "a")
	s.stop("a")
	s.stop("a")
	s.wantIDs("b")
	s.stop("b")
	s.wantIDs()
}

func exitIsNoticed(t *testing.T, s *subject) {
	before := time.Now()
	s.start("a", s.Brief)
	r := s.untilExited("a")
	if r.Exit != "exit status 3" {
		t.Errorf("Exit = %q, want %q", r.Exit, "exit status 3")
	}
	if r.Ended.Before(before.Add(-time.Second)) || r.Ended.After(time.Now().Add(time.Second)) {
		t.Errorf("ended %v, want between %v and now", r.Ended, before)
	}
	s.stop("a")
	s.wantIDs()
}

func crashIsNoticed(t *testing.T, s *subject) {
	s.start("a", s.Polite)
	s.start("b", s.Polite)
	s.Settle(t, "a")
	s.Settle(t, "b")
	s.Crash(t, "a")
	if r := s.untilExited("a"); r.Exit == "" || r.Ended.IsZero() {
		t.Errorf("a crashed instance is listed without how and when: %+v", r)
	}
	if r, _ := s.find("b"); r.Exited {
		t.Errorf("b exited with a: %+v", r)
	}
	s.stop("a")
	s.wantIDs("b")
}

func stopForces(t *testing.T, s *subject) {
	s.start("a", s.Stubborn)
	s.Settle(t, "a")
	const short = 100 * time.Millisecond
	began := time.Now()
	if err := s.Driver.Stop(context.Background(), "a", short); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if took := time.Since(began); took < short {
		t.Errorf("Stop took %v, want the grace of %v first", took, short)
	}
	s.wantIDs()
}

func stopGivesUp(t *testing.T, s *subject) {
	s.start("a", s.Stubborn)
	s.Settle(t, "a")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := s.Driver.Stop(ctx, "a", grace)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v", err)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("Stop took %v although its context ended", took)
	}
	s.wantIDs()
}

func stopTwice(t *testing.T, s *subject) {
	s.start("a", s.Stubborn)
	s.Settle(t, "a")
	began := time.Now()
	first := make(chan error, 1)
	go func() { first <- s.Driver.Stop(context.Background(), "a", grace) }()
	// Whichever comes first is polite, and the other one forces.
	if err := s.Driver.Stop(context.Background(), "a", grace); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if err := <-first; err != nil {
		t.Errorf("Stop = %v", err)
	}
	// One that came only after the other's end would have waited it out.
	if took := time.Since(began); took >= grace {
		t.Errorf("two stops took %v, the whole grace", took)
	}
	s.wantIDs()
}

func stopWhileStarting(t *testing.T, s *subject) {
	for i := range 8 {
		id := fmt.Sprint("i", i)
		started := make(chan error, 1)
		go func() { started <- s.Driver.Start(context.Background(), id, s.Polite) }()
		if i%2 == 1 { // half of them as soon as it is listed, half at any moment
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
				if _, ok := s.find(id); ok {
					break
				}
			}
		}
		s.Driver.Stop(context.Background(), id, grace)
		<-started // an error is fine: it was stopped
		s.stop(id)
	}
	s.wantIDs()
}

func startAgain(t *testing.T, s *subject) {
	s.start("a", s.Brief)
	s.untilExited("a")
	s.stop("a")
	s.start("a", s.Polite)
	if r, ok := s.find("a"); !ok || r.Exited || r.Exit != "" {
		t.Errorf("listed as %+v, want it running", r)
	}
}

func (s *subject) warn(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		if err := s.Driver.Warn(context.Background(), id); err != nil {
			s.t.Errorf("Warn(%s) = %v", id, err)
		}
	}
}

// untilHeard waits for what the app has been told, and sees that it was no more.
func (s *subject) untilHeard(id string, want ...string) {
	s.t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = s.Heard(s.t, id); len(got) >= len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s has heard %q, want %q", id, got, want)
	}
}

func warn(t *testing.T, s *subject) {
	s.start("a", s.Polite)
	s.start("b", s.Heeding)
	s.start("c", s.Heeding)
	for _, id := range []string{"a", "b", "c"} {
		s.Settle(t, id)
	}
	s.warn("a", "b", "b", "b", "a")
	s.untilHeard("a", "file")
	s.untilHeard("b", "file", "signal")
	s.untilHeard("c")
	// Whatever it did with the signal, it runs.
	for _, r := range s.list() {
		if r.Exited {
			t.Errorf("%s exited: %s", r.ID, r.Exit)
		}
	}
	s.warn("b", "c")
	s.untilHeard("c", "file", "signal")
	s.untilHeard("b", "file", "signal")
	s.stop("b") // a warned instance ends as any other
	s.stop("b")
	s.start("b", s.Heeding) // and what comes after it knows nothing of that
	s.Settle(t, "b")
	s.untilHeard("b")
}

func warnNobody(t *testing.T, s *subject) {
	s.warn("never-was")
	s.start("a", s.Brief)
	s.untilExited("a")
	s.warn("a")
	s.stop("a")
	s.warn("a")
	s.wantIDs()
	s.start("b", s.Heeding)
	s.Settle(t, "b")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Driver.Warn(ended, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("Warn with an ended context = %v, want %v", err, context.Canceled)
	}
	s.untilHeard("b")
}

func warnAfterRestart(t *testing.T, s *subject) {
	s.start("a", s.Heeding)
	s.start("b", s.Heeding)
	s.Settle(t, "a")
	s.Settle(t, "b")
	s.warn("a")
	s.untilHeard("a", "file", "signal")
	s.unwatch()
	s.Driver = s.Restart(t)
	s.watch()
	s.warn("a", "b")
	s.untilHeard("b", "file", "signal")
	s.untilHeard("a", "file", "signal")
}

func cpu(t *testing.T, s *subject) {
	if s.Busy.Artifact.Command == "" {
		t.Skip("this driver cannot tell CPU time here")
	}
	s.start("a", s.Busy)
	s.start("b", s.Busy)
	s.Settle(t, "a")
	s.Settle(t, "b")
	used := func(id string) time.Duration {
		t.Helper()
		r, ok := s.find(id)
		if !ok || r.Exited {
			t.Fatalf("%s is listed as %+v", id, r)
		}
		return r.CPU
	}
	grows := func(id string, before time.Duration) time.Duration {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			now := used(id)
			if now < before {
				t.Errorf("%s had used %v, and now %v", id, before, now)
			}
			if now >= before+20*time.Millisecond {
				return now
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has used %v, and %v after it worked", id, before, now)
			}
		}
	}
	before := used("a")
	for range 3 {
		s.Work(t, "a")
		before = grows("a", before)
	}
	s.unwatch()
	s.Driver = s.Restart(t)
	s.watch()
	if now := used("a"); now < before {
		t.Errorf("a had used %v, and %v after a restart", before, now)
	}
	s.Work(t, "a")
	if a, b := grows("a", before), used("b"); b >= a {
		t.Errorf("b has used %v and did nothing, while a used %v", b, a)
	}
}

func concurrent(t *testing.T, s *subject) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3 {
				id := fmt.Sprintf("i%d", (g+i)%4)
				if err := s.Driver.Start(context.Background(), id, s.Polite); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, app.ErrBusy) {
					t.Errorf("Start(%s) = %v", id, err)
				}
				if _, err := s.Driver.List(context.Background()); err != nil {
					t.Errorf("List = %v", err)
				}
				if err := s.Driver.Warn(context.Background(), id); err != nil {
					t.Errorf("Warn(%s) = %v", id, err)
				}
				if err := s.Driver.Stop(context.Background(), id, grace); err != nil {
					t.Errorf("Stop(%s) = %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	for _, r := range s.list() {
		s.stop(r.ID)
	}
	s.wantIDs()
}

func restart(t *testing.T, s *subject) {
	s.start("a", s.Polite)
	s.start("b", s.Brief)
	s.start("c", s.Polite)
	s.Settle(t, "a")
	s.Settle(t, "c")
	s.untilExited("b")
	before := s.list()
	s.unwatch()
	s.Driver = s.Restart(t)
	s.watch()
	after := s.list()
	if !slices.EqualFunc(before, after, same) {
		t.Errorf("List = %+v after a restart, want %+v", after, before)
	}
	s.start("a", s.Polite) // is there already
	if again := s.list(); !slices.EqualFunc(before, again, same) {
		t.Errorf("List = %+v after a restart and Start, want %+v", again, before)
	}
	s.Crash(t, "a")
	s.untilExited("a")
	s.stop("c")
	s.stop("b")
	s.wantIDs("a")
	s.stop("a")
	s.wantIDs()
}

// same compares times by the moment they name, as what was read from a disk
// has lost its monotonic clock and its place's name.
func same(a, b driver.Running) bool {
	if !a.Born.Equal(b.Born) || !a.Ended.Equal(b.Ended) {
		return false
	}
	a.Born, a.Ended, b.Born, b.Ended = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	a.CPU, b.CPU = 0, 0
	return a == b
}

// still is the list without what changes while nothing happens.
func still(list []driver.Running) []driver.Running {
	for i := range list {
		list[i].CPU = 0
	}
	return list
}

func runReturns(t *testing.T, s *subject) {
	s.start("a", s.Polite)
	s.unwatch()
	s.wantIDs("a") // instances go on without Run
	s.watch()
	s.Settle(t, "a")
	s.Crash(t, "a")
	s.untilExited("a")
}
