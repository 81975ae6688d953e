package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// adoptMax is how long we wait for a keeper that was just being started
	// when the driver before us died.
	adoptMax = 5 * time.Second

	// pollInterval is how often we look where nobody can tell us.
	pollInterval = 5 * time.Millisecond
)

// adopt fills the list with what earlier drivers left in Dir: instances that
// run, with the same id, address and birth; those that exited meanwhile; and
// nothing else, for what is left of others is ended and removed.
func (d *Driver) adopt() error {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(d.cfg.Dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), trashPrefix):
			err = os.RemoveAll(path)
		case e.IsDir() && checkID(e.Name()) == nil:
			err = d.adoptOne(e.Name(), path)
		default: // the lock, or somebody else's
			continue
		}
		if err != nil {
			return fmt.Errorf("find instance %s: %w", e.Name(), err)
		}
	}
	// What runs in the name of an instance that is not alive: its keeper was
	// killed, or its directory was taken away.
	var dead []*instance
	live := map[string]bool{}
	for id, in := range d.instances {
		if ended(in) {
			dead = append(dead, in)
		} else {
			live[id] = true
		}
	}
	d.sweepAll(live)
	d.limits.sweep(live)
	for _, in := range dead {
		d.settle(in)
	}
	return nil
}

// adoptOne looks at one directory and lists it, or removes it when a start was
// interrupted before anything ran in it.
func (d *Driver) adoptOne(id, dir string) error {
	var r record
	recordErr := readJSON(filepath.Join(dir, recordFile), &r)
	alive, err := os.OpenFile(filepath.Join(dir, aliveFile), os.O_RDWR, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if alive == nil {
		// The lock is the first thing that is made in it. Whatever else is
		// there is not ours, and stays.
		if os.Remove(dir) != nil {
			d.log.Warn("not an instance, left as it is", "dir", dir)
		}
		return nil
	}
	var k keeperRecord
	keeperErr := readJSON(filepath.Join(dir, keeperFile), &k)
	for deadline := time.Now().Add(adoptMax); keeperErr != nil && !lockFree(alive) && time.Now().Before(deadline); {
		time.Sleep(pollInterval)
		keeperErr = readJSON(filepath.Join(dir, keeperFile), &k)
	}
	switch {
	case keeperErr != nil && !lockFree(alive):
		alive.Close()
		return fmt.Errorf("its keeper runs and does not say who it is (%w): end the processes that have %s open", keeperErr, filepath.Join(dir, aliveFile))
	case keeperErr != nil:
		alive.Close()
		return d.removeHalf(id, dir, r)
	case recordErr != nil || r.ID != id:
		alive.Close()
		return fmt.Errorf("what it is cannot be read: %w", errors.Join(recordErr, fmt.Errorf("%s names %q", recordFile, r.ID)))
	}
	in := adopted(dir, r)
	in.alive, in.keeper = alive, k
	if parentOf(k.PID) == os.Getpid() {
		// We were started again by ourselves, in the same process: it is ours to
		// wait for.
		if in.child, err = os.FindProcess(k.PID); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, pausedFile)); err == nil {
		in.paused.Store(true)
	}
	d.instances[id] = in
	return nil
}

func (d *Driver) removeHalf(id, dir string, r record) error {
	d.log.Info("remove a half-made instance", "instance", id)
	if err := removeGroups(r.Groups); err != nil {
		d.log.Warn("remove cgroups", "instance", id, "err", err)
	}
	return discard(dir)
}
