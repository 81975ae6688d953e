package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"holdfast/internal/tunnel"
)

// statusLeft is what the log shows when the client left before an answer. It
// is never sent; nginx made the number known.
const statusLeft = 499

// logMax bounds what a client can write into one field of the log, in bytes.
const logMax = 2048

// errLeft is the cause where a client did not wait for the answer.
var errLeft = errors.New("client left")

// undo takes back all that the exchange has counted so far. It may be called
// again.
func (x *exchange) undo() {
	x.release()
	x.ticket.giveBack()
	x.ticket = nil
	if x.counted != nil {
		x.counted.Add(-1)
		x.counted = nil
	}
	if x.inside {
		x.inside = false
		x.r.leave()
	}
}

// end counts the request down and writes its record. It is deferred: an answer
// that was cut is logged as well, on the panic's way through.
func (x *exchange) end() {
	x.undo()
	x.linger()
	x.w.watch.end()
	status := x.w.status
	if errors.Is(x.err, errLeft) && status == 0 {
		status = statusLeft
	}
	var read int64
	if x.body != nil {
		read = x.body.read.Load()
	}
	now := time.Now()
	x.count(status, now)
	if !x.r.recorded() {
		return
	}
	all := append(x.attrs(),
		slog.Int("status", status),
		slog.Int64("in", read),
		slog.Int64("out", x.w.bytes),
		slog.Duration("dur", now.Sub(x.start)),
	)
	if x.tries > 1 {
		all = append(all, slog.Int("tries", x.tries))
	}
	if x.why != "" {
		all = append(all, slog.String("cause", string(x.why)))
	}
	if x.err != nil {
		all = append(all, slog.String("err", clip(x.err.Error())))
	}
	x.r.record(now, "request", all)
}

// recorded tells whether records go anywhere.
func (r *Router) recorded() bool { return r.access.Enabled(context.Background(), slog.LevelInfo) }

// record writes one record of the access log. A logger would look up who calls
// it, each time.
func (r *Router) record(now time.Time, what string, all []slog.Attr) {
	rec := slog.NewRecord(now, slog.LevelInfo, what, 0)
	rec.AddAttrs(all...)
	r.access.Handle(context.Background(), rec) // its error is nobody's, as with a logger
}

// attrs is what the records of a request and of its socket share. The path is
// logged without its query, which may carry secrets.
func (x *exchange) attrs() []slog.Attr {
	all := make([]slog.Attr, 0, 24)
	all = append(all,
		slog.String("id", x.id),
		slog.String("trace", x.trace.id),
		slog.String("proto", x.proto),
		slog.String("method", clip(x.req.Method)),
		slog.String("host", clip(x.req.Host)),
		slog.String("path", clip(x.req.URL.Path)),
		slog.String("client", x.origin.client),
		slog.Int("port", int(x.port)),
	)
	if x.trace.sampled {
		all = append(all, slog.Bool("sampled", true), slog.String("parent", x.trace.parent))
	}
	if x.place.Service != "" {
		all = append(all,
			slog.String("app", x.place.App),
			slog.String("service", x.place.Service),
			slog.String("version", x.key.Version),
			slog.String("instance", x.last),
		)
	}
	return all
}

func traffic(name string, t tunnel.Traffic) slog.Attr {
	return slog.Group(name,
		slog.Int64("bytes", t.Bytes),
		slog.Int64("text", t.Text),
		slog.Int64("binary", t.Binary),
		slog.Int64("ping", t.Ping),
		slog.Int64("pong", t.Pong),
		slog.Int64("close", t.Close),
		slog.Int64("largest", t.Largest),
		slog.Int64("faults", t.Faults),
	)
}

func clip(s string) string {
	if len(s) > logMax {
		return s[:logMax] + "…"
	}
	return s
}

// answerWriter remembers what was answered.
type answerWriter struct {
	http.ResponseWriter
	status int // final one; 0 before
	bytes  int64

	watch *watch // nil: somebody else bounds how long the client may take

	pending bool // something was written since the last flush
}

func (w *answerWriter) WriteHeader(status int) {
	if status < 200 {
		dropPlatformCookies(w.Header()) // a final answer has been through platform
	} else if w.status == 0 {
		w.status, w.pending = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	defer w.watch.writes()()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	w.pending = true
	return n, err
}

// flush sends what was written. That it could not be sent is seen by the next
// write, and by the request's context.
func (w *answerWriter) flush() {
	defer w.watch.writes()()
	w.pending = false
	http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
