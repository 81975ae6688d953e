package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groupsKillMore: here every process of an instance stays within reach of its
// keeper, so that its process group adds nothing.
const groupsKillMore = true

// killScore makes the kernel choose apps before us when the machine runs out
// of memory; from -1000 (never) to 1000 (first).
const killScore = 300

// adoptOrphans makes every descendant whose parent ends our child, so that none
// can get out of reach: not by a second fork, not by a session of its own.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// dieWith makes the kernel kill this process when its parent ends, or at once
// when it has ended already.
func dieWith(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie its life to its keeper: %w", err)
	}
	if os.Getppid() != parent {
		return fmt.Errorf("its keeper %d has ended", parent)
	}
	return nil
}

func preferForKilling() {
	// Best effort: a container may forbid it.
	os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(killScore)), 0)
}

// procStat is what we need of /proc/PID/stat.
type procStat struct {
	parent      int
	start       int64 // in ticks since the machine was started
	own, waited int64 // CPU time of itself and of children it has waited for, in ticks
	resident    int64 // memory, in pages
}

func stat(pid int) (s procStat, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, false
	}
	// The name, in parentheses, may hold anything, parentheses included.
	_, rest, found := cutLast(data, ')')
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 22 {
		return procStat{}, false
	}
	ok = true
	number := func(field int) int64 { // proc(5) counts from 1 and these begin with field 3
		n, err := strconv.ParseInt(fields[field-3], 10, 64)
		ok = ok && err == nil
		return n
	}
	s = procStat{
		parent: int(number(4)),
		own:    number(14) + number(15),
		waited: number(16) + number(17),
		start:  number(22),

		resident: number(24),
	}
	return s, ok
}

func cutLast(b []byte, sep byte) (before, after []byte, found bool) {
	i := bytes.LastIndexByte(b, sep)
	if i < 0 {
		return b, nil, false
	}
	return b[:i], b[i+1:], true
}

// startTime is when the process began, in ticks since the machine did; 0 when
// it cannot be told.
func startTime(pid int) int64 {
	s, _ := stat(pid)
	return s.start
}

// parentOf is the number of a process's parent; 0 when it cannot be told.
func parentOf(pid int) int {
	s, _ := stat(pid)
	return s.parent
}

// bootID names the time since the machine was started.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// processes lists the numbers of all processes.
func processes() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descendants lists this process's children, their children, and so on.
func descendants() []int {
	children := map[int][]int{}
	for _, pid := range processes() {
		if s, ok := stat(pid); ok {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	var all []int
	for next := children[os.Getpid()]; len(next) > 0; {
		pid := next[0]
		next = append(next[1:], children[pid]...)
		all = append(all, pid)
	}
	return all
}

// sweep ends what runs in the name of instances whose keeper has died.
func (d *Driver) sweep(dead []*instance) {
	marks := map[string]bool{}
	for _, in := range dead {
		killGroups(in.record.Groups)
		marks[d.mark(in.record.ID)] = true
	}
	d.killMarked(func(mark string) bool { return marks[mark] })
}

// sweepAll ends what runs in the name of any instance of ours that is not live.
func (d *Driver) sweepAll(live map[string]bool) {
	d.killMarked(func(mark string) bool {
		id, ours := strings.CutPrefix(mark, d.name+"/")
		return ours && !live[id]
	})
}

// killMarked kills every process whose environment carries a mark that match
// accepts, until there is none. The environment is what a process was executed
// with; it cannot be lost by forking, by sessions or by a change of parents.
func (d *Driver) killMarked(match func(mark string) bool) {
	for deadline := time.Now().Add(forceMax); time.Now().Before(deadline); time.Sleep(pollInterval) {
		found := 0
		for _, pid := range processes() {
			if pid == os.Getpid() {
				continue
			}
			mark, ok := marked(pid)
			if ok && match(mark) {
				found++
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		if found == 0 {
			return
		}
	}
	d.log.Error("left over processes cannot be killed")
}

// marked reads HOLDFAST_INSTANCE out of the environment of a process. Zombies
// have none.
func marked(pid int) (mark string, ok bool) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return "", false
	}
	for kv := range bytes.SplitSeq(data, []byte{0}) {
		if v, found := bytes.CutPrefix(kv, []byte(markVariable+"=")); found {
			return string(v), true
		}
	}
	return "", false
}
