package router

import (
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// life is what stays of a handshake while its socket lives: its counts, and
// the words of its record. There are as many as there are sockets, for hours,
// so it is small, and its words are copies: the request's own strings are pieces
// of its whole head, which they would keep in memory.
type life struct {
	r        *Router
	load     *target
	counts   *counts
	counted  *atomic.Int64 // of its app
	ticket   *ticket
	key      app.Key
	instance string
	port     uint16
	sampled  bool
	words    string // the fields below, one after the other
	ends     [fields]uint16
}

// The fields of words.
const (
	fieldID = iota
	fieldTrace
	fieldHost
	fieldPath
	fieldClient
	fieldProto
	fields
)

// newLife takes over what the exchange counted.
func newLife(x *exchange) *life {
	l := &life{r: x.r, load: x.at.load, counts: x.pool.counts, counted: x.counted, ticket: x.ticket, key: x.pool.key, instance: x.at.id, port: x.port, sampled: x.trace.sampled}
	var b strings.Builder
	words := [fields]string{x.id, x.trace.id, clip(x.req.Host), clip(x.req.URL.Path), x.origin.client, x.proto}
	for i, w := range words {
		b.WriteString(w) // at most logMax and an ellipsis: all ends fit
		l.ends[i] = uint16(b.Len())
	}
	l.words = b.String()
	return l
}

func (l *life) field(i int) string {
	if i == 0 {
		return l.words[:l.ends[0]]
	}
	return l.words[l.ends[i-1]:l.ends[i]]
}

// done is for the tunnels, and called once.
func (l *life) done(e tunnel.Ending) { l.end(e, nil) }

// end counts the socket no more and writes its record.
func (l *life) end(e tunnel.Ending, err error) {
	l.load.sockets.Add(-1)
	l.counted.Add(-1)
	l.r.leave()
	l.ticket.giveBack()
	l.counts.ended(e)
	if !l.r.recorded() {
		return
	}
	all := make([]slog.Attr, 0, 20)
	all = append(all,
		slog.String("id", l.field(fieldID)),
		slog.String("trace", l.field(fieldTrace)),
		slog.String("proto", l.field(fieldProto)),
		slog.String("method", http.MethodGet),
		slog.String("host", l.field(fieldHost)),
		slog.String("path", l.field(fieldPath)),
		slog.String("client", l.field(fieldClient)),
		slog.Int("port", int(l.port)),
		slog.String("app", l.key.App),
		slog.String("service", l.key.Service),
		slog.String("version", l.key.Version),
		slog.String("instance", l.instance),
		slog.Duration("dur", e.Duration),
		slog.String("by", string(e.By)),
		slog.String("cause", string(e.Cause)),
		slog.Int("code", e.Code),
		slog.String("reason", clip(e.Reason)),
		traffic("from_client", e.FromClient),
		traffic("from_instance", e.FromInstance),
	)
	if l.sampled {
		all = append(all, slog.Bool("sampled", true))
	}
	if err != nil {
		all = append(all, slog.String("err", clip(err.Error())))
	}
	l.r.record(time.Now(), "socket", all)
}
