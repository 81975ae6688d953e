package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
	"holdfast/internal/driver/drivertest"
	"holdfast/internal/logs"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// TestMain makes the test's own binary the keeper of its instances, and the
// host of a driver that is to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keeper":
			// Not os.Exit, with which the race detector waits a second for
			// reports that may still come.
			syscall.Exit(Main(os.Args[2:]))
		case "host":
			host(os.Args[2:])
		}
	}
	os.Exit(m.Run())
}

func keeperCommand(t testing.TB) []string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, "keeper"}
}

// build makes an artifact that has the given files; run.sh is its command.
func build(t testing.TB, name string, files map[string]string) app.Version {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return app.Version{
		Key:      app.Key{App: "shop", Service: "default", Version: name},
		Artifact: app.Artifact{ID: name, Dir: dir, Command: "bash run.sh"},
	}
}

// script is an app that is one bash script. It says that it runs by a file.
func script(t testing.TB, name, text string) app.Version {
	return build(t, name, map[string]string{"run.sh": text})
}

const polite = "touch ready; exec sleep 1000"

// world is a driver in directories of its own, emptied after the test.
type world struct {
	*Driver
	t   testing.TB
	cfg Config
}

func open(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	return openAt(t, Config{Dir: filepath.Join(dir, "instances"), Logs: filepath.Join(dir, "logs")})
}

