package process

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Without cgroups, CPU time is what the process table says of the keeper's
// descendants, those that have ended included.
func TestCPUOfATree(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.limits = &limits{text: "none: a test"}
	w.start("a", script(t, "v1", `
work='n=0; until [ $n -ge 60000 ]; do n=$((n+1)); done'
bash -c "$work"                          # waited for by the app
(setsid bash -c "$work; touch orphan" &) # waited for by the keeper
until [ -e orphan ]; do sleep 0.01; done
touch ready; exec sleep 1000`))
	w.file("a", "ready")
	w.start("b", script(t, "v2", polite))
	w.file("b", "ready")
	k := w.keeper("a")
	app, _ := stat(k.App)
	ours := time.Duration(app.own+app.waited) * tick
	var used time.Duration
	// More than the app knows of itself: the orphan was none of its children.
	until(t, "CPU time of a", func() bool { used = w.find("a").CPU; return used >= ours+ours/4 && used > 0 })
	if b := w.find("b").CPU; b >= used {
		t.Errorf("b used %v, which sleeps, and a %v, which worked", b, used)
	}
	w.restart()
	w.limits = &limits{text: "none: a test"}
	if again := w.find("a").CPU; again < used {
		t.Errorf("a had used %v, and %v after a restart", used, again)
	}
}

func TestMeters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		name, file, text string
		want             time.Duration
		ok               bool
	}{
		{"v1", "cpuacct.usage", "1500000\n", 1500 * time.Microsecond, true},
		{"v2", "cpu.stat", "usage_usec 2500\nuser_usec 2000\nsystem_usec 500\n", 2500 * time.Microsecond, true},
		{"v2, elsewhere in it", "cpu.stat", "user_usec 1\nusage_usec 7\n", 7 * time.Microsecond, true},
		{"v1's bandwidth, under the same name", "cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n", 0, false},
		{"empty", "cpuacct.usage", "", 0, false},
	} {
		at := filepath.Join(dir, c.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(at, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, ok := readMeter(path); got != c.want && c.ok || ok != c.ok {
			t.Errorf("%s: %v, %v, want %v, %v", c.name, got, ok, c.want, c.ok)
		}
		want := ""
		if c.ok {
			want = path
		}
		if got := cpuMeter([]string{dir, at}); got != want {
			t.Errorf("%s: the meter is %q, want %q", c.name, got, want)
		}
	}
}

func TestSumTrees(t *testing.T) {
	t.Parallel()
	table := []processTimes{
		{pid: 10, parent: 1, own: 1000, waited: 1},
		{pid: 11, parent: 10, own: 2, waited: 4},
		{pid: 12, parent: 11, own: 8},
		{pid: 20, parent: 1, own: 1000},
		{pid: 21, parent: 20, own: 16},
		{pid: 30, parent: 1, own: 1000, waited: 1000}, // a stranger
	}
	if got, want := sumTrees(table, []int{20, 10, 99}), []time.Duration{16, 15, 0}; !slices.Equal(got, want) {
		t.Errorf("sums = %v, want %v", got, want)
	}
}

// What listing costs where each instance's CPU time is read from its cgroup.
func BenchmarkList(b *testing.B) {
	w := open(b)
	v := script(b, "v1", polite)
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		w.start(id, v)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTreeCPU(b *testing.B) {
	for b.Loop() {
		treeCPU([]int{os.Getpid()})
	}
}
