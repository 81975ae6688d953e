package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
)

// slow is a toolchain whose install writes its process id, and then waits
// for a child of its own.
func slow(t *testing.T) (b *Builder, src string, r app.Recipe, pids string) {
	pids = filepath.Join(t.TempDir(), "pids")
	b = only(t, map[string]string{
		"node": "echo v20.1.0",
		"npm":  fmt.Sprintf("/bin/sleep 600 &\necho $$ $! >%s.new && /bin/mv %s.new %s\nwait", pids, pids, pids),
	})
	src = tree(t, map[string]string{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`})
	return b, src, app.Recipe{Runtime: "nodejs"}, pids
}

// running waits for the process ids that slow writes.
func running(t *testing.T, pids string) []int {
	t.Helper()
	var all []int
	eventually(t, "the build to start", func() bool {
		data, err := os.ReadFile(pids)
		for _, s := range strings.Fields(string(data)) {
			pid, _ := strconv.Atoi(s)
			all = append(all, pid)
		}
		return err == nil
	})
	if len(all) != 2 {
		t.Fatalf("process ids %v", all)
	}
	return all
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 15 s for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func TestEndOfContextKillsTheGroup(t *testing.T) {
	b, src, r, pids := slow(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := b.Build(ctx, src, r, Options{}, nil); done <- err }()
	all := running(t, pids)
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Build = %v, want it cancelled", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("Build goes on 15 s after its context ended")
	}
	for _, pid := range all {
		eventually(t, "process "+strconv.Itoa(pid)+" to end", func() bool { return !alive(pid) })
	}
	if n := left(t, b); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

// TestMain lets the test binary be a process that builds and is killed.
func TestMain(m *testing.M) {
	if src := os.Getenv("BUILD_IN"); src != "" {
		b := &Builder{Dir: os.Getenv("BUILD_DIR")}
		_, err := b.Build(context.Background(), src, app.Recipe{Runtime: "nodejs"}, Options{}, nil)
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestKilledBuilderLeavesNothingThatCounts(t *testing.T) {
	b, src, r, pids := slow(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(b.Environ, "BUILD_IN="+src, "BUILD_DIR="+b.Dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := running(t, pids)
	t.Cleanup(func() {
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if n := left(t, b); len(n) != 1 {
		t.Fatalf("the killed build left %v", n)
	}
	// What it left running holds the lock, so that nobody builds beside it.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if _, err := b.Build(ctx, src, r, Options{}, &out); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(out.String(), "built elsewhere") {
		t.Errorf("beside what still runs: %v, output %q", err, &out)
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, "the processes to end", func() bool { return !alive(all[0]) && !alive(all[1]) })
	// Another app's build sweeps.
	other := tree(t, map[string]string{"x": "y"})
	a, err := b.Build(t.Context(), other, app.Recipe{Runtime: "custom", Entrypoint: "./x"}, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := left(t, b); len(n) != 1 || n[0] != a.ID {
		t.Errorf("after the next build there are %v, want only %s", n, a.ID)
	}
}

func TestInterruptedAnywhereNothingHalfMadeCounts(t *testing.T) {
	environ, _ := counted(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	b := in(t, t.TempDir(), environ)
	for i := range 12 {
		src := tree(t, map[string]string{"package.json": fmt.Sprintf(`{"dependencies":{"x":"%d"},"scripts":{"start":"x"}}`, i), "a/b/c": "d"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(300))*time.Millisecond)
		a, err := b.Build(ctx, src, app.Recipe{Runtime: "nodejs"}, Options{}, nil)
		cancel()
		if err == nil {
			if _, err := os.Stat(filepath.Join(a.Dir, "node_modules", "done")); err != nil {
				t.Errorf("seed %d: a build counts that is not whole: %v", seed, err)
			}
		}
		for _, id := range left(t, b) {
			if _, err := os.Stat(filepath.Join(b.builds(), id, "app/node_modules/done")); err != nil {
				t.Errorf("seed %d: half-made: %v", seed, err)
			}
		}
	}
}
