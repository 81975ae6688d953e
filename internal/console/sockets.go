package console

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/journal"
	"holdfast/internal/tunnel"
)

const (
	// socketsShown is how many sockets are on one page of the table.
	socketsShown = 100

	// tableLife is how old a table of all sockets may be: with 10,000 open the
	// loops spend some milliseconds on one, and several people may look.
	tableLife = 900 * time.Millisecond
)

// tableCache is the table of all sockets, as it was a moment ago.
type tableCache struct {
	mu  sync.Mutex // guards the following; held while the table is made, so that it is made once
	at  time.Time
	all []tunnel.Status
}

func (c *console) allSockets() []tunnel.Status {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > tableLife {
		t.all = c.Sockets.Sockets(tunnel.Filter{})
		t.at = time.Now()
	}
	return t.all // nobody changes it
}

// column is one of the table, by which it may be sorted.
type column struct {
	Name, Title string
	Long        string // the title in full
	Number      bool
	Link        string // sorts by it, or the other way round
	Sorted      string // ascending or descending, "" for neither
	compare     func(a, b *tunnel.Status) int
}

func (c column) as(long string) column { c.Long = long; return c }

func messages(t tunnel.Traffic) int64 { return t.Text + t.Binary }

func socketColumns() []column {
	number := func(name, title string, of func(*tunnel.Status) int64) column {
		return column{Name: name, Title: title, Number: true, compare: func(a, b *tunnel.Status) int { return cmp.Compare(of(a), of(b)) }}
	}
	text := func(name, title string, of func(*tunnel.Status) string) column {
		return column{Name: name, Title: title, compare: func(a, b *tunnel.Status) int { return cmp.Compare(of(a), of(b)) }}
	}
	return []column{
		text("id", "Socket", func(s *tunnel.Status) string { return s.ID }),
		text("client", "Client", func(s *tunnel.Status) string { return s.Client }),
		text("version", "Version", func(s *tunnel.Status) string { return s.Key.String() }),
		text("instance", "Instance", func(s *tunnel.Status) string { return s.Instance }),
		number("age", "Age", func(s *tunnel.Status) int64 { return -s.Opened.UnixNano() }),
		number("idle", "Idle", func(s *tunnel.Status) int64 { return int64(s.Idle) }),
		number("messages-in", "In", func(s *tunnel.Status) int64 { return messages(s.FromClient) }).as("In: messages from the client"),
		number("in", "bytes", func(s *tunnel.Status) int64 { return s.FromClient.Bytes }).as("bytes from the client"),
		number("messages-out", "Out", func(s *tunnel.Status) int64 { return messages(s.FromInstance) }).as("Out: messages from the instance"),
		number("out", "bytes", func(s *tunnel.Status) int64 { return s.FromInstance.Bytes }).as("bytes from the instance"),
		number("trip", "Trip", func(s *tunnel.Status) int64 { return int64(s.RoundTrip) }).as("Trip: the last ping there and back"),
		text("affinity", "Affinity", func(s *tunnel.Status) string { return s.Affinity.String() }),
		number("deadline", "Deadline", func(s *tunnel.Status) int64 { return s.Deadline.UnixNano() }),
	}
}

// socketsPage is a part of the table of open sockets.
type socketsPage struct {
	Open    int // of all
	Filter  socketFilter
	Columns []column
	Rows    []tunnel.Status
	Pager   pager
	Now     time.Time

	Services, Affinities []string // to choose from
}

// socketFilter says which sockets are shown.
type socketFilter struct {
	App, Service, Version, Instance, Client, Text string
	Affinity                                      string        // cookie, sid or chosen
	Age, Idle                                     time.Duration // at least
}

// affinities are the ways by which a filter may tell sockets apart.
var affinities = []string{"cookie", "sid", "chosen"}

// Any says whether it leaves any out.
func (f socketFilter) Any() bool { return f != socketFilter{} }

