package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// processesOf lists the processes that belong to the holdfast whose state is in
// data, by their environment or command line. It needs /proc.
func processesOf(t *testing.T, data string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Skip("this machine has no /proc to look for processes in")
	}
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		env, _ := os.ReadFile(dir + "/environ")
		args, _ := os.ReadFile(dir + "/cmdline")
		if bytes.Contains(env, []byte(data)) || bytes.Contains(args, []byte(data)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// appOf finds the process of an instance's app: the one that is told its port
// and is no child of another such.
func appOf(t *testing.T, data, instance string) int {
	t.Helper()
	apps := map[int]bool{}
	for _, pid := range processesOf(t, data) {
		env, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if bytes.Contains(env, []byte("GAE_INSTANCE="+instance+"\x00")) {
			apps[pid] = true
		}
	}
	for pid := range apps {
		if !apps[parentOf(pid)] {
			return pid
		}
	}
	t.Fatalf("no process of instance %s", instance)
	return 0
}

// parentOf reads the parent's process id: the second field after the name,
// which stands in parentheses and may hold anything (proc(5)).
func parentOf(pid int) int {
	stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
