package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fatih/color"
)

// problem is an error told to a person: what is wrong, the lines that show it,
// and what to do next.
type problem struct {
	what  string   // one sentence, without a full stop
	lines []string // the last lines that the app or a tool wrote; may be empty
	title string   // what those lines are
	next  string   // the next step
	err   error    // the cause, when there is one to unwrap
}

func (p *problem) Error() string { return p.what }
func (p *problem) Unwrap() error { return p.err }

// misuse is an error of the command line itself: exit code 2.
type misuse struct{ error }

// tell writes err the way people are told.
func tell(out io.Writer, err error) {
	fmt.Fprintf(out, "%s %s\n", color.New(color.FgRed, color.Bold).Sprint("holdfast:"), err)
	var p *problem
	if !errors.As(err, &p) {
		return
	}
	if len(p.lines) > 0 {
		fmt.Fprintf(out, "  %s\n", p.title)
		for _, l := range p.lines {
			fmt.Fprintf(out, "  %s %s\n", color.New(color.Faint).Sprint("|"), clean(l))
		}
	}
	if p.next != "" {
		fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(p.next, "\n", "\n  "))
	}
}