// Exact says whether it is one that the sockets' room knows by itself.
func (f socketFilter) Exact() bool {
	return f.Text == "" && f.Affinity == "" && f.Age == 0 && f.Idle == 0
}

// Pairs are its parameters as a form has them.
func (f socketFilter) Pairs() (all []field) {
	add := func(name, label, value string) {
		if value != "" {
			all = append(all, field{Name: name, Label: label, Value: value})
		}
	}
	add("q", "", f.Text)
	add("app", "app ", f.App)
	add("service", "service ", f.Service)
	add("version", "version ", f.Version)
	add("instance", "instance ", f.Instance)
	add("client", "client ", f.Client)
	add("affinity", "by ", f.Affinity)
	for _, d := range []field{{Name: "age", Label: "open for ", Value: f.Age.String()}, {Name: "idle", Label: "idle for ", Value: f.Idle.String()}} {
		if d.Value != "0s" {
			all = append(all, d)
		}
	}
	return all
}

// socketFilterOf reads a filter. One that cannot be read is an error: it may be
// about to close what it leaves.
func socketFilterOf(q url.Values) (socketFilter, error) {
	f := socketFilter{
		App: q.Get("app"), Service: q.Get("service"), Version: q.Get("version"), Instance: q.Get("instance"), Client: q.Get("client"),
		Text: strings.TrimSpace(q.Get("q")), Affinity: q.Get("affinity"),
	}
	if f.Affinity != "" && !slices.Contains(affinities, f.Affinity) {
		return f, fmt.Errorf("affinity %.20q: want one of %s: %w", f.Affinity, strings.Join(affinities, ", "), app.ErrInvalid)
	}
	for name, to := range map[string]*time.Duration{"age": &f.Age, "idle": &f.Idle} {
		text := strings.TrimSpace(q.Get(name))
		if text == "" {
			continue
		}
		var err error
		if *to, err = time.ParseDuration(text); err != nil || *to < 0 {
			return f, fmt.Errorf("%s %.20q: want a time such as 90s, 5m or 2h: %w", name, text, app.ErrInvalid)
		}
	}
	return f, nil
}

func (f socketFilter) matches(s *tunnel.Status) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	if !is(f.App, s.Key.App) || !is(f.Service, s.Key.Service) || !is(f.Version, s.Key.Version) || !is(f.Instance, s.Instance) || !is(f.Client, s.Client) {
		return false
	}
	if !is(f.Affinity, cmp.Or(s.Affinity.String(), "chosen")) || s.Idle < f.Idle || f.Age > 0 && time.Since(s.Opened) < f.Age {
		return false
	}
	return f.Text == "" || strings.Contains(s.ID, f.Text) || strings.Contains(s.Client, f.Text) || strings.Contains(s.Instance, f.Text) || strings.Contains(s.Key.String(), f.Text)
}

func (c *console) sockets(v *visit) (any, error) {
	all := c.allSockets()
	q := v.r.URL.Query()
	f, err := socketFilterOf(q)
	if err != nil {
		return nil, err
	}
	p := socketsPage{Open: len(all), Filter: f, Now: v.now, Affinities: affinities}
	for k := range c.Store.Wishes().Services {
		p.Services = append(p.Services, k.Service)
	}
	slices.Sort(p.Services)
	p.Services = slices.Compact(p.Services)
	var found []*tunnel.Status
	for i := range all {
		if p.Filter.matches(&all[i]) {
			found = append(found, &all[i])
		}
	}
	p.Columns = socketColumns()
	by, down := cmp.Or(q.Get("sort"), "age"), q.Get("order") != "up"
	for i := range p.Columns {
		one := &p.Columns[i]
		other := "down"
		if one.Name == by {
			one.Sorted = "ascending"
			if down {
				one.Sorted, other = "descending", "up"
			}
			slices.SortStableFunc(found, func(a, b *tunnel.Status) int {
				if down {
					a, b = b, a
				}
				return one.compare(a, b)
			})
		}
		one.Link = v.with("sort", one.Name, "order", other, "page", "")
	}
	p.Pager = pagerOf(v, len(found), socketsShown)
	for _, s := range found[p.Pager.From:p.Pager.To] {
		p.Rows = append(p.Rows, *s)
	}
	return p, nil
}

