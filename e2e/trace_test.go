package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OpenTelemetry collector that keeps spans by their ids.
type collector struct {
	mu    sync.Mutex // guards the following
	spans []*trace.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var data trace.TracesData
	body, err := io.ReadAll(r.Body)
	if err != nil || proto.Unmarshal(body, &data) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range data.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// find is the span of that name in a trace; nil while it has not come.
func (c *collector) find(name, id string) *trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name && hex.EncodeToString(s.TraceId) == id {
			return s
		}
	}
	return nil
}

// One id leads from what the app was told to the line of the request, to that of
// its socket, and to the spans that a collector has of both, under the span of
// whoever asked. The lines are on standard output, as those of the apps are.
func TestOneIDLeadsEverywhere(t *testing.T) {
	t.Parallel()
	c := &collector{}
	otlp := httptest.NewServer(c)
	defer otlp.Close()
	f := newFleet(t, "--log-stdout=all", "--otlp-endpoint="+otlp.URL, "--otlp-share=0")
	f.start()
	f.up()
	f.do("deploy", copyApp(t, "echo"), "--project=shop", "--version=a")

	// line is a line of JSON that the server printed, with all of these words.
	line := func(words ...string) (found map[string]any) {
		eventually(t, fmt.Sprint("a line with ", words), func() bool {
		lines:
			for text := range strings.Lines(f.out.String()) {
				for _, w := range words {
					if !strings.Contains(text, w) {
						continue lines
					}
				}
				return json.Unmarshal([]byte(text), &found) == nil
			}
			return false
		})
		return found
	}
	ask := func(path string, header http.Header) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.front+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Header = "shop.localhost", header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		var told struct{ Headers [][2]string }
		if path == "/headers" && json.Unmarshal(body, &told) != nil {
			t.Fatalf("%s", body)
		}
		var all strings.Builder
		for _, h := range told.Headers {
			fmt.Fprintf(&all, "%s: %s\n", h[0], h[1])
		}
		return all.String()
	}

	// A request that wants to be traced, by the standard's header.
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	said := ask("/headers", http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "Tracestate": {"theirs=1"}})
	line1 := line(`"msg":"request"`, `"trace":"`+id+`"`)
	span, err := strconv.ParseUint(fmt.Sprint(line1["id"]), 10, 64)
	if err != nil {
		t.Fatalf("%v: %v", line1, err)
	}
	for _, want := range []string{
		fmt.Sprintf("X-Cloud-Trace-Context: %s/%d;o=1", id, span),
		fmt.Sprintf("Traceparent: 00-%s-%016x-01", id, span), "Tracestate: theirs=1",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the app was not told %q:\n%s", want, said)
		}
	}
	eventually(t, "the request's span is told", func() bool { return c.find("GET", id) != nil })
	if s := c.find("GET", id); hex.EncodeToString(s.SpanId) != fmt.Sprintf("%016x", span) || hex.EncodeToString(s.ParentSpanId) != parent {
		t.Errorf("the request's span: %v", s)
	}

	// A socket, by Google's.
	const other = "105445aa7843bc8bf206b12000100000"
	conn, _, err := websocket.Dial(t.Context(), "ws://"+f.front+"/ws", &websocket.DialOptions{Host: "shop.localhost", HTTPHeader: http.Header{"X-Cloud-Trace-Context": {other + "/1;o=1"}}})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
	handshake, socket := line(`"msg":"request"`, other), line(`"msg":"socket"`, other)
	if handshake["id"] != socket["id"] || handshake["id"] == nil || handshake["status"] != 101.0 {
		t.Errorf("the socket has another id than its handshake:\n%v\n%v", handshake, socket)
	}
	eventually(t, "the socket's span is told", func() bool { return c.find("WebSocket", other) != nil && c.find("GET", other) != nil })
	if s, above := c.find("WebSocket", other), c.find("GET", other); string(s.ParentSpanId) != string(above.SpanId) || fmt.Sprint(handshake["id"]) != fmt.Sprint(mustUint(t, hex.EncodeToString(above.SpanId))) {
		t.Errorf("the socket's span is not below its handshake's:\n%v\n%v", s, above)
	}

	// Who does not say is not traced, where the share is none; the app is told so.
	if said := ask("/headers", http.Header{"Tracestate": {"theirs=1"}}); !strings.Contains(said, "Traceparent: 00-") || !strings.Contains(said, "-00") || strings.Contains(said, "Tracestate") {
		t.Errorf("a request that belongs to no trace:\n%s", said)
	}
	// What the app wrote is there, with whose it is.
	if l := line(`"msg":"line"`, `"service":"default"`); l["app"] != "shop" || l["version"] != "a" || l["instance"] == "" || l["text"] == "" {
		t.Errorf("a line of the app: %v", l)
	}
}

// Who reads standard output and stops keeps nobody from being served, nor the
// server from ending.
func TestNobodyReadsStandardOutput(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	f.cmd = command(f.data, "serve", "--data="+f.data, "--listen="+f.front, "--admin="+f.admin, "--log-stdout=requests")
	f.cmd.Env = append(f.cmd.Env, "HOME="+f.home, "XDG_CONFIG_HOME="+f.home)
	f.cmd.Stdout, f.cmd.Stderr = write, f.out
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	done := make(chan struct{})
	f.done = done
	go func(cmd *exec.Cmd) { cmd.Wait(); close(done) }(f.cmd)
	f.up()
	for range 100 { // of some 2 KB each: a pipe holds 64
		if status, _, err := f.ask(t.Context(), http.DefaultClient, "nobody.localhost", "/"+strings.Repeat("x", 1900)); err != nil || status != http.StatusNotFound {
			t.Fatalf("%d, %v", status, err)
		}
	}
	f.cmd.Process.Signal(os.Interrupt)
	select {
	case <-f.done:
	case <-time.After(30 * time.Second):
		t.Error("the server does not end")
	}
	eventually(t, "it says so", func() bool { return strings.Contains(f.out.String(), "nobody reads standard output") })
}

func mustUint(t *testing.T, digits string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
