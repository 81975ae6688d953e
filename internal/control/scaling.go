package control

import (
	"time"

	"holdfast/internal/app"
)

// scaleLocked brings to date how many instances of a version that serves there
// should be, by what was just observed.
func (c *Controller) scaleLocked(now time.Time, v *version) {
	before := v.want
	v.want, v.load = scale(now, v.Scaling, v.Resources.CPU, v.load, v.gaugesLocked())
	if before == 0 || before == v.want {
		return
	}
	if counted := c.countLocked(v.Key, now); v.want > before {
		counted.ups++
	} else {
		counted.downs++
	}
	attrs := []any{"app", v.App, "service", v.Service, "version", v.Version.Version, "from", before, "to", v.want}
	if n := len(v.load.Needs); n > 0 {
		attrs = append(attrs, "needed", v.load.Needs[n-1].Least, "most", v.load.Needs[n-1].Most)
	}
	c.log.Info("scale", attrs...)
}

// gaugesLocked is what the scaler should know of the version's instances.
func (v *version) gaugesLocked() (all []gauge) {
	for _, i := range v.all {
		if i.State != app.Stopped {
			all = append(all, gauge{i.ID, i.Born, i.State < app.Draining, i.load, i.used})
		}
	}
	return all
}

// busyLocked asks how many of an instance's sockets are in use, if several are
// ready and not all of them may stay: each socket has to be looked at for that.
func (c *Controller) busyLocked(k app.Key, want int) map[string]int {
	if c.readyLocked(c.versions[k].Version) <= want {
		return nil
	}
	busy := map[string]int{}
	for _, i := range c.versions[k].all {
		if i.State == app.Ready {
			busy[i.ID] = c.router.Busy(i.ID)
		}
	}
	return busy
}

// rebalanceLocked moves the next portion of sockets, for a version that asks for
// it. With session affinity their clients would come back to where they were.
func (c *Controller) rebalanceLocked(now time.Time, wished app.Version) []func() {
	v := c.versionLocked(wished.Key)
	if !wished.Rebalance || wished.Affinity || now.Before(v.shed.Add(shedEvery)) {
		return nil
	}
	var all []weight
	for _, i := range v.all {
		if !i.stopping && !i.sick {
			all = append(all, weight{i.ID, i.State, i.Born, i.Since, i.sockets})
		}
	}
	s := rebalance(now, all)
	if s.N == 0 {
		return nil
	}
	if now.Sub(v.shed) > freshFor {
		c.log.Info("rebalance", "app", wished.App, "service", wished.Service, "version", wished.Version, "instance", s.Instance)
	}
	v.shed = now
	return []func(){func() {
		n := c.router.Shed(s.Instance, s.N, app.Rebalanced)
		c.log.Debug("shed", "instance", s.Instance, "sockets", n)
	}}
}

// measureNextLocked is when a version is worth another look for its load alone;
// the zero time if it is not.
func (c *Controller) measureNextLocked(now time.Time, wished app.Version, v *version) (next time.Time) {
	next = v.load.next() // the zero time where nothing scales
	if !wished.Rebalance || wished.Affinity {
		return next
	}
	for _, i := range v.all {
		if i.State != app.Ready || now.Sub(i.Born) >= freshFor {
			continue
		}
		at := now.Add(sampleEvery) // it may become uneven
		if now.Sub(v.shed) <= 2*shedEvery {
			at = v.shed.Add(shedEvery)
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}
