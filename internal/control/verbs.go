package control

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// dispatchMost is how many dispatch rules an application may have, as on App
// Engine.
const dispatchMost = 20

// SetTraffic shares a service's traffic among its versions; By "" keeps what
// decides now. Stopped versions are started. It happens in one instant: now, if
// all that get traffic anew have as many ready as they want, else when they do.
// Versions that lose their share go on serving.
func (c *Controller) SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbTraffic, Target: k.Version(""), By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if err := knownService(*w, k); err != nil {
			return err
		}
		return share(w, op, s)
	})
}

// Rollback gives a service the latest of its splits before this one, as
// SetTraffic would. A second one leads back again.
func (c *Controller) Rollback(k app.ServiceKey, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbRollback, Target: k.Version(""), By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if err := knownService(*w, k); err != nil {
			return err
		}
		s := w.Services[k]
		n := slices.IndexFunc(s.Past, func(past app.Split) bool { return !sameSplit(past, s.Split) })
		if n < 0 {
			return fmt.Errorf("traffic was never shared otherwise: %w", app.ErrNotFound)
		}
		return share(w, op, s.Past[n])
	})
}

// share is what SetTraffic and Rollback have in common.
func share(w *store.Wishes, op *app.Operation, to app.Split) error {
	k := op.Target.ServiceKey()
	if err := free(*w, k); err != nil {
		return err
	}
	to, err := checked(to, w.Services[k].Split)
	if err != nil {
		return err
	}
	for _, id := range to.Versions() {
		if _, ok := w.Versions[k.Version(id)]; !ok {
			return fmt.Errorf("version %s does not exist: %w", id, app.ErrNotFound)
		}
	}
	op.Split = &to
	serve(w, op, to.Versions()...)
	return nil
}

// sumSlack is how far shares may be from summing to 1: they are decimals that
// people wrote, and a third has none.
const sumSlack = 0.0051

// checked is a split that is in order, its shares summing to 1.
func checked(s, before app.Split) (app.Split, error) {
	switch s.By {
	case app.ByIP, app.ByCookie, app.ByRandom:
	case "":
		if s.By = before.By; s.By == "" {
			s.By = app.ByIP
		}
	default:
		return s, fmt.Errorf("traffic is split by ip, cookie or random, not by %q: %w", s.By, app.ErrInvalid)
	}
	shares, sum := map[string]float64{}, 0.0
	for v, share := range s.Shares {
		if !(share >= 0 && share <= 1) {
			return s, fmt.Errorf("the share of %s is %g, and must be from 0 to 1: %w", v, share, app.ErrInvalid)
		}
		if share > 0 {
			shares[v] = share
			sum += share
		}
	}
	if math.Abs(sum-1) > sumSlack {
		return s, fmt.Errorf("the shares%s sum to %g %%, not 100: %w", shared(s), sum*100, app.ErrInvalid)
	}
	if math.Abs(sum-1) > 1e-9 {
		for v := range shares {
			shares[v] /= sum
		}
	}
	s.Shares = shares
	return s, nil
}

// StartVersion has a stopped version serve again, without traffic. One that
// serves is waited for until it is ready.
func (c *Controller) StartVersion(k app.Key, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbStart, Target: k, By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if err := knownVersion(*w, k); err != nil {
			return err
		}
		if err := free(*w, k.ServiceKey()); err != nil {
			return err
		}
		serve(w, op, k.Version)
		return nil
	})
}

// StopVersion ends a version's serving; its instances drain, and it can be
// started again. It keeps its share of the traffic, which is refused meanwhile,
// as on App Engine. One that an operation needs is app.ErrBusy. To stop a stopped
// one succeeds.
func (c *Controller) StopVersion(k app.Key, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbStop, Target: k, By: by, Stop: []string{k.Version}}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		if err := knownVersion(*w, k); err != nil {
			return err
		}
		return unneeded(*w, k)
	})
}

