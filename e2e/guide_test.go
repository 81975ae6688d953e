//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every command of README.md and the guide is typed as it stands there, in the
// order of its page, by a shell in a folder with a copy of the examples. Each
// page has a network of its own, so that its ports are free and no command can
// reach another machine.
func TestGuide(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		t.Run(strings.ReplaceAll(page, "/", " "), func(t *testing.T) {
			steps, err := blocks(page)
			if err != nil {
				t.Fatal(err)
			}
			if len(steps) == 0 {
				return
			}
			if alone() {
				read(t, page, steps)
				return
			}
			t.Parallel()
			runAlone(t)
		})
	}
}

// reader is somebody who goes through a page and types what it says.
type reader struct {
	t    *testing.T
	page string
	home string
	env  []string
	cwd  string // a file that says where the last block left its shell
	jobs []*job // what stays, the latest last
}

// job is a command that stays in the foreground until Ctrl-C.
type job struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

func read(t *testing.T, page string, steps []block) {
	r := &reader{t: t, page: page, home: t.TempDir()}
	r.cwd = filepath.Join(t.TempDir(), "cwd")
	r.env = append(os.Environ(), "HOME="+r.home, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"),
		"XDG_CACHE_HOME="+caches, "GOCACHE="+goCache, "GOMODCACHE="+goEnv("GOMODCACHE"), "GOPATH="+goEnv("GOPATH"),
		"GOFLAGS=", "NO_COLOR=1", "GORACE=atexit_sleep_ms=0")
	if err := copyTree(r.home, ".."); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.cwd, []byte(r.home), 0o644); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for len(r.jobs) > 0 {
			r.ctrlC()
		}
	}()
	for _, step := range steps {
		switch {
		case step.notRun != "":
		case step.ctrlC:
			r.ctrlC()
		case step.stays != nil:
			r.leave(step)
		default:
			r.typed(step)
		}
		if t.Failed() {
			return
		}
	}
}

// copyTree copies what a fresh clone would have, as far as commands touch it.
func copyTree(to, from string) error {
	for _, name := range []string{"examples", "contrib"} {
		err := filepath.WalkDir(filepath.Join(from, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(from, path)
			if d.IsDir() {
				if d.Name() == "node_modules" || d.Name() == "__pycache__" {
					return filepath.SkipDir
				}
				return os.MkdirAll(filepath.Join(to, rel), 0o755)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), b, 0o644)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shell is a shell that goes on where the block before left off.
func (r *reader) shell(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c",
		`cd "$(cat "$0")"; trap 'pwd >"$0"' EXIT`+"\n"+text, r.cwd)
	cmd.Env = r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// typed runs a block to its end.
func (r *reader) typed(b block) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	began := time.Now()
	out, err := r.shell(ctx, b.text).CombinedOutput()
	r.t.Logf("%s:%d %v\n%s\n%s", r.page, b.line, time.Since(began).Round(time.Millisecond), b.text, out)
	if (err != nil) != b.fails {
		r.failed(b, fmt.Errorf("ended with %v", err))
		return
	}
	for _, what := range b.prints {
		if !what.Match(out) {
			r.failed(b, fmt.Errorf("did not print %v", what))
		}
	}
}

// leave starts a command that stays, and waits until it has printed what it
// should.
func (r *reader) leave(b block) {
	j := &job{cmd: r.shell(context.WithoutCancel(r.t.Context()), "exec "+b.text), out: newOutput(), done: make(chan struct{})}
	j.cmd.Stdout, j.cmd.Stderr = j.out, j.out
	if err := j.cmd.Start(); err != nil {
		r.failed(b, err)
		return
	}
	go func() {
		j.cmd.Wait()
		j.out.end()
		close(j.done)
	}()
	r.jobs = append(r.jobs, j)
	for _, what := range append(b.prints, b.stays) {
		if _, ok := j.out.await(0, what); !ok {
			r.failed(b, fmt.Errorf("did not print %v", what))
		}
	}
}

// ctrlC ends what stayed last, and shows what it printed if something failed.
func (r *reader) ctrlC() {
	if len(r.jobs) == 0 {
		r.t.Errorf("%s: nothing stays that could be ended", r.page)
		return
	}
	j := r.jobs[len(r.jobs)-1]
	r.jobs = r.jobs[:len(r.jobs)-1]
	syscall.Kill(-j.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-j.done:
	case <-time.After(patience):
		syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
		<-j.done
		r.t.Errorf("%s: %s did not end on Ctrl-C", r.page, j.cmd)
	}
	if r.t.Failed() {
		r.t.Logf("%s printed:\n%s", strings.Join(j.cmd.Args[5:], " "), j.out)
	}
}

func (r *reader) failed(b block, err error) {
	r.t.Errorf("%s:%d: %v\n%s", r.page, b.line, err, b.text)
}
