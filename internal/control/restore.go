package control

import (
	"maps"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// Restore replaces everything that is wished for by what a backup says, in one
// transaction; what runs follows. Operations under way are superseded, and what
// was under way when the backup was taken is not begun again. Of a version that
// serves now with other contents under the same name, each instance is replaced.
func (c *Controller) Restore(to store.Wishes, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbRestore, By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		for _, other := range underWay(*w) {
			finish(w, other, op.Asked, &app.Failure{Cause: app.Superseded, Detail: "a backup was restored meanwhile"})
		}
		now := *w
		*w = store.Wishes{Apps: maps.Clone(to.Apps), Services: maps.Clone(to.Services), Versions: maps.Clone(to.Versions), Operations: now.Operations}
		for id, past := range to.Operations {
			if _, ok := w.Operations[id]; !ok && past.Stage == app.StageDone {
				w.Operations[id] = past
			}
		}
		for _, past := range to.Operations {
			if past.Stage == app.StageDone {
				continue
			}
			for _, begun := range past.Begun { // for an operation that goes on no more
				k := past.Target.ServiceKey().Version(begun)
				if v, ok := w.Versions[k]; ok && w.Services[k.ServiceKey()].Split.Shares[begun] == 0 {
					v.Serving = false
					w.Versions[k] = v
				}
			}
		}
		w.Operations[op.ID] = *op // taken, for the ids that follow
		changed := map[app.Key]bool{}
		for k, v := range w.Versions {
			was, ok := now.Versions[k]
			changed[k] = ok && v.Serving && was.Serving && !same(was, v)
		}
		c.replaceAll(w, changed, op.Asked, by)
		return nil
	})
}

// replaceAll has every instance of some versions replaced.
func (c *Controller) replaceAll(w *store.Wishes, which map[app.Key]bool, now time.Time, by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.sortedLocked() {
		if which[i.Key] && i.State < app.Draining {
			id := newID(w, now)
			w.Operations[id] = app.Operation{ID: id, Verb: app.VerbRestart, Target: i.Key, Instance: i.ID, By: by, Asked: now, Stage: app.StageStarting}
		}
	}
}
