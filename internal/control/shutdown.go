package control

import (
	"context"
	"fmt"
	"time"
)

// forceBound is how long a shutdown that ran out of time waits for the
// instances that were ended by force.
const forceBound = 5 * time.Second

// Shutdown stops everything: nothing is accepted, built or started any more, and
// every instance is told to stop at once, with StopGrace. It returns nil when
// none is left. When ctx ends before, the rest is ended by force. It needs Run
// running. What was asked for is not undone, and operations under way go on
// with the next start.
func (c *Controller) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.hint()
	select {
	case <-c.empty:
		return nil
	case <-c.ended:
	case <-ctx.Done():
		c.force()
		bound := time.NewTimer(forceBound)
		defer bound.Stop()
		select {
		case <-c.empty:
			return nil
		case <-c.ended:
		case <-bound.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.leftLocked(); n > 0 {
		return fmt.Errorf("shut down: %d instances are left", n)
	}
	return nil
}
