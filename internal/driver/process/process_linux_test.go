package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const canSweepStrangers = true

// markedWith lists the processes that run for a driver's instances.
func markedWith(name string) (pids []int) {
	for _, pid := range processes() {
		if mark, ok := marked(pid); ok && strings.HasPrefix(mark, name+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func needLimits(t *testing.T, w *world, controller string) {
	t.Helper()
	if strings.HasPrefix(w.Limits(), "none") {
		t.Skip("no limits here: " + w.Limits())
	}
	for _, c := range w.limits.controllers {
		if c == controller {
			return
		}
	}
	t.Skipf("no %s limit here: %s", controller, w.Limits())
}

func TestOutOfMemoryIsReportedAsSuch(t *testing.T) {
	t.Parallel()
	w := open(t)
	needLimits(t, w, "memory")
	v := script(t, "v1", "exec tail /dev/zero")
	v.Resources.MemoryGB = 0.0625
	w.start("a", v)
	if got, want := w.exit("a"), "out of memory (limit 64 MB)"; got != want {
		t.Errorf("Exit = %q, want %q", got, want)
	}
	// A shell between the one that was killed and us says 137.
	v = script(t, "v2", "tail /dev/zero; exit $?")
	v.Resources.MemoryGB = 0.0625
	w.start("b", v)
	if got, want := w.exit("b"), "out of memory (limit 64 MB)"; got != want {
		t.Errorf("Exit = %q, want %q", got, want)
	}
}

func TestCPUIsHeld(t *testing.T) {
	t.Parallel()
	w := open(t)
	needLimits(t, w, "cpu")
	v := script(t, "v1", "touch ready; while :; do :; done")
	v.Resources.CPU = 0.2
	began := time.Now()
	w.start("a", v)
	w.file("a", "ready")
	time.Sleep(1500 * time.Millisecond) // the measured time: a loaded machine gives less CPU, never more
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.keeper("a").App))
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[14-3])
	system, _ := strconv.Atoi(fields[15-3])
	used := time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on all of Linux
	if limit := time.Duration(0.3 * float64(took)); used > limit {
		t.Errorf("used %v of CPU in %v, want at most %v", used, took, limit)
	}
}

func TestPIDsAreHeld(t *testing.T) {
	t.Parallel()
	w := open(t)
	needLimits(t, w, "pids")
	w.start("a", script(t, "v1", polite))
	for _, g := range w.instances["a"].record.Groups {
		if data, err := os.ReadFile(filepath.Join(g, "pids.max")); err == nil {
			if strings.TrimSpace(string(data)) != strconv.Itoa(pidsMax) {
				t.Errorf("pids.max = %s, want %d", data, pidsMax)
			}
			return
		}
	}
	t.Error("no group has a pids.max")
}

func TestAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can start apps as another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody: ", err)
	}
	cfg := configAt(t)
	enterable(t, cfg.Dir)
	if _, err := New(Config{Dir: cfg.Dir, Logs: cfg.Logs, Keeper: keeperCommand(t), User: "no-such-user"}); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("New with an unknown user = %v, want an error that names it", err)
	}
	cfg.User = "nobody"
	w := openAt(t, cfg)
	v := script(t, "v1", `echo "$(id -u) $(id -g) $(id -G)"; echo home "$HOME" user "$USER"; umask
echo written > file; echo temp > "$TMPDIR/file"; ls .. 2>&1; cat ../instance.json 2>&1; grep PDeath -i /proc/self/status; touch ready; exec sleep 1000`)
	enterable(t, v.Artifact.Dir)
	w.start("a", v)
	w.file("a", "ready")
	log := ""
	until(t, "its log", func() bool { log = w.log("a"); return strings.Contains(log, "home") })
	for _, want := range []string{"out " + nobody.Uid + " " + nobody.Gid, "out home " + nobody.HomeDir + " user nobody", "out 0022"} {
		if !strings.Contains(log, want) {
			t.Errorf("log:\n%swant %q", log, want)
		}
	}
	if strings.Contains(log, `"addr"`) {
		t.Errorf("the app reads our files:\n%s", log)
	}
	info, err := os.Stat(w.path("a", "file"))
	if err != nil {
		t.Errorf("it cannot write where it begins: %v\n%s", err, log)
	} else if info.Size() == 0 {
		t.Error("nothing was written")
	}
	// The tie to the keeper must survive the change of user, which clears it.
	k := w.keeper("a")
	p, _ := os.FindProcess(k.PID)
	p.Kill()
	until(t, "the app's end with its keeper", func() bool { return !alive(k.App) })

	// A closed door on the way is named, with what to do.
	closed := filepath.Join(t.TempDir(), "closed")
	enterable(t, closed)
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Dir: filepath.Join(closed, "in", "there"), Logs: cfg.Logs, Keeper: keeperCommand(t), User: "nobody"})
	if err == nil || !strings.Contains(err.Error(), "chmod o+x "+closed) {
		t.Errorf("New behind a closed door = %v, want an error that names %s", err, closed)
	}
	v.Artifact.Dir = filepath.Join(closed, "build")
	os.Mkdir(v.Artifact.Dir, 0o755)
	if err := w.Start(context.Background(), "b", v); err == nil || !strings.Contains(err.Error(), "chmod o+x "+closed) {
		t.Errorf("Start behind a closed door = %v, want an error that names %s", err, closed)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a start that failed left its directory: %v", err)
	}
}

