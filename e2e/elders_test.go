package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// SockJS and socket.io 2, which speaks engine.io 3: the real servers on three
// instances, and the real clients, none of which has a cookie jar. Their sessions
// stay where they began, whatever carries them, and without affinity they do not.
func TestOlderSessionsHoldTogether(t *testing.T) {
	t.Parallel()
	dir := npmDir(t, "elders")
	speak := func(t *testing.T, url string, clients, rounds int, kind string) (seen struct {
		Finished, Errors, Moved, Upgraded int
		Transports, Instances             map[string]int
	}) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		node := exec.CommandContext(ctx, "node", "clients.js", url, strconv.Itoa(clients), strconv.Itoa(rounds), kind)
		node.Dir, node.Stderr = dir, os.Stderr
		out, err := node.Output()
		if err == nil {
			err = json.Unmarshal(out, &seen)
		}
		if err != nil {
			t.Fatalf("clients: %v\n%s", err, out)
		}
		t.Logf("%d clients, %s: %+v", clients, kind, seen)
		return seen
	}
	const clients, rounds = 24, 6
	h := start(t, "testdata/elders")
	for _, kind := range []string{"polling", "upgrade", "xhr-polling", "xhr-streaming", "websocket"} {
		seen := speak(t, h.url, clients, rounds, kind)
		if seen.Finished != clients || seen.Errors > 0 || seen.Moved > 0 || len(seen.Instances) != 3 {
			t.Errorf("%s: %+v, want all of %d finished on three instances, none moved", kind, seen, clients)
		}
		if want := map[string]int{"upgrade": clients}[kind]; seen.Upgraded != want {
			t.Errorf("%s: %d went over to a WebSocket on their session's instance, want %d", kind, seen.Upgraded, want)
		}
		if kind != "polling" && kind != "upgrade" && seen.Transports[kind] != clients {
			t.Errorf("%s: %v", kind, seen.Transports)
		}
	}

	app := filepath.Join(t.TempDir(), "elders")
	if err := os.CopyFS(app, os.DirFS("testdata/elders")); err != nil {
		t.Fatal(err)
	}
	replaceIn(t, filepath.Join(app, "app.yaml"), "session_affinity: true", "session_affinity: false")
	h = start(t, app)
	for _, kind := range []string{"polling", "xhr-polling"} {
		if seen := speak(t, h.url, clients, rounds, kind); seen.Finished > clients/2 {
			t.Errorf("%s without affinity: %+v; the rest proves nothing then", kind, seen)
		}
	}
}
