package control

import (
	"maps"

	"holdfast/internal/app"
)

// ServiceKey names a service of an application.
type ServiceKey struct{ App, Service string }

func serviceOf(k app.Key) ServiceKey { return ServiceKey{k.App, k.Service} }

// Wishes is what was asked for, whole: a plain value that is replaced, never
// changed in place. It lives in memory; whoever wants it to outlive us keeps
// it and hands it to New.
type Wishes struct {
	Versions map[app.Key]app.Version // those that should run, with or without a share
	Services map[ServiceKey]app.Service
}

// with also wants v, without traffic.
func (w Wishes) with(v app.Version) Wishes {
	v.Serving = true
	versions := maps.Clone(w.Versions)
	if versions == nil {
		versions = map[app.Key]app.Version{}
	}
	versions[v.Key] = v
	return Wishes{versions, w.Services}
}

// without does not want the version any more.
func (w Wishes) without(k app.Key) Wishes {
	versions := maps.Clone(w.Versions)
	delete(versions, k)
	return Wishes{versions, w.Services}
}

// moved gives all traffic of its service to the version, and stops the
// service's other versions.
func (w Wishes) moved(k app.Key) Wishes {
	versions := maps.Clone(w.Versions)
	maps.DeleteFunc(versions, func(other app.Key, _ app.Version) bool {
		return other != k && serviceOf(other) == serviceOf(k)
	})
	services := maps.Clone(w.Services)
	if services == nil {
		services = map[ServiceKey]app.Service{}
	}
	by := services[serviceOf(k)].Split.By
	if by == "" {
		by = app.ByIP
	}
	services[serviceOf(k)] = app.Service{App: k.App, Name: k.Service,
		Split: app.Split{By: by, Shares: map[string]float64{k.Version: 1}}}
	return Wishes{versions, services}
}

// want is how many instances of v there should be. Flex never scales to zero.
func want(v app.Version) int { return max(1, v.Scaling.Min) }
