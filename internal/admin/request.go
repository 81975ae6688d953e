package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

const (
	// byMax bounds the name of who asks, in bytes.
	byMax = 100

	// shownMax is how much of what a client sent is repeated to it, in runes.
	shownMax = 80
)

// visit is one request at the door. Its reading methods return errors that are
// for the client.
type visit struct {
	*http.Request
	w  http.ResponseWriter
	by string // who asks, for people
}

// check looks at what all requests have in common.
func (a *visit) check(known []string) error {
	if len(a.by) > byMax || strings.ContainsFunc(a.by, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("who asks is named by up to %d printable characters", byMax)
	}
	query := a.URL.Query()
	for name, values := range query {
		if !slices.Contains(known, name) {
			e := invalid("unknown parameter %s", shown(name))
			if len(known) > 0 {
				e.Next = spelling.DidYouMean(name, slices.Values(known), "known are "+strings.Join(known, ", "))
			}
			return e
		}
		if len(values) > 1 {
			return invalid("the parameter %s is there %d times", name, len(values))
		}
	}
	return nil
}

// key is the version that the path names.
func (a *visit) key() app.Key {
	return app.Key{App: a.PathValue("app"), Service: a.PathValue("service"), Version: a.PathValue("version")}
}

// filter is the part of a list that the query names.
func (a *visit) filter() (Filter, error) {
	q := a.URL.Query()
	f := Filter{App: q.Get("app"), Service: q.Get("service"), Version: q.Get("version"), Instance: q.Get("instance")}
	var err error
	f.Pending, err = a.yes("pending")
	return f, err
}

func (f Filter) matches(k app.Key, instance string) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.App, k.App) && is(f.Service, k.Service) && is(f.Version, k.Version) && is(f.Instance, instance)
}

// yes reads a parameter that is true or false; absent is false.
func (a *visit) yes(name string) (bool, error) {
	switch text := a.URL.Query().Get(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalid("%s=%s: want true or false", name, shown(text))
	}
}

// number reads a whole number from 1 to most; absent is otherwise.
func (a *visit) number(name string, otherwise, most int) (int, error) {
	text := a.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid("%s=%s: want a number from 1 to %d", name, shown(text), most)
	}
	return n, nil
}

// duration reads seconds, at most most; absent is 0.
func (a *visit) duration(name string, most time.Duration) (time.Duration, error) {
	text := a.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(s) || s < 0 {
		return 0, invalid("%s=%s: want seconds", name, shown(text))
	}
	return time.Duration(min(s, most.Seconds()) * float64(time.Second)), nil
}

// time reads an RFC 3339 time; absent is the zero one.
func (a *visit) time(name string) (time.Time, error) {
	text := a.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, invalid("%s=%s: want a time such as 2026-11-22T18:30:00Z", name, shown(text))
	}
	return t, nil
}

// body reads the request's JSON into v: one value, of at most most bytes, with
// nothing that v does not know. It bounds the wait for it.
func (a *visit) body(v any, most int64) error {
	data, err := io.ReadAll(a.arriving(most, 0))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return invalid("the request is longer than %d bytes", most)
	case err != nil:
		return invalid("the request broke off: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return invalid("the request has no JSON in it")
		}
		return invalid("the request is no JSON that fits: %s", shown(strings.TrimPrefix(err.Error(), "json: ")))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("the request has more than one JSON value in it")
	}
	return nil
}

// nothing is body for requests that say all in their first line.
func (a *visit) nothing() error {
	var none struct{}
	if a.ContentLength == 0 {
		return nil
	}
	return a.body(&none, bodyMax)
}

func invalid(format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Message: fmt.Sprintf(format, args...)}
}

// shown is text from outside as it may stand in a message.
func shown(text string) string {
	runes := []rune(text)
	if len(runes) > shownMax {
		runes = append(runes[:shownMax], '…')
	}
	return strconv.Quote(string(runes))
}

// writeJSON answers with one value. That the client does not hear it is seen
// by nobody, and matters to nobody else.
func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	w.Write(append(text, '\n'))
}
