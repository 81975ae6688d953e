package console

import (
	"cmp"
	"net/url"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/journal"
	"holdfast/internal/store"
)

const (
	// servicesShown is how many services are on one page of the overview.
	servicesShown = 20

	// drainsShown is how many instances of a version that leave for the same cause
	// are told of one by one; more are told of together.
	drainsShown = 5

	// cellsSmall is from how many instances of a version on their cells have no
	// numbers in them.
	cellsSmall = 40
)

// overview is every service, and what happens now.
type overview struct {
	Services []serviceLine
	Pager    pager
	Now      []happening
	Sockets  int
	Ready    int
	Running  int
	Rate     float64 // requests a second, of all services
	Failing  float64
	Most     int // sockets that are carried at most; 0: not known
}

type serviceLine struct {
	Key      app.ServiceKey
	Versions []versionLine
	Sockets  int
	Rate     float64
	Failing  float64
	Chart    chart
}

// versionLine is a version and its instances.
type versionLine struct {
	Key       app.Key
	Version   app.Version
	Share     float64
	Serving   bool
	Colour    int // of its part of the traffic bar, 0 to 5
	Instances []control.Instance
	Small     bool
	Ready     int
	Sockets   int
}

// happening is something that goes on.
type happening struct {
	What  string
	Key   app.Key
	Text  string
	Link  string
	Since time.Time
	Until time.Time
	ID    string    // "": several instances that leave
	Cause app.Cause // for which those do
	Done  int       // of Of
	Of    int
}

func (c *console) overview(v *visit) (any, error) {
	wishes, running := c.Store.Wishes(), c.Control.Instances()
	o := overview{Now: c.happening(wishes, running, app.ServiceKey{}), Most: c.About().SocketsMax}
	keys := make([]app.ServiceKey, 0, len(wishes.Services))
	for k := range wishes.Services {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareServices)
	for _, i := range running {
		o.Sockets += i.Sockets
		if i.State == app.Ready {
			o.Ready++
		}
		if i.State != app.Stopped {
			o.Running++
		}
	}
	o.Pager = pagerOf(v, len(keys), servicesShown)
	for _, k := range keys {
		points := c.Journal.Series(k, v.now)
		rate, failing := lately(points)
		o.Rate, o.Failing = o.Rate+rate, o.Failing+failing
	}
	for _, k := range keys[o.Pager.From:o.Pager.To] {
		o.Services = append(o.Services, c.serviceLine(v, k, wishes, running))
	}
	return o, nil
}

func compareServices(a, b app.ServiceKey) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Service, b.Service))
}

func (c *console) serviceLine(v *visit, k app.ServiceKey, wishes store.Wishes, running []control.Instance) serviceLine {
	line := serviceLine{Key: k, Versions: versionLines(k, wishes, running)}
	for _, one := range line.Versions {
		line.Sockets += one.Sockets
	}
	points := c.Journal.Series(k, v.now)
	line.Rate, line.Failing = lately(points)
	line.Chart = chartOf("chart-"+k.App+"-"+k.Service, points)
	return line
}

// versionLines are a service's versions: those with traffic first, then by age.
func versionLines(k app.ServiceKey, wishes store.Wishes, running []control.Instance) []versionLine {
	split := wishes.Services[k].Split
	by := map[app.Key]*versionLine{}
	var all []*versionLine
	at := func(key app.Key) *versionLine {
		if by[key] == nil {
			by[key] = &versionLine{Key: key, Share: split.Shares[key.Version]}
			all = append(all, by[key])
		}
		return by[key]
	}
	for key, version := range wishes.Versions {
		if key.ServiceKey() == k {
			one := at(key)
			one.Version, one.Serving = version, version.Serving
		}
	}
	for _, i := range running {
		if i.Key.ServiceKey() != k {
			continue
		}
		one := at(i.Key)
		one.Instances = append(one.Instances, i)
		one.Sockets += i.Sockets
		if i.State == app.Ready {
			one.Ready++
		}
	}
	slices.SortFunc(all, func(a, b *versionLine) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), b.Version.CreatedAt.Compare(a.Version.CreatedAt), cmp.Compare(a.Key.Version, b.Key.Version))
	})
	// A colour belongs to a version's name, not to its place: it stays when
	// traffic moves.
	names := slices.Sorted(func(yield func(string) bool) {
		for _, one := range all {
			if (one.Share > 0 || one.Serving) && !yield(one.Key.Version) {
				return
			}
		}
	})
	lines := make([]versionLine, 0, len(all))
	for _, one := range all {
		one.Small = len(one.Instances) > cellsSmall
		one.Colour = max(0, slices.Index(names, one.Key.Version)) % 6
		slices.SortStableFunc(one.Instances, func(a, b control.Instance) int { return a.Born.Compare(b.Born) })
		lines = append(lines, *one)
	}
	return lines
}

