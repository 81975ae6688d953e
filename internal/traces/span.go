package traces

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Tap is a handler for the router's records that has those told which say that
// they are sampled, and hands all of them on.
func (t *Teller) Tap(next slog.Handler) slog.Handler { return tap{next, t} }

type tap struct {
	slog.Handler
	teller *Teller
}

func (t tap) Handle(ctx context.Context, r slog.Record) error {
	if s := spanOf(r); s != nil {
		t.teller.put(s)
	}
	return t.Handler.Handle(ctx, r)
}

// spanOf makes a span of a record; nil where it is not to be told. A request's is
// named and described as the semantic conventions for HTTP servers have it (1.37);
// what has no name there begins with holdfast. A socket's is a part of its
// handshake's, and as long as the socket lived.
func spanOf(r slog.Record) *trace.Span {
	if r.Message != "request" && r.Message != "socket" {
		return nil
	}
	s := &trace.Span{Kind: trace.Span_SPAN_KIND_SERVER, Attributes: make([]*common.KeyValue, 0, 20)}
	add := func(kv *common.KeyValue) { s.Attributes = append(s.Attributes, kv) }
	sampled, id, took := false, "", time.Duration(0)
	r.Attrs(func(a slog.Attr) bool {
		text := func(key string) {
			if v := a.Value.String(); v != "" {
				add(word(key, v))
			}
		}
		switch a.Key {
		case "sampled":
			sampled = a.Value.Bool()
		case "id":
			id = a.Value.String()
		case "trace":
			s.TraceId, _ = hex.DecodeString(a.Value.String()) // 32 hex digits, always
		case "parent":
			s.ParentSpanId, _ = hex.DecodeString(a.Value.String()) // 16, or none
		case "dur":
			took = a.Value.Duration()
		case "proto":
			name, version, _ := strings.Cut(a.Value.String(), "/")
			add(word("network.protocol.name", strings.ToLower(name)))
			add(word("network.protocol.version", strings.TrimSuffix(version, ".0")))
		case "method":
			s.Name = a.Value.String()
			text("http.request.method")
		case "host":
			host, port, err := net.SplitHostPort(a.Value.String())
			if err != nil {
				host = a.Value.String()
			}
			add(word("server.address", host))
			if n, err := strconv.Atoi(port); err == nil {
				add(number("server.port", int64(n)))
			}
		case "path":
			text("url.path")
		case "client":
			text("client.address")
		case "port":
			add(number("client.port", a.Value.Int64()))
		case "in":
			add(number("http.request.body.size", a.Value.Int64()))
		case "out":
			add(number("http.response.body.size", a.Value.Int64()))
		case "status":
			status := a.Value.Int64()
			if status != 0 {
				add(number("http.response.status_code", status))
			}
			if status >= 500 || status == 0 {
				s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR}
				add(word("error.type", strconv.FormatInt(status, 10)))
			}
		case "err":
			if s.Status == nil {
				s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR}
			}
			s.Status.Message = a.Value.String()
		case "app", "service", "version", "instance", "cause", "by", "reason":
			text("holdfast." + a.Key)
		case "tries", "code":
			add(number("holdfast."+a.Key, a.Value.Int64()))
		case "from_client", "from_instance":
			for _, one := range a.Value.Group() {
				if one.Key == "bytes" || one.Key == "text" || one.Key == "binary" {
					add(number("holdfast."+a.Key+"."+one.Key, one.Value.Int64()))
				}
			}
		}
		return true
	})
	if !sampled {
		return nil
	}
	if s.SpanId = spanID(id); s.SpanId == nil {
		return nil
	}
	if r.Message == "socket" {
		s.Name = "WebSocket"
		s.ParentSpanId, s.SpanId = s.SpanId, big(rand.Uint64()|1)
		s.Kind = trace.Span_SPAN_KIND_INTERNAL
	}
	add(word("holdfast.request_id", id))
	s.EndTimeUnixNano = uint64(r.Time.UnixNano())
	s.StartTimeUnixNano = uint64(r.Time.Add(-took).UnixNano())
	return s
}

func big(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
