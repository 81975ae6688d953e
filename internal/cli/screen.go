package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/briandowns/spinner"
	"github.com/fatih/color"
	"golang.org/x/term"

	"holdfast/internal/logs"
)

// screen is what a person sees: steps with a spinner on a terminal and plain
// lines elsewhere, then the lines of the instances. Its methods may be called
// from several goroutines.
type screen struct {
	mu     sync.Mutex // guards the following, and the order of what is written
	out    io.Writer
	spin   *spinner.Spinner // while a step is under way on a terminal
	step   string           // that step, "" for none
	began  time.Time
	part   []byte // an unfinished line of a tool's output
	width  int    // of the longest instance name so far
	colors map[string]*color.Color
	lively bool // a terminal: a spinner may be shown
}

// spinnerDots and spinnerPace are the look of a step under way.
const (
	spinnerDots = 14
	spinnerPace = 100 * time.Millisecond

	// suffixMax is how much of a tool's latest line is shown beside the spinner.
	suffixMax = 60
)

// palette colours the names of instances in turn. Red is left to errors.
var palette = []color.Attribute{color.FgCyan, color.FgMagenta, color.FgYellow, color.FgGreen, color.FgBlue}

func newScreen(out *os.File) *screen {
	return &screen{
		out:    out,
		lively: term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb",
		colors: map[string]*color.Color{},
	}
}

// begin shows that a step is under way, until done or fail.
func (s *screen) begin(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
	s.step, s.began = fmt.Sprintf(format, args...), time.Now()
	if !s.lively {
		fmt.Fprintf(s.out, "%s ...\n", s.step)
		return
	}
	s.spin = spinner.New(spinner.CharSets[spinnerDots], spinnerPace, spinner.WithWriter(s.out))
	s.spin.Suffix = " " + s.step
	s.spin.Start()
}

// done ends the step under way with what came of it. Without one it only says
// so.
func (s *screen) done(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	began, took := s.began, time.Since(s.began)
	s.stopLocked()
	s.began = time.Time{}
	text := fmt.Sprintf(format, args...)
	if !began.IsZero() && took > 50*time.Millisecond {
		text += color.New(color.Faint).Sprintf(" (%s)", round(took))
	}
	fmt.Fprintf(s.out, "%s %s\n", color.GreenString("✓"), text)
}

// fail ends the step under way, if any, without a word: the error follows.
func (s *screen) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
}

func (s *screen) stopLocked() {
	if s.spin != nil {
		s.spin.Stop()
		s.spin = nil
	}
	s.step, s.part = "", nil
}

// Write takes a tool's output during a step. A terminal shows its latest line
// beside the spinner, other outputs get every line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = append(s.part, p...)
	for {
		line, rest, ended := bytes.Cut(s.part, []byte("\n"))
		if !ended {
			break
		}
		text := clean(string(bytes.TrimRight(line, "\r")))
		s.part = rest
		if s.spin == nil {
			fmt.Fprintf(s.out, "  | %s\n", text)
			continue
		}
		if r := []rune(text); len(r) > suffixMax {
			text = string(r[:suffixMax-1]) + "…"
		}
		s.spin.Lock()
		s.spin.Suffix = " " + s.step + color.New(color.Faint).Sprint("  "+text)
		s.spin.Unlock()
	}
	if len(s.part) > suffixMax*100 { // a tool that never ends its line
		s.part = nil
	}
	return len(p), nil
}

// say writes one line of ours.
func (s *screen) say(format string, args ...any) { s.line(fmt.Sprintf(format, args...)) }

// fit makes room for a name, so that lines align from the first on.
func (s *screen) fit(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width = max(s.width, len(name))
}

// log writes one line of an instance, its name before it.
func (s *screen) log(instance string, l logs.Line) {
	s.mu.Lock()
	c := s.colors[instance]
	if c == nil {
		c = color.New(palette[len(s.colors)%len(palette)])
		s.colors[instance] = c
	}
	s.width = max(s.width, len(instance))
	name := c.Sprintf("%-*s |", s.width, instance)
	s.mu.Unlock()

	text := clean(l.Text)
	switch l.Stream {
	case logs.System:
		text = color.New(color.Faint).Sprint(text)
	case logs.Err:
		text = color.New(color.FgHiRed).Sprint(text)
	}
	s.line(name + " " + text)
}

// line writes above the spinner, if one is shown.
func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spin != nil {
		s.spin.Stop()
		defer s.spin.Start()
	}
	fmt.Fprintln(s.out, text)
}

// clean takes the control bytes out of what an app wrote, but for colours and
// tabs: a log line must not be able to move the cursor, ring the bell or
// retitle the terminal.
func clean(text string) string {
	plain := true
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] == 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == 0x1b:
			if n := colourSequence(text[i:]); n > 0 {
				b = append(b, text[i:i+n]...)
				i += n - 1
			}
		case c == '\t' || c >= ' ' && c != 0x7f:
			b = append(b, c)
		}
	}
	return string(b)
}

// colourSequence is the length of an SGR sequence (ECMA-48 8.3.117) at the
// beginning of s: ESC [ digits and semicolons m. It is 0 if there is none.
func colourSequence(s string) int {
	if len(s) < 3 || s[1] != '[' {
		return 0
	}
	for i := 2; i < len(s) && i < 32; i++ {
		switch c := s[i]; {
		case c == 'm':
			return i + 1
		case c != ';' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

// round makes a duration readable: two digits that matter.
func round(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
