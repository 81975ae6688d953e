package control

import "holdfast/internal/app"

// Instance is one instance as people look at it.
type Instance struct {
	app.Instance
	Requests int     // open now, without sockets
	Sockets  int     // open now
	CPU      float64 // cores in use, of late; 0: not known
	Detail   string  // what its last check met, or how it exited; may be ""
}

// Instances is every instance there is, and those that were stopped a few
// seconds ago, by id.
func (c *Controller) Instances() []Instance {
	load := c.router.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Instance
	for _, i := range c.sortedLocked() {
		carried := load[i.ID]
		all = append(all, Instance{Instance: i.Instance, Requests: carried.Requests, Sockets: carried.Sockets, Detail: i.complaint})
	}
	return all
}
