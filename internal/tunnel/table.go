package tunnel

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"holdfast/internal/app"
)

// Filter says which sockets are meant: those that have all of what is not
// empty. Its zero value means every socket.
type Filter struct {
	ID       string
	Key      app.Key // each of its parts may be empty
	Instance string
	Client   string
}

func (f Filter) matches(t *socket) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.ID, t.id) && is(f.Client, t.client) && is(f.Instance, t.pool.instance) &&
		is(f.Key.App, t.key.App) && is(f.Key.Service, t.key.Service) && is(f.Key.Version, t.key.Version)
}

// Status is what is known of an open socket.
type Status struct {
	ID           string
	Key          app.Key
	Instance     string
	Client       string
	Affinity     Affinity
	Opened       time.Time
	Deadline     time.Time     // zero: it may grow as old as it likes
	Idle         time.Duration // since anything came from either end, to a tenth of a second
	RoundTrip    time.Duration // of the last ping that the client answered; zero: none was
	FromClient   Traffic
	FromInstance Traffic
	Leaving      app.Cause // why it is ending; "" while it is not
}

// Affinity is by what a client belongs to its instance.
type Affinity uint8

// The ways.
const (
	Chosen   Affinity = iota // the router chose
	ByCookie                 // the client's cookie named it
	BySid                    // it knows the client's session of long polling
)

func (a Affinity) String() string { return [...]string{"", "cookie", "sid"}[a] }

// Sockets is a table of the open sockets that match, the oldest first. It waits
// for the loops, which fill it in between their other work, a few hundred at a
// time; the rows are not of one instant.
func (s *Set) Sockets(f Filter) []Status {
	by := map[carrier][]*socket{}
	n := 0
	for _, t := range s.matching(f) {
		by[t.carrier] = append(by[t.carrier], t)
		n++
	}
	table := make([]Status, 0, n)
	for c, all := range by { // one after the other: at is called by one at a time
		c.look(all, func(t *socket, now instant) { table = append(table, t.status(now)) })
	}
	slices.SortFunc(table, func(a, b Status) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	return table
}

// CloseMatching says goodbye to the sockets that match, for cause, and returns
// how many there were. With code 0 both ends hear what goes with the cause, else
// code and reason, which are an operator's own words; of a reason the first 123
// bytes are said. The error is app.ErrInvalid for a code that must not be sent
// or a reason that is not UTF-8; nothing is closed then. It does not wait for the
// ends.
func (s *Set) CloseMatching(f Filter, cause app.Cause, code int, reason string) (int, error) {
	p := because(cause)
	if code != 0 {
		if !mayBeSent(code) {
			return 0, fmt.Errorf("close code %d: %w", code, app.ErrInvalid)
		}
		if !utf8.ValidString(reason) {
			return 0, fmt.Errorf("close reason %q: %w", reason, app.ErrInvalid)
		}
		p.code, p.reason = code, clipped(reason)
	}
	all := s.matching(f)
	for _, t := range all {
		t.carrier.order(t, orders{say: p})
	}
	return len(all), nil
}

// mayBeSent: 3000 to 4999 are for applications, 1004 to 1006 and 1015 are never
// sent, and other low ones are defined or they are not (RFC 6455, 7.4).
func mayBeSent(code int) bool {
	return code >= 3000 && code <= 4999 || code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)
}

func (s *Set) matching(f Filter) []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*socket
	for _, p := range s.pools {
		if f.Instance != "" && f.Instance != p.instance {
			continue
		}
		for _, t := range p.sockets {
			if f.matches(t) {
				all = append(all, t)
			}
		}
	}
	return all
}

// status is called where the socket's carrier guards it.
func (s *socket) status(now instant) Status {
	t := Status{
		ID: s.id, Key: *s.key, Instance: s.pool.instance, Client: s.client,
		Affinity:     s.pinned,
		Opened:       s.set.clock.time(s.opened),
		Deadline:     s.set.clock.time(s.deadline),
		Idle:         max(0, time.Duration(now-instant(s.active.Load()))),
		FromClient:   s.ends[client].scan.count.traffic(),
		FromInstance: s.ends[instance].scan.count.traffic(),
	}
	if s.careful != nil {
		t.RoundTrip = s.careful.roundTrip
	}
	if s.story != nil {
		t.Leaving = s.story.Cause
	}
	return t
}
