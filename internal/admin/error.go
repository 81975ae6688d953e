package admin

import (
	"errors"
	"syscall"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

// Kind says what went wrong, for programs.
type Kind string

// The kinds. The first four are app's.
const (
	KindNotFound     Kind = "not-found"
	KindExists       Kind = "exists"
	KindInvalid      Kind = "invalid"
	KindBusy         Kind = "busy"
	KindUnauthorized Kind = "unauthorized" // no token, or not one of this server's
	KindForbidden    Kind = "forbidden"    // from a browser that another page directs
	KindUnavailable  Kind = "unavailable"  // too much at once, or the server is ending; the same again later may do
	KindInternal     Kind = "internal"     // the server's own trouble; its log has more
	KindUnreachable  Kind = "unreachable"  // the client got no answer from a server
)

// Error is what the API answers when it does not do what it was asked to. It
// unwraps to app's error of its kind, where there is one.
type Error struct {
	Kind    Kind
	Message string        // what is wrong, and why
	Next    string        // what a person can do about it; may be ""
	Retry   time.Duration // after which the same may succeed; 0: not said

	err error // the cause on the client's side, where there is one
}

func (e *Error) Error() string { return e.Message }

// Unwrap is app.ErrNotFound, ErrExists, ErrInvalid or ErrBusy where the kind is
// theirs, else what kept the client from an answer.
func (e *Error) Unwrap() error {
	for _, k := range kinds {
		if k.kind == e.Kind && k.err != nil {
			return k.err
		}
	}
	return e.err
}

// kinds gives each kind its HTTP status, and the error of app that it is.
var kinds = []struct {
	kind   Kind
	status int
	err    error
}{
	{KindNotFound, 404, app.ErrNotFound},
	{KindExists, 409, app.ErrExists},
	{KindInvalid, 400, app.ErrInvalid},
	{KindBusy, 409, app.ErrBusy},
	{KindUnauthorized, 401, nil},
	{KindForbidden, 403, nil},
	{KindUnavailable, 503, nil},
	{KindInternal, 500, nil},
}

// wireError is an Error as JSON.
type wireError struct {
	Error struct {
		Kind    Kind   `json:"kind"`
		Message string `json:"message"`
		Next    string `json:"next,omitempty"`
	} `json:"error"`
}

// status is the HTTP status of an error's kind.
func (e *Error) status() int {
	for _, k := range kinds {
		if k.kind == e.Kind {
			return k.status
		}
	}
	return 500
}

func (e *Error) wire() (w wireError) {
	w.Error.Kind, w.Error.Message, w.Error.Next = e.Kind, e.Message, e.Next
	return w
}

// errorOf makes of any error what is told outside: those that app knows as they
// are, everything else as internal, without its text.
func errorOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	for _, k := range kinds {
		if k.err != nil && errors.Is(err, k.err) {
			e := &Error{Kind: k.kind, Message: err.Error()}
			var r *source.Refusal
			if errors.As(err, &r) {
				e.Message, e.Next = r.What, r.Next
			}
			return e
		}
	}
	// What the rooms say about a full disk is for who can make room on it.
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &Error{Kind: KindUnavailable, Message: err.Error()}
	}
	return &Error{Kind: KindInternal, Message: "the server met an internal error", Next: "Its log says more.", err: err}
}
