package cli

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

func TestNames(t *testing.T) {
	services := []admin.Service{
		{App: "chat", Service: "default"}, {App: "shop", Service: "default"}, {App: "shop", Service: "worker"}, {App: "chat", Service: "shop"},
	}
	for name, want := range map[string]string{
		"chat": "chat/default", "worker": "shop/worker", "shop/worker": "shop/worker", "chat/shop": "chat/shop",
		"default": "may be any of several services: chat/default, shop/default",
		"shop":    "may be any of several services: chat/shop, shop/default",
		"wroker":  "there is no service wroker",
	} {
		k, err := pickService(services, name)
		if err != nil && strings.Contains(err.Error(), want) {
			continue
		}
		if err != nil || k.String() != want {
			t.Errorf("service %s is %v, %v; want %s", name, k, err, want)
		}
	}
	var p *problem
	if _, err := pickService(services, "wroker"); !errors.As(err, &p) || p.next != `did you mean "worker"?` {
		t.Errorf("a slip: %v, next %q", err, p.next)
	}
	versions := []admin.Version{
		{App: "chat", Service: "default", Version: "v1"}, {App: "chat", Service: "api", Version: "v1"}, {App: "chat", Service: "api", Version: "v2"},
	}
	for name, want := range map[string]string{
		"v2": "chat/api/v2", "api/v1": "chat/api/v1", "chat/default/v1": "chat/default/v1", "chat/v1": "chat/default/v1",
		"v1": "several versions: chat/api/v1, chat/default/v1",
		"v9": "there is no version v9",
	} {
		k, err := pickVersion(versions, name)
		if err != nil && strings.Contains(err.Error(), want) {
			continue
		}
		if err != nil || k.String() != want {
			t.Errorf("version %s is %v, %v; want %s", name, k, err, want)
		}
	}
	if _, err := pickVersion(versions, "v9"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("v9: %v, want app.ErrNotFound", err)
	}
}

func TestShares(t *testing.T) {
	for text, want := range map[string]map[string]float64{
		"v1=90,canary=10":   {"v1": 0.9, "canary": 0.1},
		"v1=0.9 canary=0.1": {"v1": 0.9, "canary": 0.1},
		"v1=50% v2=50%":     {"v1": 0.5, "v2": 0.5},
		"v2=1,v1=0":         {"v2": 1},
	} {
		s, err := parseShares(strings.Fields(text))
		if err != nil || !maps.EqualFunc(s.Shares, want, func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }) {
			t.Errorf("parseShares(%s) = %v, %v", text, s.Shares, err)
		}
	}
	if got := shares(admin.Split{Shares: map[string]float64{"b": 0.125, "a": 0.125, "c": 0.75}}); got != "c=75% a=12.5% b=12.5%" {
		t.Errorf("shares: %s", got)
	}
	if got := byShare(nil); !slices.Equal(got, nil) {
		t.Errorf("byShare(nil) = %v", got)
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "10m": now.Add(-10 * time.Minute), "2026-11-22T11:00:00Z": now.Add(-time.Hour),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-10m", "10"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("parseSince(%q) = %v", text, got)
		}
	}
}

// Columns are as wide as their widest cell, an empty cell is a hyphen, and no
// cell can move the cursor.
func TestTable(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	table := newTable("NAME", "N", "WHY")
	table.add("grün", "1", "a\x1b[2Jb")
	table.add("x", "", "longer\nlines")
	var out strings.Builder
	if err := table.write(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME  N  WHY\ngrün  1  a[2Jb\nx     -  longerlines\n"
	if out.String() != want {
		t.Errorf("table:\n%s\nwant\n%s", out.String(), want)
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 72 * time.Hour: "3d",
	} {
		if got := brief(d); got != want {
			t.Errorf("brief(%v) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 5e9: "5.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %s, want %s", n, got, want)
		}
	}
}
