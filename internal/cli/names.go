package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

// Names on the command line are as short as they can be: a service is SERVICE,
// a version VERSION or SERVICE/VERSION, and either may begin with PROJECT/. An
// application's name stands for its default service. What is meant is what
// exists; two that exist are an error that names both.

// services are those of the project that was said, or of all.
func (r *remote) services(ctx context.Context) ([]admin.Service, error) {
	return r.Services(ctx, admin.Filter{App: r.project})
}

// service finds the service that a name means.
func (r *remote) service(ctx context.Context, name string) (app.ServiceKey, error) {
	all, err := r.services(ctx)
	if err != nil {
		return app.ServiceKey{}, err
	}
	return pickService(all, name)
}

// onlyService is the service that the argument names, or the only one where
// there is no argument.
func (r *remote) onlyService(ctx context.Context, args []string) (app.ServiceKey, error) {
	all, err := r.services(ctx)
	switch {
	case err != nil:
		return app.ServiceKey{}, err
	case len(args) > 0:
		return pickService(all, args[0])
	case len(all) == 1:
		return app.ServiceKey{App: all[0].App, Service: all[0].Service}, nil
	}
	names := each(all, func(s admin.Service) string { return s.App + "/" + s.Service })
	return app.ServiceKey{}, misuse{fmt.Errorf("name the service; there are %s: %s", count(len(all), "service"), strings.Join(names, ", "))}
}

// pickService is service, among all.
func pickService(all []admin.Service, name string) (app.ServiceKey, error) {
	found := map[app.ServiceKey]bool{}
	names := map[string]bool{}
	for _, s := range all {
		k := app.ServiceKey{App: s.App, Service: s.Service}
		names[s.Service], names[s.App] = true, true
		if name == k.String() || name == s.Service || name == s.App && s.Service == app.DefaultService {
			found[k] = true
		}
	}
	keys := slices.SortedFunc(maps.Keys(found), func(a, b app.ServiceKey) int { return strings.Compare(a.String(), b.String()) })
	switch len(keys) {
	case 1:
		return keys[0], nil
	case 0:
		return app.ServiceKey{}, &problem{
			what: fmt.Sprintf("there is no service %s", name), err: app.ErrNotFound,
			next: spelling.DidYouMean(name, maps.Keys(names), "holdfast services lists them."),
		}
	}
	return app.ServiceKey{}, ambiguous("service", name, keys)
}

// version finds the version that a name means; service narrows it down, "" does
// not.
func (r *remote) version(ctx context.Context, service, name string) (app.Key, error) {
	f := admin.Filter{App: r.project}
	if service != "" {
		k, err := r.service(ctx, service)
		if err != nil {
			return app.Key{}, err
		}
		f.App, f.Service = k.App, k.Service
	}
	all, err := r.Versions(ctx, f)
	if err != nil {
		return app.Key{}, err
	}
	return pickVersion(all, name)
}

// pickVersion is version, among all.
func pickVersion(all []admin.Version, name string) (app.Key, error) {
	var found []app.Key
	ids := map[string]bool{}
	for _, v := range all {
		k := app.Key{App: v.App, Service: v.Service, Version: v.Version}
		ids[v.Version] = true
		if name == v.Version || name == v.Service+"/"+v.Version || name == k.String() ||
			v.Service == app.DefaultService && name == v.App+"/"+v.Version {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return app.Key{}, &problem{
			what: fmt.Sprintf("there is no version %s", name), err: app.ErrNotFound,
			next: spelling.DidYouMean(name, maps.Keys(ids), "holdfast versions lists them."),
		}
	}
	return app.Key{}, ambiguous("version", name, found)
}

// ambiguous is the error of a name that several things have.
func ambiguous[K fmt.Stringer](what, name string, keys []K) error {
	var all []string
	for _, k := range keys {
		all = append(all, k.String())
	}
	slices.Sort(all)
	return &problem{
		what: fmt.Sprintf("%s may be any of several %ss: %s", name, what, strings.Join(all, ", ")), err: app.ErrInvalid,
		next: "Write it whole, or say which application with --project.",
	}
}

// narrow is the filter of the flags --service, --version and --instance.
type narrow struct{ service, version, instance string }

// filter makes the filter that the flags mean.
func (r *remote) filter(ctx context.Context, n narrow) (admin.Filter, error) {
	f := admin.Filter{App: r.project, Version: n.version, Instance: n.instance}
	if strings.Contains(n.version, "/") {
		k, err := r.version(ctx, n.service, n.version)
		return admin.Filter{App: k.App, Service: k.Service, Version: k.Version, Instance: n.instance}, err
	}
	if n.service != "" {
		k, err := r.service(ctx, n.service)
		if err != nil {
			return f, err
		}
		f.App, f.Service = k.App, k.Service
	}
	return f, nil
}

// theProject is the application that is meant where none is named: the one that
// was said, the server's, or the only one.
func (r *remote) theProject(ctx context.Context) (string, error) {
	if r.project != "" {
		return r.project, nil
	}
	status, err := r.Status(ctx)
	if err != nil || status.Project != "" {
		return status.Project, err
	}
	all, err := r.services(ctx)
	if err != nil {
		return "", err
	}
	apps := map[string]bool{}
	for _, s := range all {
		apps[s.App] = true
	}
	names := slices.Sorted(maps.Keys(apps))
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", &problem{what: "there is no application yet", next: "Deploy one: holdfast deploy DIR", err: app.ErrNotFound}
	}
	return "", &problem{what: "there are several applications: " + strings.Join(names, ", "), next: "Say which one with --project.", err: app.ErrInvalid}
}
