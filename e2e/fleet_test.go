package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fleet is a `holdfast serve` on ports of its own, which may be killed and
// started again, and what its command line says of it.
type fleet struct {
	t     *testing.T
	data  string
	home  string // of the person at the command line
	front string // host:port where requests arrive
	admin string
	flags []string
	plain string // another build of holdfast that serves; "": program
	cmd   *exec.Cmd
	out   *output
	done  chan struct{} // closed when the process has ended
}

// newFleet makes a fleet that does not run yet.
func newFleet(t *testing.T, flags ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, data: filepath.Join(t.TempDir(), "data"), home: t.TempDir(), out: newOutput(), flags: flags}
	f.front, f.admin = freePort(t), freePort(t)
	t.Cleanup(func() {
		f.retire()
		if t.Failed() {
			t.Logf("holdfast serve printed:\n%s", f.out)
		}
	})
	return f
}

// freePort is an address that nobody listens on, nor will while it is free: the
// system gives ports from 32768 on to whoever connects, and instances get theirs
// from 20000 on.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port was found")
	return ""
}

// start starts it, without waiting for it to serve.
func (f *fleet) start() {
	f.t.Helper()
	f.cmd = command(f.data, append([]string{"serve", "--data=" + f.data, "--listen=" + f.front, "--admin=" + f.admin}, f.flags...)...)
	if f.plain != "" {
		f.cmd.Path = f.plain
	}
	f.cmd.Env = append(f.cmd.Env, "HOME="+f.home, "XDG_CONFIG_HOME="+f.home)
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.out
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	f.done = done
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		close(done)
	}(f.cmd)
}

// kill ends it as a crash does.
func (f *fleet) kill() {
	f.cmd.Process.Kill()
	<-f.done
}

// retire ends it and every process it left.
func (f *fleet) retire() {
	if f.cmd == nil {
		return
	}
	f.cmd.Process.Signal(os.Interrupt)
	select {
	case <-f.done:
	case <-time.After(30 * time.Second):
		f.kill()
	}
	for _, pid := range processesOf(f.t, f.data) {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}

// up waits until its admin door answers.
func (f *fleet) up() {
	f.t.Helper()
	eventually(f.t, "the server answers its operators", func() bool {
		select {
		case <-f.done:
			f.t.Fatal("holdfast serve ended by itself")
		default:
		}
		_, _, code := f.try("services")
		return code == 0
	})
}

// try types a command and returns what it printed, and its exit code.
func (f *fleet) try(args ...string) (stdout, stderr string, code int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	base := command(f.data, args...)
	cmd := exec.CommandContext(ctx, base.Path, args...)
	cmd.Env = append(base.Env, "HOME="+f.home, "XDG_CONFIG_HOME="+f.home,
		"HOLDFAST_SERVER=http://"+f.admin, "HOLDFAST_TOKEN_FILE="+filepath.Join(f.data, "token"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			f.t.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// do types a command that has to succeed, and returns what it printed.
func (f *fleet) do(args ...string) string {
	f.t.Helper()
	out, errs, code := f.try(args...)
	if code != 0 {
		f.t.Fatalf("holdfast %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// list reads a list that a command prints as JSON.
func list[T any](f *fleet, args ...string) (all []T) {
	f.t.Helper()
	out := f.do(append(args, "--format=json")...)
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		f.t.Fatalf("holdfast %s printed %.300q: %v", strings.Join(args, " "), out, err)
	}
	return all
}

// What the lists hold, as far as these tests look.
type (
	serviceRow struct {
		App, Service string
		Split        struct {
			Shares map[string]float64
		}
	}
	versionRow struct {
		Version        string
		Serving        bool
		Share          float64
		Ready, Running int
		Scaling        struct{ Min, Max int }
	}
	instanceRow  struct{ ID, Version, State, Cause string }
	operationRow struct {
		ID, Verb, Version, Stage string
		Failure                  *struct{ Cause, Detail string }
	}
)

// ask fetches a path of an app by its host name, and says which instance and
// version answered.
func (f *fleet) ask(ctx context.Context, client *http.Client, host, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.front+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	req.Header.Set("Accept", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

// settled waits until no operation is under way, every version has the
// instances it should have and nothing else runs, and checks that nothing is
// half done, doubled or orphaned.
func (f *fleet) settled() []versionRow {
	f.t.Helper()
	var versions []versionRow
	var why string
	deadline := time.Now().Add(patience)
	for {
		if versions, why = f.unsettled(); why == "" {
			return versions
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("it never settled: %s", why)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (f *fleet) unsettled() (versions []versionRow, why string) {
	f.t.Helper()
	for _, o := range list[operationRow](f, "operations") {
		if o.Stage != "done" {
			return nil, fmt.Sprintf("operation %s %s is %s", o.ID, o.Verb, o.Stage)
		}
	}
	versions = list[versionRow](f, "versions")
	instances := list[instanceRow](f, "instances")
	want := map[string]bool{}
	for _, v := range versions {
		n := 0
		for _, i := range instances {
			if i.Version == v.Version && i.State == "ready" {
				n++
			}
		}
		switch {
		case v.Share > 0 && !v.Serving:
			f.t.Fatalf("version %s has a share of %v and does not serve", v.Version, v.Share)
		case v.Serving && n < v.Scaling.Min, v.Serving && n > v.Scaling.Max, !v.Serving && n > 0:
			return nil, fmt.Sprintf("version %s (serving: %v) has %d ready instances", v.Version, v.Serving, n)
		}
	}
	for _, i := range instances {
		if i.State == "ready" {
			want[i.ID] = true
		} else if i.State != "stopped" {
			return nil, fmt.Sprintf("instance %s is %s", i.ID, i.State)
		}
	}
	running := f.running()
	for _, id := range running {
		if !want[id] {
			return nil, fmt.Sprintf("instance %s runs, and nobody knows of it", id)
		}
	}
	if len(running) != len(want) {
		return nil, fmt.Sprintf("%d instances are ready, and %v run", len(want), running)
	}
	return versions, ""
}

// running lists the instances that have processes, once each.
func (f *fleet) running() (ids []string) {
	f.t.Helper()
	for _, pid := range processesOf(f.t, f.data) {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		for _, entry := range strings.Split(string(env), "\x00") {
			if id, ok := strings.CutPrefix(entry, "GAE_INSTANCE="); ok && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}
