package control_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver/memory"
	"holdfast/internal/router"
)

// crowd is a data plane with people on it: they connect to the ready instance
// that carries least, stay about an hour, and come back when they are told to
// go. What instances carry costs them CPU time. It is moved by step.
type crowd struct {
	d *memory.Driver

	mu       sync.Mutex // guards the following
	people   float64    // that want to be connected
	work     float64    // cores that one of them takes
	routes   router.Routes
	stands   map[string]*stand
	homeless float64
	moved    time.Time
	ended    map[app.Cause]float64 // how many sockets ended, by cause; those that people ended themselves are not in it
	wrong    []string              // what must not have happened
}

// stand is an instance as the crowd sees it.
type stand struct {
	app.Instance
	sockets float64
	listed  bool
}

const socketLife = time.Hour

func newCrowd(d *memory.Driver) *crowd {
	return &crowd{d: d, stands: map[string]*stand{}, ended: map[app.Cause]float64{}, moved: time.Now()}
}

func (c *crowd) Set(r router.Routes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.routes = r
	for _, s := range c.stands {
		s.listed = false
	}
	for _, a := range r.Apps {
		for _, service := range a.Services {
			for _, pool := range service.Pools {
				for _, i := range pool.Instances {
					s := c.stands[i.ID]
					if s == nil {
						s = &stand{}
						c.stands[i.ID] = s
					}
					s.Instance, s.listed = i, true
					if i.State == app.Stopped {
						c.endLocked(s, s.sockets, i.Cause)
					}
				}
			}
		}
	}
	for id, s := range c.stands {
		if !s.listed {
			if s.State != app.Stopped && s.sockets > 0.5 {
				c.wrong = append(c.wrong, fmt.Sprintf("%s vanished with %.0f sockets", id, s.sockets))
			}
			c.endLocked(s, s.sockets, s.Cause)
			delete(c.stands, id)
		}
	}
}

// endLocked ends sockets of an instance, and their people look for another.
func (c *crowd) endLocked(s *stand, n float64, cause app.Cause) {
	if n <= 0 {
		return
	}
	if cause == "" {
		c.wrong = append(c.wrong, fmt.Sprintf("%.0f sockets of %s ended without a cause", n, s.ID))
	}
	s.sockets -= n
	c.homeless += n
	c.ended[cause] += n
}

// come says how many want to be connected from now on, and what each costs.
func (c *crowd) come(people, work float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.people, c.work = people, work
}

// restart is our own end: every socket ends with it, and nobody is routed.
func (c *crowd) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.stands {
		c.endLocked(s, s.sockets, app.ShuttingDown)
	}
	c.stands, c.routes = map[string]*stand{}, router.Routes{}
}

func (c *crowd) Load() map[string]router.Load {
	c.mu.Lock()
	defer c.mu.Unlock()
	load := map[string]router.Load{}
	for id, s := range c.stands {
		load[id] = router.Load{Sockets: int(math.Round(s.sockets))}
	}
	return load
}

func (c *crowd) Busy(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.stands[id]; s != nil {
		return int(s.sockets / 2)
	}
	return 0
}

func (c *crowd) Shed(id string, n int, cause app.Cause) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stands[id]
	if s == nil || s.State != app.Ready {
		return 0
	}
	n = min(n, int(s.sockets))
	c.endLocked(s, float64(n), cause)
	return n
}

func (c *crowd) Expire(app.Key, float64, time.Time, time.Duration) int { return 0 }

// step lets people do what they did since the last one.
func (c *crowd) step() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	long := now.Sub(c.moved)
	c.moved = now
	share := float64(long) / float64(socketLife)
	open := c.homeless
	for _, id := range slices.Sorted(maps.Keys(c.stands)) {
		s := c.stands[id]
		c.d.Burn(id, time.Duration(float64(long)*min(1, 0.01+s.sockets*c.work)))
		s.sockets -= s.sockets * share
		if s.State == app.Draining { // what is left of it goes evenly until Until
			left := max(0, s.Until.Sub(now))
			c.endLocked(s, s.sockets*float64(long)/float64(long+left), s.Cause)
		}
		open += s.sockets
	}
	c.homeless += max(0, c.people-open)
	ready := c.readyLocked()
	for portion := max(1, c.homeless/50); c.homeless > 0 && len(ready) > 0; {
		least := slices.MinFunc(ready, func(a, b *stand) int {
			if a.sockets != b.sockets {
				return int(math.Copysign(1, a.sockets-b.sockets))
			}
			return 0
		})
		n := min(c.homeless, portion)
		least.sockets += n
		c.homeless -= n
	}
}

// readyLocked is the ready instances that the splits lead to, by id.
func (c *crowd) readyLocked() (all []*stand) {
	for _, id := range slices.Sorted(maps.Keys(c.stands)) {
		s := c.stands[id]
		if s.State == app.Ready && c.routes.Apps[s.Key.App].Services[s.Key.Service].Split.Shares[s.Key.Version] > 0 {
			all = append(all, s)
		}
	}
	return all
}

// carried is the sockets of the instances that are ready, the fewest first.
func (c *crowd) carried() (all []float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.readyLocked() {
		all = append(all, s.sockets)
	}
	slices.Sort(all)
	return all
}

// out is how many people want to be connected and are not.
func (c *crowd) out() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.homeless
}

func (c *crowd) endings(cause app.Cause) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[cause]
}