func openAt(t testing.TB, cfg Config) *world {
	t.Helper()
	if cfg.Keeper == nil {
		cfg.Keeper = keeperCommand(t)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{d, t, cfg}
	t.Cleanup(func() {
		if list, err := w.Driver.List(context.Background()); err == nil {
			for _, r := range list {
				if err := w.Driver.Stop(context.Background(), r.ID, 0); err != nil {
					t.Error(err)
				}
			}
		}
		w.Driver.Close()
	})
	return w
}

// restart puts a new driver in the place of the old one.
func (w *world) restart() {
	w.t.Helper()
	w.Driver.Close()
	d, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Driver = d
}

func (w *world) start(id string, v app.Version) driver.Running {
	w.t.Helper()
	if err := w.Start(context.Background(), id, v); err != nil {
		w.t.Fatal(err)
	}
	return w.find(id)
}

func (w *world) find(id string) driver.Running {
	w.t.Helper()
	list, err := w.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list {
		if r.ID == id {
			return r
		}
	}
	w.t.Fatalf("instance %s is not listed", id)
	return driver.Running{}
}

func (w *world) stop(id string, grace time.Duration) {
	w.t.Helper()
	if err := w.Stop(context.Background(), id, grace); err != nil {
		w.t.Error(err)
	}
}

// exit waits until the instance has exited, and returns how.
func (w *world) exit(id string) string {
	w.t.Helper()
	var r driver.Running
	until(w.t, "exit of "+id, func() bool { r = w.find(id); return r.Exited })
	return r.Exit
}

// path is a file in the app's directory.
func (w *world) path(id, name string) string {
	return filepath.Join(w.cfg.Dir, id, appDir, name)
}

// file waits for a file in the app's directory that has something in it.
func (w *world) file(id, name string) string {
	w.t.Helper()
	var text string
	until(w.t, name+" of "+id, func() bool {
		data, err := os.ReadFile(w.path(id, name))
		text = strings.TrimSpace(string(data))
		return err == nil && (text != "" || name == "ready")
	})
	return text
}

func (w *world) pid(id, name string) int {
	w.t.Helper()
	pid, err := strconv.Atoi(w.file(id, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

func (w *world) keeper(id string) keeperRecord {
	w.t.Helper()
	var k keeperRecord
	if err := readJSON(filepath.Join(w.cfg.Dir, id, keeperFile), &k); err != nil {
		w.t.Fatal(err)
	}
	return k
}

// log is what the instance's log says, a line each: stream and text.
func (w *world) log(id string) string {
	w.t.Helper()
	lines, err := logs.Tail(filepath.Join(w.cfg.Logs, id+".log"), 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l.Stream, l.Text)
	}
	return b.String()
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// alive says whether the process runs; zombies do not.
func alive(pid int) bool {
	if runtime.GOOS == "linux" {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		return !strings.HasPrefix(rest, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}

func gone(t testing.TB, what string, pid int) {
	t.Helper()
	if alive(pid) {
		t.Errorf("%s (pid %d) still runs", what, pid)
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestContract(t *testing.T) {
	drivertest.Test(t, func(t *testing.T) drivertest.Subject {
		w := open(t)
		heeding := script(t, "heeding", heeding)
		heeding.DrainSignal = true
		return drivertest.Subject{
			Driver:   w.Driver,
			Polite:   script(t, "polite", polite),
			Heeding:  heeding,
			Busy:     worker(t),
			Stubborn: script(t, "stubborn", "trap '' TERM; touch ready; exec sleep 1000"),
			Brief:    script(t, "brief", "exit 3"),
			Settle:   func(t *testing.T, id string) { w.file(id, "ready") },
			Crash: func(t *testing.T, id string) {
				if err := syscall.Kill(w.keeper(id).App, syscall.SIGABRT); err != nil {
					t.Error(err)
				}
			},
			Heard: func(t *testing.T, id string) []string { return heard(t, w, id) },
			Work: func(t *testing.T, id string) {
				if err := os.WriteFile(w.path(id, "work"), nil, 0o600); err != nil {
					t.Error(err)
				}
				until(t, "the end of its work", func() bool { _, err := os.Stat(w.path(id, "work")); return err != nil })
			},
			Restart: func(t *testing.T) driver.Driver { w.restart(); return w.Driver },
		}
	})
}

// heeding is an app that notes each signal, and whether it found the file by then.
const heeding = `trap 'echo signal "$(cd "$(dirname "$HOLDFAST_DRAIN_FILE")" && ls)" >> heard' USR1
touch ready; while :; do sleep 0.01; done`

// heard looks for the file where the app would look.
func heard(t *testing.T, w *world, id string) (all []string) {
	t.Helper()
	if _, err := os.Stat(drainFile(filepath.Join(w.cfg.Dir, id))); err == nil {
		all = append(all, "file")
	}
	data, _ := os.ReadFile(w.path(id, "heard"))
	for line := range strings.Lines(string(data)) {
		if line != "signal draining\n" {
			t.Errorf("%s heard %q: the file was not there before the signal", id, line)
		}
		all = append(all, "signal")
	}
	return all
}

// worker is an app that uses CPU time, when a file asks for it, in a child.
func worker(t *testing.T) app.Version {
	if runtime.GOOS != "linux" {
		return app.Version{}
	}
	return script(t, "busy", `touch ready
while :; do
	if [ -e work ]; then bash -c 'times=0; until [ $times -ge 60000 ]; do times=$((times+1)); done'; rm work; fi
	sleep 0.1
done`)
}

func TestExitTexts(t *testing.T) {
	t.Parallel()
	w := open(t)
	for _, c := range []struct{ id, text, want string }{
		{"status", "exit 7", "exit status 7"},
		{"zero", "exit 0", "exit status 0"},
		{"killed", "kill -KILL $$", "killed by SIGKILL"},
		{"segv", "kill -SEGV $$", "killed by SIGSEGV"},
	} {
		v := script(t, c.id, c.text)
		w.start(c.id, v)
		if got := w.exit(c.id); got != c.want {
			t.Errorf("%s: Exit = %q, want %q", c.text, got, c.want)
		}
		if log := w.log(c.id); !strings.Contains(log, "sys started pid ") || !strings.HasSuffix(log, "sys "+c.want+"\n") {
			t.Errorf("%s: the log does not tell its story:\n%s", c.text, log)
		}
	}
	v := script(t, "missing", "")
	v.Artifact.Command = "/no/such/command"
	w.start("missing", v)
	if got := w.exit("missing"); got != "exit status 127" && got != "exit status 126" {
		t.Errorf("no such command: Exit = %q, want bash's 127", got)
	}
	if log := w.log("missing"); !strings.Contains(log, "err ") || !strings.Contains(log, "/no/such/command") {
		t.Errorf("no such command: the log does not name it:\n%s", log)
	}
}

func TestTheCommandIsABashCommand(t *testing.T) {
	t.Parallel()
	w := open(t)
	v := script(t, "v1", "")
	v.Artifact.Command = `bash -c 'echo "$0 $1 ${PORT}"; set -o pipefail' one "two  three"`
	r := w.start("a", v)
	w.exit("a")
	_, port, _ := strings.Cut(r.Addr, ":")
	if want := "out one two  three " + port + "\n"; !strings.Contains(w.log("a"), want) {
		t.Errorf("log:\n%swant %q", w.log("a"), want)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("HOLDFAST_TEST_SECRET", "ours")
	t.Setenv("TZ", "Europe/Berlin")
	w := open(t)
	v := script(t, "v1", "env -0 > env; touch ready; exec sleep 1000")
	v.Env = map[string]string{"GREETING": "hello = world\nagain", "PORT": "1", "BOTH": "version"}
	v.Artifact.Env = map[string]string{"NODE_ENV": "production", "BOTH": "artifact"}
	v.Resources.MemoryGB = 0.6
	r := w.start("a", v)
	w.file("a", "ready")
	data, err := os.ReadFile(w.path("a", "env"))
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	_, port, _ := strings.Cut(r.Addr, ":")
	for name, want := range map[string]string{
		"PORT": port, "GAE_INSTANCE": "a", "GAE_SERVICE": "default", "GAE_VERSION": "v1", "GAE_MEMORY_MB": "614",
		"GOOGLE_CLOUD_PROJECT": "shop", "GREETING": "hello = world\nagain", "NODE_ENV": "production", "BOTH": "version",
		"TZ": "Europe/Berlin", "TMPDIR": filepath.Join(w.Driver.cfg.Dir, "a", "tmp"), "HOLDFAST_INSTANCE": w.mark("a"),
		"HOLDFAST_DRAIN_FILE": filepath.Join(w.Driver.cfg.Dir, "a", "notice", "draining"),
	} {
		if got, ok := lookEnv(env, name); got != want || !ok {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	allowed := append([]string{"HOME", "BOTH", "GREETING", "NODE_ENV", "PORT", "TMPDIR", "GOOGLE_CLOUD_PROJECT", "HOLDFAST_INSTANCE", "HOLDFAST_DRAIN_FILE",
		"GAE_INSTANCE", "GAE_SERVICE", "GAE_VERSION", "GAE_MEMORY_MB", "GOMEMLIMIT", "NODE_OPTIONS",
		"PWD", "SHLVL", "_", "OLDPWD"}, inherited...) // the last four are bash's own
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+name+" ") {
			t.Errorf("the app got %s, which is none of its business", kv)
		}
	}
	// Nor is the environment to be read from a command line or the disk.
	if _, err := os.Stat(filepath.Join(w.cfg.Dir, "a", specFile)); err == nil {
		t.Errorf("%s is still there after the start", specFile)
	}
	if runtime.GOOS == "linux" {
		for _, pid := range []int{w.keeper("a").PID, w.keeper("a").App} {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(string(line), "hello") {
				t.Errorf("command line %q shows the environment", line)
			}
		}
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.keeper("a").PID))
		if strings.Contains(string(env), "ours") {
			t.Errorf("the keeper's environment %q holds ours", env)
		}
	}
}

func TestSoftMemoryYieldsToTheApp(t *testing.T) {
	for _, c := range []struct {
		name      string
		env       map[string]string
		goLimit   string
		nodeLimit string
	}{
		{"unsaid", map[string]string{}, "900MiB", "--max-old-space-size=750"},
		{"said", map[string]string{"GOMEMLIMIT": "1GiB", "NODE_OPTIONS": "--max-old-space-size=10"}, "1GiB", "--max-old-space-size=10"},
		{"other options", map[string]string{"NODE_OPTIONS": "--inspect"}, "900MiB", "--inspect --max-old-space-size=750"},
	} {
		softenMemory(c.env, 1000)
		if c.env["GOMEMLIMIT"] != c.goLimit || c.env["NODE_OPTIONS"] != c.nodeLimit {
			t.Errorf("%s: %v, want %s and %s", c.name, c.env, c.goLimit, c.nodeLimit)
		}
	}
}

// Whatever an app leaves behind goes with it: a child in the background, one
// with a session of its own, one that forked twice to lose its parents.
const litter = `
sleep 1001 & echo $! > child
setsid sleep 1002 & echo $! > session
(setsid bash -c 'sleep 1003 & echo $! > double' &)
until [ -s double ]; do sleep 0.01; done
touch ready
`

func TestNothingOutlivesAnInstance(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("without subreapers, who leaves the process group escapes")
	}
	for _, c := range []struct {
		name, tail string
		end        func(w *world)
	}{
		{"stop", "exec sleep 1000", func(w *world) { w.stop("a", patience) }},
		{"force", "trap '' TERM; while :; do sleep 1; done", func(w *world) { w.stop("a", 50*time.Millisecond) }},
		{"exit", "until [ -e go ]; do sleep 0.01; done", func(w *world) {
			os.WriteFile(w.path("a", "go"), nil, 0o600)
			w.exit("a")
		}},
		{"crash", "exec sleep 1000", func(w *world) {
			syscall.Kill(w.keeper("a").App, syscall.SIGKILL)
			w.exit("a")
		}},
		{"keeper killed", "exec sleep 1000", func(w *world) {
			syscall.Kill(w.keeper("a").PID, syscall.SIGKILL)
			if how := w.exit("a"); !strings.Contains(how, "keeper was killed") {
				w.t.Errorf("Exit = %q, want that its keeper was killed", how)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			w.start("a", script(t, "v1", litter+c.tail))
			w.file("a", "ready")
			k := w.keeper("a")
			pids := map[string]int{"the keeper": k.PID, "the app": k.App}
			for _, name := range []string{"child", "session", "double"} {
				pids[name] = w.pid("a", name)
			}
			for name, pid := range pids {
				if !alive(pid) {
					t.Fatalf("%s does not run before the end: the test tests nothing", name)
				}
			}
			groups := w.instances["a"].record.Groups
			c.end(w)
			for name, pid := range pids {
				gone(t, name, pid)
			}
			w.stop("a", 0)
			if _, err := os.Stat(filepath.Join(w.cfg.Dir, "a")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the instance's directory is still there: %v", err)
			}
			if _, err := os.Stat(filepath.Join(w.cfg.Logs, "a.log")); err != nil {
				t.Errorf("the log is gone with the instance: %v", err)
			}
			for _, g := range groups {
				if _, err := os.Stat(g); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("cgroup %s is still there: %v", g, err)
				}
			}
		})
	}
}

// The whole group hears the polite signal, and who takes longer than the one
// that we started has the grace too.
func TestStopIsHeardByTheGroup(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.start("a", script(t, "v1", `
bash -c 'trap "sleep 0.2; echo child said goodbye; exit 0" TERM; touch ready; while :; do sleep 0.01; done' &
wait`))
	w.file("a", "ready")
	w.stop("a", patience)
	if log := w.log("a"); !strings.Contains(log, "out child said goodbye") {
		t.Errorf("log:\n%swant the child's goodbye", log)
	}
}

func TestLogIsCompleteAndInOrder(t *testing.T) {
	t.Parallel()
	const lines = 100_000
	w := open(t)
	w.start("a", script(t, "v1", fmt.Sprintf("touch ready; seq 1 %d; until [ -e go ]; do sleep 0.01; done; seq %d %d", lines/2, lines/2+1, lines)))
	w.file("a", "ready")
	w.restart() // in the middle of it, as far as the app is concerned
	os.WriteFile(w.path("a", "go"), nil, 0o600)
	if how := w.exit("a"); how != "exit status 0" {
		t.Errorf("Exit = %q, want exit status 0", how)
	}
	got, err := logs.Tail(filepath.Join(w.cfg.Logs, "a.log"), 2*lines)
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for _, l := range got {
		if l.Stream != logs.Out {
			continue
		}
		if l.Text != strconv.Itoa(next) {
			t.Fatalf("line %q where %d was to be", l.Text, next)
		}
		next++
	}
	if next != lines+1 {
		t.Errorf("%d lines, want %d", next-1, lines)
	}
}

func TestASecondDriverIsRefused(t *testing.T) {
	t.Parallel()
	w := open(t)
	_, err := New(w.cfg)
	if !errors.Is(err, app.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("New = %v, want %v and pid %d", err, app.ErrBusy, os.Getpid())
	}
}

func TestPortsAreNotReusedAtOnce(t *testing.T) {
	t.Parallel()
	p := newPorts()
	seen := map[int]bool{}
	for range 200 {
		port, hold, err := p.take(nil)
		if err != nil {
			t.Fatal(err)
		}
		hold.Close() // given back at once
		if seen[port] {
			t.Errorf("port %d was given out twice", port)
		}
		seen[port] = true
	}
}

func TestTwoDriversDoNotShareAPort(t *testing.T) {
	t.Parallel()
	a, b := newPorts(), newPorts()
	seen := map[int]bool{}
	for i := range 200 {
		p := &a
		if i%2 == 1 {
			p = &b
			if runtime.GOOS == "linux" {
				b.next = max(portFirst, a.next-1) // as unlucky as can be
			}
		}
		port, hold, err := p.take(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		if seen[port] {
			t.Errorf("port %d was given out twice", port)
		}
		seen[port] = true
	}
}

func TestAPortInUseIsNotChosen(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "[::1]", "[::]"} {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			continue // a machine without IPv6
		}
		if _, port, _ := net.SplitHostPort(l.Addr().String()); portFree(l.Addr().(*net.TCPAddr).Port) {
			t.Errorf("port %s is said to be free while somebody listens on %s", port, host)
		}
		l.Close()
	}
}

func TestHostileIDs(t *testing.T) {
	t.Parallel()
	w := open(t)
	v := script(t, "v1", polite)
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".gone-a", "lock", "-a", "a\x00b", "a\nb", strings.Repeat("a", 200)} {
		if err := w.Start(context.Background(), id, v); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("Start(%q) = %v, want %v", id, err, app.ErrInvalid)
		}
	}
}

// lookEnv reads one variable out of a list, the last one if there are several.
func lookEnv(env []string, name string) (value string, ok bool) {
	for _, kv := range env {
		if v, found := strings.CutPrefix(kv, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}
