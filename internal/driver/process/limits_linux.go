package process

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"holdfast/internal/app"
)

// # How limits hang together
//
// Each instance has a cgroup holdfast/DIR/ID, DIR a short name of the driver's
// directory, below the cgroup that we are in ourselves: what bounds us bounds
// our instances too. In v1 that is one in each of a few hierarchies; in v2 one
// in the nearest ancestor of ours that may hand its controllers on. The driver
// makes them; the launching stage enters them by itself, before it executes the
// app, so that nothing of the app is ever outside; the keeper, outside of them,
// reads their counters and ends what is in them. All of that but the making is
// files in directories, and so it is written here for both versions at once.

const (
	// cgroupRoot is where cgroups are mounted; the library has it so too.
	cgroupRoot = "/sys/fs/cgroup"

	// pidsMax bounds an instance's processes and threads: enough for any real
	// app, and a fork bomb stays its own problem.
	pidsMax = 4096

	// cpuPeriod is the kernel's usual one, in microseconds. A shorter one
	// costs more switches, a longer one makes longer pauses.
	cpuPeriod = 100_000

	// createTries is how often a cgroup is made again whose parent another
	// driver, or our own tidying, removed in between.
	createTries = 3
)

// limits makes the cgroups of instances. It does not change.
type limits struct {
	text        string
	controllers []string          // those that are there; nil: no cgroups
	nested      cgroup1.Path      // v1: the parent of our instances' groups
	hierarchy   cgroup1.Hierarchy // v1
	parent      string            // v2: the same, as a path below cgroupRoot; "" for v1
	dirs        []string          // that parent as directories, one for each hierarchy
}

// findLimits finds out what this machine lets us do, by trying.
func findLimits(name string) *limits {
	l := &limits{}
	var err error
	switch mode := cgroups.Mode(); mode {
	case cgroups.Legacy, cgroups.Hybrid:
		err = l.tryV1(name)
		l.text = "cgroup v1"
	case cgroups.Unified:
		err = l.tryV2(name)
		l.text = "cgroup v2"
	default:
		err = errors.New("cgroups are not mounted at " + cgroupRoot)
	}
	if err != nil {
		return &limits{text: "none: " + err.Error()}
	}
	if missing := l.missing(); len(missing) > 0 {
		l.text += ", without " + strings.Join(missing, " and ")
	}
	return l
}

// missing are the limits that a reader expects and this machine does not have.
func (l *limits) missing() (names []string) {
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(l.controllers, c) {
			names = append(names, c)
		}
	}
	return names
}

func (l *limits) holdMemory() bool { return slices.Contains(l.controllers, "memory") }

// tryV1 uses a few hierarchies only: others (devices, cpuset) have rules of
// their own for newcomers, and nothing that we need.
func (l *limits) tryV1(name string) error {
	wanted := []cgroup1.Name{cgroup1.Memory, cgroup1.Cpu, cgroup1.Cpuacct, cgroup1.Pids, cgroup1.Freezer}
	all, err := cgroup1.Default()
	if err != nil {
		return fmt.Errorf("cgroup v1: %w", err)
	}
	l.nested = cgroup1.NestedPath(filepath.Join("holdfast", name))
	var have []cgroup1.Subsystem
	var why error // the first obstacle: the others are its like
	for _, s := range all {
		at, isDir := s.(interface{ Path(string) string })
		if !slices.Contains(wanted, s.Name()) || !isDir {
			continue
		}
		p, err := l.nested(s.Name())
		if err != nil {
			why = cmp.Or(why, fmt.Errorf("%s: %w", s.Name(), err))
			continue
		}
		dir := at.Path(p)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			why = cmp.Or(why, err)
			continue
		}
		have = append(have, s)
		l.dirs = append(l.dirs, dir)
		l.controllers = append(l.controllers, string(s.Name()))
	}
	l.tidy()
	if !slices.Contains(l.controllers, "memory") && !slices.Contains(l.controllers, "cpu") {
		if why == nil {
			why = errors.New("neither memory nor cpu is mounted")
		}
		return fmt.Errorf("cgroup v1: %w", why)
	}
	l.hierarchy = func() ([]cgroup1.Subsystem, error) { return have, nil }
	return nil
}

// tryV2 looks upwards from our own cgroup for the first that can hand its
// controllers on: not our own, as a rule, because one with processes in it
// cannot (the "no internal processes" rule), but the slice or scope around it,
// where that is ours to write or was delegated to us.
func (l *limits) tryV2(name string) error {
	_, own, err := cgroups.ParseCgroupFileUnified("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("cgroup v2: %w", err)
	}
	if !filepath.IsAbs(own) || strings.Contains(own, "..") {
		return fmt.Errorf("cgroup v2: our own cgroup %s is not visible here", own)
	}
	why := errors.New("no cgroup above us can be written")
	for at := own; ; at = filepath.Dir(at) {
		controllers, err := delegate(filepath.Join(cgroupRoot, at), filepath.Join("holdfast", name))
		if err == nil {
			l.controllers = controllers
			l.parent = filepath.Join(at, "holdfast", name)
			l.dirs = []string{filepath.Join(cgroupRoot, l.parent)}
			l.tidy()
			return nil
		}
		if at == own {
			why = err // about ourselves: the most telling
		}
		if at == "/" || at == "." {
			return fmt.Errorf("cgroup v2: %w; a systemd unit with Delegate=yes and DelegateSubgroup=main would allow it", why)
		}
	}
}

