package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/journal"
)

// reportsShown is how many reports of deploys a service's page has.
const reportsShown = 20

// servicePage is one service.
type servicePage struct {
	serviceLine
	Split   app.Split
	Past    int // splits that a rollback may return to
	Now     []happening
	Reports []reportLine
}

func (p servicePage) charts() []chart { return []chart{p.Chart} }

// reportLine is a report, with its endings in the order of their number.
type reportLine struct {
	journal.Report
	Ends []ending
}

type ending struct {
	Cause string
	N     int
}

// serviceOf is the service that a page is about.
func serviceOf(v *visit) app.ServiceKey {
	return app.ServiceKey{App: v.r.PathValue("app"), Service: v.r.PathValue("service")}
}

func (c *console) service(v *visit) (any, error) {
	k, wishes, running := serviceOf(v), c.Store.Wishes(), c.Control.Instances()
	s, ok := wishes.Services[k]
	if !ok {
		return nil, fmt.Errorf("service %s: %w", k, app.ErrNotFound)
	}
	p := servicePage{serviceLine: c.serviceLine(v, k, wishes, running), Split: s.Split, Past: len(s.Past), Now: c.happening(wishes, running, k)}
	all := c.Journal.Reports(k)
	for _, r := range all[:min(len(all), reportsShown)] {
		line := reportLine{Report: r}
		for cause, n := range r.Endings {
			line.Ends = append(line.Ends, ending{cause, n})
		}
		slices.SortFunc(line.Ends, func(a, b ending) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Cause, b.Cause)) })
		p.Reports = append(p.Reports, line)
	}
	return p, nil
}

// keyOf is the version or the service that a form is about.
func keyOf(v *visit) app.Key {
	f := v.r.PostForm
	return app.Key{App: f.Get("app"), Service: f.Get("service"), Version: f.Get("version")}
}

func started(op app.Operation, err error) (done, error) { return done{Operation: op.ID}, err }

// sharePrefix begins the names of a traffic form's entries, which end with the
// version's.
const sharePrefix = "share:"

// split is the split that a traffic form asks for. Shares are percent, and are
// weighed against each other.
func (c *console) split(v *visit) (app.Split, error) {
	k := keyOf(v).ServiceKey()
	s, ok := c.Store.Wishes().Services[k]
	if !ok {
		return app.Split{}, fmt.Errorf("service %s: %w", k, app.ErrNotFound)
	}
	split, sum := app.Split{By: cmp.Or(s.Split.By, app.ByIP), Shares: map[string]float64{}}, 0.0
	for name, values := range v.r.PostForm {
		version, is := strings.CutPrefix(name, sharePrefix)
		if !is || values[0] == "" {
			continue
		}
		share, err := strconv.ParseFloat(values[0], 64)
		if err != nil || !(share >= 0) || math.IsInf(share, 0) {
			return app.Split{}, fmt.Errorf("the share of %.80s is %.20q: want a number that is not negative: %w", version, values[0], app.ErrInvalid)
		}
		if share > 0 {
			split.Shares[version] = share
			sum += share
		}
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return app.Split{}, fmt.Errorf("no version would get any traffic: %w", app.ErrInvalid)
	}
	for version := range split.Shares {
		split.Shares[version] /= sum
	}
	return split, nil
}

func (c *console) askTraffic(v *visit) (question, error) {
	split, err := c.split(v)
	if err != nil {
		return question{}, err
	}
	var parts []string
	for _, version := range split.Versions() {
		parts = append(parts, version+" "+percent(split.Shares[version]))
	}
	return question{
		Title:  "Move the traffic of " + keyOf(v).ServiceKey().String(),
		Text:   "New requests and sockets go to " + strings.Join(parts, ", ") + ". Open sockets stay where they are.",
		Button: "Move traffic",
	}, nil
}

func (c *console) moveTraffic(v *visit) (done, error) {
	split, err := c.split(v)
	if err != nil {
		return done{}, err
	}
	return started(c.Control.SetTraffic(keyOf(v).ServiceKey(), split, v.who.Name))
}

func (c *console) serviceActs() []act {
	version := func(name, title, text string, danger bool, do func(app.Key, string) (app.Operation, error)) act {
		return act{
			name: name,
			ask: func(v *visit) (question, error) {
				return question{Title: title + " " + keyOf(v).String(), Text: text, Button: title, Danger: danger}, nil
			},
			do: func(v *visit) (done, error) { return started(do(keyOf(v), v.who.Name)) },
		}
	}
	instance := func(name, title, text string, do func(string, string) (app.Operation, error)) act {
		return act{
			name: name,
			ask: func(v *visit) (question, error) {
				return question{Title: title + " " + v.r.PostForm.Get("instance"), Text: text, Button: title, Danger: true}, nil
			},
			do: func(v *visit) (done, error) { return started(do(v.r.PostForm.Get("instance"), v.who.Name)) },
		}
	}
	return []act{
		{name: "traffic", ask: c.askTraffic, do: c.moveTraffic},
		{
			name: "rollback",
			ask: func(v *visit) (question, error) {
				k := keyOf(v).ServiceKey()
				return question{Title: "Roll back " + k.String(), Text: "Traffic goes back to where it was before its latest change, once those versions are ready.", Button: "Roll back"}, nil
			},
			do: func(v *visit) (done, error) {
				return started(c.Control.Rollback(keyOf(v).ServiceKey(), v.who.Name))
			},
		},
		version("start-version", "Start", "Its instances are started. It gets traffic when you move some to it.", false, c.Control.StartVersion),
		version("stop-version", "Stop", "Its instances drain: their sockets are said goodbye, spread over its drain time.", true, c.Control.StopVersion),
		version("delete-version", "Delete", "It stops, and can be had again only by deploying it again.", true, c.Control.DeleteVersion),
		instance("restart-instance", "Restart", "A successor is ready before it drains.", c.Control.RestartInstance),
		instance("drain-instance", "Drain", "It drains now. A successor is started if one is missing then.", c.Control.DeleteInstance),
		{
			name: "cancel",
			ask: func(v *visit) (question, error) {
				return question{Title: "Cancel " + v.r.PostForm.Get("operation"), Text: "What it has begun is taken back.", Button: "Cancel it", Danger: true}, nil
			},
			do: func(v *visit) (done, error) {
				return started(c.Control.Cancel(v.r.PostForm.Get("operation"), v.who.Name))
			},
		},
	}
}
