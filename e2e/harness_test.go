package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests for something that does happen.
const patience = 90 * time.Second

var (
	program string // the holdfast binary, built with the race detector
	caches  string // where it keeps builds when it is not told
	goCache string // the toolchain's own, which XDG_CACHE_HOME would move
)

// madeProgram names a program that was built already, for tests that run this
// binary again, in a world of their own.
const madeProgram = "HOLDFAST_E2E_PROGRAM"

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	if what := os.Getenv(abuseVariable); what != "" {
		return 0, beAbusers(what)
	}
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	program, caches = filepath.Join(dir, "holdfast"), filepath.Join(dir, "cache")
	goCache = goEnv("GOCACHE")
	if made := os.Getenv(madeProgram); made != "" {
		program = made
		return m.Run(), nil
	}
	build := exec.Command("go", "build", "-race", "-o", program, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("build holdfast: %w", err)
	}
	return m.Run(), nil
}

// holdfast is one running `holdfast run`.
type holdfast struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string // http://localhost:PORT, once it serves
	data string
	out  *output
	done chan struct{} // closed when the process has ended
}

// command prepares holdfast with its state in data and the shared build cache.
func command(data string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+caches, "GOCACHE="+goCache, "NO_COLOR=1",
		// The race detector would let each process linger for a second at its
		// end, keepers too, and their exits would be seen so much later.
		"GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell starts a job
	return cmd
}

// launch starts `holdfast run` without waiting for it to serve.
func launch(t *testing.T, data string, args ...string) *holdfast {
	t.Helper()
	h := &holdfast{t: t, data: data, out: newOutput(), done: make(chan struct{})}
	h.cmd = command(data, append([]string{"run", "--port=0", "--data=" + data}, args...)...)
	h.cmd.Stdout, h.cmd.Stderr = h.out, h.out
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		h.cmd.Wait()
		h.out.end()
		close(h.done)
	}()
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Logf("holdfast %s printed:\n%s", strings.Join(args, " "), h.out)
		}
	})
	return h
}

// start runs an app and waits until it is served.
func start(t *testing.T, args ...string) *holdfast {
	t.Helper()
	h := launch(t, t.TempDir(), args...)
	h.serving()
	return h
}

var address = regexp.MustCompile(`http://localhost:\d+`)

// serving waits until h has printed its address.
func (h *holdfast) serving() {
	h.t.Helper()
	h.url = h.await(address)
}

// await waits until something printed matches, and returns the match.
func (h *holdfast) await(what *regexp.Regexp) string {
	h.t.Helper()
	return h.awaitFrom(0, what)
}

// awaitFrom is await for what is printed from byte offset on.
func (h *holdfast) awaitFrom(offset int, what *regexp.Regexp) string {
	h.t.Helper()
	match, ok := h.out.await(offset, what)
	if !ok {
		h.t.Fatalf("holdfast never printed %v", what)
	}
	return match
}

// stop ends it as Ctrl-C does, twice if need be, and waits.
func (h *holdfast) stop() {
	h.interrupt()
	select {
	case <-h.done:
		return
	case <-time.After(45 * time.Second):
	}
	h.interrupt()
	select {
	case <-h.done:
	case <-time.After(10 * time.Second):
		h.cmd.Process.Kill()
		<-h.done
		h.t.Error("holdfast did not stop on two interrupts")
	}
}

func (h *holdfast) interrupt() { h.cmd.Process.Signal(os.Interrupt) }

// exitCode waits until it has ended.
func (h *holdfast) exitCode() int {
	h.t.Helper()
	select {
	case <-h.done:
	case <-time.After(patience):
		h.t.Fatal("holdfast does not end")
	}
	return h.cmd.ProcessState.ExitCode()
}

// get fetches a path and returns status and body.
func (h *holdfast) get(path string) (int, string) {
	h.t.Helper()
	return fetch(h.t, http.MethodGet, h.url+path)
}

func (h *holdfast) post(path string) (int, string) {
	h.t.Helper()
	return fetch(h.t, http.MethodPost, h.url+path)
}

func fetch(t *testing.T, method, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(body)
}

// eventually waits until ok holds, looking every few milliseconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// output collects what a process prints and lets tests wait for it.
type output struct {
	mu    sync.Mutex // guards the following
	buf   bytes.Buffer
	ended bool
	more  chan struct{} // closed and replaced at each write and at the end
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wakeLocked()
	return o.buf.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.wakeLocked()
}

func (o *output) wakeLocked() {
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Len()
}

func (o *output) await(offset int, what *regexp.Regexp) (string, bool) {
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		match := what.FindString(o.buf.String()[offset:])
		more, ended := o.more, o.ended
		o.mu.Unlock()
		if match != "" {
			return match, true
		}
		if ended {
			return "", false
		}
		select {
		case <-more:
		case <-deadline:
			return "", false
		}
	}
}

// copyApp copies an example into a folder of the test's own, where its files
// may be changed.
func copyApp(t *testing.T, example string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), example)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", example))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// appendTo adds text to a file of an app.
func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

// replaceIn changes text in a file of an app, which must be there.
func replaceIn(t *testing.T, file, old, with string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s does not contain %q", file, old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), old, with, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goEnv asks the toolchain where it keeps things, for tests that change HOME.
func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
