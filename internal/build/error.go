package build

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Error is why a build failed, told to a person: what was being done, the cause,
// the last lines that the tool wrote, and what to do about it.
type Error struct {
	Phase   Phase
	Command string // what ran, when it was a command that failed
	Err     error
	Tail    []string // the last lines of the command's output
	Next    string   // the next step, "" when nobody knows one
	Output  string   // the file with all of the output, "" when there is none
}

func (e *Error) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "build: %s: ", e.Phase)
	if e.Command != "" {
		fmt.Fprintf(&s, "%s: ", e.Command)
	}
	s.WriteString(e.Err.Error())
	if e.Next != "" {
		fmt.Fprintf(&s, "; %s", e.Next)
	}
	return s.String()
}

func (e *Error) Unwrap() error { return e.Err }

// refuse makes an Error of a cause and a next step.
func refuse(p Phase, next, format string, args ...any) error {
	return &Error{Phase: p, Err: fmt.Errorf(format, args...), Next: next}
}

// ended makes an *Error of every error, and tells the end of ctx as the cause
// where it was one.
func ended(ctx context.Context, p Phase, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Phase: p, Err: err}
	}
	if ctx.Err() != nil && !errors.Is(e.Err, context.Cause(ctx)) {
		e.Err, e.Next = context.Cause(ctx), ""
	}
	return e
}
