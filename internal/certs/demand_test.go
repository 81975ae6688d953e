package certs

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// Strangers may have so many new names get a certificate within an hour, and no
// more; the base domains are not held up by that.
func TestNewNamesAreBounded(t *testing.T) {
	p := newPublic(ACME{Email: "a@example.org", Domains: []string{"apps.example.org"}}, slog.New(slog.DiscardHandler))
	now := time.Now()
	for i := range newMax {
		if err := p.admit(fmt.Sprintf("n%d.apps.example.org", i), now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	late := now.Add(newWithin / 2)
	p.names["one-more.apps.example.org"] = &wish{}
	if err := p.admit("one-more.apps.example.org", late); err == nil {
		t.Error("one more is admitted")
	}
	if next := p.names["one-more.apps.example.org"].next; !next.Equal(now.Add(newWithin)) {
		t.Errorf("it may come again at %v, want %v", next, now.Add(newWithin))
	}
	if err := p.admit("apps.example.org", late); err != nil {
		t.Errorf("the base domain: %v", err)
	}
	if err := p.admit("one-more.apps.example.org", now.Add(newWithin+time.Second)); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestPausesGrow(t *testing.T) {
	for fails, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 10: 512 * time.Minute, 11: pauseLongest, 100: pauseLongest} {
		if got := pause(fails); got != want {
			t.Errorf("after %d failures: %v, want %v", fails, got, want)
		}
	}
}

// What is remembered of names that failed is bounded, and what may be tried
// again is forgotten first.
func TestFailuresAreForgotten(t *testing.T) {
	p := newPublic(ACME{Email: "a@example.org"}, slog.New(slog.DiscardHandler))
	var cancel context.CancelFunc
	p.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	for i := range namesMax {
		p.names[fmt.Sprint(i)] = &wish{problem: "x", next: time.Now().Add(time.Hour)}
	}
	if _, err := p.want("new.example.org"); err == nil || len(p.names) != namesMax {
		t.Errorf("one more is remembered: %v, %d", err, len(p.names))
	}
	p.names["0"].next = time.Now().Add(-time.Second)
	if !p.forgetLocked(time.Now()) || len(p.names) != namesMax-1 {
		t.Errorf("%d are remembered", len(p.names))
	}
}
