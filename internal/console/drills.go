package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/journal"
)

const (
	// drillsShown is how many that have ended are listed.
	drillsShown = 50

	// drillDefault is how long something is broken where nobody says.
	drillDefault = 30 * time.Second

	// endingsLooked is how many endings of sockets are looked through for those
	// that a drill is told of: more are not told apart from it.
	endingsLooked = 10_000
)

// drillsPage is what is, was and may be broken on purpose.
type drillsPage struct {
	Services []string // that may be drilled
	Kinds    []app.Fault
	Now      []drillLine
	Past     []drillLine
}

// drillLine is one drill.
type drillLine struct {
	app.Operation
	Link   string
	Report bool // its clients have left one
}

func (c *console) drills(*visit) (any, error) {
	wishes := c.Store.Wishes()
	p := drillsPage{Kinds: app.Faults()}
	for k := range wishes.Services {
		p.Services = append(p.Services, k.String())
	}
	slices.Sort(p.Services)
	var all []app.Operation
	for _, op := range wishes.Operations {
		if op.Drill != nil {
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b app.Operation) int { return cmp.Compare(b.ID, a.ID) }) // ids sort by time
	for _, op := range all {
		switch {
		case op.Stage != app.StageDone:
			p.Now = append(p.Now, c.drillLine(op))
		case len(p.Past) < drillsShown:
			p.Past = append(p.Past, c.drillLine(op))
		}
	}
	return p, nil
}

func (c *console) drillLine(op app.Operation) drillLine {
	_, err := os.Stat(c.reportPath(op.ID))
	return drillLine{Operation: op, Link: Prefix + "drills/" + url.PathEscape(op.ID), Report: err == nil}
}

// reportPath is where the door for programs keeps what a drill's clients met. id
// is an operation's of ours.
func (c *console) reportPath(id string) string {
	return filepath.Join(c.Reports, id+".report.json")
}

// drillPage is one drill, and what real clients met meanwhile.
type drillPage struct {
	drillLine
	Over    bool
	Took    time.Duration
	Known   bool      // whether all endings are still in memory; the next two say nothing otherwise
	Ends    []endings // of sockets of the service, by cause; not those of the drill's own clients
	Sockets int       // that have ended
	Open    int       // that are
	Client  *drill.Report
	Foreign bool // what was left as a report is none of holdfast drill
}

// endings is how many sockets ended for a cause.
type endings struct {
	Cause app.Cause
	N     int
}

