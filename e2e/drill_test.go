package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drillReport is what `holdfast drill --format=json` prints, as far as these tests
// look.
type drillReport struct {
	Passed bool
	Drills []struct {
		Drill, Operation, Skipped string
		Passed                    bool
		Missed                    []string
		Errors                    int
		Recovery                  struct{ N, Away int }
		Messages                  struct{ Sent, Answered int }
		Goodbyes                  []struct {
			What string
			N    int
		}
	}
}

// The drills that meet sockets, and those that meet whoever has none.
const (
	socketDrills  = "instance-crash,instance-restart,hang,scale-in,deploy,deadline,slow-start,edge-restart"
	requestDrills = "affinity-loss,unhealthy,scale-out"
)

// drilled deploys an example on three instances of its own server, and drills it.
// A change of its app.yaml comes first.
func drilled(t *testing.T, example string, prepare func(dir string), drills string, flags ...string) (*fleet, drillReport, int) {
	t.Helper()
	dir := copyApp(t, example)
	prepare(dir)
	f := newFleet(t, "--keep-instances=false")
	f.start()
	f.up()
	f.do("deploy", dir, "--project=shop")
	args := append([]string{"drill", drills, "shop", "--format=json", "--yes"}, flags...)
	out, errs, code := f.try(args...)
	var r drillReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("holdfast %s printed %.500q and %s: %v", strings.Join(args, " "), out, errs, err)
	}
	t.Logf("%s: %s", example, errs)
	return f, r, code
}

// good makes of the echo what a good app is: it says goodbye in a second, and its
// visitors may be anywhere.
func good(t *testing.T) func(dir string) {
	return func(dir string) {
		file := filepath.Join(dir, "app.yaml")
		replaceIn(t, file, "instances: 2", "instances: 3")
		replaceIn(t, file, "session_affinity: false", "session_affinity: true")
		appendTo(t, file, "\nbeta_settings:\n  holdfast.drain: 1s\n")
	}
}

// Every drill passes with an app that lets its people come back.
func TestDrillsOfAGoodApp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, drills, probe string }{
		{"sockets", socketDrills, "ws:/ws,echo,patience=30s"},
		{"requests", requestDrills, "http:/,every=100ms,patience=30s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			page := filepath.Join(t.TempDir(), "drill.html")
			f, r, code := drilled(t, "echo", good(t), c.drills, "--probe="+c.probe, "--clients=6", "--for=2s", "--expect=errors=0,reconnect=20s", "--report="+page)
			if code != 0 || !r.Passed || len(r.Drills) != strings.Count(c.drills, ",")+1 {
				t.Errorf("exit code %d, passed %v, %d drills", code, r.Passed, len(r.Drills))
			}
			for _, d := range r.Drills {
				if !d.Passed || d.Skipped != "" || d.Errors > 0 {
					t.Errorf("%s: %+v", d.Drill, d)
				}
				if c.name == "sockets" && d.Messages.Answered == 0 {
					t.Errorf("%s: %+v", d.Drill, d.Messages)
				}
				// Its record stays with the server.
				var op struct{ Verb, Stage, Failure string }
				if err := json.Unmarshal([]byte(f.do("operations", "describe", d.Operation, "--format=json")), &op); err != nil || op.Verb != "drill" || op.Stage != "done" {
					t.Errorf("%s: kept as %+v, %v", d.Drill, op, err)
				}
				if kept := f.report(d.Operation); kept.Drills[0].Drill != d.Drill {
					t.Errorf("the report of %s tells of %s", d.Drill, kept.Drills[0].Drill)
				}
			}
			f.settled()
			if c.name == "sockets" {
				lookAt(t, page)
			}
		})
	}
}

// report is what the server keeps of a drill.
func (f *fleet) report(op string) (r drillReport) {
	f.t.Helper()
	token, err := os.ReadFile(filepath.Join(f.data, "token"))
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.admin+"/holdfast/v1/operations/"+op+"/report", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || len(r.Drills) != 1 {
		f.t.Fatalf("the report of %s: %d, %+v, %v", op, resp.StatusCode, r, err)
	}
	return r
}

