package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Ctrl-C says goodbye to every socket, stops the app and leaves nothing behind.
func TestInterruptSaysGoodbye(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo")
	if status, _ := h.post("/switch/spawn"); status >= 300 {
		t.Fatalf("POST /switch/spawn = %d", status)
	}
	var sockets []*websocket.Conn
	for range 20 {
		conn, _, err := newClient(t, h.url).socket(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		sockets = append(sockets, conn)
	}
	if len(processesOf(t, h.data)) < 3 {
		t.Fatal("the test does not see the app's processes")
	}
	began := time.Now()
	h.interrupt()
	for i, conn := range sockets {
		_, _, err := conn.Read(t.Context())
		if err := closedWith(err, websocket.StatusGoingAway, "shutting-down"); err != nil {
			t.Errorf("socket %d: %v", i, err)
		}
	}
	if code := h.exitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	within(t, "stopping an app that obeys SIGTERM", time.Since(began), 15*time.Second)
	if left := processesOf(t, h.data); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// An app that ignores SIGTERM has 30 s; a second Ctrl-C does not wait for them.
func TestSecondInterruptIsQuick(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo", "--instances=1", "--env=ECHO_IGNORE_TERM=1")
	h.interrupt()
	h.await(regexp.MustCompile(`Stopping`))
	h.await(regexp.MustCompile(`does not hear`))
	began := time.Now()
	h.interrupt()
	h.exitCode()
	within(t, "a second interrupt", time.Since(began), 5*time.Second)
	if left := processesOf(t, h.data); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// If Holdfast is killed, its next start finds the instances that still run and
// keeps them instead of starting new ones beside them.
func TestInstancesOutliveAKilledHoldfast(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo")
	before := h.instances()
	if len(before) != 2 {
		t.Fatalf("instances %v, want two", before)
	}
	h.cmd.Process.Kill()
	<-h.done

	again := launch(t, h.data, "../examples/echo")
	again.serving()
	if after := again.instances(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("instances %v after the restart, %v before", after, before)
	}
	again.interrupt()
	if code := again.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := processesOf(t, h.data); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// A second holdfast for the same app refuses, naming the first.
func TestTwoForOneAppAreRefused(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo", "--instances=1")
	second := launch(t, h.data, "../examples/echo")
	if code := second.exitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if out := second.out.String(); !strings.Contains(out, "in use by process ") || !strings.Contains(out, "--data") {
		t.Errorf("it said %q; want the first one's pid and the next step", out)
	}
	if status, _ := h.get("/"); status != 200 {
		t.Errorf("the first one answers %d", status)
	}
}

// A pipe that closes is a stop, not an orphaned app. SIGPIPE alone is none: it
// comes with each write to a connection that a client has reset, too.
func TestAClosedPipeStops(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	h := &holdfast{t: t, data: data, done: make(chan struct{})}
	h.cmd = command(data, "run", "--port=0", "--data="+data, "../examples/echo", "--instances=1")
	h.cmd.Stdout = write
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() {
		h.cmd.Wait()
		close(h.done)
	}()
	t.Cleanup(h.stop)
	for lines := bufio.NewScanner(read); h.url == ""; {
		if !lines.Scan() {
			t.Fatal("it ended before it served")
		}
		h.url = address.FindString(lines.Text())
	}
	h.cmd.Process.Signal(syscall.SIGPIPE)
	for range 3 { // also the third answer comes from it
		if status, _ := h.get("/"); status != 200 {
			t.Fatalf("after SIGPIPE it answers %d", status)
		}
	}
	read.Close()
	kill(t, h, h.instances()[0]) // which it reports
	h.exitCode()
	if left := processesOf(t, data); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// instances lists the directories of the instances that exist, sorted.
func (h *holdfast) instances() []string {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.data, "instances"))
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names
}