// delegate makes below in the cgroup directory at and hands the controllers
// down to it. It returns those that arrived, memory among them.
func delegate(at, below string) (controllers []string, err error) {
	// Moving a process needs this right on the common ancestor of both groups.
	if err := unix.Access(filepath.Join(at, "cgroup.procs"), unix.W_OK); err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if err := os.MkdirAll(filepath.Join(at, below), 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			removeUp(filepath.Join(at, below), 2)
		}
	}()
	dir := at
	for _, part := range append(strings.Split(below, "/"), "") {
		for _, c := range []string{"cpu", "memory", "pids"} {
			// One by one: a missing one must not cost the others.
			os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return nil, err
		}
		controllers = strings.Fields(string(data))
		if !slices.Contains(controllers, "memory") {
			return nil, fmt.Errorf("%s does not hand the memory controller on", dir)
		}
		dir = filepath.Join(dir, part)
	}
	return controllers, nil
}

// groups are the directories of the instance's cgroups, made or not.
func (l *limits) groups(id string) []string {
	var dirs []string
	for _, d := range l.dirs {
		dirs = append(dirs, filepath.Join(d, id))
	}
	return dirs
}

// create makes the instance's cgroups and sets their limits.
func (l *limits) create(id string, r app.Resources) (err error) {
	if l.controllers == nil {
		return nil
	}
	for range createTries {
		if l.parent != "" {
			err = l.createV2(id, r)
		} else {
			err = l.createV1(id, r)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func memoryBytes(r app.Resources) int64 { return int64(r.MemoryMB()) << 20 }
func cpuQuota(r app.Resources) int64    { return int64(r.CPU * cpuPeriod) }

func (l *limits) createV1(id string, r app.Resources) error {
	res := &specs.LinuxResources{}
	if limit := memoryBytes(r); limit > 0 && slices.Contains(l.controllers, "memory") {
		res.Memory = &specs.LinuxMemory{Limit: &limit}
		// Memory and swap together, where swap is counted: an app over its
		// limit ends, rather than dragging the machine down slowly.
		if i := slices.Index(l.controllers, "memory"); i >= 0 {
			if _, err := os.Stat(filepath.Join(l.dirs[i], "..", "..", "memory.memsw.limit_in_bytes")); err == nil {
				res.Memory.Swap = &limit
			}
		}
	}
	if quota, period := cpuQuota(r), uint64(cpuPeriod); quota > 0 {
		res.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	}
	limit := int64(pidsMax)
	res.Pids = &specs.LinuxPids{Limit: &limit}
	nested := func(name cgroup1.Name) (string, error) {
		p, err := l.nested(name)
		return filepath.Join(p, id), err
	}
	_, err := cgroup1.New(nested, res, cgroup1.WithHierarchy(l.hierarchy))
	return err
}

func (l *limits) createV2(id string, r app.Resources) error {
	res := &cgroup2.Resources{}
	if limit := memoryBytes(r); limit > 0 {
		res.Memory = &cgroup2.Memory{Max: &limit}
	}
	if quota, period := cpuQuota(r), uint64(cpuPeriod); quota > 0 && slices.Contains(l.controllers, "cpu") {
		res.CPU = &cgroup2.CPU{Max: cgroup2.NewCPUMax(&quota, &period)}
	}
	if slices.Contains(l.controllers, "pids") {
		res.Pids = &cgroup2.Pids{Max: pidsMax}
	}
	if _, err := cgroup2.NewManager(cgroupRoot, filepath.Join(l.parent, id), res); err != nil {
		return err
	}
	// Neither is everywhere: no swap, an old kernel. Half an app is worse than
	// none, so the whole instance goes when one process of it must.
	dir := filepath.Join(l.dirs[0], id)
	os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0)
	os.WriteFile(filepath.Join(dir, "memory.oom.group"), []byte("1"), 0)
	return nil
}

// sweep ends and removes the cgroups of instances that are not live, which a
// driver before us left behind.
func (l *limits) sweep(live map[string]bool) {
	var stray []string
	for _, dir := range l.dirs {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() && !live[e.Name()] {
				stray = append(stray, filepath.Join(dir, e.Name()))
			}
		}
	}
	removeGroups(stray)
	l.tidy()
}

// tidy removes the parents of our groups if there is nothing in them.
func (l *limits) tidy() {
	for _, dir := range l.dirs {
		removeUp(dir, 2)
	}
}

// removeUp removes dir and its parents, n levels in all, as long as they are
// empty: the kernel refuses others.
func removeUp(dir string, n int) {
	for ; n > 0; n-- {
		if os.Remove(dir) != nil {
			return
		}
		dir = filepath.Dir(dir)
	}
}