// socketPage is the story of one socket.
type socketPage struct {
	ID     string
	Open   *tunnel.Status  // nil: it has ended
	Ended  *journal.Ending // nil: it is open
	Key    app.Key
	End    time.Time
	Story  []chapter
	Moment string // a link to the end on the timeline
}

// chapter is one thing that happened in a socket's life.
type chapter struct {
	Time  time.Time
	After time.Duration // since the handshake
	What  string
	Text  string
	Cause app.Cause
	Link  string
}

func (c *console) socket(v *visit) (any, error) {
	id := v.r.PathValue("id")
	p := socketPage{ID: id}
	var opened time.Time
	var instance, client string
	if open := c.Sockets.Sockets(tunnel.Filter{ID: id}); len(open) == 1 {
		p.Open, p.Key = &open[0], open[0].Key
		opened, instance, client = open[0].Opened, open[0].Instance, open[0].Client
	} else {
		e, ok := c.ending(id)
		if !ok {
			return nil, fmt.Errorf("socket %s: %w; it is neither open nor in the log of requests", strconv.Quote(id), app.ErrNotFound)
		}
		p.Ended, p.Key, p.End = e.Ending, e.Key, e.Time
		opened, instance, client = e.Ending.Opened, e.Instance, e.Ending.Client
		p.Moment = Prefix + "timeline?until=" + url.QueryEscape(e.Time.UTC().Format(time.RFC3339Nano))
	}
	p.Story = []chapter{{Time: opened, What: "Handshake", Text: client + " is let in to " + instance + ", which answers 101."}}
	until := v.now
	if p.Ended != nil {
		until = p.End
	}
	told, _ := c.Journal.Entries(journal.Filter{Instance: instance, Until: until.Add(time.Second)}, 100)
	for _, e := range slices.Backward(told) {
		if e.Time.Before(opened) {
			continue
		}
		ch := chapter{Time: e.Time, What: "Its instance is " + e.What, Cause: e.Cause, Text: e.Detail, Link: Prefix + "instances/" + url.PathEscape(instance)}
		if e.Kind == journal.Operation {
			ch.What = "Somebody asks to " + string(e.Verb) + " its instance"
		}
		p.Story = append(p.Story, ch)
	}
	if p.Open != nil && p.Open.Leaving != "" {
		p.Story = append(p.Story, chapter{Time: v.now, What: "It is being said goodbye", Cause: p.Open.Leaving})
	}
	if e := p.Ended; e != nil {
		text := "No Close frame was seen."
		if e.Code != tunnel.CodeAbnormal {
			text = fmt.Sprintf("Close code %d", e.Code)
			if e.Code == tunnel.CodeNone {
				text = "A Close frame without a code"
			}
			if e.Reason != "" {
				text += ", reason " + strconv.Quote(e.Reason)
			}
			text += "."
		}
		p.Story = append(p.Story, chapter{Time: p.End, What: "Ended by " + endedBy(e.By), Cause: e.Cause, Text: text})
	}
	for i := range p.Story {
		p.Story[i].After = p.Story[i].Time.Sub(opened)
	}
	return p, nil
}

// ending is how a socket ended: from memory, else from the log of requests.
func (c *console) ending(id string) (journal.Entry, bool) {
	return c.Journal.SocketEnding(id)
}

// endedBy is who ended a socket, for people.
func endedBy(by string) string {
	if by == string(tunnel.ByHoldfast) {
		return "Holdfast"
	}
	return "the " + by
}
