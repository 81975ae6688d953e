package control

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// Wait returns the operation when it is done and traffic has followed. When ctx
// ends before, it returns the operation as it is and ctx's cause; when Run has
// ended, an app.ErrBusy. It needs Run running.
func (c *Controller) Wait(ctx context.Context, id string) (app.Operation, error) {
	for {
		c.mu.Lock()
		acted := c.acted
		op, known := c.settled.Operations[id]
		c.mu.Unlock()
		if known && op.Stage == app.StageDone {
			return op, nil
		}
		op, ok := c.store.Wishes().Operations[id]
		if !ok {
			return op, fmt.Errorf("operation %s: %w", id, app.ErrNotFound)
		}
		select {
		case <-acted:
		case <-ctx.Done():
			return op, fmt.Errorf("wait for operation %s: %w", id, context.Cause(ctx))
		case <-c.ended:
			if op.Stage == app.StageDone {
				return op, nil
			}
			return op, fmt.Errorf("wait for operation %s: control has ended; it goes on with the next start: %w", id, app.ErrBusy)
		}
	}
}

// show lets those who wait see the wishes that the routes show by now.
func (c *Controller) show(w store.Wishes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = w
	close(c.acted)
	c.acted = make(chan struct{})
}

// Cancel ends an operation that is under way: what it began is undone, and its
// failure is app.Cancelled. One that has ended is app.ErrInvalid, and so is the
// replacement of an instance that drains already: nothing brings it back.
func (c *Controller) Cancel(id, by string) (app.Operation, error) {
	var op app.Operation
	err := c.store.Update(func(w *store.Wishes) (err error) {
		op, err = c.cancel(w, id, by)
		return err
	})
	if err != nil {
		return app.Operation{}, fmt.Errorf("cancel operation %s: %w", id, err)
	}
	return op, nil
}

func (c *Controller) cancel(w *store.Wishes, id, by string) (app.Operation, error) {
	op, ok := w.Operations[id]
	if !ok {
		return op, app.ErrNotFound
	}
	if op.Stage == app.StageDone {
		return op, fmt.Errorf("it has ended, at %s: %w", op.Ended.Format(time.TimeOnly), app.ErrInvalid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.instances[op.Instance]; i != nil && i.State >= app.Draining {
		return op, fmt.Errorf("instance %s leaves already: %w", i.ID, app.ErrInvalid)
	}
	failure := &app.Failure{Cause: app.Cancelled}
	if by != "" {
		failure.Detail = "by " + by
	}
	return finish(w, op, wallClock(time.Now()), failure), nil
}