// DeleteVersion removes a version; its instances drain. One that gets traffic,
// that an operation needs, or the last one of the default service is
// app.ErrBusy.
func (c *Controller) DeleteVersion(k app.Key, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbDelete, Target: k, By: by}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		if err := spare(*w, k); err != nil {
			return err
		}
		others := 0
		for other := range w.Versions {
			if other.ServiceKey() == k.ServiceKey() && other != k {
				others++
			}
		}
		if others == 0 && k.Service == app.DefaultService {
			return fmt.Errorf("it is the last version of the default service, which every application has; deploy another first: %w", app.ErrBusy)
		}
		delete(w.Versions, k)
		if others == 0 {
			delete(w.Services, k.ServiceKey())
		}
		return nil
	})
}

// spare says why a version cannot be done without.
func spare(w store.Wishes, k app.Key) error {
	if err := knownVersion(w, k); err != nil {
		return err
	}
	if split := w.Services[k.ServiceKey()].Split; split.Shares[k.Version] > 0 {
		return fmt.Errorf("it gets traffic:%s; move that first, with: holdfast traffic set %s OTHER=100: %w", shared(split), k.Service, app.ErrBusy)
	}
	return unneeded(w, k)
}

// DeleteService removes a service and all its versions; their instances drain.
// The default service is app.ErrBusy, as is one with an operation under way.
func (c *Controller) DeleteService(k app.ServiceKey, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbDelete, Target: k.Version(""), By: by}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		if err := knownService(*w, k); err != nil {
			return err
		}
		if k.Service == app.DefaultService {
			return fmt.Errorf("every application has its default service: %w", app.ErrBusy)
		}
		if err := free(*w, k); err != nil {
			return err
		}
		maps.DeleteFunc(w.Versions, func(v app.Key, _ app.Version) bool { return v.ServiceKey() == k })
		delete(w.Services, k)
		return nil
	})
}

// SetScaling changes how many instances a version has, until the next deploy of
// it says otherwise.
func (c *Controller) SetScaling(k app.Key, s app.Scaling, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbScale, Target: k, By: by}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		if err := knownVersion(*w, k); err != nil {
			return err
		}
		if s.Min < 1 || s.Max < s.Min {
			return fmt.Errorf("from %d to %d instances: at least one, and not fewer at most than at least: %w", s.Min, s.Max, app.ErrInvalid)
		}
		v := w.Versions[k]
		v.Scaling = s
		w.Versions[k] = v
		return nil
	})
}

// SetDispatch replaces an application's dispatch rules. A rule for a service
// that does not exist is app.ErrInvalid.
func (c *Controller) SetDispatch(project string, rules []app.DispatchRule, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbDispatch, Target: app.Key{App: project}, By: by}
	return c.ask(op, func(w *store.Wishes, _ *app.Operation) error {
		application, ok := w.Apps[project]
		if !ok {
			return fmt.Errorf("nothing of this application was deployed yet: %w", app.ErrNotFound)
		}
		if len(rules) > dispatchMost {
			return fmt.Errorf("%d rules are more than %d: %w", len(rules), dispatchMost, app.ErrInvalid)
		}
		for _, rule := range rules {
			if _, ok := w.Services[app.ServiceKey{App: project, Service: rule.Service}]; !ok {
				return fmt.Errorf("rule for %s%s: there is no service %s; deploy it first: %w", rule.Host, rule.Path, rule.Service, app.ErrInvalid)
			}
		}
		application.Dispatch = slices.Clone(rules)
		w.Apps[project] = application
		return nil
	})
}

func knownService(w store.Wishes, k app.ServiceKey) error {
	if _, ok := w.Services[k]; !ok {
		return app.ErrNotFound
	}
	return nil
}

func knownVersion(w store.Wishes, k app.Key) error {
	if _, ok := w.Versions[k]; !ok {
		return app.ErrNotFound
	}
	return nil
}
