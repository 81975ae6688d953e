//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// results is what was measured: a list of values, one for each round, by row
// and peer.
type results struct {
	peers   []peer
	groups  []group
	figures map[cell][]float64
	costs   map[cell][]float64 // of the generator
	broken  map[cell]bool      // something failed while it was measured
	failed  []string
}

type cell struct{ row, peer string }

func newResults(peers []peer, groups []group) *results {
	return &results{peers: peers, groups: groups, figures: map[cell][]float64{}, costs: map[cell][]float64{}, broken: map[cell]bool{}}
}

// median is the middle one, or the mean of the two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// of is the median of a row at a peer; NaN where there is none.
func (r *results) of(row, peer string) float64 { return median(r.figures[cell{row, peer}]) }

// bestPeer is the best proxy that is not ours and did not fail; "" if there is
// none.
func (r *results) bestPeer(row row) (name string, value float64) {
	for _, p := range r.peers {
		if p.name == ours || p.name == direct || r.broken[cell{row.id, p.name}] {
			continue
		}
		v := r.of(row.id, p.name)
		if math.IsNaN(v) || name != "" && (v < value) == row.higher {
			continue
		}
		name, value = p.name, v
	}
	return name, value
}

// table prints medians, the ratio to the best peer and where Holdfast must stand.
func (r *results) table() string {
	head := []string{"", "unit"}
	for _, p := range r.peers {
		head = append(head, p.name)
	}
	lines := [][]string{append(head, "best peer", "ratio", "must")}
	for _, g := range r.groups {
		for _, row := range g.rows {
			title := row.title
			if row.higher {
				title += " (more is better)"
			}
			line := []string{title, row.unit}
			for _, p := range r.peers {
				line = append(line, r.show(row, p))
			}
			name, value := r.bestPeer(row)
			ratio := "-"
			if v := r.of(row.id, ours); name != "" && value > 0 && !math.IsNaN(v) {
				ratio = fmt.Sprintf("%.2f", v/value)
			}
			if name == "" {
				name = "-"
			}
			lines = append(lines, append(line, name, ratio, r.verdict(row)))
		}
	}
	return align(lines)
}

// show prints a figure; "!" marks one during which something failed.
func (r *results) show(row row, p peer) string {
	c := cell{row.id, p.name}
	v := median(r.figures[c])
	switch {
	case math.IsNaN(v) && r.broken[c]:
		return "FAILED"
	case math.IsNaN(v):
		return "-"
	case r.broken[c]:
		return number(v, row.digits) + " !"
	default:
		return number(v, row.digits)
	}
}

// verdict says for each bound of a row whether Holdfast keeps it.
func (r *results) verdict(row row) string {
	v := r.of(row.id, ours)
	var all []string
	for _, b := range row.must {
		reference, of := 1.0, ""
		switch b.of {
		case "":
		case best:
			_, reference = r.bestPeer(row)
			of = " x best"
		default:
			reference, of = r.of(row.id, b.of), " x "+b.of
		}
		word := "at most"
		if row.higher {
			word = "at least"
		}
		amount := fmt.Sprintf("%.3g", b.times)
		if b.times >= 1000 {
			amount = number(b.times, 0)
		}
		text := word + " " + amount + of
		switch limit := b.times * reference; {
		case math.IsNaN(v), math.IsNaN(limit), limit == 0:
		case row.higher && v >= limit, !row.higher && v <= limit:
			text += ": kept"
		default:
			text += ": SHORT"
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// generatorTable prints what measuring cost: the generator's CPU time for each
// thing whose cost is a row.
func (r *results) generatorTable() string {
	head := []string{"the generator's CPU while measuring", "unit"}
	for _, p := range r.peers {
		head = append(head, p.name)
	}
	lines := [][]string{head}
	for _, g := range r.groups {
		for _, row := range g.rows {
			line := []string{row.id, row.unit}
			any := false
			for _, p := range r.peers {
				v := median(r.costs[cell{row.id, p.name}])
				if math.IsNaN(v) {
					line = append(line, "-")
					continue
				}
				any = true
				line = append(line, number(v, row.digits))
			}
			if any {
				lines = append(lines, line)
			}
		}
	}
	return align(lines)
}

// number prints with digits after the point and commas between thousands.
func number(v float64, digits int) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', digits, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	if v < 0 {
		whole = "-" + whole
	}
	return whole
}

// align makes a table of Markdown that also reads well as it is.
func align(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], len(text), 3)
		}
	}
	numeric := func(i int) bool { // by its first figure
		first := lines[min(1, len(lines)-1)][i]
		return first != "" && strings.Trim(first[:1], "-0123456789") == ""
	}
	var b strings.Builder
	for n, line := range lines {
		for i, text := range line {
			pad := strings.Repeat(" ", widths[i]-len(text))
			if numeric(i) {
				text = pad + text
			} else {
				text += pad
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, w := range widths {
			if numeric(i) {
				b.WriteString("|" + strings.Repeat("-", w+1) + ":")
			} else {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}
