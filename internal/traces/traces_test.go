package traces

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector keeps what it is sent, and answers as it is told.
type collector struct {
	mu     sync.Mutex // guards the following
	spans  []*trace.Span
	asked  int
	status int // 0: 200
	wrong  string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data trace.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.wrong = fmt.Sprint(r.Method, r.URL, r.Header, err)
	}
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	for _, rs := range data.ResourceSpans {
		if len(rs.Resource.Attributes) != 2 || rs.Resource.Attributes[0].Value.GetStringValue() != "holdfast" {
			c.wrong = rs.Resource.String()
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

func (c *collector) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// told has a collector of status told n requests and what more adds, and returns
// it, and the teller that has ended.
func told(t *testing.T, c *collector, say func(*slog.Logger)) *Teller {
	t.Helper()
	srv := httptest.NewServer(c)
	defer srv.Close()
	teller := New(Config{Endpoint: srv.URL + "/v1/traces", Program: "test", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- teller.Run(ctx) }()
	say(slog.New(teller.Tap(slog.NewJSONHandler(io.Discard, nil))))
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong != "" {
		t.Error(c.wrong)
	}
	return teller
}

func attributes(s *trace.Span) map[string]string {
	all := map[string]string{}
	for _, kv := range s.Attributes {
		if text := kv.Value.GetStringValue(); text != "" {
			all[kv.Key] = text
		} else {
			all[kv.Key] = fmt.Sprint(kv.Value.GetIntValue())
		}
	}
	return all
}

func TestARequestAndItsSocketAreSpans(t *testing.T) {
	const id, parent = "105445aa7843bc8bf206b12000100000", "00f067aa0ba902b7"
	c := &collector{}
	teller := told(t, c, func(log *slog.Logger) {
		of := []any{"trace", id, "id", "7", "proto", "HTTP/2.0", "host", "shop.example.org:8443", "path", "/ws", "client", "192.0.2.1", "port", 4711, "app", "shop", "service", "default", "version", "v1", "instance", "i-1", "sampled", true}
		log.Info("request", append(of, "parent", parent, "method", "GET", "status", 101, "in", int64(0), "out", int64(190), "dur", 3*time.Millisecond)...)
		log.Info("socket", append(of, "method", "GET", "dur", time.Hour, "by", "holdfast", "cause", "deadline", "code", 1001, "reason", "deadline", slog.Group("from_client", "bytes", int64(100), "text", int64(9)))...)
		log.Info("request", "trace", id, "id", "8", "method", "GET", "status", 200, "dur", time.Millisecond) // not sampled
		log.Info("request", "trace", id, "id", "9", "method", "POST", "status", 503, "cause", "not-ready", "err", "No instance", "sampled", true, "parent", "", "dur", time.Second)
		log.Info("something else", "sampled", true, "id", "1", "trace", id)
	})
	if n := teller.Numbers(); n != (Numbers{Sent: 3}) {
		t.Fatalf("%+v", n)
	}
	request, socket, failed := c.spans[0], c.spans[1], c.spans[2]
	if hex.EncodeToString(request.TraceId) != id || hex.EncodeToString(request.ParentSpanId) != parent || hex.EncodeToString(request.SpanId) != "0000000000000007" ||
		request.Kind != trace.Span_SPAN_KIND_SERVER || request.Name != "GET" || request.Status != nil {
		t.Errorf("the request: %v", request)
	}
	if took := request.EndTimeUnixNano - request.StartTimeUnixNano; time.Duration(took) != 3*time.Millisecond {
		t.Errorf("the request took %v", time.Duration(took))
	}
	have := attributes(request)
	for name, want := range map[string]string{
		"http.request.method": "GET", "http.response.status_code": "101", "url.path": "/ws", "network.protocol.name": "http", "network.protocol.version": "2",
		"server.address": "shop.example.org", "server.port": "8443", "client.address": "192.0.2.1", "client.port": "4711", "http.response.body.size": "190",
		"holdfast.app": "shop", "holdfast.service": "default", "holdfast.version": "v1", "holdfast.instance": "i-1", "holdfast.request_id": "7",
	} {
		if have[name] != want {
			t.Errorf("the request's %s is %q, want %q", name, have[name], want)
		}
	}
	if hex.EncodeToString(socket.TraceId) != id || hex.EncodeToString(socket.ParentSpanId) != "0000000000000007" || len(socket.SpanId) != 8 || string(socket.SpanId) == string(request.SpanId) || socket.Name != "WebSocket" {
		t.Errorf("the socket: %v", socket)
	}
	have = attributes(socket)
	for name, want := range map[string]string{"holdfast.cause": "deadline", "holdfast.by": "holdfast", "holdfast.code": "1001", "holdfast.from_client.text": "9", "holdfast.request_id": "7"} {
		if have[name] != want {
			t.Errorf("the socket's %s is %q, want %q", name, have[name], want)
		}
	}
	if failed.Status.GetCode() != trace.Status_STATUS_CODE_ERROR || failed.Status.Message != "No instance" || len(failed.ParentSpanId) != 0 || attributes(failed)["error.type"] != "503" {
		t.Errorf("the one that failed: %v", failed)
	}
}

func some(n int) func(*slog.Logger) {
	return func(log *slog.Logger) {
		for i := range n {
			log.Info("request", "trace", strings.Repeat("1", 32), "id", fmt.Sprint(i+1), "method", "GET", "status", 200, "dur", time.Millisecond, "sampled", true)
		}
	}
}

// What does not fit is dropped and counted, and nobody who writes a record waits.
func TestTooManyAreDropped(t *testing.T) {
	c := &collector{}
	c.answer(http.StatusServiceUnavailable)
	if n := told(t, c, some(2*waitingMax)).Numbers(); n.Sent != 0 || n.Dropped != 2*waitingMax {
		t.Errorf("of %d with a collector that takes nothing: %+v", 2*waitingMax, n)
	}
	if n := told(t, &collector{}, some(3)).Numbers(); n != (Numbers{Sent: 3}) {
		t.Errorf("of 3: %+v", n)
	}
}

// deaf is a collector without a network: it refuses, and then does not.
type deaf struct {
	answers []int // what it answers; 0 is no answer, the last is repeated
	asked   []time.Time
}

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, r.Body)
	status := d.answers[min(len(d.asked), len(d.answers)-1)]
	d.asked = append(d.asked, time.Now())
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// A collector that is away is left alone longer and longer, and told once it is
// back; one that says no is not asked again. The log says each stretch once.
func TestACollectorThatFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []int
		want    Numbers
		asked   int
		lines   int
	}{
		{"away for a while", []int{0, 0, 503, 429, 200}, Numbers{Sent: 5}, 5, 2},
		{"says no", []int{400, 200}, Numbers{Dropped: 5}, 1, 1},
		{"away for good", []int{0}, Numbers{Dropped: 5}, 8, 1}, // after 1, 2, 4, 8, 16, 30 s, and in the end
	} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			d := &deaf{answers: c.answers}
			teller := New(Config{Endpoint: "http://collector/v1/traces", Log: slog.New(slog.NewTextHandler(&log, nil))})
			teller.client.Transport = d
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- teller.Run(ctx) }()
			some(5)(slog.New(teller.Tap(slog.NewJSONHandler(io.Discard, nil))))
			time.Sleep(80 * time.Second)
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if got := teller.Numbers(); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
			if len(d.asked) != c.asked {
				t.Errorf("%s: it was asked %d times, want %d: %v", c.name, len(d.asked), c.asked, d.asked)
			}
			if n := strings.Count(log.String(), "\n"); n != c.lines {
				t.Errorf("%s: %d lines of log, want %d:\n%s", c.name, n, c.lines, &log)
			}
		})
	}
}
