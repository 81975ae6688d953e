package logs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
)

const (
	// RequestLog is the name of the log of requests and sockets, which has JSON
	// lines instead of ours.
	RequestLog = "requests"

	// Request is the stream of its lines.
	Request Stream = "request"

	// LimitMax is how many lines one query gives at most, and foundMax how many
	// bytes of text they may have together: they are sorted in memory.
	LimitMax = 10_000
	foundMax = 16 << 20

	// disorder is how much earlier a line may be stamped than one before it:
	// writers take the time, and then their turn.
	disorder = time.Second
)

// Query says which lines of the logs of one directory are meant: those that
// have all of what is not empty.
type Query struct {
	App, Service, Version string
	Instance              string // a log's name, without .log
	Level                 Level  // at least; Any is every line, and the zero value is Info
	Since                 time.Time
	Until                 time.Time // not after; zero: without an end
	Limit                 int       // the last so many; 0 and more than LimitMax mean LimitMax
	Requests              bool      // RequestLog too
	RequestsOnly          bool      // RequestLog and nothing else
}

// Entry is a line and whose it is.
type Entry struct {
	Line
	Instance string
	Key      app.Key // zero where it is not known
	Level    Level

	at time.Time // its place among others: Time, or where that is zero a neighbour's
}

// source is one log that a query is about.
type source struct {
	name string
	path string
	key  app.Key
}

// sources are the logs of dir that q is about. A directory that does not exist
// has none. known spares asking again whose they are; sources adds to it.
func (q Query) sources(dir string, known map[string]app.Key) ([]source, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []source
	for _, e := range entries {
		name, found := strings.CutSuffix(e.Name(), ".log")
		if !found || !e.Type().IsRegular() {
			continue
		}
		s := source{name: name, path: filepath.Join(dir, e.Name())}
		if name == RequestLog {
			if q.Requests || q.RequestsOnly {
				all = append(all, s)
			}
			continue
		}
		if q.RequestsOnly {
			continue
		}
		if q.Instance != "" && q.Instance != name {
			continue
		}
		if s.key = known[name]; s.key == (app.Key{}) {
			if s.key = owner(s.path); s.key != (app.Key{}) {
				known[name] = s.key
			}
		}
		if q.about(s.key) {
			all = append(all, s)
		}
	}
	return all, nil
}

func (q Query) about(k app.Key) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(q.App, k.App) && is(q.Service, k.Service) && is(q.Version, k.Version)
}

// entry makes an entry of a line of s, and says whether q is about it.
func (q Query) entry(s source, l Line) (Entry, bool) {
	e := Entry{Line: l, Instance: s.name, Key: s.key}
	if s.name == RequestLog {
		e = requestEntry(l)
		if !q.about(e.Key) || q.Instance != "" && q.Instance != e.Instance {
			return e, false
		}
	} else {
		e.Level = levelOf(l)
	}
	return e, e.Level >= q.Level && (e.Time.IsZero() || !e.Time.Before(q.Since) && (q.Until.IsZero() || !e.Time.After(q.Until)))
}

// requestEntry reads a line of RequestLog.
func requestEntry(l Line) Entry {
	e := Entry{Line: Line{Stream: Request, Text: l.Text}}
	var r struct {
		Time                            time.Time
		App, Service, Version, Instance string
		Status                          int
		Err                             string
	}
	if json.Unmarshal([]byte(l.Text), &r) != nil {
		return e // as after a crash in the middle of a write
	}
	e.Time, e.Instance = r.Time, r.Instance
	e.Key = app.Key{App: r.App, Service: r.Service, Version: r.Version}
	switch {
	case r.Status >= 500:
		e.Level = Error
	case r.Status >= 400:
		e.Level = Warning
	}
	return e
}

// Read gives the lines that q is about, in the order of time: the last q.Limit
// of them, or fewer where their text is longer than 16 MiB together.
func Read(dir string, q Query) ([]Entry, error) {
	sources, err := q.sources(dir, map[string]app.Key{})
	if err != nil {
		return nil, err
	}
	cursors, err := open(sources)
	defer closeAll(cursors)
	if err != nil {
		return nil, err
	}
	return q.last(cursors)
}

// last merges what is before the cursors, from the latest line backwards.
func (q Query) last(cursors []*cursor) ([]Entry, error) {
	limit := q.Limit
	if limit <= 0 || limit > LimitMax {
		limit = LimitMax
	}
	heads := make([]*Entry, len(cursors)) // nil: the cursor is at its end
	for i, c := range cursors {
		var err error
		if heads[i], err = c.back(q); err != nil {
			return nil, err
		}
	}
	var found []Entry
	for bytes := 0; len(found) < limit && bytes < foundMax; {
		latest := -1
		for i, h := range heads {
			if h != nil && (latest < 0 || h.at.After(heads[latest].at)) {
				latest = i
			}
		}
		if latest < 0 {
			break
		}
		found = append(found, *heads[latest])
		bytes += len(heads[latest].Text)
		var err error
		if heads[latest], err = cursors[latest].back(q); err != nil {
			return nil, err
		}
	}
	slices.Reverse(found)
	return found, nil
}
