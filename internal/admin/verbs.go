package admin

import (
	"math"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/control"
)

// splitMax bounds how many versions share a service's traffic: each is looked
// at for every new connection.
const splitMax = 50

// accepted turns what control answers into what is told.
func accepted(o app.Operation, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return operationOf(o), nil
}

func (d *door) setTraffic(a *visit) (any, error) {
	var s Split
	if err := a.body(&s, bodyMax); err != nil {
		return nil, err
	}
	k := a.key().ServiceKey()
	service, ok := d.Store.Wishes().Services[k]
	if !ok {
		return nil, missing("service", k.String())
	}
	split, err := s.app(service.Split.By)
	if err != nil {
		return nil, err
	}
	return accepted(d.Control.SetTraffic(k, split, a.by))
}

// app is the split with shares that sum to 1. otherwise is what decides where
// it does not say.
func (s Split) app(otherwise app.SplitBy) (app.Split, error) {
	by := app.SplitBy(s.By)
	switch by {
	case app.ByIP, app.ByCookie, app.ByRandom:
	case "":
		if by = otherwise; by == "" {
			by = app.ByIP
		}
	default:
		return app.Split{}, invalid("traffic cannot be split by %s: want ip, cookie or random", shown(s.By))
	}
	sum := 0.0
	for version, share := range s.Shares {
		if !(share >= 0) || math.IsInf(share, 0) {
			return app.Split{}, invalid("the share of %s is %v: want a number that is not negative", shown(version), share)
		}
		sum += share
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return app.Split{}, invalid("no version gets any traffic: want at least one with a share above zero")
	}
	out := app.Split{By: by, Shares: map[string]float64{}}
	for version, share := range s.Shares {
		if share /= sum; share > 0 {
			out.Shares[version] = share
		}
	}
	if len(out.Shares) > splitMax {
		return app.Split{}, invalid("%d versions would share the traffic: want at most %d", len(out.Shares), splitMax)
	}
	return out, nil
}

func (d *door) rollback(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.Rollback(a.key().ServiceKey(), a.by))
}

func (d *door) deleteService(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.DeleteService(a.key().ServiceKey(), a.by))
}

func (d *door) startVersion(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.StartVersion(a.key(), a.by))
}

func (d *door) stopVersion(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.StopVersion(a.key(), a.by))
}

func (d *door) deleteVersion(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.DeleteVersion(a.key(), a.by))
}

func (d *door) setScaling(a *visit) (any, error) {
	var change ScalingChange
	if err := a.body(&change, bodyMax); err != nil {
		return nil, err
	}
	k := a.key()
	v, ok := d.Store.Wishes().Versions[k]
	if !ok {
		return nil, missing("version", k.String())
	}
	s, err := change.apply(v.Scaling)
	if err != nil {
		return nil, err
	}
	return accepted(d.Control.SetScaling(k, s, a.by))
}

// apply is the scaling after the change.
func (c ScalingChange) apply(s app.Scaling) (app.Scaling, error) {
	others := c.Min != nil || c.Max != nil || c.CoolDownSeconds != nil || c.CPU != nil || c.Connections != nil
	switch {
	case c.Instances != nil && others:
		return s, invalid("instances is manual scaling, the others are automatic scaling: want one of both")
	case c.Instances != nil:
		s = app.Scaling{Manual: true, Min: *c.Instances, Max: *c.Instances}
		return s, appyaml.CheckScaling(s)
	case !others:
		return s, invalid("nothing is to be changed")
	}
	if s.Manual {
		s = appyaml.DefaultScaling() // what the change does not say
	}
	set := func(to *int, n *int) {
		if n != nil {
			*to = *n
		}
	}
	set(&s.Min, c.Min)
	set(&s.Max, c.Max)
	set(&s.Connections, c.Connections)
	if c.CPU != nil {
		s.CPU = *c.CPU
	}
	if c.CoolDownSeconds != nil {
		d, ok := seconds(*c.CoolDownSeconds)
		if !ok {
			return s, invalid("cool_down_seconds is %v: want seconds", *c.CoolDownSeconds)
		}
		s.CoolDown = d
	}
	return s, appyaml.CheckScaling(s)
}

func (d *door) restartInstance(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.RestartInstance(a.PathValue("id"), a.by))
}

func (d *door) deleteInstance(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.DeleteInstance(a.PathValue("id"), a.by))
}

func (d *door) setDispatch(a *visit) (any, error) {
	var w dispatchRules
	if err := a.body(&w, bodyMax); err != nil {
		return nil, err
	}
	if w.Rules == nil {
		return nil, &Error{Kind: KindInvalid, Message: "the request has no rules", Next: "Send an empty list to remove them all."}
	}
	project := a.PathValue("app")
	wishes := d.Store.Wishes()
	if _, ok := wishes.Apps[project]; !ok {
		return nil, missing("application", project)
	}
	var services []string
	for k := range wishes.Services {
		if k.App == project {
			services = append(services, k.Service)
		}
	}
	var rules []app.DispatchRule
	for _, r := range w.Rules {
		if r.Host == "" {
			r.Host = "*"
		}
		rules = append(rules, app.DispatchRule(r))
	}
	if err := appyaml.CheckDispatch(rules, services); err != nil {
		return nil, err
	}
	return accepted(d.Control.SetDispatch(project, rules, a.by))
}

func (d *door) cancel(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return accepted(d.Control.Cancel(a.PathValue("id"), a.by))
}

// deploy reads app.yaml, whose authority the server is, and has control deploy
// what comes of it.
func (d *door) deploy(a *visit) (any, error) {
	var w DeployRequest
	if err := a.body(&w, bodyMax); err != nil {
		return nil, err
	}
	v, warnings, err := appyaml.Parse("app.yaml", []byte(w.YAML))
	if err != nil {
		return nil, err
	}
	overlay := appyaml.Overlay{Service: w.Service, Env: w.Env, Instances: w.Instances}
	if err := overlay.Apply(&v); err != nil {
		return nil, err
	}
	v.App, v.Version, v.Source = a.PathValue("app"), w.Version, w.Tree
	named := v.Key
	if named.Version == "" {
		named.Version = "v0123456789" // as long as the name that it will get
	}
	if err := appyaml.CheckKey(named); err != nil {
		return nil, err
	}
	if w.KeepOthers && !w.Promote {
		return nil, invalid("keep_others is about promoting, which is not asked for")
	}
	if _, err := d.Sources.Tree(w.Tree); err != nil {
		return nil, err
	}
	o, err := d.Control.Deploy(control.Deployment{Version: v, Promote: w.Promote, KeepOthers: w.KeepOthers, By: a.by})
	if err != nil {
		return nil, err
	}
	answer := DeployAnswer{Operation: operationOf(o)}
	for _, warning := range warnings {
		answer.Warnings = append(answer.Warnings, warning.String())
	}
	return answer, nil
}
