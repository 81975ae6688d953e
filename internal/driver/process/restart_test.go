package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
)

// host is a process that has a driver, to be killed: host DIR LOGS ARTIFACT ID...
// It starts the instances, says so, and waits for its end.
func host(args []string) {
	self, _ := os.Executable()
	d, err := New(Config{Dir: args[0], Logs: args[1], Keeper: []string{self, "keeper"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	v := app.Version{
		Key:      app.Key{App: "shop", Service: "default", Version: "hosted"},
		Artifact: app.Artifact{ID: "x", Dir: args[2], Command: "bash run.sh"},
	}
	for _, id := range args[3:] {
		if err := d.Start(context.Background(), id, v); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("started", id)
	}
	time.Sleep(time.Hour) // until killed
}

// hosted is a host that runs.
type hosted struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startHost(t *testing.T, cfg Config, v app.Version, ids ...string) *hosted {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"host", cfg.Dir, cfg.Logs, v.Artifact.Dir}, ids...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &hosted{cmd, bufio.NewScanner(out)}
	t.Cleanup(h.kill)
	return h
}

func (h *hosted) started(t *testing.T, id string) {
	t.Helper()
	if !h.lines.Scan() || h.lines.Text() != "started "+id {
		t.Fatalf("the host said %q, want that %s was started", h.lines.Text(), id)
	}
}

func (h *hosted) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

func configAt(t *testing.T) Config {
	dir := t.TempDir()
	return Config{Dir: filepath.Join(dir, "instances"), Logs: filepath.Join(dir, "logs")}
}

func TestADriverThatWasKilledIsSucceeded(t *testing.T) {
	t.Parallel()
	cfg := configAt(t)
	v := script(t, "v1", `echo begun; touch ready
until [ -e go ]; do sleep 0.01; done
echo going on; [ "$GAE_INSTANCE" = b ] && exit 5; exec sleep 1000`)
	h := startHost(t, cfg, v, "a", "b", "c")
	for _, id := range []string{"a", "b", "c"} {
		h.started(t, id)
	}
	// While it lives nobody else may have its directory.
	if _, err := New(Config{Dir: cfg.Dir, Logs: cfg.Logs, Keeper: keeperCommand(t)}); !errors.Is(err, app.ErrBusy) ||
		!strings.Contains(err.Error(), fmt.Sprint("process ", h.cmd.Process.Pid)) {
		t.Errorf("New beside it = %v, want %v and pid %d", err, app.ErrBusy, h.cmd.Process.Pid)
	}
	var before record
	if err := readJSON(filepath.Join(cfg.Dir, "a", recordFile), &before); err != nil {
		t.Fatal(err)
	}
	h.kill()

	// b ends while there is no driver at all, and c loses its keeper.
	os.WriteFile(filepath.Join(cfg.Dir, "b", appDir, "go"), nil, 0o600)
	var b, c keeperRecord
	if err := readJSON(filepath.Join(cfg.Dir, "b", keeperFile), &b); err != nil {
		t.Fatal(err)
	}
	until(t, "end of b", func() bool { return !alive(b.PID) })
	if err := readJSON(filepath.Join(cfg.Dir, "c", keeperFile), &c); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(c.PID, syscall.SIGKILL)

	w := openAt(t, cfg)
	if r := w.find("a"); r.Exited || r.Addr != before.Addr || !r.Born.Equal(before.Born) || r.Key != before.Key {
		t.Errorf("adopted as %+v, want %+v", r, before)
	}
	// A keeper may take a moment to be gone entirely, after its last deed or a signal.
	if how := w.exit("b"); how != "exit status 5" {
		t.Errorf("Exit = %q, want exit status 5", how)
	}
	if how := w.exit("c"); how != "its keeper was killed" {
		t.Errorf("Exit = %q, want that its keeper was killed", how)
	}
	gone(t, "the app of c", c.App)

	// Its log goes on, and its exit is hinted.
	ctx, cancel := context.WithCancel(context.Background())
	changed, done := make(chan struct{}, 1), make(chan error, 1)
	go func() { done <- w.Run(ctx, changed) }()
	k := w.keeper("a")
	os.WriteFile(w.path("a", "go"), nil, 0o600)
	until(t, "what a says", func() bool { return strings.Contains(w.log("a"), "out going on") })
	if !strings.Contains(w.log("a"), "out begun") {
		t.Errorf("log:\n%swant what was written before", w.log("a"))
	}
	syscall.Kill(k.App, syscall.SIGKILL)
	for deadline := time.After(patience); !w.find("a").Exited; {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("no hint led to the exit of an adopted instance")
		}
	}
	if r := w.find("a"); r.Exit != "killed by SIGKILL" {
		t.Errorf("Exit = %q, want killed by SIGKILL", r.Exit)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	// Forgotten is forgotten, after another restart too.
	w.stop("b", 0)
	first := w.find("c")
	w.restart()
	if second := w.find("c"); !second.Ended.Equal(first.Ended) || second.Exit != first.Exit {
		t.Errorf("after another restart: %+v, want %+v", second, first)
	}
	list, _ := w.List(context.Background())
	if len(list) != 2 {
		t.Errorf("listed %+v, want a and c", list)
	}
}

// Wherever a start is cut, the next driver lists what runs, and nothing runs
// that it does not list.
func TestAStartThatWasCutAnywhere(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	v := script(t, "v1", "exec sleep 1000")
	for i := range 200 {
		os.WriteFile(filepath.Join(v.Artifact.Dir, fmt.Sprint("file", i)), []byte("x"), 0o644)
	}
	cfg := configAt(t)
	for round := range 5 {
		ids := []string{fmt.Sprintf("r%da", round), fmt.Sprintf("r%db", round), fmt.Sprintf("r%dc", round)}
		h := startHost(t, cfg, v, ids...)
		h.started(t, ids[0])
		time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond) // the moment is what is tried
		h.kill()

		d, err := New(Config{Dir: cfg.Dir, Logs: cfg.Logs, Keeper: keeperCommand(t)})
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		list, err := d.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		listed := map[string]driver.Running{}
		for _, r := range list {
			listed[r.ID] = r
		}
		if r, ok := listed[ids[0]]; !ok || r.Exited {
			t.Errorf("seed %d, round %d: %s was started, and is %+v", seed, round, ids[0], r)
		}
		entries, _ := os.ReadDir(cfg.Dir)
		for _, e := range entries {
			if _, ok := listed[e.Name()]; !ok && e.Name() != lockFile {
				t.Errorf("seed %d, round %d: %s is left over", seed, round, e.Name())
			}
		}
		for _, r := range list {
			if err := d.Stop(context.Background(), r.ID, 0); err != nil {
				t.Errorf("seed %d, round %d: %v", seed, round, err)
			}
		}
		d.Close()
		if pids := markedWith(d.name); len(pids) > 0 {
			t.Errorf("seed %d, round %d: processes %v run for nobody", seed, round, pids)
		}
	}
	if groups := leftGroups(shortName(cfg.Dir)); len(groups) > 0 {
		t.Errorf("seed %d: cgroups %v are left over", seed, groups)
	}
}

func TestAnInstanceWhoseDirectoryWasTaken(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.start("a", script(t, "v1", polite))
	w.file("a", "ready")
	k := w.keeper("a")
	os.RemoveAll(filepath.Join(w.cfg.Dir, "a"))
	w.restart()
	if list, _ := w.List(context.Background()); len(list) != 0 {
		t.Errorf("listed %+v, want nothing", list)
	}
	if canSweepStrangers {
		gone(t, "the app", k.App)
		until(t, "end of the keeper", func() bool { return !alive(k.PID) })
	} else {
		syscall.Kill(-k.App, syscall.SIGKILL)
	}
}

// leftGroups finds directories of the driver's cgroups anywhere.
func leftGroups(name string) (left []string) {
	filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == name {
			left = append(left, path)
		}
		return nil
	})
	return left
}
