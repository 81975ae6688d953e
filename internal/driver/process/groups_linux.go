package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// joinGroups moves this process into the groups.
func joinGroups(groups []string) error {
	for _, dir := range groups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// killGroups kills whatever is in the groups now, and in those that the app
// made inside of them.
func killGroups(groups []string) {
	for _, dir := range groups {
		if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
			continue // v2: all at once, and whatever is below
		}
		// Frozen, nobody can fork while we read the list; killed, they end
		// when they are thawed.
		state := filepath.Join(dir, "freezer.state")
		frozen := os.WriteFile(state, []byte("FROZEN"), 0) == nil
		filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				for _, pid := range members(path) {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			return nil
		})
		if frozen {
			os.WriteFile(state, []byte("THAWED"), 0)
		}
	}
}

func members(dir string) (pids []int) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		// 0 is a process of another namespace, and to kill it would be to kill
		// our own group.
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeGroups ends what is in the groups and removes them. It is no error that
// they are gone already.
func removeGroups(groups []string) error {
	deadline := time.Now().Add(forceMax)
	for _, dir := range groups {
		for {
			err := removeGroup(dir)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("cgroup %s cannot be removed: %w", dir, err)
			}
			// Somebody is in it, or was a moment ago.
			killGroups([]string{dir})
			time.Sleep(pollInterval)
		}
		removeUp(filepath.Dir(dir), 2)
	}
	return nil
}

// removeGroup removes a group and those inside of it, the innermost first.
func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// Not os.Remove, which hides EBUSY behind the error of a second try.
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// outOfMemoryKills is how many processes of the groups the kernel killed because
// their memory limit was reached.
func outOfMemoryKills(groups []string) int {
	for _, dir := range groups {
		for _, name := range []string{"memory.events", "memory.oom_control"} { // v2, v1
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
					kills, _ := strconv.Atoi(strings.TrimSpace(n))
					return kills
				}
			}
		}
	}
	return 0
}
