package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fatih/color"
)

// table is what a list looks like for people: columns, as wide as they must be.
type table struct {
	head []string
	rows [][]string
}

func newTable(head ...string) *table { return &table{head: head} }

// add adds a row, a text for each column. An empty one is shown as a hyphen, so
// that every row has as many words as columns.
func (t *table) add(cells ...string) {
	row := make([]string, len(t.head))
	for i := range row {
		row[i] = "-"
		if i < len(cells) && cells[i] != "" {
			row[i] = clean(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

// write prints the table: the head, and below it the rows.
func (t *table) write(out io.Writer) error {
	widths := make([]int, len(t.head))
	for i, h := range t.head {
		widths[i] = len(h)
	}
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(cells []string) string {
		var b strings.Builder
		for i, cell := range cells {
			if i == len(cells)-1 {
				b.WriteString(cell) // no blanks at the end of a line
				break
			}
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		return b.String()
	}
	if _, err := fmt.Fprintln(out, color.New(color.Bold).Sprint(line(t.head))); err != nil {
		return err
	}
	for _, row := range t.rows {
		if _, err := fmt.Fprintln(out, line(row)); err != nil {
			return err
		}
	}
	return nil
}

// facts is what one thing looks like for people: a name and a text in each line.
type facts struct{ table }

func newFacts() *facts { return &facts{} }

// add adds a line, unless there is nothing to say.
func (f *facts) add(name, text string) {
	if text != "" {
		f.rows = append(f.rows, []string{name, clean(text)})
	}
}

func (f *facts) write(out io.Writer) error {
	width := 0
	for _, row := range f.rows {
		width = max(width, len(row[0]))
	}
	for _, row := range f.rows {
		name := fmt.Sprintf("%-*s", width+2, row[0])
		if _, err := fmt.Fprintln(out, color.New(color.Faint).Sprint(name)+row[1]); err != nil {
			return err
		}
	}
	return nil
}

// show prints a list: value as JSON, or the table, or what is said when that is
// empty.
func show(format string, value any, t *table, empty string) error {
	if format == formatJSON {
		return printJSON(value)
	}
	if len(t.rows) == 0 {
		fmt.Fprintln(os.Stderr, empty) // not among what a script reads
		return nil
	}
	return t.write(os.Stdout)
}

// showOne prints one thing.
func showOne(format string, value any, f *facts) error {
	if format == formatJSON {
		return printJSON(value)
	}
	return f.write(os.Stdout)
}

func printJSON(value any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// yes marks what holds in a table.
func yes(holds bool) string {
	if holds {
		return "yes"
	}
	return ""
}

// ago says how long ago something was, in one unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return brief(time.Since(t))
}

// brief says how long something is, in one unit.
func brief(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// when shows a time whole, in the person's zone, and how long ago it was.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	text := t.Local().Format("2006-01-02 15:04:05 MST")
	if since := time.Since(t); since > 0 {
		return text + " (" + brief(since) + " ago)"
	}
	return text
}

// percent shows a share, 0 to 1, with no more digits than it needs.
func percent(share float64) string {
	if share == 0 {
		return ""
	}
	text := strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", share*100), "0"), ".")
	return text + "%"
}

// bytesText shows a number of bytes, in thousands.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
