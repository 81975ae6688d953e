package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
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

// logsPage is what instances and requests wrote, the latest first.
type logsPage struct {
	Service, Version, Instance, Level, Text, Since string
	App                                            string
	Requests                                       bool
	Services                                       []string
	Levels                                         []string
	Lines                                          []logLine
	Searched                                       int // lines that a text was looked for in; 0: none was
}

// logLine is a line, and what it leads to.
type logLine struct {
	logs.Entry
	Status int
	Socket string // its story, of a socket's record
	Said   string
}

func (c *console) logs(v *visit) (any, error) {
	q := v.r.URL.Query()
	p := logsPage{
		App: q.Get("app"), Service: q.Get("service"), Version: q.Get("version"), Instance: q.Get("instance"), Level: cmp.Or(q.Get("level"), "any"),
		Text: strings.TrimSpace(q.Get("q")), Since: q.Get("since"), Requests: q.Get("requests") != "" || len(q) == 0,
		Levels: []string{"any", "debug", "info", "warning", "error", "critical"},
	}
	for k := range c.Store.Wishes().Services {
		p.Services = append(p.Services, k.Service)
	}
	slices.Sort(p.Services)
	p.Services = slices.Compact(p.Services)
	level := logs.Any
	if p.Level != "any" {
		var err error
		if level, err = logs.ParseLevel(p.Level); err != nil {
			return nil, err
		}
	}
	query := logs.Query{App: p.App, Service: p.Service, Version: p.Version, Instance: p.Instance, Level: level, Requests: p.Requests, Limit: linesShown}
	var err error
	if p.Since != "" {
		if query.Since, err = time.Parse(time.RFC3339, p.Since); err != nil {
			return nil, fmt.Errorf("since %.40q: want a time such as 2026-11-27T15:04:05Z: %w", p.Since, app.ErrInvalid)
		}
	}
	if p.Text != "" {
		query.Limit = linesSearched
	}
	all, err := logs.Read(c.LogDir, query)
	if err != nil {
		return nil, err
	}
	if p.Text != "" {
		p.Searched = len(all)
	}
	text := strings.ToLower(p.Text)
	for _, e := range slices.Backward(all) {
		if len(p.Lines) == linesShown {
			break
		}
		if text == "" || strings.Contains(strings.ToLower(e.Text), text) || strings.Contains(e.Instance, text) {
			p.Lines = append(p.Lines, lineOf(e))
		}
	}
	return p, nil
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

// Query is a link to the lines of one instance.
func (l logLine) Query() string { return Prefix + "logs?instance=" + url.QueryEscape(l.Instance) }
