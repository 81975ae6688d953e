package control

import (
	"slices"
	"sync"
	"time"

	"holdfast/internal/probe"
)

// checksMax is how many answers of each of the two checks are remembered for
// people, at most some 400 bytes each.
const checksMax = 10

// Check is what came of asking an instance how it is, once.
type Check struct {
	Kind   string // readiness or liveness
	Asked  time.Time
	Took   time.Duration
	Status int    // of HTTP; 0: none came, or only a connection was asked for
	Body   string // the beginning of the answer
	Err    string // why it does not pass; "": it does
}

// checks are the latest of one instance. They have a lock of their own: a
// hundred instances are asked often, and people rarely look.
type checks struct {
	mu     sync.Mutex // guards the following
	latest [2][]Check // by probe.Kind, the oldest first
}

func (c *checks) add(a probe.Answer) {
	one := Check{Kind: a.Kind.String(), Asked: a.Asked, Took: a.Took, Status: a.Status, Body: a.Body}
	if a.Err != nil {
		one.Err = a.Err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := &c.latest[a.Kind]
	if len(*of) == checksMax {
		*of = slices.Delete(*of, 0, 1)
	}
	*of = append(*of, one)
}

// Checks are the latest answers of an instance to both of its checks, the latest
// first; none if there is no such instance, or it was not asked yet.
func (c *Controller) Checks(instance string) []Check {
	c.mu.Lock()
	i := c.instances[instance]
	c.mu.Unlock()
	if i == nil {
		return nil
	}
	i.checks.mu.Lock()
	defer i.checks.mu.Unlock()
	all := slices.Concat(i.checks.latest[0], i.checks.latest[1])
	slices.SortStableFunc(all, func(a, b Check) int { return b.Asked.Compare(a.Asked) })
	return all
}
