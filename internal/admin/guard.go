package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/internal/auth"
)

// ServeHTTP lets only those in who may.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 {
		// A refused request is read to its end by net/http, so that the client hears
		// of it: that is bounded from the beginning. What reads a body on purpose
		// moves the bound, or lifts it at the end. Not all writers can, those of
		// tests for one; they need not.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	}
	caller, err := d.admit(r)
	if err == nil && r.Method == http.MethodHead {
		err = invalid("HEAD is not answered; use GET")
	}
	if _, pattern := d.mux.Handler(r); err == nil && pattern == "" {
		err = d.unknown(r)
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	d.mux.ServeHTTP(&admitted{w, caller}, r)
}

// admitted carries whose token came past the mux, with what the caller is
// answered.
type admitted struct {
	http.ResponseWriter
	caller auth.Caller
}

// Unwrap is for http.ResponseController.
func (a *admitted) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// admit says whose token a request carries, or why it is not let in.
func (d *door) admit(r *http.Request) (auth.Caller, error) {
	caller, err := d.cfg.Guard.Admit(r)
	return caller, refusal(err)
}

// refusal is a guard's error in the room's words; others stay as they are.
func refusal(err error) error {
	var refused *auth.Refusal
	if !errors.As(err, &refused) {
		return err
	}
	e := &Error{Kind: KindForbidden, Message: refused.What, Next: refused.Next}
	switch refused.Status {
	case http.StatusUnauthorized:
		e.Kind = KindUnauthorized
	case http.StatusTooManyRequests:
		e.Kind, e.Retry = KindUnavailable, retryAfter
	}
	return e
}

// unknown says what is wrong with a request that no route takes.
func (d *door) unknown(r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := d.mux.Handler(&other); pattern != "" {
			return &Error{Kind: KindInvalid, Message: fmt.Sprintf("%s is not for %s", r.Method, shown(r.URL.Path)), Next: "Use " + method + "."}
		}
	}
	return &Error{Kind: KindNotFound, Message: fmt.Sprintf("there is nothing at %s", shown(r.URL.Path)), Next: "The server may be older than who asks; compare their versions."}
}
