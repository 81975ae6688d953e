package appyaml

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/internal/app"
)

const (
	// maxErrors is how many errors of one file are reported. Whoever has more
	// has one cause for most of them.
	maxErrors = 100

	// maxSourceRunes is how much of a source line is shown around the place of
	// an error, so that a file of one endless line makes a short message.
	maxSourceRunes = 120

	// maxMessageRunes is for the messages that repeat something without bound.
	maxMessageRunes = 1000

	// maxShownRunes is how much of a value is repeated in a message.
	maxShownRunes = 60
)

// Error is one thing wrong in a file.
type Error struct {
	File         string
	Line, Column int    // from 1; columns count characters
	Source       string // the line, without its end; "" if the file has none such
	Message      string // what is wrong
	Hint         string // what to do about it; may be ""
}

// Error is the message, and beneath it the line with a mark at the column:
//
//	app.yaml:7:3: unknown key "sesion_affinity" in network: did you mean "session_affinity"?
//	    7 |   sesion_affinity: true
//	      |   ^
func (e Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if e.Source != "" {
		text, pad := excerpt(e.Source, e.Column)
		fmt.Fprintf(&b, "\n%5d | %s\n      | %s^", e.Line, text, pad)
	}
	return b.String()
}

// Errors are all errors of one file, in its order.
type Errors []Error

func (e Errors) Error() string {
	parts := make([]string, len(e))
	for i := range e {
		parts[i] = e[i].Error()
	}
	return strings.Join(parts, "\n")
}

// Is makes the errors of a file an app.ErrInvalid.
func (e Errors) Is(target error) bool { return target == app.ErrInvalid }

// Warning is something that works, but not as one might think.
type Warning struct {
	File         string
	Line, Column int
	Message      string
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", w.File, w.Line, w.Column, w.Message)
}

// A place in a file, both from 1. Columns count characters.
type place struct{ line, column int }

// source is a file's text and what there is to say about it.
type source struct {
	name     string
	least    string // what such a file must have, for who wrote something else
	lines    []string
	errors   Errors
	more     int // errors beyond maxErrors
	warnings []Warning
}

// fail notes an error. The place is moved into the file if it is not in it: a
// few of the YAML parser's positions are one off.
func (s *source) fail(at place, message, hint string) {
	if s.full() {
		s.more++
		return
	}
	at, line := s.clamp(at)
	s.errors = append(s.errors, Error{File: s.name, Line: at.line, Column: at.column, Source: line, Message: printable(message), Hint: printable(hint)})
}

// full says that further errors are only counted.
func (s *source) full() bool { return len(s.errors) >= maxErrors }

func (s *source) warn(at place, message string) {
	if len(s.warnings) >= maxErrors {
		return
	}
	at, _ = s.clamp(at)
	s.warnings = append(s.warnings, Warning{File: s.name, Line: at.line, Column: at.column, Message: printable(message)})
}

func (s *source) clamp(at place) (place, string) {
	if len(s.lines) == 0 {
		return place{1, 1}, ""
	}
	at.line = min(max(at.line, 1), len(s.lines))
	line := s.lines[at.line-1]
	at.column = min(max(at.column, 1), utf8.RuneCountInString(line)+1)
	return at, line
}

// failure is what Parse returns: nil, or the sorted Errors.
func (s *source) failure() error {
	if len(s.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(s.errors, func(a, b Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if s.more > 0 {
		last := &s.errors[len(s.errors)-1]
		last.Message += fmt.Sprintf(" (and %d more errors in this file)", s.more)
		s.more = 0
	}
	return s.errors
}

func (s *source) sortedWarnings() []Warning {
	slices.SortStableFunc(s.warnings, func(a, b Warning) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return s.warnings
}

// excerpt is the part of a line around a column, safe to print, and the blanks
// that lead to that column beneath it.
func excerpt(line string, column int) (text, pad string) {
	runes := []rune(line)
	at := min(column-1, len(runes))
	if len(runes) > maxSourceRunes {
		from := max(0, min(at-maxSourceRunes/2, len(runes)-maxSourceRunes))
		to := from + maxSourceRunes
		at -= from
		cut := append([]rune(nil), runes[from:to]...)
		if from > 0 {
			cut = append([]rune("..."), cut...)
			at += 3
		}
		if to < len(runes) {
			cut = append(cut, []rune("...")...)
		}
		runes = cut
	}
	var b, p strings.Builder
	for i, c := range runes {
		if c != '\t' && !unicode.IsPrint(c) {
			c = utf8.RuneError
		}
		b.WriteRune(c)
		if i < at {
			if c == '\t' {
				p.WriteByte('\t')
			} else {
				p.WriteByte(' ')
			}
		}
	}
	return b.String(), p.String()
}

// printable makes a message safe to print: parts of it come from the file, and
// a terminal must not obey a file.
func printable(s string) string {
	if r := []rune(s); len(r) > maxMessageRunes {
		s = string(r[:maxMessageRunes]) + "..."
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return utf8.RuneError
		}
		return c
	}, s)
}

// quote shows a piece of the file in a message.
func quote(s string) string {
	if utf8.RuneCountInString(s) > maxShownRunes {
		s = string([]rune(s)[:maxShownRunes]) + "..."
	}
	return fmt.Sprintf("%q", s)
}
