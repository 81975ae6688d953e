package journal

import (
	"context"
	"log/slog"
	"time"

	"holdfast/internal/app"
)

// Ending is how a socket's life went, as its record has it.
type Ending struct {
	ID           string
	Trace        string
	Path         string
	Client       string
	Instance     string
	Opened       time.Time
	Duration     time.Duration
	By           string
	Cause        app.Cause
	Code         int
	Reason       string
	FromClient   Bytes
	FromInstance Bytes
}

// Bytes is what came from one end.
type Bytes struct{ Bytes, Text, Binary int64 }

// Messages is how many there were of both kinds.
func (b Bytes) Messages() int64 { return b.Text + b.Binary }

// Tap is a handler for the router's records that notes them here and hands them
// on. It does so before it returns, and costs a request some atomic additions.
func (j *Journal) Tap(next slog.Handler) slog.Handler { return tap{next, j} }

type tap struct {
	slog.Handler
	journal *Journal
}

// statusSwitched is an opened socket's (RFC 6455, 4.2.2).
const statusSwitched = 101

func (t tap) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "request":
		t.journal.request(r)
	case "socket":
		t.journal.socket(r)
	}
	return t.Handler.Handle(ctx, r)
}

func (j *Journal) request(r slog.Record) {
	var k app.ServiceKey
	var status int
	var client string
	failed := false
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "app":
			k.App = a.Value.String()
		case "service":
			k.Service = a.Value.String()
		case "client":
			client = a.Value.String()
		case "status":
			status = int(a.Value.Int64())
		case "err":
			failed = true
		}
		return true
	})
	if k.Service == "" {
		return // it led nowhere
	}
	opened := status == statusSwitched && !failed
	j.seriesOf(k).request(r.Time, status, failed && status >= 500, opened)
	if opened {
		j.opened(k, client, r.Time)
	}
}

func (j *Journal) socket(r slog.Record) {
	e := &Ending{}
	var k app.Key
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "id":
			e.ID = a.Value.String()
		case "trace":
			e.Trace = a.Value.String()
		case "path":
			e.Path = a.Value.String()
		case "client":
			e.Client = a.Value.String()
		case "app":
			k.App = a.Value.String()
		case "service":
			k.Service = a.Value.String()
		case "version":
			k.Version = a.Value.String()
		case "instance":
			e.Instance = a.Value.String()
		case "dur":
			e.Duration = a.Value.Duration()
		case "by":
			e.By = a.Value.String()
		case "cause":
			e.Cause = app.Cause(a.Value.String())
		case "code":
			e.Code = int(a.Value.Int64())
		case "reason":
			e.Reason = a.Value.String()
		case "from_client":
			e.FromClient = bytesOf(a.Value)
		case "from_instance":
			e.FromInstance = bytesOf(a.Value)
		}
		return true
	})
	e.Opened = r.Time.Add(-e.Duration)
	s := j.seriesOf(k.ServiceKey())
	s.at(r.Time).ended.Add(1)
	s.ended.Add(1)

	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	if gone := j.endings.add(Entry{Seq: j.seq, Time: r.Time, Kind: Socket, Key: k, Instance: e.Instance, What: "ended", Cause: e.Cause, By: e.By, Ending: e}); gone != nil {
		delete(j.ended, gone.Ending.ID)
	}
	j.ended[e.ID] = j.seq
	j.reportEndingLocked(k.ServiceKey(), e, r.Time)
}

func bytesOf(v slog.Value) (b Bytes) {
	for _, a := range v.Group() {
		switch a.Key {
		case "bytes":
			b.Bytes = a.Value.Int64()
		case "text":
			b.Text = a.Value.Int64()
		case "binary":
			b.Binary = a.Value.Int64()
		}
	}
	return b
}

// latestEnding is how a socket ended, if it is among the latest.
func (j *Journal) latestEnding(id string) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	seq, ok := j.ended[id]
	if !ok {
		return Entry{}, false
	}
	for n := range j.endings.all {
		if e := j.endings.back(n); e.Seq == seq {
			return *e, true
		}
	}
	return Entry{}, false
}
