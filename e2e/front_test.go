package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// ask sends a GET with a host and headers of the test's choice.
func (h *holdfast) ask(path, host string, header http.Header) (*http.Response, string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp, string(body)
}

// What App Engine's front end does to a request: hosts lead to services, the
// documented headers are added, and what a client sends under their names is not
// believed.
func TestTheFrontEnd(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo", "--project=shop", "--region=uc", "--instances=1")

	for host, want := range map[string]int{
		"localhost":                              http.StatusOK,
		"127.0.0.1:8080":                         http.StatusOK,
		"[::1]":                                  http.StatusOK,
		"shop.localhost":                         http.StatusOK,
		"shop.uc.r.localhost":                    http.StatusOK,
		"SHOP.UC.R.LOCALHOST.":                   http.StatusOK,
		"default-dot-shop.uc.r.localhost":        http.StatusOK,
		"nosuch-dot-default-dot-shop.localhost":  http.StatusOK, // soft routing
		"shop.example.org":                       http.StatusNotFound,
		"localhost.evil.example":                 http.StatusNotFound,
		"nosuch-dot-shop.uc.r.localhost.example": http.StatusNotFound,
	} {
		if resp, body := h.ask("/", host, nil); resp.StatusCode != want {
			t.Errorf("Host %s: %d %q, want %d", host, resp.StatusCode, body, want)
		}
	}

	_, body := h.ask("/headers?a=1%2F2&b", "shop.localhost:9", http.Header{
		"X-Appengine-Country": {"XX"},
		"X-Google-Anything":   {"forged"},
		"X-Forwarded-For":     {"203.0.113.7"},
		"X-Mine":              {"kept"},
	})
	var saw struct {
		URL, Host string
		Headers   [][2]string // names and values
	}
	if err := json.Unmarshal([]byte(body), &saw); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if saw.Host != "shop.localhost:9" || saw.URL != "/headers?a=1%2F2&b" {
		t.Errorf("the app saw host %q and URL %q", saw.Host, saw.URL)
	}
	headers := http.Header{}
	for _, h := range saw.Headers {
		headers.Add(h[0], h[1])
	}
	for name, want := range map[string]string{
		"X-Appengine-Country":   "^ZZ$",
		"X-Google-Anything":     "^$",
		"X-Forwarded-For":       `^203\.0\.113\.7, ?127\.0\.0\.1, ?127\.0\.0\.1$`,
		"X-Forwarded-Proto":     "^http$",
		"X-Mine":                "^kept$",
		"X-Cloud-Trace-Context": `^[0-9a-f]{32}/\d+`,
	} {
		if got := headers.Get(name); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %s", name, got, want)
		}
	}
}

// Server-sent events and long polls arrive when they are sent.
func TestEventsArriveAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo", "--instances=1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The second event comes a minute after the first: whoever buffered the
	// first would still have it when patience ends.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/events?every=1m", nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Errorf("the first line: %q, %v", line, err)
	}
	within(t, "the first event", time.Since(began), 30*time.Second)
}

// addr is where an instance listens, for tests that speak past the router.
func (h *holdfast) addr(instance string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.data, "instances", instance, "instance.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	var record struct{ Addr string }
	if err := json.Unmarshal(b, &record); err != nil || record.Addr == "" {
		h.t.Fatalf("instance.json of %s: %v: %s", instance, err, b)
	}
	return record.Addr
}

// on opens a socket that lands on the given instance.
func (h *holdfast) on(instance string) *websocket.Conn {
	h.t.Helper()
	for range 50 {
		conn, at, err := newClient(h.t, h.url).socket(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { conn.CloseNow() })
		if at == instance {
			return conn
		}
	}
	h.t.Fatalf("50 sockets, and none on %s", instance)
	return nil
}

// An instance that fails readiness gets no new traffic and keeps its sockets;
// when it passes again, it gets traffic again.
func TestUnreadyKeepsItsSockets(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo")
	sick := h.instances()[0]
	conn := h.on(sick)
	offset := h.out.Len()
	fetch(t, http.MethodPost, "http://"+h.addr(sick)+"/switch/unready?on=1")
	h.awaitFrom(offset, regexp.MustCompile(sick+` is unready`))
	if err := echo(t.Context(), conn, "still here"); err != nil {
		t.Errorf("the socket of an unready instance: %v", err)
	}
	for range 20 {
		if _, body := h.get("/"); strings.Contains(body, sick) {
			t.Fatalf("%s is unready and got a request", sick)
		}
	}
	offset = h.out.Len()
	fetch(t, http.MethodPost, "http://"+h.addr(sick)+"/switch/unready?on=0")
	h.awaitFrom(offset, regexp.MustCompile(sick+` is ready`))
	if err := echo(t.Context(), conn, "and still"); err != nil {
		t.Error(err)
	}
}

// An instance that hangs fails liveness and is replaced; its sockets are told.
func TestAHungInstanceIsReplaced(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo")
	hung := h.instances()[0]
	conn := h.on(hung)
	offset := h.out.Len()
	go http.Post("http://"+h.addr(hung)+"/switch/hang", "", nil) // may never be answered
	_, _, err := conn.Read(t.Context())
	if err := closedWith(err, websocket.StatusServiceRestart, "unhealthy"); err != nil {
		t.Error(err)
	}
	h.awaitFrom(offset, regexp.MustCompile(`is starting \(unhealthy\)`))
	eventually(t, "two instances without the hung one", func() bool {
		names := h.instances()
		return len(names) == 2 && names[0] != hung && names[1] != hung
	})
}

// An instance that takes more memory than its resources say is ended, and the
// reason is told as what it is.
func TestOutOfMemoryIsToldAsSuch(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo", "--instances=1")
	if limits := h.await(regexp.MustCompile(`limits: [^;\n]*`)); strings.Contains(limits, "none") {
		t.Skip("this machine does not let us limit memory: " + limits)
	}
	offset := h.out.Len()
	go http.Post("http://"+h.addr(h.instances()[0])+"/switch/leak?mb=800", "", nil)
	h.awaitFrom(offset, regexp.MustCompile(`is stopped \(crashed\): out of memory \(limit 614 MB\)`))
	h.awaitFrom(offset, regexp.MustCompile(`is ready`))
}

// Under root the instances run as another user when one is configured.
func TestInstancesRunAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root on Linux")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	data := t.TempDir()
	if err := os.Chmod(filepath.Dir(data), 0o755); err != nil { // the test's own folder is 0700
		t.Fatal(err)
	}
	h := launch(t, data, "../examples/echo", "--instances=1", "--user=nobody")
	h.serving()
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(appOf(t, data, h.instances()[0]))))
	if err != nil {
		t.Fatal(err)
	}
	if uid := strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid)); uid != nobody.Uid {
		t.Errorf("the app runs as user %s, want %s", uid, nobody.Uid)
	}
}
