package admin

import (
	"errors"
	"net/http"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// limitDefault is how many lines, or sockets, an answer has when nobody says:
// what a person reads.
const limitDefault = 100

// logs answers with lines of logs.
func (d *door) logs(w http.ResponseWriter, a *visit) error {
	f, err := a.filter()
	if err != nil {
		return err
	}
	q := logs.Query{App: f.App, Service: f.Service, Version: f.Version, Instance: f.Instance, Level: logs.Any}
	if name := a.URL.Query().Get("level"); name != "" {
		if q.Level, err = logs.ParseLevel(name); err != nil {
			return err
		}
	}
	if q.Since, err = a.time("since"); err != nil {
		return err
	}
	if q.Limit, err = a.number("limit", limitDefault, logs.LimitMax); err != nil {
		return err
	}
	if q.Requests, err = a.yes("requests"); err != nil {
		return err
	}
	follow, err := a.yes("follow")
	if err != nil {
		return err
	}
	return d.lines(w, a, d.House.LogDir(), q, follow, lineOf, func() bool { return false })
}

// operationLog answers with what was written while an operation went on.
func (d *door) operationLog(w http.ResponseWriter, a *visit) error {
	follow, err := a.yes("follow")
	if err != nil {
		return err
	}
	id := a.PathValue("id")
	if _, ok := d.Store.Wishes().Operations[id]; !ok {
		return missing("operation", id)
	}
	line := func(e logs.Entry) LogLine {
		l := lineOf(e)
		l.Instance = "" // the log's name is the operation's
		return l
	}
	return d.lines(w, a, d.House.OperationLogDir(), logs.Query{Instance: id, Level: logs.Any}, follow, line, func() bool {
		o, ok := d.Store.Wishes().Operations[id]
		return !ok || o.Stage == app.StageDone
	})
}

// errEnd ends a stream that has nothing more to say.
var errEnd = errors.New("the end")

// lines streams what q is about, each entry as line has it. With follow it goes on until the client leaves,
// the server ends, or over says that nothing more will be written.
func (d *door) lines(w http.ResponseWriter, a *visit, dir string, q logs.Query, follow bool, line func(logs.Entry) LogLine, over func() bool) error {
	leave, err := place(d.waiters, "requests that wait")
	if err != nil {
		return err
	}
	defer leave()
	if !follow {
		found, err := logs.Read(dir, q)
		if err != nil {
			return err
		}
		s := newStream(w)
		_ = s.entries(found, line) // who does not read it has left
		return nil
	}
	ctx, stop := d.lasting(a)
	defer stop()
	var s *stream // nil: not begun
	last := false // over was so before the latest look
	err = logs.Watch(ctx, dir, q, func(found []logs.Entry) error {
		if s == nil {
			s = newStream(w)
		}
		if err := s.entries(found, line); err != nil {
			return errEnd
		}
		if last {
			return errEnd
		}
		last = over()
		return nil
	})
	switch {
	case err == nil || errors.Is(err, errEnd):
		return nil
	case s == nil:
		return err
	}
	e := errorOf(err)
	if e.Kind == KindInternal {
		d.cfg.Log.Error("admin stream", "path", a.URL.Path, "err", err)
	}
	s.fail(e)
	return nil
}

func (s *stream) entries(found []logs.Entry, line func(logs.Entry) LogLine) error {
	for _, e := range found {
		if err := s.line(line(e)); err != nil {
			return err
		}
	}
	return s.flush()
}
