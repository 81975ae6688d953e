package drivertest

import (
	"context"
	"errors"
	"testing"

	"holdfast/internal/driver"
)

// breaker is the driver as drills see it, for drivers that let them.
func (s *subject) breaker() driver.Breaker {
	s.t.Helper()
	b, ok := s.Driver.(driver.Breaker)
	if !ok {
		s.t.Skip("this driver breaks nothing on purpose")
	}
	return b
}

// wantPaused checks what is listed.
func (s *subject) wantPaused(id string, want bool) {
	s.t.Helper()
	if r, ok := s.find(id); !ok || r.Paused != want || r.Exited {
		s.t.Errorf("listed as %+v, want it running and Paused = %v", r, want)
	}
}

func (s *subject) do(what string, fn func(context.Context, string) error, id string) {
	s.t.Helper()
	if err := fn(context.Background(), id); err != nil {
		s.t.Errorf("%s(%s) = %v", what, id, err)
	}
}

func kill(t *testing.T, s *subject) {
	b := s.breaker()
	s.do("Kill", b.Kill, "never-was")
	s.start("a", s.Stubborn)
	s.start("b", s.Polite)
	s.Settle(t, "a")
	s.Settle(t, "b")
	s.do("Kill", b.Kill, "a")
	if r := s.untilExited("a"); r.Exit != "killed by SIGKILL" {
		t.Errorf("Exit = %q, want killed by SIGKILL", r.Exit)
	}
	s.do("Kill", b.Kill, "a")
	if r, _ := s.find("b"); r.Exited {
		t.Errorf("b was killed with a: %+v", r)
	}
	s.stop("a")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Kill(ended, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("Kill with an ended context = %v, want %v", err, context.Canceled)
	}
}

func pause(t *testing.T, s *subject) {
	b := s.breaker()
	s.do("Pause", b.Pause, "never-was")
	s.do("Resume", b.Resume, "never-was")
	s.start("a", s.Polite)
	s.Settle(t, "a")
	s.wantPaused("a", false)
	s.do("Resume", b.Resume, "a")
	for range 2 {
		s.do("Pause", b.Pause, "a")
		s.wantPaused("a", true)
	}
	for range 2 {
		s.do("Resume", b.Resume, "a")
		s.wantPaused("a", false)
	}
	// It can be paused again, and killed as it stands.
	s.do("Pause", b.Pause, "a")
	s.wantPaused("a", true)
	s.do("Kill", b.Kill, "a")
	if r := s.untilExited("a"); r.Paused {
		t.Errorf("listed as %+v: what has exited is not paused", r)
	}
}

func pauseAfterRestart(t *testing.T, s *subject) {
	b := s.breaker()
	s.start("a", s.Polite)
	s.Settle(t, "a")
	s.do("Pause", b.Pause, "a")
	s.unwatch()
	s.Driver = s.Restart(t)
	s.watch()
	b = s.breaker()
	s.wantPaused("a", true)
	s.do("Resume", b.Resume, "a")
	s.wantPaused("a", false)
	s.stop("a")
}

func stopPaused(t *testing.T, s *subject) {
	b := s.breaker()
	s.start("a", s.Polite)
	s.Settle(t, "a")
	s.do("Pause", b.Pause, "a")
	s.stop("a") // which fails when it takes a grace
	s.wantIDs()
}