// None does with one that keeps its people in memory, and the report says why.
func TestDrillsOfABrittleApp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, drills, probe, reason string
		flags                       []string
	}{
		{"sockets", socketDrills, "ws:/ws,echo", "your session is gone", []string{"--for=4s"}},
		{"requests", "affinity-loss,unhealthy", "http:/,every=100ms", "your session is gone", []string{"--for=3s", "--share=70%"}},
		{"newcomers", "scale-out", "http:/,every=50ms,cookies=no", "still loading", []string{"--for=12s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			prepare := func(dir string) {
				replaceIn(t, filepath.Join(dir, "app.yaml"), "holdfast.drain: 5s", "holdfast.drain: 1s")
				if c.name == "newcomers" {
					appendTo(t, filepath.Join(dir, "app.yaml"), "\nenv_variables:\n  BRITTLE_WARM: 1500ms\n")
				}
			}
			flags := append([]string{"--probe=" + c.probe, "--clients=6", "--expect=errors=0,reconnect=1s"}, c.flags...)
			_, r, code := drilled(t, "brittle", prepare, c.drills, flags...)
			if code != 1 || r.Passed || len(r.Drills) != strings.Count(c.drills, ",")+1 {
				t.Errorf("exit code %d, passed %v, %d drills", code, r.Passed, len(r.Drills))
			}
			for _, d := range r.Drills {
				if why := strings.Join(d.Missed, "; "); d.Passed || !strings.Contains(why, c.reason) {
					t.Errorf("%s passed %v, missed %q: want %q as the reason", d.Drill, d.Passed, why, c.reason)
				}
			}
		})
	}
}

