//go:build !linux

package process

import (
	"golang.org/x/sys/unix"
)

// groupsKillMore: here a process whose parent ended is out of its keeper's
// sight, and the process group is what remains.
const groupsKillMore = false

// bootID is not known here.
func bootID() string { return "" }

// parentOf is not known here.
func parentOf(pid int) int { return 0 }

// Not known here: subreapers, death signals, preferences of the kernel.
func adoptOrphans() error      { return nil }
func dieWith(parent int) error { return nil }
func preferForKilling()        {}

// descendants finds nobody: what is known of an instance is its process group.
func descendants() []int { return nil }

// sweep ends the process groups of instances whose keeper has died.
func (d *Driver) sweep(dead []*instance) {
	for _, in := range dead {
		k := in.keeper
		if k.App == 0 || k.AppStart == 0 {
			continue
		}
		// The number may have passed on to somebody else since. It cannot while
		// the group has members, even without its leader.
		if start := startTime(k.App); start == 0 || start == k.AppStart {
			unix.Kill(-k.App, unix.SIGKILL)
		}
	}
}

// sweepAll does nothing more: settle sweeps each dead instance.
func (d *Driver) sweepAll(live map[string]bool) {}
