package admin

import (
	"maps"
	"math"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/logs"
	"holdfast/internal/tunnel"
)

// Our words for app's. Times are in UTC; a zero one stays zero.

func serviceOf(s app.Service, versions []string, status Status) Service {
	if versions == nil {
		versions = []string{}
	}
	return Service{
		App: s.App, Service: s.Name, Split: splitOf(s.Split), Versions: versions, Created: s.CreatedAt.UTC(),
		Hosts: hostsOf(app.Key{App: s.App, Service: s.Name}, status),
	}
}

func splitOf(s app.Split) Split {
	shares := maps.Clone(s.Shares)
	if shares == nil {
		shares = map[string]float64{}
	}
	return Split{By: string(s.By), Shares: shares}
}

func versionOf(v app.Version, split app.Split, running []control.Instance, status Status) Version {
	w := Version{
		App: v.App, Service: v.Service, Version: v.Version,
		Serving: v.Serving, Share: split.Shares[v.Version],
		Built: v.Artifact.ID != "", Build: v.Artifact.ID, Source: v.Source,
		Runtime: v.Recipe.Runtime, Entrypoint: v.Recipe.Entrypoint, Created: v.CreatedAt.UTC(),
		Scaling: scalingOf(v.Scaling), Resources: Resources{v.Resources.CPU, v.Resources.MemoryGB, v.Resources.DiskGB},
		DrainSeconds: v.Drain.Seconds(), MaxAgeSeconds: v.MaxAge.Seconds(), Affinity: v.Affinity,
		Hosts: hostsOf(v.Key, status),
	}
	for _, i := range running {
		w.Sockets += i.Sockets
		if i.State != app.Stopped {
			w.Running++
		}
		if i.State == app.Ready {
			w.Ready++
		}
	}
	return w
}

func scalingOf(s app.Scaling) Scaling {
	return Scaling{Manual: s.Manual, Min: s.Min, Max: s.Max, CoolDownSeconds: s.CoolDown.Seconds(), CPU: s.CPU, Connections: s.Connections}
}

func instanceOf(i control.Instance) Instance {
	if math.IsNaN(i.CPU) || math.IsInf(i.CPU, 0) { // no JSON has them
		i.CPU = 0
	}
	return Instance{
		ID: i.ID, App: i.Key.App, Service: i.Key.Service, Version: i.Key.Version, Addr: i.Addr,
		State: i.State.String(), Cause: string(i.Cause), Since: i.Since.UTC(), Born: i.Born.UTC(), Until: i.Until.UTC(),
		Sockets: i.Sockets, Requests: i.Requests, CPU: i.CPU, Detail: i.Detail,
	}
}

func operationOf(o app.Operation) Operation {
	w := Operation{
		ID: o.ID, Verb: string(o.Verb), App: o.Target.App, Service: o.Target.Service, Version: o.Target.Version,
		Instance: o.Instance, By: o.By, Stage: string(o.Stage),
		Asked: o.Asked.UTC(), Deadline: o.Deadline.UTC(), Ended: o.Ended.UTC(),
	}
	w.Drill = drillOf(o.Drill)
	if o.Split != nil {
		s := splitOf(*o.Split)
		w.Split = &s
	}
	if f := o.Failure; f != nil {
		w.Failure = &Failure{Cause: string(f.Cause), Instance: f.Instance, Detail: f.Detail, Next: f.Next, Tail: f.Tail}
	}
	return w
}

func rulesOf(rules []app.DispatchRule) dispatchRules {
	w := dispatchRules{Rules: []DispatchRule{}}
	for _, r := range rules {
		w.Rules = append(w.Rules, DispatchRule(r))
	}
	return w
}

func socketOf(s tunnel.Status) Socket {
	traffic := func(t tunnel.Traffic) Traffic { return Traffic{t.Bytes, t.Text, t.Binary} }
	return Socket{
		ID: s.ID, App: s.Key.App, Service: s.Key.Service, Version: s.Key.Version, Instance: s.Instance, Client: s.Client, Affinity: s.Affinity.String(),
		Opened: s.Opened.UTC(), Deadline: s.Deadline.UTC(), IdleSeconds: s.Idle.Seconds(), RoundTripSeconds: s.RoundTrip.Seconds(),
		FromClient: traffic(s.FromClient), FromInstance: traffic(s.FromInstance), Leaving: string(s.Leaving),
	}
}

func lineOf(e logs.Entry) LogLine {
	return LogLine{
		Time: e.Time.UTC(), App: e.Key.App, Service: e.Key.Service, Version: e.Key.Version, Instance: e.Instance,
		Stream: string(e.Stream), Level: e.Level.String(), Text: e.Text,
	}
}

// hostsOf are the host names that lead to a version, or to a service where the
// version is "": one for each base domain, as
// [VERSION-dot-][SERVICE-dot-]PROJECT.REGION.r.DOMAIN.
func hostsOf(k app.Key, s Status) []string {
	name := k.App
	// A version of the default service names it too: alone it might be taken
	// for a service.
	if k.Service != app.DefaultService || k.Version != "" {
		name = k.Service + "-dot-" + name
	}
	if k.Version != "" {
		name = k.Version + "-dot-" + name
	}
	var hosts []string
	for _, domain := range s.Domains {
		host := name
		if s.Region != "" {
			host += "." + s.Region + ".r"
		}
		hosts = append(hosts, host+"."+domain)
	}
	return hosts
}

// seconds is a duration of a number that came from outside, and false for what
// is none: negative, endless or no number.
func seconds(s float64) (time.Duration, bool) {
	if !(s >= 0 && s <= math.MaxInt64/1e9-1) {
		return 0, false
	}
	return time.Duration(s * float64(time.Second)), true
}
