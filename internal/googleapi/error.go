package googleapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/auth"
	"holdfast/internal/source"
)

// Error is an error as Google's APIs answer it.
type Error struct {
	Code       int         // the HTTP status
	Status     string      // its name in google.rpc.Code
	Message    string      // the cause and the next step, for people
	Violations []Violation // what exactly is wrong, where that can be said
}

// Violation is one thing wrong with what was sent.
type Violation struct {
	Field       string `json:"field"` // such as version.resources.cpu, or app.yaml:7:3
	Description string `json:"description"`
}

func (e *Error) Error() string { return e.Message }

// The statuses by the names that go with them.
func statusOf(code int) string {
	switch code {
	case http.StatusBadRequest:
		return "INVALID_ARGUMENT"
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusConflict:
		return "ALREADY_EXISTS"
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return "RESOURCE_EXHAUSTED"
	}
	return "INTERNAL"
}

func refuse(code int, format string, args ...any) *Error {
	return &Error{Code: code, Status: statusOf(code), Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, format, args...)
}

func missing(what string) *Error {
	return refuse(http.StatusNotFound, "%s does not exist", what)
}

// wrong refuses one field.
func wrong(field, format string, args ...any) *Error {
	text := fmt.Sprintf(format, args...)
	e := invalid("%s: %s", field, text)
	e.Violations = []Violation{{field, text}}
	return e
}

// unsupported refuses what Holdfast does not do, with what to do instead.
func unsupported(what, next string) *Error {
	e := invalid("Holdfast does not do this: %s. %s", what, next)
	e.Status = "FAILED_PRECONDITION"
	return e
}

// errorOf makes of any error what is told outside: those that app knows as they
// are, everything else as internal, without its text.
func errorOf(err error) *Error {
	var known *Error
	var refused *auth.Refusal
	var files appyaml.Errors
	var tree *source.Refusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return refuse(refused.Status, "%s. %s", refused.What, refused.Next)
	case errors.As(err, &files):
		e := invalid("%s", files.Error())
		for _, f := range files {
			text := f.Message
			if f.Hint != "" {
				text += ": " + f.Hint
			}
			e.Violations = append(e.Violations, Violation{fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column), text})
		}
		return e
	case errors.As(err, &tree):
		return wrong("version.deployment.files", "%s", tree.Error())
	case errors.Is(err, app.ErrNotFound):
		return refuse(http.StatusNotFound, "%v", err)
	case errors.Is(err, app.ErrExists):
		return refuse(http.StatusConflict, "%v", err)
	case errors.Is(err, app.ErrBusy):
		// Google answers 409 ABORTED; gcloud reads a 409 of apps.create as "exists",
		// and tells all others as they are.
		e := refuse(http.StatusConflict, "%v", err)
		e.Status = "ABORTED"
		return e
	case errors.Is(err, app.ErrInvalid):
		return invalid("%v", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return refuse(http.StatusInsufficientStorage, "the server's disk is full: %v", err)
	}
	return refuse(http.StatusInternalServerError, "the server met an internal error; its log says more")
}

// wireError is an Error as JSON. The code that is sent is the HTTP status.
type wireError struct {
	Error wireStatus `json:"error"`
}

type wireStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  string `json:"status"`
	Errors  []any  `json:"errors,omitempty"` // Cloud Storage's way, which its clients read
	Details []any  `json:"details,omitempty"`
}

func (e *Error) wire() wireError {
	w := wireStatus{Code: e.Code, Message: e.Message, Status: e.Status}
	if len(e.Violations) > 0 {
		w.Details = []any{map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": e.Violations}}
	}
	w.Errors = []any{map[string]string{"domain": "global", "reason": strings.ToLower(e.Status), "message": e.Message}}
	return wireError{w}
}

// shownMax is how much of what a client sent is repeated to it, in runes.
const shownMax = 80

// shown is what a client sent, as it may be repeated to it.
func shown(text string) string {
	runes := []rune(text)
	if len(runes) > shownMax {
		runes = append(runes[:shownMax], '…')
	}
	return strconv.Quote(string(runes))
}

// plain is text that came from an app or a tool, without what a terminal obeys.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
