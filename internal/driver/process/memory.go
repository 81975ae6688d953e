package process

// Memory is how many bytes an instance holds now: by its cgroup, without files
// that the kernel would give back at once, else by the sizes of its processes,
// which counts what they share several times. It is false where nobody knows, and
// for an instance that does not exist.
func (d *Driver) Memory(id string) (bytes int64, known bool) {
	d.mu.Lock()
	in := d.instances[id]
	d.mu.Unlock()
	if in == nil || !closed(in.started) {
		return 0, false
	}
	if bytes, known = groupMemory(in.record.Groups); known {
		return bytes, true
	}
	in.mu.Lock()
	keeper := in.keeper.PID
	in.mu.Unlock()
	return treeMemory(keeper)
}
