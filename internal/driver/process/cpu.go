package process

import (
	"slices"
	"time"
)

// treeEvery is how often, at most, the process table is read to add up CPU
// times: that takes a few milliseconds where a machine runs a thousand
// processes, and List may be called many times a second.
const treeEvery = time.Second

// measure brings the CPU times of the instances up to date: from their cgroups,
// which count everything that ever ran in them, else from the processes that
// descend from their keepers, which leaves out what parents did not wait for.
func (d *Driver) measure(all []*instance) {
	var others []*instance
	for _, in := range all {
		if !closed(in.started) {
			continue // its groups may not be there yet
		}
		in.mu.Lock()
		if !in.metered {
			in.meter, in.metered = cpuMeter(in.record.Groups), true
		}
		if in.meter == "" {
			others = append(others, in)
		} else if used, ok := readMeter(in.meter); ok {
			in.cpu = max(in.cpu, used)
		}
		in.mu.Unlock()
	}
	if len(others) == 0 {
		return
	}
	d.mu.Lock()
	now := time.Now()
	due := now.Sub(d.treeRead) >= treeEvery
	if due {
		d.treeRead = now
	}
	d.mu.Unlock()
	if !due {
		return
	}
	var keepers []int
	for _, in := range others {
		in.mu.Lock()
		keepers = append(keepers, in.keeper.PID)
		in.mu.Unlock()
	}
	for i, used := range treeCPU(keepers) {
		others[i].mu.Lock()
		others[i].cpu = max(others[i].cpu, used)
		others[i].mu.Unlock()
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// processTimes is what the system's process table says of one.
type processTimes struct {
	pid, parent int
	own, waited time.Duration // CPU time of itself, and of the children it has waited for
}

// sumTrees adds up the CPU time of what the roots have started, without their
// own, in the order of roots. What ran and was waited for is in its parent's
// account.
func sumTrees(table []processTimes, roots []int) []time.Duration {
	children := map[int][]processTimes{}
	sums := make([]time.Duration, len(roots))
	for _, p := range table {
		children[p.parent] = append(children[p.parent], p)
		if i := slices.Index(roots, p.pid); i >= 0 {
			sums[i] += p.waited
		}
	}
	for i, root := range roots {
		for next := slices.Clone(children[root]); len(next) > 0; {
			p := next[len(next)-1]
			next = append(next[:len(next)-1], children[p.pid]...)
			sums[i] += p.own + p.waited
		}
	}
	return sums
}
