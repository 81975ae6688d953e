package appyaml

import (
	"fmt"
	"math"

	"holdfast/internal/app"
)

// An instance of so many cores has from 1.0 to 6.5 GB for each, of which the
// system's own processes take 0.4 in all.
const (
	memoryPerCPULeast = 1.0
	memoryPerCPUMost  = 6.5
	memorySystem      = 0.4
)

// rounding is what decimal fractions may be off.
const rounding = 1e-9

func (r *reader) cpu(n *node) {
	f, ok := r.float(n)
	if !ok {
		return
	}
	i := int(min(max(f, 0), 1000))
	if float64(i) != f || !(i == 1 || i >= 2 && i <= 32 && i%2 == 0 || i > 32 && i <= 80 && i%4 == 0) {
		r.wrong(n, "it must be 1, an even number from 2 to 32, or a multiple of 4 up to 80", "%s: %s does not fit", n.name, quote(n.text))
		return
	}
	r.v.Resources.CPU = f
}

func (r *reader) volumes(n *node) {
	if !r.is(n, list) {
		return
	}
	if len(n.items) > maxVolumes {
		r.wrong(n.items[maxVolumes], "", "%s: %d are too many, there may be %d", n.name, len(n.items), maxVolumes)
		return
	}
	r.each(r.volume)(n)
}

func (r *reader) volume(n *node) {
	var v app.Volume
	var kind string
	section{
		"name":        r.text(&v.Name, volumeName, "up to 63 of a-z, 0-9 and -, the first a letter, the last no -"),
		"volume_type": r.oneOf(&kind, "tmpfs"),
		"size_gb":     r.number(&v.SizeGB, 0.001, 80*memoryPerCPUMost),
	}.take(r, n)
	if n.bad || !r.required(n, "name", "volume_type", "size_gb") {
		return
	}
	for _, w := range r.v.Resources.Volumes {
		if v.Name == w.Name {
			r.wrong(n, "", "%s: there are two volumes %s", n.name, v.Name)
			return
		}
	}
	r.v.Resources.Volumes = append(r.v.Resources.Volumes, v)
}

// required reports keys that a section must have, and says whether all are
// there and good.
func (r *reader) required(n *node, keys ...string) bool {
	all := true
	for _, key := range keys {
		v := r.seen[n.name+"."+key]
		if v == nil {
			r.fail(n.key, n.name+" has no "+key, "")
			n.bad = true
		}
		all = all && v != nil && !v.bad
	}
	return all
}

func (r *reader) finishResources() {
	if !r.good("resources", "resources.cpu", "resources.memory_gb", "resources.volumes") {
		return
	}
	res := &r.v.Resources
	least := math.Round((res.CPU*memoryPerCPULeast-memorySystem)*10) / 10
	most := math.Round((res.CPU*memoryPerCPUMost-memorySystem)*10) / 10
	if n := r.seen["resources.memory_gb"]; n == nil {
		// The documented default, 0.6, is the least for one core; more cores
		// have their own least.
		res.MemoryGB = least
	} else if res.MemoryGB < least-rounding || res.MemoryGB > most+rounding {
		r.wrong(n, "", "resources.memory_gb must be from %v to %v with cpu %v, not %s", least, most, res.CPU, n.text)
		return
	}
	total := 0.0
	for _, v := range res.Volumes {
		total += v.SizeGB
	}
	if total > res.MemoryGB {
		r.warn(r.where("resources.volumes").key, fmt.Sprintf("the volumes hold up to %v GB, and the instance's memory, which they take from, is %v GB", total, res.MemoryGB))
	}
}
