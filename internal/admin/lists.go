package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/store"
)

// What the server has is listed in a stable order, so that two lists can be
// compared and a person finds a thing where it was.

func (d *door) status(*visit) (any, error) {
	s, w := d.House.Status(), d.Store.Wishes()
	s.UptimeSeconds = time.Since(s.Started).Seconds()
	s.Started = s.Started.UTC()
	s.Apps, s.Services, s.Versions = len(w.Apps), len(w.Services), len(w.Versions)
	for _, i := range d.Control.Instances() {
		s.Instances++
		s.Sockets += i.Sockets
	}
	for _, o := range w.Operations {
		if o.Stage != app.StageDone {
			s.Operations++
		}
	}
	return s, nil
}

func (d *door) services(a *visit) (any, error) {
	f, err := a.filter()
	if err != nil {
		return nil, err
	}
	w, status := d.Store.Wishes(), d.House.Status()
	byService := versionsOf(w)
	list := []Service{}
	for k, s := range w.Services {
		if !f.matches(k.Version(f.Version), f.Instance) {
			continue
		}
		list = append(list, serviceOf(s, byService[k], status))
	}
	slices.SortFunc(list, func(a, b Service) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Service, b.Service)) })
	return struct {
		Services []Service `json:"services"`
	}{list}, nil
}

func (d *door) service(a *visit) (any, error) {
	w, k := d.Store.Wishes(), a.key().ServiceKey()
	s, ok := w.Services[k]
	if !ok {
		return nil, missing("service", k.String())
	}
	answer := serviceOf(s, versionsOf(w)[k], d.House.Status())
	for _, p := range s.Past {
		answer.Past = append(answer.Past, splitOf(p))
	}
	return answer, nil
}

// versionsOf are the ids of each service's versions, sorted.
func versionsOf(w store.Wishes) map[app.ServiceKey][]string {
	by := map[app.ServiceKey][]string{}
	for k := range w.Versions {
		by[k.ServiceKey()] = append(by[k.ServiceKey()], k.Version)
	}
	for _, ids := range by {
		slices.Sort(ids)
	}
	return by
}

func (d *door) versions(a *visit) (any, error) {
	f, err := a.filter()
	if err != nil {
		return nil, err
	}
	w, status, running := d.Store.Wishes(), d.House.Status(), d.running()
	list := []Version{}
	for k, v := range w.Versions {
		if f.matches(k, f.Instance) {
			list = append(list, versionOf(v, w.Services[k.ServiceKey()].Split, running[k], status))
		}
	}
	slices.SortFunc(list, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Service, b.Service), b.Created.Compare(a.Created), cmp.Compare(a.Version, b.Version))
	})
	return struct {
		Versions []Version `json:"versions"`
	}{list}, nil
}

func (d *door) version(a *visit) (any, error) {
	w, k := d.Store.Wishes(), a.key()
	v, ok := w.Versions[k]
	if !ok {
		return nil, missing("version", k.String())
	}
	answer := versionOf(v, w.Services[k.ServiceKey()].Split, d.running()[k], d.House.Status())
	answer.Env = maps.Clone(v.Env)
	return answer, nil
}

// running is what runs, by version.
func (d *door) running() map[app.Key][]control.Instance {
	by := map[app.Key][]control.Instance{}
	for _, i := range d.Control.Instances() {
		by[i.Key] = append(by[i.Key], i)
	}
	return by
}

func (d *door) instances(a *visit) (any, error) {
	f, err := a.filter()
	if err != nil {
		return nil, err
	}
	list := []Instance{}
	for _, i := range d.Control.Instances() {
		if f.matches(i.Key, i.ID) {
			list = append(list, instanceOf(i))
		}
	}
	slices.SortFunc(list, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version),
			a.Born.Compare(b.Born), cmp.Compare(a.ID, b.ID))
	})
	return struct {
		Instances []Instance `json:"instances"`
	}{list}, nil
}

func (d *door) instance(a *visit) (any, error) {
	for _, i := range d.Control.Instances() {
		if i.ID == a.PathValue("id") {
			return instanceOf(i), nil
		}
	}
	return nil, missing("instance", a.PathValue("id"))
}

func (d *door) operations(a *visit) (any, error) {
	f, err := a.filter()
	if err != nil {
		return nil, err
	}
	list := []Operation{}
	for _, o := range d.Store.Wishes().Operations {
		if f.matches(o.Target, o.Instance) && (!f.Pending || o.Stage != app.StageDone) {
			list = append(list, operationOf(o))
		}
	}
	slices.SortFunc(list, func(a, b Operation) int { return cmp.Compare(b.ID, a.ID) })
	return struct {
		Operations []Operation `json:"operations"`
	}{list}, nil
}

// operation answers at once, or with wait when the stage is another than the
// one the client knows.
func (d *door) operation(a *visit) (any, error) {
	wait, err := a.duration("wait", waitMax)
	if err != nil {
		return nil, err
	}
	known := app.Stage(a.URL.Query().Get("stage"))
	if wait > 0 {
		leave, err := place(d.waiters, "requests that wait")
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	enough := time.NewTimer(wait)
	defer enough.Stop()
	for first := true; ; first = false {
		changed := d.Store.Changed()
		o, ok := d.Store.Wishes().Operations[a.PathValue("id")]
		if !ok {
			return nil, missing("operation", a.PathValue("id"))
		}
		if first && known == "" {
			known = o.Stage
		}
		if wait == 0 || o.Stage == app.StageDone || o.Stage != known {
			return operationOf(o), nil
		}
		select {
		case <-changed:
		case <-enough.C:
			return operationOf(o), nil
		case <-d.cfg.Goodbye:
			return nil, &Error{Kind: KindUnavailable, Retry: retryAfter, Message: "the server is ending", Next: "Ask again when it has started; operations go on then."}
		case <-a.Context().Done():
			return nil, a.Context().Err()
		}
	}
}

func (d *door) dispatch(a *visit) (any, error) {
	project, ok := d.Store.Wishes().Apps[a.PathValue("app")]
	if !ok {
		return nil, missing("application", a.PathValue("app"))
	}
	return rulesOf(project.Dispatch), nil
}

func missing(what, name string) error {
	return fmt.Errorf("%s %s: %w", what, shown(name), app.ErrNotFound)
}
