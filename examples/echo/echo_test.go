package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const patience = 10 * time.Second // for what should take milliseconds

// TestMain lets the test program be the app, for what only a process can show.
func TestMain(m *testing.M) {
	if os.Getenv("ECHO_TEST_BE_THE_APP") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newTestEcho(t *testing.T) (*echo, *httptest.Server) {
	t.Helper()
	e := newEcho()
	e.Instance = "a"
	e.exit = func(code int) { panic(http.ErrAbortHandler) }
	srv := httptest.NewServer(newServer(e))
	t.Cleanup(func() {
		e.stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.wait(ctx); err != nil {
			t.Error(err)
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return e, srv
}

// ask makes a request and returns status and body.
func ask(t *testing.T, method, url string, body io.Reader, headers ...string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	_, srv := newTestEcho(t)
	for _, c := range []struct {
		name, method, path, body, accept string
		status                           int
		want                             string
	}{
		{"the name, plainly", "GET", "/", "", "", 200, "a\n"},
		{"the name, as JSON", "GET", "/", "", "application/json", 200, `"instance": "a"`},
		{"the page", "GET", "/", "", "text/html,*/*", 200, `<b id="instance">a</b>`},
		{"its script", "GET", "/echo.js", "", "", 200, "use strict"},
		{"no other file", "GET", "/main.go", "", "", 404, ""},
		{"a poll", "GET", "/poll?seconds=0.01", "", "", 200, `"waited_ms"`},
		{"a poll without end", "GET", "/poll?seconds=Inf", "", "", 400, "3600"},
		{"an upload", "POST", "/upload", strings.Repeat("x", 100_000), "", 200, `"bytes": 100000`},
		{"a download", "GET", "/download?bytes=5", "", "", 200, "01234"},
		{"a download of less than nothing", "GET", "/download?bytes=-1", "", "", 400, ""},
		{"a status", "GET", "/status/418", "", "", 418, "teapot"},
		{"no content", "DELETE", "/status/204", "", "", 204, ""},
		{"no such status", "GET", "/status/99", "", "", 400, ""},
		{"ready", "GET", "/ready", "", "", 200, "ok"},
		{"live", "GET", "/live", "", "", 200, "ok"},
		{"a socket refused", "GET", "/ws?refuse=403", "", "", 403, "refuses"},
		{"no such switch", "POST", "/switch/dance", "", "", 404, "slow, unready"},
		{"a switch is not for links", "GET", "/switch/crash", "", "", 405, ""},
	} {
		status, body, h := ask(t, c.method, srv.URL+c.path, strings.NewReader(c.body), "Accept", c.accept)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %s %s: %d %.200q, want %d and %q", c.name, c.method, c.path, status, body, c.status, c.want)
		}
		if h.Get("Echo-Instance") != "a" {
			t.Errorf("%s: the answer names instance %q, want a", c.name, h.Get("Echo-Instance"))
		}
	}
}

func TestHeadersAreShownAsTheyCame(t *testing.T) {
	t.Parallel()
	_, srv := newTestEcho(t)
	_, body, _ := ask(t, "PATCH", srv.URL+"/headers?a=%20b", strings.NewReader("abc"), "X-Forwarded-Proto", "https")
	var got struct {
		Method, URL, Host string
		Headers           [][2]string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != "PATCH" || got.URL != "/headers?a=%20b" || got.Host != strings.TrimPrefix(srv.URL, "http://") {
		t.Errorf("got %+v", got)
	}
	found := false
	for _, h := range got.Headers {
		found = found || h == [2]string{"X-Forwarded-Proto", "https"}
	}
	if !found {
		t.Errorf("X-Forwarded-Proto is not among %v", got.Headers)
	}
}

func TestEnvShowsOnlyWhatAppEngineSets(t *testing.T) {
	t.Setenv("GAE_SERVICE", "echo")
	t.Setenv("SECRET_TOKEN", "hidden")
	_, srv := newTestEcho(t)
	if _, body, _ := ask(t, "GET", srv.URL+"/env", nil); !strings.Contains(body, `"GAE_SERVICE": "echo"`) || strings.Contains(body, "hidden") {
		t.Errorf("env shows %s", body)
	}
}

func TestASocketEchoesAnything(t *testing.T) {
	t.Parallel()
	_, srv := newTestEcho(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, srv.URL+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(messageMax)
	if got := res.Header.Get("Echo-Instance"); got != "a" {
		t.Errorf("the 101 names instance %q, want a", got)
	}
	for _, m := range []struct {
		kind websocket.MessageType
		data []byte
	}{
		{websocket.MessageText, []byte("hello ∞")},
		{websocket.MessageBinary, nil},
		{websocket.MessageBinary, bytes.Repeat([]byte{0, 255, 7}, 1<<20)},
	} {
		if err := conn.Write(ctx, m.kind, m.data); err != nil {
			t.Fatal(err)
		}
		kind, data, err := conn.Read(ctx)
		if err != nil || kind != m.kind || !bytes.Equal(data, m.data) {
			t.Fatalf("sent %v of %d bytes, got %v of %d bytes, %v", m.kind, len(m.data), kind, len(data), err)
		}
	}
	conn.CloseRead(ctx) // reads the pong
	if err := conn.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func TestASocketIsClosedWhenAsked(t *testing.T) {
	t.Parallel()
	e, srv := newTestEcho(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ending := func(query, say string, then func()) websocket.CloseError {
		t.Helper()
		conn, _, err := websocket.Dial(ctx, srv.URL+"/ws"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if say != "" {
			if err := conn.Write(ctx, websocket.MessageText, []byte(say)); err != nil {
				t.Fatal(err)
			}
		}
		then()
		_, _, err = conn.Read(ctx)
		var ce websocket.CloseError
		if !errors.As(err, &ce) {
			t.Fatalf("the socket ended with %v, want a Close frame", err)
		}
		return ce
	}
	if got := ending("?close=4001&reason=enough", "x", func() {}); got.Code != 4001 || got.Reason != "enough" {
		t.Errorf("?close=4001: %v", got)
	}
	if got := ending("", "", e.stop); got.Code != websocket.StatusGoingAway || got.Reason != "stopping" {
		t.Errorf("stopping: %v", got)
	}
	if status, _, _ := ask(t, "GET", srv.URL+"/ready", nil); status != http.StatusServiceUnavailable {
		t.Errorf("ready while stopping: %d, want 503", status)
	}
}

func TestEventsTickAndGoOn(t *testing.T) {
	t.Parallel()
	_, srv := newTestEcho(t)
	_, body, h := ask(t, "GET", srv.URL+"/events?every=10ms&count=3", nil, "Last-Event-ID", "41")
	if got := h.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	var ids []string
	for line := range strings.Lines(body) {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, strings.TrimSpace(id))
		}
	}
	if fmt.Sprint(ids) != "[42 43 44]" || !strings.Contains(body, `"instance":"a"`) {
		t.Errorf("ids %v in %q, want 42 43 44", ids, body)
	}
}

func TestSwitches(t *testing.T) {
	t.Parallel()
	e, srv := newTestEcho(t)
	post := func(path string) string {
		t.Helper()
		status, body, _ := ask(t, "POST", srv.URL+path, nil)
		if status != http.StatusOK {
			t.Fatalf("POST %s: %d %s", path, status, body)
		}
		return body
	}
	check := func(path string, want int) {
		t.Helper()
		if status, _, _ := ask(t, "GET", srv.URL+path, nil); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}
	post("/switch/unready")
	check("/ready", 503)
	check("/live", 200)
	post("/switch/unready?on=0")
	check("/ready", 200)
	post("/switch/unhealthy")
	check("/live", 503)
	if body := post("/switch/leak?mb=3"); !strings.Contains(body, `"leaked_mb": 3`) {
		t.Errorf("after leaking 3 MiB: %s", body)
	}
	post("/switch/slow?ms=50")
	start := time.Now()
	check("/", 200)
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("slow by 50 ms answered after %v", took)
	}
	post("/switch/reset")
	check("/live", 200)
	if e.slow.Load() != 0 || e.leakedMB() != 0 {
		t.Error("reset did not reset")
	}
}

// TestAHungInstanceAnswersNothing is true of requests and of open sockets.
func TestAHungInstanceAnswersNothing(t *testing.T) {
	t.Parallel()
	e := newEcho()
	srv := httptest.NewServer(newServer(e))
	defer srv.Close()
	defer srv.CloseClientConnections()
	if _, err := http.Post(srv.URL+"/switch/hang", "", nil); err == nil {
		t.Error("the switch was answered")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/live", nil)
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("a hung instance answered %s", res.Status)
	}
}

// ---- As a process ----------------------------------------------------------

// A process is the app as an instance runs it.
type process struct {
	*exec.Cmd
	lines chan string // of stdout and stderr; closed when both are
}

func start(t *testing.T, environ ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self), lines: make(chan string, 1000)}
	p.Env = append(os.Environ(), append([]string{"ECHO_TEST_BE_THE_APP=1", "PORT=0"}, environ...)...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = in, in
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() {
		p.Process.Kill() // already gone in most tests
		p.Wait()
		out.Close()
	})
	go func() { // ends when the process has
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// until waits for a line that contains s.
func (p *process) until(t *testing.T, s string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the app ended without saying %q", s)
			}
			if strings.Contains(line, s) {
				return line
			}
		case <-late:
			t.Fatalf("the app did not say %q in %v", s, patience)
		}
	}
}

func (p *process) listening(t *testing.T) string {
	t.Helper()
	line := p.until(t, "listens on ")
	return "http://127.0.0.1" + line[strings.LastIndex(line, ":"):]
}

// ended waits for the end and returns the exit code.
func (p *process) ended(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case <-done:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		p.Process.Kill()
		t.Fatalf("the app did not end in %v", patience)
		return 0
	}
}

func TestSIGTERMFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	p := start(t)
	url := p.listening(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	res, err := http.Get(url + "/events?every=1h") // its first tick says that it is in flight
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	req, _ := http.NewRequestWithContext(ctx, "POST", url+"/upload", nil)
	body, feed := io.Pipe()
	req.Body = body
	// The body's first bytes go when the app asks for them: then it is in flight,
	// and no connection that the app may take for a new or an idle one.
	req.Header.Set("Expect", "100-continue")
	uploader := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience}}
	defer uploader.CloseIdleConnections()
	answered := make(chan string, 1)
	go func() {
		res, err := uploader.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answered <- string(b)
	}()
	feed.Write([]byte("first"))
	p.Process.Signal(syscall.SIGTERM)
	p.until(t, "finishes what is in flight")
	feed.Write([]byte(", then"))
	feed.Close()
	if got := <-answered; !strings.Contains(got, `"bytes": 11`) {
		t.Errorf("the upload in flight got %q", got)
	}
	if b, _ := io.ReadAll(res.Body); !strings.Contains(string(b), "event: bye") {
		t.Errorf("the events ended with %q", b)
	}
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the socket ended with %v, want 1001", err)
	}
	if code := p.ended(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestMisbehaviourFromTheStart(t *testing.T) {
	t.Parallel()
	t.Run("ends at once", func(t *testing.T) {
		t.Parallel()
		if code := start(t, "ECHO_EXIT_AT_START=3").ended(t); code != 3 {
			t.Errorf("exit code %d, want 3", code)
		}
	})
	t.Run("never listens, but hears SIGTERM", func(t *testing.T) {
		t.Parallel()
		p := start(t, "ECHO_NEVER_LISTEN=1")
		p.until(t, "never listens")
		p.Process.Signal(syscall.SIGTERM)
		if code := p.ended(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	})
	t.Run("listens late", func(t *testing.T) {
		t.Parallel()
		p := start(t, "ECHO_START_DELAY=50ms")
		p.until(t, "listens in 50ms")
		p.listening(t)
	})
	t.Run("does not hear SIGTERM", func(t *testing.T) {
		t.Parallel()
		p := start(t, "ECHO_IGNORE_TERM=1")
		url := p.listening(t)
		p.Process.Signal(syscall.SIGTERM)
		p.until(t, "does not hear terminated")
		if status, _, _ := ask(t, "GET", url+"/live", nil); status != http.StatusOK {
			t.Errorf("afterwards it answers %d", status)
		}
	})
	t.Run("crashes with the code asked for", func(t *testing.T) {
		t.Parallel()
		p := start(t)
		url := p.listening(t)
		if _, err := http.Post(url+"/switch/crash?code=7", "", nil); err == nil {
			t.Error("a crashing instance answered")
		}
		if code := p.ended(t); code != 7 {
			t.Errorf("exit code %d, want 7", code)
		}
	})
	t.Run("leaves a process behind", func(t *testing.T) {
		t.Parallel()
		p := start(t)
		_, body, _ := ask(t, "POST", p.listening(t)+"/switch/spawn", nil)
		var got struct{ PID int }
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.PID <= 1 {
			t.Fatalf("spawn answered %s", body)
		}
		if err := syscall.Kill(got.PID, syscall.SIGKILL); err != nil {
			t.Errorf("the spawned process %d: %v", got.PID, err)
		}
	})
	t.Run("writes to both streams", func(t *testing.T) {
		t.Parallel()
		p := start(t)
		url := p.listening(t)
		p.until(t, "this line went to stderr")
		ask(t, "POST", url+"/switch/print?text=twice", nil)
		p.until(t, "twice")
		p.until(t, "twice")
	})
}
