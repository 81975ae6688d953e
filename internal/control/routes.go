package control

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/router"
)

// Router is what control needs of the data plane: one value down, one value up;
// and the two ways to speak of single sockets.
type Router interface {
	Set(router.Routes)
	Load() map[string]router.Load

	// Busy is how many of the instance's sockets are in use. It may be called
	// with locks held.
	Busy(instance string) int

	// Shed closes at most n of the instance's sockets, the idlest, for cause, and
	// returns how many.
	Shed(instance string, n int, cause app.Cause) int

	// Expire closes those of a share of the version's sockets whose hour is over, if
	// it had passed within so long since then, and returns how many. It is
	// called again and again.
	Expire(k app.Key, share float64, since time.Time, within time.Duration) int
}

// routesLocked builds what the router should know now: every instance in every
// state, also of versions that leave, because they may still carry sockets.
func (c *Controller) routesLocked(now time.Time) router.Routes {
	apps := map[string]router.App{}
	service := func(k app.ServiceKey) router.Service {
		if apps[k.App].Services == nil {
			a := c.wishes.Apps[k.App]
			apps[k.App] = router.App{Services: map[string]router.Service{}, Dispatch: a.Dispatch, Firewall: a.Firewall}
		}
		s, ok := apps[k.App].Services[k.Service]
		if !ok {
			s = router.Service{Split: c.wishes.Services[k].Split, Pools: map[string]router.Pool{}}
			apps[k.App].Services[k.Service] = s
		}
		return s
	}
	for k, s := range c.wishes.Services {
		if len(s.Split.Shares) == 0 {
			continue // nothing of it was ever served
		}
		pools := service(k).Pools
		for v := range s.Split.Shares { // also of what was stopped with its share, and has gone
			pools[v] = router.Pool{Stopped: !c.wishes.Versions[k.Version(v)].Serving}
		}
	}
	for k, v := range c.versions {
		service(k.ServiceKey()).Pools[k.Version] = router.Pool{Stopped: !c.wishes.Versions[k].Serving, Affinity: v.Affinity, Sticky: v.Sticky, Forget: c.forgetLocked(now, k.ServiceKey()), Target: v.Scaling.Connections, BodyMax: v.MaxBody, Sockets: v.Sockets}
	}
	for _, i := range c.sortedLocked() {
		if i.Addr == "" {
			continue // the driver has not listed it yet
		}
		pools := service(i.Key.ServiceKey()).Pools
		pool := pools[i.Key.Version]
		pool.Instances = append(pool.Instances, i.Instance)
		pools[i.Key.Version] = pool
	}
	return router.Routes{Apps: apps, Domains: c.domainsLocked(), Default: c.defaultRoute(apps)}
}

// domainsLocked is where mapped host names lead: each to one application, the
// first by name if several have it.
func (c *Controller) domainsLocked() map[string]string {
	var domains map[string]string
	for project, a := range c.wishes.Apps {
		for _, d := range a.Domains {
			if other, taken := domains[d]; taken && other < project {
				continue
			}
			if domains == nil {
				domains = map[string]string{}
			}
			domains[d] = project
		}
	}
	return domains
}

// defaultRoute is the configured one, or the only service there is, or the
// default service of the only app.
func (c *Controller) defaultRoute(apps map[string]router.App) router.Default {
	d := router.Default{App: c.cfg.App, Service: c.cfg.Service}
	if d.App == "" && len(apps) == 1 {
		for d.App = range apps {
		}
	}
	if services := apps[d.App].Services; d.Service == "" && d.App != "" {
		d.Service = app.DefaultService
		if len(services) == 1 {
			for d.Service = range services {
			}
		}
	}
	return d
}

// sortedLocked is all instances, by id.
func (c *Controller) sortedLocked() []*instance {
	all := make([]*instance, 0, len(c.instances))
	for _, i := range c.instances {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *instance) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
