package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// pipeMax is how long the output of a finished command is waited for, when
	// something that it left running still holds it open.
	pipeMax = 2 * time.Second

	// askMax bounds a question to a tool, such as its version.
	askMax   = 20 * time.Second
	askBytes = 64 << 10
)

// command is one command of a build.
type command struct {
	phase Phase
	argv  []string // argv[0] is looked up in PATH
	dir   string   // "" is the copy of the app
	env   environ
	next  string // the next step, for when it fails
}

// run runs a command to its end. Its output goes to the job's output; its
// process group is gone when run returns.
func (j *job) run(ctx context.Context, c command) error {
	shown := shellJoin(c.argv)
	j.phase(c.phase, shown)
	j.note("$ %s", shown)
	j.out.take()
	path, ok := c.env.find(c.argv[0])
	if !ok {
		return &Error{Phase: c.phase, Command: shown, Err: fmt.Errorf("%s is not installed", c.argv[0]), Next: c.next}
	}
	if c.dir == "" {
		c.dir = j.at.app
	}
	cmd := grouped(ctx, path, c.argv[1:]...)
	cmd.Args[0] = c.argv[0]
	cmd.Dir = c.dir
	cmd.Env = c.env.list()
	cmd.Stdout, cmd.Stderr = j.out, j.out
	if j.at.lock != nil {
		// If we are killed, what the command leaves running holds the lock, and
		// nobody builds in the same place beside it.
		cmd.ExtraFiles = []*os.File{j.at.lock.f}
	}
	err := wait(cmd)
	j.out.flush()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &Error{Phase: c.phase, Command: shown, Err: err, Tail: j.out.take(), Next: c.next}
	}
	return nil
}

// ask runs a short command outside of any app and returns what it wrote to its
// standard output, trimmed.
func (j *job) ask(ctx context.Context, env environ, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askMax, fmt.Errorf("no answer within %v", askMax))
	defer cancel()
	path, ok := env.find(argv[0])
	if !ok {
		return "", fmt.Errorf("%s: %w", argv[0], exec.ErrNotFound)
	}
	var out, errs bounded
	cmd := grouped(ctx, path, argv[1:]...)
	cmd.Dir = j.b.builds()
	if j.at.app != "" {
		cmd.Dir = j.at.app
	}
	cmd.Env = env.list()
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := wait(cmd); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if said := strings.TrimSpace(clean(lastLine(errs.String()))); said != "" {
			return "", fmt.Errorf("%s: %w: %s", shellJoin(argv), err, said)
		}
		return "", fmt.Errorf("%s: %w", shellJoin(argv), err)
	}
	return strings.TrimSpace(out.String()), nil
}

// grouped is a command in a process group of its own, killed whole when ctx ends.
// Its standard input is empty.
func grouped(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeMax
	return cmd
}

// wait starts the command and waits for its end, then for that of its group.
func wait(cmd *exec.Cmd) error {
	// The kernel's "die with the parent" means the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	// Nothing of a build goes on after it, whether it went well or not.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		return nil
	}
	return err
}

// bounded keeps the first bytes of what is written to it. The buffer is not
// embedded: its ReadFrom would go past the bound.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), max(0, askBytes-b.buf.Len()))])
	return len(p), nil
}

func (b *bounded) String() string { return b.buf.String() }

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// shellJoin writes a command as one would type it.
func shellJoin(argv []string) string {
	var s []string
	for _, a := range argv {
		s = append(s, shellQuote(a))
	}
	return strings.Join(s, " ")
}

// shellQuote quotes a word for bash where it must be.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
