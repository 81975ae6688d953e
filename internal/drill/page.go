package drill

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page.html
var pageText string

// WritePage writes the report as a page that stands alone: it loads nothing, runs
// nothing, and is light or dark as its reader's system is.
func (r Report) WritePage(out io.Writer) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"long":    long,
		"percent": func(share float64) string { return fmt.Sprintf("%.0f %%", share*100) },
		"whom":    whom,
		"chart":   Result.chart,
		"brief":   brief,
		"back":    Result.back,
		"sentence": func(text string) string {
			if text == "" {
				return ""
			}
			return strings.ToUpper(text[:1]) + text[1:] + "."
		},
		"strip": Result.strip,
		"join":  func(all []string) string { return strings.Join(all, ", ") },
		"parts": func(text string) []string {
			if text == "" {
				return nil
			}
			return strings.Split(text, ",")
		},
		"width": func(n int, e Evenness) string {
			most := 1
			for _, c := range e.Sockets {
				most = max(most, c.N)
			}
			return fmt.Sprintf("%.1f", 100*float64(n)/float64(most))
		},
		"tone": func(res Result) string {
			switch {
			case res.Skipped != "" || !res.Judged:
				return "plain"
			case res.Passed:
				return "good"
			}
			return "bad"
		},
		"verdict": func(res Result) string {
			if res.Skipped != "" {
				return "skipped"
			}
			if v := res.verdict(); v != "-" {
				return v
			}
			return "not judged"
		},
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(out, r)
}

// Done counts the drills that were done.
func (r Report) Done() (n int) {
	for _, d := range r.Drills {
		if d.Skipped == "" {
			n++
		}
	}
	return n
}

// Kept counts those that kept to what was expected.
func (r Report) Kept() (n int) {
	for _, d := range r.Drills {
		if d.Skipped == "" && d.Passed {
			n++
		}
	}
	return n
}

// First is the first drill that was done, by which the page tells how all were.
func (r Report) First() Result {
	for _, d := range r.Drills {
		if d.Skipped == "" {
			return d
		}
	}
	return Result{}
}
