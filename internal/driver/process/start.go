package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// Start implements driver.Driver. It copies the artifact, starts the keeper and
// returns when the app's command has been executed; what keeps it from being
// (no shell, no such user, a directory that cannot be entered) is the error,
// and then nothing is left.
func (d *Driver) Start(ctx context.Context, id string, v app.Version) error {
	if err := d.start(ctx, id, v); err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	return nil
}

// errGone is why a start ends whose instance is stopped meanwhile.
var errGone = fmt.Errorf("stopped while it was starting: %w", context.Canceled)

func (d *Driver) start(ctx context.Context, id string, v app.Version) error {
	if err := checkID(id); err != nil {
		return err
	}
	if v.Artifact.Command == "" || v.Artifact.Dir == "" {
		return fmt.Errorf("version %s has not been built: %w", v.Key, app.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errors.New("the driver is closed")
	}
	if d.instances[id] != nil {
		d.mu.Unlock()
		return nil
	}
	port, hold, err := d.ports.take(d.portsInUseLocked())
	if err != nil {
		d.mu.Unlock()
		return err
	}
	in := &instance{
		record: record{
			ID:       id,
			Key:      v.Key,
			Addr:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			Port:     port,
			Born:     time.Now().UTC(),
			Log:      filepath.Join(d.cfg.Logs, id+".log"),
			MemoryMB: v.Resources.MemoryMB(),
			Groups:   d.limits.groups(id),

			DrainSignal: v.DrainSignal,
		},
		dir:     filepath.Join(d.cfg.Dir, id),
		started: make(chan struct{}),
		cancel:  func() { cancel(errGone) },
	}
	d.instances[id] = in
	d.hintLocked()
	d.mu.Unlock()

	if err := logs.Own(in.record.Log, v.Key); err != nil { // costs a filter
		d.log.Warn("note whose log it is", "instance", id, "err", err)
	}
	err = d.make(ctx, in, v, hold)
	hold.Close() // the keeper has its own by now
	if err != nil {
		if undo := d.unmake(in); undo != nil {
			err = errors.Join(err, undo)
		}
		d.mu.Lock()
		delete(d.instances, id)
		d.mu.Unlock()
	}
	close(in.started)
	d.hint()
	return err
}

func (d *Driver) portsInUseLocked() map[int]bool {
	used := make(map[int]bool, len(d.instances))
	for _, in := range d.instances {
		used[in.record.Port] = true
	}
	return used
}

// make makes the instance's directory and starts its keeper. What it made
// before an error is left to unmake.
func (d *Driver) make(ctx context.Context, in *instance, v app.Version, hold *os.File) error {
	if dir := d.user.barrier(v.Artifact.Dir); dir != "" {
		return fmt.Errorf("user %s cannot enter %s, which leads to the build in %s: allow it (chmod o+x %s)",
			d.user.Name, dir, v.Artifact.Dir, dir)
	}
	mode := os.FileMode(0o700)
	if d.user.other() {
		mode = 0o711
	}
	if err := os.Mkdir(in.dir, mode); err != nil {
		return err
	}
	if err := os.Chmod(in.dir, mode); err != nil { // whatever our umask is
		return err
	}
	alive, err := os.OpenFile(filepath.Join(in.dir, aliveFile), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer alive.Close() // the lock lives on in the keeper
	if err := flock(alive, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", alive.Name(), err)
	}
	if err := writeJSON(filepath.Join(in.dir, recordFile), in.record); err != nil {
		return err
	}
	if err := copyTree(ctx, v.Artifact.Dir, filepath.Join(in.dir, appDir), d.user); err != nil {
		return fmt.Errorf("copy the build: %w", err)
	}
	if err := makeDir(filepath.Join(in.dir, tmpDir), 0o700, d.user); err != nil {
		return err
	}
	if err := makeDir(filepath.Join(in.dir, noticeDir), 0o755, identity{}); err != nil {
		return err
	}
	if err := d.limits.create(in.record.ID, v.Resources); err != nil {
		return fmt.Errorf("limit its resources: %w", err)
	}
	s := spec{
		record:  in.record,
		Keeper:  d.cfg.Keeper,
		Command: v.Artifact.Command,
		Env:     environment(d.mark(in.record.ID), in, v, d.user, !d.limits.holdMemory()),
		Dir:     filepath.Join(in.dir, appDir),
		User:    d.user,

		Hidden: d.cfg.Hidden,
		Reads:  []string{filepath.Dir(v.Artifact.Dir), filepath.Join(in.dir, noticeDir)}, // of the build, what runtimes find by its path
		Writes: []string{filepath.Join(in.dir, appDir), filepath.Join(in.dir, tmpDir)},
	}
	if s.Shell, err = findShell(s.Env); err != nil {
		return err
	}
	if filepath.Base(s.Shell) != "bash" {
		s.Notes = append(s.Notes, "bash was not found: the command is started by "+s.Shell)
	}
	if err := writeSpec(filepath.Join(in.dir, specFile), s); err != nil {
		return err
	}
	return d.startKeeper(ctx, in, alive, hold)
}

// The keeper's descriptors beside the three that every process has.
const (
	reportFD = 3 // it says "ok" or what went wrong
	aliveFD  = 4 // the lock that says that it lives
	holdFD   = 5 // keeps the port's number ours
)

// startKeeper starts the keeper and waits until it says that the app runs.
func (d *Driver) startKeeper(ctx context.Context, in *instance, alive, hold *os.File) error {
	report, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	cmd := exec.Command(d.cfg.Keeper[0], append(d.cfg.Keeper[1:len(d.cfg.Keeper):len(d.cfg.Keeper)], verbKeep, in.dir)...)
	cmd.Dir = "/"
	cmd.Env = keeperEnvironment()
	cmd.ExtraFiles = []*os.File{theirs, alive, hold}
	// Empty but for a keeper that fails in a way that it should not.
	stderr, err := os.OpenFile(filepath.Join(in.dir, stderrFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		theirs.Close()
		return err
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A second description of the same file, opened first so that nothing can
	// fail once the keeper runs: asking through the keeper's own would share
	// its lock instead of testing it.
	ask, err := os.OpenFile(alive.Name(), os.O_RDWR, 0)
	if err != nil {
		theirs.Close()
		return err
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		ask.Close()
		return fmt.Errorf("start its keeper: %w", err)
	}
	in.mu.Lock()
	in.alive, in.child, in.keeper = ask, cmd.Process, keeperRecord{PID: cmd.Process.Pid}
	in.mu.Unlock()
	// From here on the keeper alone holds the lock.
	alive.Close()

	report.SetReadDeadline(time.Now().Add(startMax))
	defer context.AfterFunc(ctx, func() { report.SetReadDeadline(time.Unix(1, 0)) })()
	said, err := io.ReadAll(io.LimitReader(report, 64<<10))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("its keeper did not start the app within %v: the machine may be overloaded", startMax)
	case err != nil:
		return fmt.Errorf("hear from its keeper: %w", err)
	case len(said) == 0:
		return fmt.Errorf("its keeper ended at once: %s does not run keepers", strings.Join(d.cfg.Keeper, " "))
	case string(said) != reportOK:
		return errors.New(string(said))
	}
	return nil
}

// reportOK is what a keeper says when the app's command was executed.
const reportOK = "ok"

// unmake takes back what make made.
func (d *Driver) unmake(in *instance) error {
	in.mu.Lock()
	child, alive := in.child, in.alive
	in.mu.Unlock()
	if child != nil {
		child.Signal(syscall.SIGUSR1) // it ends the app, if there is one already
		bound, cancel := context.WithTimeout(context.Background(), forceMax)
		err := d.await(bound, in)
		cancel()
		if err != nil {
			child.Kill()
			d.sweep([]*instance{in})
		}
		child.Wait()
	}
	in.mu.Lock()
	in.child, in.alive = nil, nil
	in.mu.Unlock()
	if alive != nil {
		alive.Close()
	}
	return errors.Join(removeGroups(in.record.Groups), discard(in.dir))
}

// findShell looks for bash where the app would find it, and where it usually
// is; the entrypoint of App Engine is a bash command. A plain sh serves most.
func findShell(env []string) (string, error) {
	var dirs []string
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = filepath.SplitList(path)
		}
	}
	dirs = append(dirs, "/bin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
	for _, name := range []string{"bash", "sh"} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			info, err := os.Stat(path)
			if filepath.IsAbs(path) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", errors.New("neither bash nor sh was found, and the command is started by a shell: install bash")
}
