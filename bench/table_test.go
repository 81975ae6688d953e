//go:build linux

package main

import (
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 3, 2}, 7: {7}} {
		if got := median(values); got != want {
			t.Errorf("median(%v) = %v, want %v", values, got, want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v", got)
	}
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "999": 999, "1,000": 1000, "-12,345": -12345, "1,234,567": 1234567} {
		if got := number(v, 0); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	if got := number(1234.56, 1); got != "1,234.6" {
		t.Errorf("number = %q", got)
	}
}

func TestTheTableComparesWithTheBestThatDidNotFail(t *testing.T) {
	cost := row{id: "cost", title: "cost", unit: "us", digits: 1, must: []bound{{1.05, best}, {2, nginx}}}
	rate := row{id: "rate", title: "rate", unit: "/s", higher: true, must: []bound{{0.9, best}}}
	share := row{id: "share", title: "share", unit: "%", must: []bound{{0.5, ""}}}
	r := newResults([]peer{{name: direct}, {name: nginx}, {name: haproxy}, {name: caddy}, {name: ours}}, []group{{rows: []row{cost, rate, share}}})
	for name, values := range map[string][3]float64{direct: {1, 900, 0}, nginx: {10, 100, 0}, haproxy: {8, 300, 0}, caddy: {2, 999, 0}, ours: {9, 270, 0.4}} {
		for i, row := range []row{cost, rate, share} {
			r.figures[cell{row.id, name}] = []float64{values[i]}
		}
	}
	for _, row := range []row{cost, rate, share} {
		r.broken[cell{row.id, caddy}] = true
	}
	delete(r.figures, cell{"rate", caddy})
	lines := strings.Split(r.table(), "\n")
	for i, want := range [][]string{
		{"2.0 !", "haproxy", "1.12", "at most 1.05 x best: SHORT; at most 2 x nginx: kept"},
		{"FAILED", "haproxy", "0.90", "at least 0.9 x best: kept"},
		{"at most 0.5: kept"},
	} {
		for _, text := range want {
			if !strings.Contains(lines[i+2], text) {
				t.Errorf("no %q in %s", text, lines[i+2])
			}
		}
	}
}