func (c *console) drill(v *visit) (any, error) {
	op, err := c.drillOf(v)
	if err != nil {
		return nil, err
	}
	p := drillPage{drillLine: c.drillLine(op), Over: op.Stage == app.StageDone}
	until := v.now
	if p.Over {
		until = op.Ended
	}
	p.Took = until.Sub(op.Asked)
	p.Known = c.Journal.Remembers(op.Asked)
	k := op.Target.ServiceKey()
	by := map[app.Cause]int{}
	ended, _ := c.Journal.Entries(journal.Filter{Kind: journal.Socket, Key: app.Key{App: k.App, Service: k.Service}, Until: until}, endingsLooked)
	for _, e := range ended {
		if !e.Time.Before(op.Asked) && !drill.Ours(e.Ending.Trace) {
			by[e.Cause]++
			p.Sockets++
		}
	}
	for cause, n := range by {
		p.Ends = append(p.Ends, endings{cause, n})
	}
	slices.SortFunc(p.Ends, func(a, b endings) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Cause, b.Cause)) })
	for _, i := range c.Control.Instances() {
		if i.Key.ServiceKey() == k {
			p.Open += i.Sockets
		}
	}
	if p.Report {
		// Whoever may deploy may leave any object: the page has the rest all the same.
		if p.Client, err = c.clientReport(op.ID); errors.Is(err, app.ErrInvalid) {
			p.Foreign = true
		} else if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// drillOf is the drill that a page is about.
func (c *console) drillOf(v *visit) (app.Operation, error) {
	id := v.r.PathValue("id")
	op, ok := c.Store.Wishes().Operations[id]
	if !ok || op.Drill == nil {
		return op, fmt.Errorf("drill %s: %w", strconv.Quote(id), app.ErrNotFound)
	}
	return op, nil
}

// clientReport is what a drill's clients have met, as whoever ran it has left it.
func (c *console) clientReport(id string) (*drill.Report, error) {
	text, err := os.ReadFile(c.reportPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("report of drill %s: %w", id, app.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	var r drill.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("the report of drill %s is none of holdfast drill: %w", id, app.ErrInvalid)
	}
	return &r, nil
}

// reportPolicy is for a page that has its looks in itself and runs nothing.
const reportPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// report is that report as the page that holdfast drill writes.
func (c *console) report(v *visit) error {
	op, err := c.drillOf(v)
	if err != nil {
		return err
	}
	r, err := c.clientReport(op.ID)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Security-Policy", reportPolicy)
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return r.WritePage(v.w)
}

func (c *console) drillActs() []act {
	return []act{
		{name: "drill", ask: c.askDrill, do: c.beginDrill},
		{
			name: "end-drill",
			ask: func(v *visit) (question, error) {
				return question{Title: "End the drill", Text: "What is broken is mended now.", Button: "End it"}, nil
			},
			do: func(v *visit) (done, error) {
				op, err := c.Control.Cancel(v.r.PostForm.Get("id"), v.who.Name)
				return done{Operation: op.ID}, err
			},
		},
	}
}

// asksFor is the drill that a form asks for.
func (c *console) asksFor(v *visit) (k app.ServiceKey, f app.Fault, err error) {
	form := v.r.PostForm
	k.App, k.Service, _ = strings.Cut(form.Get("service"), "/")
	if _, ok := c.Store.Wishes().Services[k]; !ok {
		return k, f, fmt.Errorf("service %s: %w", strconv.Quote(form.Get("service")), app.ErrNotFound)
	}
	f = app.Fault(form.Get("fault"))
	if !slices.Contains(app.Faults(), f) {
		return k, f, fmt.Errorf("drill %s: %w", strconv.Quote(string(f)), app.ErrNotFound)
	}
	return k, f, nil
}

func (c *console) askDrill(v *visit) (question, error) {
	k, f, err := c.asksFor(v)
	if err != nil {
		return question{}, err
	}
	open := 0
	for _, i := range c.Control.Instances() {
		if i.Key.ServiceKey() == k {
			open += i.Sockets
		}
	}
	meets := "Nobody has a socket open there."
	if open > 0 {
		meets = fmt.Sprintf("It meets real clients: %s open there.", plural(open, "socket is", "sockets are"))
	}
	of, hint := "of its ready instances", "nothing is one of them"
	if f.OfClients() {
		of, hint = "of its clients", "nothing is all of them"
	}
	return question{
		Title: fmt.Sprintf("%s of %s", f, k), Danger: true, Button: "Begin the drill",
		Text: sentence(f.Says()) + " " + meets + " What is broken is mended when the time is over, when you end it, and when Holdfast starts again in the middle. To have clients live through it and report, use holdfast drill.",
		Fields: []field{
			{Name: "seconds", Label: "For how many seconds", Value: strconv.Itoa(int(drillDefault / time.Second))},
			{Name: "share", Label: "Share " + of + ", in percent", Hint: hint},
		},
	}, nil
}

func (c *console) beginDrill(v *visit) (done, error) {
	k, f, err := c.asksFor(v)
	if err != nil {
		return done{}, err
	}
	number := func(name string) (float64, error) {
		text := strings.TrimSpace(v.r.PostForm.Get(name))
		if text == "" {
			return 0, nil
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1e6) {
			return 0, fmt.Errorf("%s %.20q: want a number: %w", name, text, app.ErrInvalid)
		}
		return n, nil
	}
	seconds, err := number("seconds")
	if err != nil {
		return done{}, err
	}
	percent, err := number("share")
	if err != nil {
		return done{}, err
	}
	op, err := c.Control.Drill(k, app.Drill{Fault: f, Share: percent / 100, Long: time.Duration(seconds * float64(time.Second))}, v.who.Name)
	if err != nil {
		return done{}, err
	}
	return done{Operation: op.ID, To: Prefix + "drills/" + url.PathEscape(op.ID)}, nil
}
