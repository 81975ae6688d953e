// Package traces tells a collector what became of requests and sockets, as
// OpenTelemetry's spans: OTLP over HTTP, in protobuf. It makes them of the
// router's records once those are written, and so stands nowhere in a request's
// way; who is traced the router has decided, and said in the record. What a
// collector does not take in time is dropped and counted. Start at New and Tap.
package traces

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// waitingMax is how many spans wait for the collector, some 1 KB each; more
	// are dropped.
	waitingMax = 4096

	// batchMax is how many go at once, and batchTime how long the first of them
	// waits for others.
	batchMax  = 512
	batchTime = 2 * time.Second

	// askTime bounds one try to send a batch, and lastTime that at our end.
	askTime  = 10 * time.Second
	lastTime = 2 * time.Second

	// patienceMin and patienceMax are how long a collector that fails is left
	// alone: doubled with each failure.
	patienceMin = time.Second
	patienceMax = 30 * time.Second

	// answerMax is how much of a collector's answer is read, in bytes.
	answerMax = 4 << 10
)

// Config says to whom spans are told.
type Config struct {
	Endpoint string // URL to which they are posted, as in http://127.0.0.1:4318/v1/traces
	Program  string // our version, for the resource's attributes
	Log      *slog.Logger
}

// Numbers is what became of spans since New.
type Numbers struct {
	Sent    int64 // the collector took them
	Dropped int64 // there were too many, or it refused them
}

// Teller tells spans. Its methods may be called from any goroutine.
type Teller struct {
	cfg      Config
	client   *http.Client
	name     string // the endpoint for logs: a password in it is not told
	resource *resource.Resource
	more     chan struct{} // a batch is full; of capacity one
	failing  bool          // the log has said so; owned by Run

	mu      sync.Mutex // guards the following
	waiting []*trace.Span
	numbers Numbers
}

// New prepares a teller. Run is what sends.
func New(cfg Config) *Teller {
	name := "a URL that cannot be read"
	if u, err := url.Parse(cfg.Endpoint); err == nil {
		name = u.Redacted()
	}
	return &Teller{
		cfg:  cfg,
		name: name,
		// A redirect would be a collector that moved: better to be told.
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		resource: &resource.Resource{Attributes: []*common.KeyValue{
			word("service.name", "holdfast"), word("service.version", cfg.Program),
		}},
		more: make(chan struct{}, 1),
	}
}

// Numbers is what has become of spans.
func (t *Teller) Numbers() Numbers {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.numbers
}

// put has a span sent, unless too many wait. It does not block.
func (t *Teller) put(s *trace.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= waitingMax {
		t.numbers.Dropped++
		return
	}
	t.waiting = append(t.waiting, s)
	if len(t.waiting) >= batchMax {
		select {
		case t.more <- struct{}{}:
		default:
		}
	}
}

// take is the next batch, empty if nothing waits.
func (t *Teller) take() []*trace.Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.waiting), batchMax)
	batch := t.waiting[:n:n]
	if t.waiting = t.waiting[n:]; len(t.waiting) == 0 {
		t.waiting = nil
	}
	return batch
}

// Run sends what waits until ctx ends, and then once more, within two seconds.
func (t *Teller) Run(ctx context.Context) error {
	defer t.client.CloseIdleConnections()
	tick := time.NewTicker(batchTime)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-t.more:
		case <-ctx.Done():
		}
		for ctx.Err() == nil {
			batch := t.take()
			if len(batch) == 0 {
				break
			}
			if !t.deliver(ctx, batch) {
				t.back(batch)
			}
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	for batch := t.take(); len(batch) > 0; batch = t.take() {
		if err := t.send(last, batch); err != nil {
			t.dropped(len(batch))
		}
	}
	return nil
}

// deliver tries to send a batch until the collector has taken or refused it; it is
// false if ctx ends before.
func (t *Teller) deliver(ctx context.Context, batch []*trace.Span) bool {
	for patience := patienceMin; ; patience = min(2*patience, patienceMax) {
		err := t.send(ctx, batch)
		if ctx.Err() != nil && err != nil {
			return false
		}
		switch {
		case err == nil && t.failing:
			t.cfg.Log.Info("the collector of traces takes them again", "endpoint", t.name)
		case err != nil && !t.failing:
			t.cfg.Log.Warn("the collector of traces does not take them; what does not fit into memory is dropped", "endpoint", t.name, "err", err)
		}
		t.failing = err != nil
		if err == nil {
			return true
		}
		var final *refusal
		if errors.As(err, &final) && !final.again {
			t.dropped(len(batch))
			return true
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return false
		}
	}
}

// back puts a batch before those that wait, for the last try.
func (t *Teller) back(batch []*trace.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(batch, t.waiting...)
}

func (t *Teller) dropped(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.numbers.Dropped += int64(n)
}

// refusal is a collector's answer that it does not take a batch.
type refusal struct {
	status string
	text   string
	again  bool // it may take it later
}

func (r *refusal) Error() string { return fmt.Sprintf("it answers %s: %.200q", r.status, r.text) }

// send posts one batch (OTLP 1.x, OTLP/HTTP).
func (t *Teller) send(ctx context.Context, batch []*trace.Span) error {
	// The request's own type is the same on the wire, and would bring all of gRPC.
	body, err := proto.Marshal(&trace.TracesData{ResourceSpans: []*trace.ResourceSpans{{
		Resource:   t.resource,
		ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "holdfast/internal/traces"}, Spans: batch}},
	}}})
	if err != nil {
		return &refusal{status: "nothing", text: err.Error()} // no span of ours is like that
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "holdfast/"+cmp.Or(t.cfg.Program, "unknown"))
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, answerMax)) // what is missing of it only explains less
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		t.mu.Lock()
		t.numbers.Sent += int64(len(batch))
		t.mu.Unlock()
		return nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &refusal{resp.Status, string(answer), true}
	}
	return &refusal{resp.Status, string(answer), false}
}

func word(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}

// spanID reads what a record has for an id: a decimal number.
func spanID(text string) []byte {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return nil
	}
	return big(n)
}
