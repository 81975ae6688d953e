package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kill implements driver.Breaker. Only the app's main process is killed; the
// keeper ends what is left of it, as after any crash.
func (d *Driver) Kill(ctx context.Context, id string) error {
	in, err := d.begun(ctx, id)
	if err == nil && in != nil {
		err = d.strike(in, syscall.SIGKILL)
	}
	if err != nil {
		return fmt.Errorf("kill instance %s: %w", id, err)
	}
	return nil
}

// Pause implements driver.Breaker. SIGSTOP goes to the app's process group, so
// that workers hang with their master. The file comes first: whoever follows us
// must know what to resume.
func (d *Driver) Pause(ctx context.Context, id string) error {
	in, err := d.begun(ctx, id)
	if err == nil && in != nil {
		err = d.pause(in)
	}
	if err != nil {
		return fmt.Errorf("pause instance %s: %w", id, err)
	}
	return nil
}

func (d *Driver) pause(in *instance) error {
	in.pausing.Lock()
	defer in.pausing.Unlock()
	d.mu.Lock()
	leaves := in.stop != nil
	d.mu.Unlock()
	if leaves || in.paused.Load() {
		return nil
	}
	err := os.WriteFile(filepath.Join(in.dir, pausedFile), nil, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has been stopped, and its directory has gone already
	}
	if err != nil {
		return err
	}
	in.paused.Store(true)
	return d.strike(in, syscall.SIGSTOP)
}

// Resume implements driver.Breaker.
func (d *Driver) Resume(ctx context.Context, id string) error {
	in, err := d.begun(ctx, id)
	if err == nil && in != nil {
		err = d.resume(in)
	}
	if err != nil {
		return fmt.Errorf("resume instance %s: %w", id, err)
	}
	return nil
}

func (d *Driver) resume(in *instance) error {
	in.pausing.Lock()
	defer in.pausing.Unlock()
	if !in.paused.Load() {
		return nil
	}
	if err := d.strike(in, syscall.SIGCONT); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(in.dir, pausedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in.paused.Store(false)
	return nil
}

// begun is an instance whose start is over; nil where there is none.
func (d *Driver) begun(ctx context.Context, id string) (*instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	in := d.instances[id]
	d.mu.Unlock()
	if in == nil {
		return nil, nil
	}
	select {
	case <-in.started:
		return in, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// strike sends sig to the app itself, past its keeper: SIGKILL to its main
// process, the others to the process group that began with it. Its keeper has
// not waited for the app while it lives, so the number is still the app's where
// the keeper's lock is held and the start times agree.
func (d *Driver) strike(in *instance, sig syscall.Signal) error {
	if d.settle(in) != nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	k := in.keeper
	if k.App == 0 { // it was started by us, and only its keeper knew the app then
		if err := readJSON(filepath.Join(in.dir, keeperFile), &k); err != nil {
			return err
		}
	}
	if in.alive == nil || k.App <= 0 || lockFree(in.alive) || k.AppStart != 0 && startTime(k.App) != k.AppStart {
		return nil
	}
	pid := -k.App
	if sig == syscall.SIGKILL {
		pid = k.App
	}
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}
