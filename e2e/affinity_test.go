package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// pollers is what clients of socket.io lived through; see testdata/pollers.
type pollers struct {
	Polls, Cookies, Unknown, Errors, Finished, Upgraded, Moved int
	Instances                                                  map[string]int
}

// pollersDir installs the real client of socket.io.
func pollersDir(t *testing.T) string { return npmDir(t, "pollers") }

// npmDir is a copy of a folder of testdata with what it needs of npm.
func npmDir(t *testing.T, name string) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: apt-get install nodejs npm", tool)
		}
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

func poll(t *testing.T, dir, url string, clients, rounds int, mode string) (p pollers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "pollers.js", url, strconv.Itoa(clients), strconv.Itoa(rounds), mode)
	node.Dir, node.Stderr = dir, os.Stderr
	out, err := node.Output()
	if err == nil {
		err = json.Unmarshal(out, &p)
	}
	if err != nil {
		t.Fatalf("pollers: %v\n%s", err, out)
	}
	t.Logf("%d clients, %s: %+v", clients, mode, p)
	return p
}

// 200 clients of the real socket.io, half without a cookie jar, over three
// instances of the real server: no session is lost in 2,000 polls, upgrades
// find theirs, and without affinity the same clients fail as everywhere.
func TestLongPollingHoldsTogether(t *testing.T) {
	t.Parallel()
	dir := pollersDir(t)
	h := start(t, "../examples/socketio")

	const clients, rounds = 200, 5
	began := time.Now()
	p := poll(t, dir, h.url, clients, rounds, "polling")
	t.Logf("took %v", time.Since(began))
	if p.Polls < 2000 || p.Cookies < p.Polls/4 || p.Cookies > p.Polls/2 {
		t.Errorf("%d polls, %d of them with our cookie, want 2000 and almost half", p.Polls, p.Cookies)
	}
	if p.Finished != clients || p.Errors > 0 || p.Unknown > 0 || p.Moved > 0 {
		t.Errorf("%d of %d clients finished, with %d errors, %d unknown sessions, %d moved", p.Finished, clients, p.Errors, p.Unknown, p.Moved)
	}
	if len(p.Instances) != 3 {
		t.Errorf("sessions on %v, want three instances", p.Instances)
	}

	p = poll(t, dir, h.url, 30, 2, "upgrade")
	if p.Upgraded != 30 || p.Finished != 30 || p.Errors > 0 || p.Unknown > 0 || p.Moved > 0 {
		t.Errorf("of 30 clients %d went over to a WebSocket on their session's instance: %+v", p.Upgraded, p)
	}
}

func TestLongPollingFallsApartWithoutAffinity(t *testing.T) {
	t.Parallel()
	dir := pollersDir(t)
	app := copyApp(t, "socketio")
	replaceIn(t, filepath.Join(app, "app.yaml"), "session_affinity: true", "session_affinity: false")
	h := start(t, app)
	if p := poll(t, dir, h.url, 30, 5, "polling"); p.Unknown < 15 || p.Errors < 15 {
		t.Errorf("%+v: want most of 30 clients to meet Session ID unknown, or the other test proves nothing", p)
	}
}
