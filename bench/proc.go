//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tree lists a process and its descendants.
func tree(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// PID (NAME) STATE PPID ...; a name may hold anything (proc_pid_stat(5)).
		pid, _, _ := bytes.Cut(b, []byte(" "))
		rest := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		child, err1 := strconv.Atoi(string(pid))
		parent, err2 := strconv.Atoi(string(rest[1]))
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], child)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// cpu is the user and system time that processes have used. It is what
// /proc/PID/stat has as utime and stime, all threads included, but in
// nanoseconds and not in hundredths of a second: the clock of another process
// (clock_getcpuclockid(3)).
func cpu(pids []int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of the whole process
	var total time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		total += time.Duration(t.Nano())
	}
	return total, nil
}

// pss is the memory of processes in bytes, what several share in equal parts.
func pss(pids []int) (int64, error) {
	var total int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := bytes.Cut(b, []byte("\nPss:"))
		fields := bytes.Fields(rest)
		if !ok || len(fields) == 0 {
			return 0, fmt.Errorf("smaps_rollup of process %d has no Pss", pid)
		}
		kb, err := strconv.ParseInt(string(fields[0]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("smaps_rollup of process %d: %w", pid, err)
		}
		total += kb << 10
	}
	return total, nil
}