// lately is what a service carries now: requests and errors a second, over the
// last whole step and the one under way.
func lately(points []journal.Point) (rate, failing float64) {
	last := points[len(points)-2:]
	seconds := journal.Step.Seconds() + time.Since(last[1].Time).Seconds()
	return float64(last[0].Requests+last[1].Requests) / seconds, float64(last[0].Errors+last[1].Errors) / seconds
}

// drain is what instances that leave have in common.
type drain struct {
	key   app.Key
	cause app.Cause
}

// together tells of instances that leave as one.
func (d drain) together(leaving []control.Instance) happening {
	h := happening{What: "drain", Key: d.key, Cause: d.cause, Link: Prefix + "services/" + url.PathEscape(d.key.App) + "/" + url.PathEscape(d.key.Service), Since: leaving[0].Since}
	sockets := 0
	for _, i := range leaving {
		sockets += i.Sockets
		if i.Since.Before(h.Since) {
			h.Since = i.Since
		}
		if i.Until.After(h.Until) {
			h.Until = i.Until
		}
	}
	h.Text = plural(len(leaving), "instance", "instances") + " with " + plural(sockets, "socket", "sockets") + " left, " + string(d.cause)
	return h
}

// happening is what goes on now, in a service or, for the zero key, in all.
func (c *console) happening(wishes store.Wishes, running []control.Instance, of app.ServiceKey) (all []happening) {
	for _, op := range wishes.Operations {
		if op.Stage == app.StageDone || of != (app.ServiceKey{}) && op.Target.ServiceKey() != of {
			continue
		}
		h := happening{What: string(op.Verb), Key: op.Target, ID: op.ID, Since: op.Asked, Until: op.Deadline, Link: Prefix + "timeline?operation=" + url.QueryEscape(op.ID)}
		h.Text = string(op.Stage)
		if op.Drill != nil {
			h.Text, h.Until = string(op.Drill.Fault), op.Drill.Until
		}
		if op.Split != nil {
			for _, i := range running {
				if i.Key.ServiceKey() == op.Target.ServiceKey() && op.Split.Shares[i.Key.Version] > 0 && i.State <= app.Unready {
					h.Of++
					if i.State == app.Ready {
						h.Done++
					}
				}
			}
		}
		all = append(all, h)
	}
	drains := map[drain][]control.Instance{}
	for _, i := range running {
		if i.State == app.Draining && (of == (app.ServiceKey{}) || i.Key.ServiceKey() == of) {
			drains[drain{i.Key, i.Cause}] = append(drains[drain{i.Key, i.Cause}], i)
		}
	}
	for d, leaving := range drains {
		if len(leaving) > drainsShown {
			all = append(all, d.together(leaving))
			continue
		}
		for _, i := range leaving {
			all = append(all, happening{What: "drain", Key: i.Key, ID: i.ID, Text: plural(i.Sockets, "socket", "sockets") + " left, " + string(i.Cause), Since: i.Since, Until: i.Until, Link: Prefix + "instances/" + url.PathEscape(i.ID)})
		}
	}
	slices.SortFunc(all, func(a, b happening) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return all
}

// chart is an hour as a browser draws it.
type chart struct {
	ID       string
	Times    []int64 // seconds since 1970
	Requests []float64
	Errors   []float64 // a second
	Sockets  []int
	Said     string // in words, for those who do not see it
}

func chartOf(id string, points []journal.Point) chart {
	ch := chart{ID: id}
	var requests, errors, most int
	points = points[:len(points)-1] // the last one is not whole yet
	for _, p := range points {
		ch.Times = append(ch.Times, p.Time.Unix())
		ch.Requests = append(ch.Requests, float64(p.Requests)/journal.Step.Seconds())
		ch.Errors = append(ch.Errors, float64(p.Errors)/journal.Step.Seconds())
		ch.Sockets = append(ch.Sockets, p.Sockets)
		requests, errors, most = requests+p.Requests, errors+p.Errors, max(most, p.Sockets)
	}
	ch.Said = "In the last hour " + plural(requests, "request", "requests") + ", " + plural(errors, "error", "errors") + ", at most " + plural(most, "socket", "sockets") + " open."
	return ch
}
