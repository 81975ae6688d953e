package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

const (
	// linesShown is how many lines a page of logs has.
	linesShown = 200

	// linesSearched is how many of the latest lines are looked through for a text.
	linesSearched = logs.LimitMax
)

// logsPage is what instances and requests wrote: the latest first, or, while they
// are followed, the latest last.
type logsPage struct {
	Service, Version, Instance, Level, Text, Since, Until string
	App                                                   string
	Requests, Follow                                      bool
	Services                                              []string
	Levels                                                []string
	Lines                                                 []logLine
	Searched                                              int // lines that a text was looked for in; 0: none was
}

// logLine is a line, and what it leads to.
type logLine struct {
	logs.Entry
	Status int
	Socket string // its story, of a socket's record
	Said   string
}

// logsQuery is what a page of logs is about.
func (c *console) logsQuery(q url.Values) (logsPage, logs.Query, error) {
	p := logsPage{
		App: q.Get("app"), Service: q.Get("service"), Version: q.Get("version"), Instance: q.Get("instance"), Level: cmp.Or(q.Get("level"), "any"),
		Text: strings.TrimSpace(q.Get("q")), Since: q.Get("since"), Until: q.Get("until"), Follow: q.Get("follow") != "", Requests: q.Get("requests") != "" || len(q) == 0,
		Levels: []string{"any", "debug", "info", "warning", "error", "critical"},
	}
	level := logs.Any
	if p.Level != "any" {
		var err error
		if level, err = logs.ParseLevel(p.Level); err != nil {
			return p, logs.Query{}, err
		}
	}
	query := logs.Query{App: p.App, Service: p.Service, Version: p.Version, Instance: p.Instance, Level: level, Requests: p.Requests, Limit: linesShown}
	for text, to := range map[*string]*time.Time{&p.Since: &query.Since, &p.Until: &query.Until} {
		if *text == "" {
			continue
		}
		var err error
		if *to, err = momentOf(time.Now(), *text); err != nil {
			return p, query, err
		}
	}
	if p.Text != "" {
		query.Limit = linesSearched
	}
	return p, query, nil
}

func (c *console) logs(v *visit) (any, error) {
	p, query, err := c.logsQuery(v.r.URL.Query())
	if err != nil {
		return nil, err
	}
	for k := range c.Store.Wishes().Services {
		p.Services = append(p.Services, k.Service)
	}
	slices.Sort(p.Services)
	p.Services = slices.Compact(p.Services)
	if p.Follow {
		return p, nil // its lines come by themselves; see tail
	}
	all, err := logs.Read(c.LogDir, query)
	if err != nil {
		return nil, err
	}
	if p.Text != "" {
		p.Searched = len(all)
	}
	for _, e := range slices.Backward(all) {
		if len(p.Lines) == linesShown {
			break
		}
		if mentions(e, p.Text) {
			p.Lines = append(p.Lines, lineOf(e))
		}
	}
	return p, nil
}

// momentOf reads a moment as people type one: 10m for so long ago, 15:04 for a time
// of the last 24 hours in UTC, or a date with it.
func momentOf(now time.Time, text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	now = now.UTC()
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
			if t.After(now) {
				t = t.AddDate(0, 0, -1)
			}
			return t, nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("the time %.40q: want 10m for so long ago, 15:04 in UTC, or 2026-11-27T15:04:05Z: %w", text, app.ErrInvalid)
}

// mentions says whether a text is in a line, in any case.
func mentions(e logs.Entry, text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(strings.ToLower(e.Text), text) || strings.Contains(e.Instance, text)
}

// lineOf says a request's record as people read it.
func lineOf(e logs.Entry) logLine {
	l := logLine{Entry: e, Said: e.Text}
	if e.Stream != logs.Request {
		return l
	}
	var r struct {
		Msg, ID, Method, Host, Path, Client, By, Cause, Err string
		Status, Code                                        int
		Dur                                                 time.Duration
	}
	if json.Unmarshal([]byte(e.Text), &r) != nil {
		return l // it stays as it is
	}
	if r.Msg == "socket" {
		l.Socket = r.ID
		l.Said = fmt.Sprintf("socket %s ended by %s: %s, code %d, after %s", r.Path, endedBy(r.By), r.Cause, r.Code, long(r.Dur))
		return l
	}
	l.Status = r.Status
	if r.Status == 101 {
		l.Socket = r.ID
	}
	l.Said = fmt.Sprintf("%s %s from %s in %s", r.Method, r.Path, r.Client, long(r.Dur))
	if r.Err != "" {
		l.Said += ": " + r.Err
	}
	return l
}

// Key tells the line from others, also after it was sent again.
func (l logLine) Key() string {
	h := fnv.New64a()
	fmt.Fprint(h, l.Time.UnixNano(), l.Instance, l.Stream, l.Text) // it cannot fail
	return strconv.FormatUint(h.Sum64(), 36)
}
