package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The files in which cgroups count CPU time, v1's in nanoseconds, v2's as one
// of several lines in microseconds. v2's is there without the cpu controller.
const (
	meterV1 = "cpuacct.usage"
	meterV2 = "cpu.stat"
)

// cpuMeter is the file that counts the CPU time of the groups; "" if none does.
func cpuMeter(groups []string) string {
	for _, dir := range groups {
		for _, name := range []string{meterV1, meterV2} {
			path := filepath.Join(dir, name)
			if _, ok := readMeter(path); ok {
				return path
			}
		}
	}
	return ""
}

func readMeter(path string) (time.Duration, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	unit, text := time.Nanosecond, string(data)
	if filepath.Base(path) == meterV2 { // v1 has a file of this name too, without this line
		var found bool
		if _, text, found = strings.Cut("\n"+text, "\nusage_usec "); !found {
			return 0, false
		}
		unit = time.Microsecond
		text, _, _ = strings.Cut(text, "\n")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return time.Duration(n) * unit, err == nil
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all of Linux.
const tick = 10 * time.Millisecond

// treeCPU is the CPU time of what each of the keepers has started, in the same
// order.
func treeCPU(keepers []int) []time.Duration {
	var table []processTimes
	for _, pid := range processes() {
		if s, ok := stat(pid); ok {
			table = append(table, processTimes{pid, s.parent, time.Duration(s.own) * tick, time.Duration(s.waited) * tick})
		}
	}
	return sumTrees(table, keepers)
}
