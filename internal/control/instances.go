package control

import (
	"holdfast/internal/app"
	"holdfast/internal/store"
)

// Instance is one instance as people look at it.
type Instance struct {
	app.Instance
	Requests int     // open now, without sockets
	Sockets  int     // open now
	CPU      float64 // cores in use, between the last two looks; 0: not known
	Detail   string  // what its last failed check met; "" while all is well
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
		detail := i.detail
		if i.paused {
			detail = "a drill has it hang"
		}
		all = append(all, Instance{Instance: i.Instance, Requests: carried.Requests, Sockets: carried.Sockets, CPU: i.cores, Detail: detail})
	}
	return all
}

// RestartInstance has an instance replaced: a successor is ready before it
// drains, and the operation is done when it is gone. An instance that does not
// run, or leaves already, is app.ErrNotFound.
func (c *Controller) RestartInstance(id, by string) (app.Operation, error) {
	return c.askInstance(app.VerbRestart, id, by)
}

// DeleteInstance has an instance drain now; a successor is started if one is
// missing then. It is otherwise as RestartInstance.
func (c *Controller) DeleteInstance(id, by string) (app.Operation, error) {
	return c.askInstance(app.VerbDelete, id, by)
}

func (c *Controller) askInstance(verb app.Verb, id, by string) (app.Operation, error) {
	c.mu.Lock()
	var k app.Key
	if i := c.instances[id]; i != nil && i.State < app.Draining {
		k = i.Key
	}
	c.mu.Unlock()
	op := app.Operation{Verb: verb, Target: k, Instance: id, By: by}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		if k == (app.Key{}) {
			return app.ErrNotFound
		}
		for _, other := range underWay(*w) {
			if other.Instance == id {
				return underWayError(other)
			}
		}
		return nil
	})
}
