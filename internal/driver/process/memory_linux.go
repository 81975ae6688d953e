package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files in which cgroups count memory, and what of it are files that were
// not used lately, which an application does not hold.
var memoryFiles = []struct{ usage, resting string }{
	{"memory.current", "inactive_file"},              // v2
	{"memory.usage_in_bytes", "total_inactive_file"}, // v1
}

// groupMemory is what the groups count; false if none does.
func groupMemory(groups []string) (int64, bool) {
	for _, dir := range groups {
		for _, f := range memoryFiles {
			text, err := os.ReadFile(filepath.Join(dir, f.usage))
			if err != nil {
				continue
			}
			used, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err != nil {
				continue
			}
			stat, _ := os.ReadFile(filepath.Join(dir, "memory.stat")) // without it, all of it
			if _, rest, found := strings.Cut("\n"+string(stat), "\n"+f.resting+" "); found {
				line, _, _ := strings.Cut(rest, "\n")
				resting, _ := strconv.ParseInt(line, 10, 64) // the kernel's
				used -= resting
			}
			return max(0, used), true
		}
	}
	return 0, false
}

// treeMemory is what a keeper's descendants hold.
func treeMemory(keeper int) (int64, bool) {
	parents := map[int]int{}
	sizes := map[int]int64{}
	for _, pid := range processes() {
		if s, ok := stat(pid); ok {
			parents[pid], sizes[pid] = s.parent, s.resident*int64(os.Getpagesize())
		}
	}
	var used int64
	found := false
	for pid, size := range sizes {
		seen := []int{pid} // a table that changes while it is read may go in circles
		for at := parents[pid]; at > 1 && !slices.Contains(seen, at); at = parents[at] {
			if at == keeper {
				used, found = used+size, true
				break
			}
			seen = append(seen, at)
		}
	}
	return used, found
}
