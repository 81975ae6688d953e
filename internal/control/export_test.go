package control

import "holdfast/internal/app"

// Wanted is how many instances of a version there should be, as was decided at
// the latest look; 0 for a version that does not serve.
func (c *Controller) Wanted(k app.Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.versions[k]; v != nil {
		return v.want
	}
	return 0
}
