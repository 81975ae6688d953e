package drill

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// chartWidth is how many columns a chart in the terminal has.
const chartWidth = 60

// WriteText writes the report for a terminal: a table of the drills, and below it
// each with its chart and what went wrong. mark is put around what failed; it may
// colour, and must not change the width.
func (r Report) WriteText(out io.Writer, mark func(good bool, text string) string) error {
	var b strings.Builder
	rows := [][]string{{"DRILL", "ERRORS", "OUTAGES", "BACK p50", "p99", "MAX", "AWAY", "LOST", "UNEVEN", "VERDICT"}}
	for _, d := range r.Drills {
		if d.Skipped != "" {
			rows = append(rows, []string{d.Drill, "-", "-", "-", "-", "-", "-", "-", "-", "skipped"})
			continue
		}
		rows = append(rows, []string{d.Drill, fmt.Sprint(d.Errors), fmt.Sprint(d.Recovery.N), d.back(d.Recovery.P50), d.back(d.Recovery.P99), d.back(d.Recovery.Max),
			fmt.Sprint(d.Recovery.Away), d.Messages.told(), fmt.Sprintf("%.0f%%", d.After.Uneven*100), d.verdict()})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			last := i == len(row)-1
			if !last {
				cell += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			if last && n > 0 && r.Drills[n-1].Judged {
				cell = mark(r.Drills[n-1].Passed, cell)
			}
			b.WriteString(cell)
		}
		b.WriteByte('\n')
	}
	for _, d := range r.Drills {
		d.writeText(&b, mark)
	}
	b.WriteByte('\n')
	switch {
	case r.Expect == "":
		b.WriteString("Nothing was expected; --expect makes a test of it.\n")
	case r.Passed:
		b.WriteString(mark(true, "Passed: "+r.Expect) + "\n")
	default:
		b.WriteString(mark(false, "Missed: "+r.Expect) + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// back is a time to recover; nothing is said where nobody came back.
func (r Result) back(s float64) string {
	if r.Recovery.Max == 0 {
		return "–"
	}
	return long(s)
}

func (m Messages) told() string {
	if m.Sent == 0 {
		return "-"
	}
	return fmt.Sprint(m.Lost)
}

func (r Result) verdict() string {
	switch {
	case !r.Judged:
		return "-"
	case r.Passed:
		return "passed"
	}
	return "missed"
}

func (r Result) writeText(b *strings.Builder, mark func(bool, string) string) {
	fmt.Fprintf(b, "\n%s: %s\n", r.Drill, r.What)
	if r.Skipped != "" {
		fmt.Fprintf(b, "  skipped: %s\n", r.Skipped)
		return
	}
	if len(r.Instances) > 0 {
		fmt.Fprintf(b, "  it met %s\n", strings.Join(r.Instances, ", "))
	}
	if r.CutShort != "" {
		fmt.Fprintf(b, "  it ended early: %s\n", r.CutShort)
	}
	r.writeChart(b)
	for _, f := range r.Failures {
		fmt.Fprintf(b, "  %s\n", mark(false, fmt.Sprintf("%d× %s  (%s, %s, first after %s)", f.N, f.What, f.Probe, whom(f.Clients), long(f.First))))
	}
	for _, g := range r.Goodbyes {
		fmt.Fprintf(b, "  %d× ended: %s\n", g.N, g.What)
	}
	if r.Messages.Sent > 0 {
		fmt.Fprintf(b, "  messages: %d sent, %d answered, %d lost, %d doubled\n", r.Messages.Sent, r.Messages.Answered, r.Messages.Lost, r.Messages.Doubled)
	}
	if r.Real.Records > 0 {
		fmt.Fprintf(b, "  other clients: %d requests and sockets", r.Real.Records)
		for _, c := range r.Real.Met {
			fmt.Fprintf(b, "; %d %s", c.N, c.What)
		}
		b.WriteByte('\n')
	}
	for _, m := range r.Missed {
		fmt.Fprintf(b, "  %s\n", mark(false, "missed "+m))
	}
}

// writeChart draws the sockets of each instance over time, and what clients met.
func (r Result) writeChart(b *strings.Builder) {
	if len(r.Samples) == 0 || r.Seconds <= 0 {
		return
	}
	column := func(at float64) int { return min(chartWidth-1, max(0, int(at/r.Seconds*chartWidth))) }
	ids, most := r.instances()
	width := len("errors")
	for _, id := range ids {
		width = max(width, len(id))
	}
	scale := []rune(" ▁▂▃▄▅▆▇█")
	line := func(name string, cells []rune, note string) {
		fmt.Fprintf(b, "  %-*s │%s│ %s\n", width, name, string(cells), note)
	}
	ruler := []rune(strings.Repeat(" ", chartWidth))
	for i := column(r.Broke); i <= column(r.Mended); i++ {
		ruler[i] = '─'
	}
	ruler[column(r.Broke)], ruler[column(r.Mended)] = '├', '┤'
	line("", ruler, fmt.Sprintf("%s of %s", r.Drill, long(r.Seconds)))
	for _, id := range ids {
		cells := []rune(strings.Repeat(" ", chartWidth))
		top := 0
		for _, s := range r.Samples {
			n, there := s.Sockets[id]
			if !there || s.States[id] == "stopped" {
				continue
			}
			top = max(top, n)
			cells[column(s.At)] = '·'
			if n > 0 && most > 0 {
				cells[column(s.At)] = scale[1+int(math.Round(float64(n)/float64(most)*7))]
			}
		}
		line(id, spread(cells), fmt.Sprintf("up to %d sockets", top))
	}
	events := func(name string, of func(Sample) int, total int) {
		if total == 0 {
			return
		}
		at := make([]int, chartWidth)
		for _, s := range r.Samples {
			at[column(s.At)] += of(s)
		}
		top := slices.Max(at)
		cells := []rune(strings.Repeat(" ", chartWidth))
		for i, n := range at {
			if n > 0 {
				cells[i] = scale[1+int(math.Round(float64(n)/float64(top)*7))]
			}
		}
		line(name, cells, fmt.Sprint(total))
	}
	sum := func(of func(Sample) int) (n int) {
		for _, s := range r.Samples {
			n += of(s)
		}
		return n
	}
	for _, e := range []struct {
		name string
		of   func(Sample) int
	}{{"ended", func(s Sample) int { return s.Goodbyes }}, {"back", func(s Sample) int { return s.Returns }}, {"errors", func(s Sample) int { return s.Errors }}} {
		events(e.name, e.of, sum(e.of))
	}
}

// spread fills columns between two looks with what was seen before.
func spread(cells []rune) []rune {
	last := -1
	for i, c := range cells {
		if c == ' ' {
			continue
		}
		if last >= 0 && i-last <= 3 {
			for j := last + 1; j < i; j++ {
				cells[j] = cells[last]
			}
		}
		last = i
	}
	return cells
}

// instances is those that had a part in the drill, in the order in which they came,
// and the most sockets that one had.
func (r Result) instances() (ids []string, most int) {
	seen := map[string]bool{}
	for _, s := range r.Samples {
		var fresh []string
		for id, n := range s.Sockets {
			most = max(most, n)
			if !seen[id] && (s.States[id] != "stopped" || n > 0) {
				seen[id] = true
				fresh = append(fresh, id)
			}
		}
		slices.Sort(fresh)
		ids = append(ids, fresh...)
	}
	return ids, most
}
