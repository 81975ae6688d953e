//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machine is where and when it was measured.
type machine struct {
	when               time.Time
	processor, kernel  string
	cores              int
	memoryGB           float64
	descriptors        uint64
	load               string // before the first figure
	commit, goVersions string
}

func thisMachine() machine {
	m := machine{when: time.Now().UTC(), cores: runtime.NumCPU(), goVersions: runtime.Version(), commit: "unknown"}
	m.processor = after("/proc/cpuinfo", "model name")
	var kb float64
	fmt.Sscanf(after("/proc/meminfo", "MemTotal"), "%g", &kb)
	m.memoryGB = kb / (1 << 20)
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load, _, _ = strings.Cut(string(b), " ")
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		m.descriptors = limit.Cur
	}
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		m.commit = strings.TrimSpace(string(b))
	}
	return m
}

// after finds the value of a "name: value" line; "unknown" if there is none.
func after(path, name string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.SplitSeq(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// page is everything that a run tells, as Markdown.
func page(r *runner, m machine, results *results, absent []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Side by side, %s\n\n", m.when.Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(&b, "%s, %d cores, %.0f GB, Linux %s, %d descriptors a process, load average %s before the run.\n",
		m.processor, m.cores, m.memoryGB, m.kernel, m.descriptors, m.load)
	fmt.Fprintf(&b, "Holdfast %s, %s. Medians of %d rounds", m.commit, m.goVersions, r.rounds)
	fmt.Fprintf(&b, ", taken in %.0f minutes. Generator, proxy and backend share the cores, over loopback.\n\n", time.Since(m.when).Minutes())
	for _, p := range r.peers {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.version(r.self))
	}
	for _, a := range absent {
		fmt.Fprintf(&b, "- left out: %s\n", a)
	}
	fmt.Fprintf(&b, "\n%s\n", results.table())
	b.WriteString("Memory is the proxy's Pss after minus before, divided; CPU its user and system time, divided. \"ratio\" is Holdfast to the best peer,\n" +
		"leaving out \"no proxy\"; \"!\" marks figures during which something failed. What each row is: decisions/0010-bench.md.\n\n")
	fmt.Fprintf(&b, "%s\n", results.generatorTable())
	if len(results.failed) == 0 {
		b.WriteString("Nothing failed.\n")
		return b.String()
	}
	b.WriteString("What failed:\n\n")
	for _, what := range results.failed {
		fmt.Fprintf(&b, "- %s\n", what)
	}
	return b.String()
}