// Whatever a drill has broken is mended when Holdfast is killed in the middle of it
// and starts again.
func TestDrillsAreUndone(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	good(t)(dir)
	f := newFleet(t, "--keep-instances=true")
	f.start()
	f.up()
	f.do("deploy", dir, "--project=shop")
	instances := func() (all []struct{ ID, State, Detail string }) {
		if err := json.Unmarshal([]byte(f.do("instances", "--format=json")), &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for _, fault := range []string{"hang", "unhealthy", "affinity-loss"} {
		op := f.begin(fault, 110)
		eventually(t, fault+" has begun", func() bool {
			switch all := instances(); fault {
			case "hang":
				for _, i := range all {
					if strings.Contains(i.Detail, "hang") {
						return true
					}
				}
				return false
			case "unhealthy":
				for _, i := range all {
					if i.State == "unready" {
						return true
					}
				}
				return false
			}
			return true
		})
		f.kill()
		if fault == "hang" && len(stopped(t, f.data)) == 0 {
			t.Error("nobody hangs while Holdfast is dead, so nothing is proven")
		}
		f.start()
		f.up()
		eventually(t, fault+" is undone", func() bool {
			ready := 0
			for _, i := range instances() {
				if i.State == "ready" && i.Detail == "" {
					ready++
				}
			}
			return ready == 3 && len(stopped(t, f.data)) == 0
		})
		for _, o := range list[operationRow](f, "operations") {
			if o.ID == op && (o.Stage != "done" || o.Failure == nil || o.Failure.Cause != "interrupted") {
				t.Errorf("%s: %+v", fault, o)
			}
		}
	}
}

// begin begins a drill without probes, as the console does, and returns its operation.
func (f *fleet) begin(fault string, seconds int) string {
	f.t.Helper()
	token, err := os.ReadFile(filepath.Join(f.data, "token"))
	if err != nil {
		f.t.Fatal(err)
	}
	body := fmt.Sprintf(`{"drill": %q, "seconds": %d}`, fault, seconds)
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, "http://"+f.admin+"/holdfast/v1/apps/shop/services/default/drills", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var op operationRow
	if err := json.NewDecoder(resp.Body).Decode(&op); err != nil || op.Stage != "drilling" {
		f.t.Fatalf("drill %s: %d, %+v, %v", fault, resp.StatusCode, op, err)
	}
	return op.ID
}

// stopped lists the instances' processes that SIGSTOP has stopped.
func stopped(t *testing.T, data string) (pids []int) {
	t.Helper()
	for _, pid := range processesOf(t, data) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if strings.HasPrefix(rest, "T ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// run --drill is one command on a developer's own machine.
func TestRunDrill(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	good(t)(dir)
	h := launch(t, t.TempDir(), dir, "--drill=instance-crash,edge-restart", "--probe=ws:/ws,patience=30s", "--clients=3", "--for=2s", "--expect=errors=0,reconnect=20s")
	if code := h.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"instance-crash  0", "skipped: this Holdfast cannot start itself again", "Passed: errors=0,reconnect=20s", "1012 crashed"} {
		if !strings.Contains(h.out.String(), want) {
			t.Errorf("it did not print %q", want)
		}
	}
}

// Ctrl-C in the middle of a drill undoes it at once.
func TestDrillIsInterrupted(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	good(t)(dir)
	f := newFleet(t, "--keep-instances=false")
	f.start()
	f.up()
	f.do("deploy", dir, "--project=shop")
	cmd := command(f.data, "drill", "unhealthy", "shop", "--yes", "--probe=http:/", "--clients=2", "--for=20s")
	cmd.Env = append(cmd.Env, "HOME="+f.home, "XDG_CONFIG_HOME="+f.home, "HOLDFAST_SERVER=http://"+f.admin, "HOLDFAST_TOKEN_FILE="+filepath.Join(f.data, "token"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	drilling := func() (n int) {
		for _, o := range list[operationRow](f, "operations", "--pending") {
			if o.Verb == "drill" {
				n++
			}
		}
		return n
	}
	eventually(t, "the drill is under way", func() bool { return drilling() == 1 })
	cmd.Process.Signal(syscall.SIGINT)
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the command does not end")
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if n := drilling(); n != 0 {
		t.Errorf("%d drills are under way after it", n)
	}
}

// lookAt opens a report in a browser, in both of its colours.
func lookAt(t *testing.T, page string) {
	t.Helper()
	b := browser(t)
	ctx := tab(t, b, "file://"+page)
	if got := eval(t, ctx, `document.querySelector("h1").textContent`); got != "shop/default" {
		t.Errorf("the page is titled %q", got)
	}
	if got := eval(t, ctx, `document.querySelectorAll("section svg[aria-label^=Time]").length`); got != "8" {
		t.Errorf("%s charts, want 8", got)
	}
	if got := eval(t, ctx, `performance.getEntriesByType("resource").length + document.querySelectorAll("script, img, link").length`); got != "0" {
		t.Errorf("the page loads %s things", got)
	}
	if got := eval(t, ctx, `document.documentElement.scrollWidth <= innerWidth`); got != "true" {
		t.Error("the page is wider than its window")
	}
	dir := t.TempDir()
	for _, look := range []struct {
		file, scheme string
		dark         bool
	}{{"drill.png", "1", false}, {"drill-dark.png", "0", true}} {
		file := filepath.Join(dir, look.file)
		shoot(t, page, file, look.scheme, 1600)
		if dark := darkness(t, file); dark != look.dark {
			t.Errorf("%s is dark: %v", look.file, dark)
		}
	}
}

// shoot takes a picture of a page; scheme 1 is light, 0 dark.
func shoot(t *testing.T, page, file, scheme string, height int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no Chromium on this machine: apt-get install chromium")
	}
	out, err := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir="+t.TempDir(),
		"--blink-settings=preferredColorScheme="+scheme, fmt.Sprintf("--window-size=1240,%d", height), "--screenshot="+file, "file://"+page).CombinedOutput()
	if err != nil {
		t.Fatalf("picture of %s: %v\n%s", page, err, out)
	}
}

// darkness tells whether the corner of a picture is dark.
func darkness(t *testing.T, file string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	r, g, b, _ := picture.At(3, 3).RGBA()
	return r+g+b < 3*0x8000
}

// With HOLDFAST_PICTURES a report is made for people to look at.
func TestPictureOfADrill(t *testing.T) {
	dir := os.Getenv("HOLDFAST_PICTURES")
	if dir == "" {
		t.Skip("HOLDFAST_PICTURES says no folder for pictures")
	}
	page := filepath.Join(t.TempDir(), "drill.html")
	prepare := func(dir string) {
		good(t)(dir)
		replaceIn(t, filepath.Join(dir, "app.yaml"), "holdfast.drain: 1s", "holdfast.drain: 3s")
	}
	drilled(t, "echo", prepare, "deploy,instance-crash,deadline", "--probe=ws:/ws,echo", "--probe=http:/,every=100ms", "--clients=40", "--for=20s",
		"--expect=errors=0,reconnect=1s,uneven=60%", "--report="+page)
	shoot(t, page, filepath.Join(dir, "drill.png"), "1", 1560)
	shoot(t, page, filepath.Join(dir, "drill-dark.png"), "0", 1560)
}