// An app of another user finds its drain file and cannot make or remove it.
func TestAnotherUserIsWarned(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can start apps as another user")
	}
	if _, err := user.Lookup("nobody"); err != nil {
		t.Skip("there is no user nobody: ", err)
	}
	cfg := configAt(t)
	enterable(t, cfg.Dir)
	cfg.User = "nobody"
	w := openAt(t, cfg)
	v := script(t, "v1", `trap 'echo signal' USR1
ls -A "$(dirname "$HOLDFAST_DRAIN_FILE")" && [ ! -e "$HOLDFAST_DRAIN_FILE" ] && echo not yet
touch "$HOLDFAST_DRAIN_FILE" && echo forged
touch ready; until [ -e "$HOLDFAST_DRAIN_FILE" ]; do sleep 0.01; done
cat "$HOLDFAST_DRAIN_FILE" && ls -A "$(dirname "$HOLDFAST_DRAIN_FILE")"
rm -f "$HOLDFAST_DRAIN_FILE" && echo removed
echo heard; while :; do sleep 0.01; done`)
	v.DrainSignal = true
	enterable(t, v.Artifact.Dir)
	w.start("a", v)
	w.file("a", "ready")
	if err := w.Warn(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	log := ""
	until(t, "its log", func() bool {
		log = w.log("a")
		return strings.Contains(log, "out heard") && strings.Contains(log, "out signal")
	})
	for want, times := range map[string]int{"out not yet": 1, "out draining": 1, "out signal": 1, "sys it drains: sent SIGUSR1": 1, "out forged": 0, "out removed": 0} {
		if strings.Count(log, want+"\n") != times {
			t.Errorf("log:\n%swant %q %d times", log, want, times)
		}
	}
}

// enterable opens the test's own directories above path to everybody.
func enterable(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); strings.Contains(filepath.Base(dir), t.Name()) || strings.HasPrefix(filepath.Base(dir), "00"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// What a keeper costs, for the record: run with -v.
func TestKeeperIsSmall(t *testing.T) {
	w := open(t)
	w.start("a", script(t, "v1", polite))
	w.file("a", "ready")
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", w.keeper("a").PID))
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(data)) {
		for _, name := range []string{"Rss:", "Pss:", "Private_Dirty:"} {
			if strings.HasPrefix(line, name) {
				t.Log("keeper", strings.Join(strings.Fields(line), " "))
			}
		}
	}
}

// From Start to the app's first instruction, and from Stop to nothing left.
func BenchmarkStartStop(b *testing.B) {
	w := open(b)
	v := script(b, "v1", polite)
	var stop time.Duration
	for b.Loop() {
		w.start("a", v)
		began := time.Now()
		w.stop("a", patience)
		stop += time.Since(began)
	}
	b.ReportMetric(float64(stop.Microseconds())/float64(b.N)/1000, "ms-stop/op")
}

// A root app may make cgroups of its own inside of its own; v2's kill file and
// v1's list both reach into them.
func TestGroupsAreEndedWithWhatIsInside(t *testing.T) {
	t.Parallel()
	w := open(t)
	groups := w.limits.groups("x")
	if unified := "/sys/fs/cgroup/unified"; unix.Access(unified, unix.W_OK) == nil {
		groups = append(groups, filepath.Join(unified, "holdfast", w.name, "x"))
	}
	if len(groups) == 0 {
		t.Skip("no cgroups here: " + w.Limits())
	}
	for _, g := range groups {
		inner := filepath.Join(g, "inner")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			cmd.Process.Kill()
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := removeGroups([]string{g}); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("%s: who was inside ended with %v, want killed", g, err)
		}
		if _, err := os.Stat(g); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", g, err)
		}
	}
	if left := leftGroups(w.name); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
