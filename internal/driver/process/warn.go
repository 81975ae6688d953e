package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// drainVariable names, in an app's environment, the file whose appearance says
// that the instance drains.
const drainVariable = "HOLDFAST_DRAIN_FILE"

// drainFile is that file. It is the only one that is ever in its directory,
// which everybody may read, so that an app can also wait for it (inotify), and
// only we may write to: an app that runs as another user cannot play us.
func drainFile(dir string) string { return filepath.Join(dir, noticeDir, "draining") }

// Warn implements driver.Driver. The signal goes by way of the keeper: it alone
// knows for certain which process is the app's main one, and writes into the
// app's log that it was sent.
func (d *Driver) Warn(ctx context.Context, id string) error {
	if err := d.warn(ctx, id); err != nil {
		return fmt.Errorf("warn instance %s: %w", id, err)
	}
	return nil
}

func (d *Driver) warn(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	in := d.instances[id]
	d.mu.Unlock()
	if in == nil {
		return nil
	}
	select {
	case <-in.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	in.warning.Lock()
	defer in.warning.Unlock()
	// Written last. Whoever is interrupted before warns again: an app that hears
	// of it twice is better off than one that never does.
	said := filepath.Join(in.dir, warnedFile)
	if _, err := os.Stat(said); err == nil || d.settle(in) != nil {
		return nil
	}
	err := appear(in.dir, drainFile(in.dir))
	if err == nil && in.record.DrainSignal {
		d.signal(in, syscall.SIGUSR2)
	}
	if err == nil {
		err = os.WriteFile(said, nil, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is being stopped, and its directory has gone already
	}
	return err
}

// appear makes an empty file that everybody may read, in one instant.
func appear(dir, path string) error {
	beside := filepath.Join(dir, filepath.Base(path)+".new")
	if err := os.WriteFile(beside, nil, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(beside, 0o644); err != nil { // whatever our umask is
		return err
	}
	return os.Rename(beside, path)
}
