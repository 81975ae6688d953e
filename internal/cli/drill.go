package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/spelling"
)

// allDrills is the name that means every drill, one after the other.
const allDrills = "all"

// drillOptions are the flags that say how a drill goes.
type drillOptions struct {
	probes  []string
	clients int
	long    time.Duration
	share   string
	expect  string
	report  string
}

func (o *drillOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.probes, "probe", nil, "what the clients do, as ws:/ws; may be repeated (default http:/)")
	f.IntVar(&o.clients, "clients", drill.ClientsDefault, "so many clients live through it")
	f.DurationVar(&o.long, "for", drill.ForDefault, "each drill lasts so long: a fifth before, two fifths with the fault, the rest to recover")
	f.StringVar(&o.share, "share", "", "meet this part of the ready instances, or of the clients, as 50% (default one instance; all clients)")
	f.StringVar(&o.expect, "expect", "", "exit with 1 unless this holds, as errors=0,reconnect=3s")
	f.StringVar(&o.report, "report", "", "write a page that stands alone to this file")
	for _, name := range []string{"probe", "clients", "for", "share", "expect"} {
		complete(cmd, name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		})
	}
	complete(cmd, "report", nil)
}

// spec reads the flags. What cannot be understood is misuse.
func (o *drillOptions) spec() (s drill.Spec, err error) {
	s = drill.Spec{Clients: o.clients, For: o.long}
	if len(o.probes) == 0 {
		o.probes = []string{"http:/"}
	}
	for _, text := range o.probes {
		p, err := drill.ParseProbe(text)
		if err != nil {
			return s, misuse{errors.New(strings.TrimSuffix(err.Error(), ": "+app.ErrInvalid.Error()))}
		}
		s.Probes = append(s.Probes, p)
	}
	if s.Expect, err = drill.ParseExpect(o.expect); err != nil {
		return s, misuse{errors.New(strings.TrimSuffix(err.Error(), ": "+app.ErrInvalid.Error()))}
	}
	if s.Share, err = share(o.share); err != nil {
		return s, err
	}
	switch {
	case s.Clients < 1 || s.Clients > drill.ClientsMost:
		return s, misuse{fmt.Errorf("--clients=%d: want 1 to %d", s.Clients, drill.ClientsMost)}
	case s.For < drill.ForLeast || s.For > drill.ForMost:
		return s, misuse{fmt.Errorf("--for=%v: want %v to %v", s.For, drill.ForLeast, drill.ForMost)}
	}
	return s, nil
}

// share reads 50% or 0.5; "" is 0.
func share(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	var n float64
	number, percent := strings.CutSuffix(text, "%")
	err := json.Unmarshal([]byte(number), &n)
	if percent {
		n /= 100
	}
	if err != nil || !(n > 0 && n <= 1) {
		return 0, misuse{fmt.Errorf("--share=%s: want a part of all, as 50%%", text)}
	}
	return n, nil
}

// faults are the drills that a name means.
func faults(name string) ([]app.Fault, error) {
	if name == allDrills {
		return app.Faults(), nil
	}
	var names []string
	for _, f := range app.Faults() {
		names = append(names, string(f))
	}
	var all []app.Fault
	for one := range strings.SplitSeq(name, ",") {
		if !app.Fault(one).Known() {
			return nil, misuse{fmt.Errorf("there is no drill %s: %s", one, spelling.DidYouMean(one, slices.Values(names), "holdfast drill list names them"))}
		}
		all = append(all, app.Fault(one))
	}
	return all, nil
}

func newDrill() *cobra.Command {
	var r remote
	var o drillOptions
	var yes bool
	var at string
	cmd := &cobra.Command{
		Use:   "drill NAME SERVICE",
		Short: "Break something on purpose while clients live through it, and report",
		Long: `Does on purpose, to a service that runs, what the platform may do at any time, while
clients of its own live through it, and tells what they and the real clients met: an
instance crashes, hangs, is replaced, affinity is lost. NAME is one of those that
"holdfast drill list" names, several with commas between, or all.

Nothing is broken unless the clients could connect before, and what is broken is undone
when the drill ends, however it ends. It asks before it touches a service that has real
clients.

` + drill.ProbeHelp + `

What can be expected:

  ` + strings.ReplaceAll(drill.ExpectHelp, "\n", "\n  "),
		Example: `  holdfast drill list
  holdfast drill instance-crash echo --clients=50 --probe=ws:/ws,echo --for=60s
  holdfast drill affinity-loss chat --probe=poll:/socket.io/,cookies=half --share=50%
  holdfast drill all echo --probe=ws:/ws,echo --expect=errors=0,reconnect=3s --report=drill.html`,
		Args: exactly(2, `drill takes the name of a drill and a service; "holdfast drill list" names them`),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				names := []string{allDrills}
				for _, f := range app.Faults() {
					names = append(names, string(f))
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			}
			return r.completeServices(2)(cmd, args, begun)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := faults(args[0])
		if err != nil {
			return err
		}
		s, err := o.spec()
		if err != nil {
			return err
		}
		return r.asks(func(ctx context.Context, _ []string) error {
			return r.drill(ctx, all, args[1], s, o.report, at, yes)
		})(cmd, args)
	}
	r.flags(cmd)
	o.flags(cmd)
	cmd.Flags().StringVar(&at, "url", "", "where the clients find the service (default as the server says)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask, also where the service has real clients")
	cmd.AddCommand(newDrillList(&r))
	return cmd
}

func newDrillList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the drills that there are",
		Example: "  holdfast drill list",
		Args:    exactly(0, "drill list takes no argument"),
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(r.format); err != nil {
				return err
			}
			var rows []admin.DrillKind
			t := newTable("DRILL", "MEETS", "WHAT")
			for _, f := range app.Faults() {
				meets := "instances"
				if f.OfClients() {
					meets = "clients"
				} else if f == app.EdgeRestart {
					meets = "everybody"
				}
				rows = append(rows, admin.DrillKind{Drill: string(f), What: f.Says(), Clients: f.OfClients()})
				t.add(string(f), meets, f.Says())
			}
			return show(r.format, rows, t, "")
		},
	}
}

// drill does drills of a service, one after the other.
func (r *remote) drill(ctx context.Context, all []app.Fault, service string, s drill.Spec, page, at string, yes bool) error {
	k, err := r.service(ctx, service)
	if err != nil {
		return err
	}
	if s.Target, err = r.target(ctx, k, at); err != nil {
		return err
	}
	stage := &remoteStage{Client: r.Client, k: k}
	if err := stage.ask(ctx, yes); err != nil {
		return err
	}
	report := drill.Report{Service: k.String(), Server: r.URL, By: me()}
	screen := newScreen(os.Stdout)
	if r.format == formatJSON { // what is printed is the report and nothing else
		screen = newScreen(os.Stderr)
	}
	return doDrills(ctx, screen, stage, all, s, report, r.format, page, func(res drill.Result) {
		if res.Operation == "" {
			return
		}
		one := report
		one.Began, one.Expect = res.Began, s.Expect.String()
		one.Add(res)
		// For whoever looks at the operation later; the report is told here anyway.
		_ = r.KeepReport(ctx, res.Operation, one)
	})
}

// doDrills does drills and tells of them. keep is given each result.
func doDrills(ctx context.Context, screen *screen, stage drill.Stage, all []app.Fault, s drill.Spec, report drill.Report, format, page string, keep func(drill.Result)) error {
	report.Began, report.Expect = time.Now().UTC(), s.Expect.String()
	var failed error
	for _, f := range all {
		s.Fault = f
		s.Say = func(text string) { screen.begin("%s: %s", f, text) }
		res, err := drill.Run(ctx, stage, s)
		switch {
		case err != nil && len(all) > 1 && ctx.Err() == nil && errors.Is(err, app.ErrInvalid):
			why := strings.TrimSuffix(err.Error(), ": "+app.ErrInvalid.Error())
			res = drill.Skip(s, strings.TrimPrefix(why, "drill "+report.Service+": "))
			screen.done("%s skipped: %s", f, res.Skipped)
		case err != nil:
			screen.fail()
			failed = err
		case !res.Passed:
			screen.fail()
			screen.say("%s %s: missed what was expected", color.RedString("✗"), f)
		default:
			screen.done("%s", f)
		}
		if failed != nil {
			break
		}
		keep(res)
		report.Add(res)
	}
	if len(report.Drills) == 0 {
		return failed
	}
	if err := tellDrills(report, format, page); err != nil {
		return errors.Join(failed, err)
	}
	if failed == nil && !report.Passed {
		failed = &problem{what: fmt.Sprintf("%s did not keep to %s", report.Service, report.Expect)}
	}
	return failed
}

// tellDrills prints the report, and writes its page.
func tellDrills(report drill.Report, format, page string) error {
	if page != "" {
		if err := writePage(page, report); err != nil {
			return &problem{what: fmt.Sprintf("the report cannot be written: %v", err), err: err}
		}
	}
	if format == formatJSON {
		return printJSON(report)
	}
	fmt.Println()
	err := report.WriteText(os.Stdout, func(good bool, text string) string {
		if good {
			return color.GreenString("%s", text)
		}
		return color.RedString("%s", clean(text))
	})
	if page != "" {
		fmt.Printf("The report is %s\n", shorten(page))
	}
	return err
}

func writePage(page string, report drill.Report) error {
	f, err := os.Create(page)
	if err != nil {
		return err
	}
	return errors.Join(report.WritePage(f), f.Close())
}

// target is where the clients find a service: at its host name, by an address that
// leads to the server from here.
func (r *remote) target(ctx context.Context, k app.ServiceKey, at string) (drill.Target, error) {
	if at != "" {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return drill.Target{}, misuse{fmt.Errorf("--url=%s: want http://HOST[:PORT], or https", at)}
		}
		return drill.Target{URL: strings.TrimSuffix(at, "/")}, nil
	}
	status, err := r.Status(ctx)
	if err != nil {
		return drill.Target{}, err
	}
	service, err := r.Service(ctx, k)
	if err != nil {
		return drill.Target{}, err
	}
	listeners := slices.DeleteFunc(status.Listeners, func(l admin.Listener) bool {
		_, _, err := net.SplitHostPort(l.Addr)
		return err != nil || l.Name == "admin"
	})
	if len(listeners) == 0 || len(service.Hosts) == 0 {
		return drill.Target{}, &problem{what: "the server does not say where the service is found", next: "Say it with --url=http://HOST:PORT."}
	}
	// Plain HTTP, where there is both: the drill is about instances.
	slices.SortStableFunc(listeners, func(a, b admin.Listener) int { return cmp.Compare(a.Name, b.Name) })
	host, port, _ := net.SplitHostPort(listeners[0].Addr)
	if ip := net.ParseIP(host); ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		server, err := url.Parse(r.URL)
		if err != nil {
			return drill.Target{}, err
		}
		host = server.Hostname() // a server elsewhere is reached where we reach its API
	}
	return drill.Target{URL: addressOf(service.Hosts[0], listeners[:1]), Dial: net.JoinHostPort(host, port)}, nil
}

// remoteStage is a service on a server.
type remoteStage struct {
	*admin.Client
	k app.ServiceKey
}

// recent is how far back a service's requests are looked at, to see whether it has
// real clients.
const recent = time.Minute

// ask asks a person before a service that has real clients is touched. Without a
// terminal the answer has to be on the command line: a script may not know who is
// there.
func (s *remoteStage) ask(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	all, err := s.Instances(ctx)
	if err != nil {
		return err
	}
	sockets, requests := 0, 0
	for _, i := range all {
		sockets += i.Sockets
		requests += i.Open
	}
	q := admin.LogQuery{App: s.k.App, Service: s.k.Service, Requests: true, Since: time.Now().Add(-recent), Limit: 1000}
	if err := s.Logs(ctx, q, func(l admin.LogLine) error {
		var x struct{ Msg, Trace string }
		if l.Stream == "request" && json.Unmarshal([]byte(l.Text), &x) == nil && x.Msg == "request" && !drill.Ours(x.Trace) {
			requests++
		}
		return nil
	}); err != nil {
		return err
	}
	if sockets+requests == 0 {
		return nil
	}
	what := fmt.Sprintf("%s has real clients: %s, and %s within the last minute", s.k, count(sockets, "open socket"), count(requests, "request"))
	if !interactive() {
		return &problem{what: what, next: "Say --yes to drill it all the same."}
	}
	return sure(false, "%s. Drill it?", what)
}

func (s *remoteStage) Begin(ctx context.Context, f app.Fault, share float64, long time.Duration) (drill.Operation, error) {
	op, err := s.Client.Drill(ctx, s.k, admin.DrillRequest{Drill: string(f), Share: share, Seconds: long.Seconds()})
	return drillOperation(op), err
}

func (s *remoteStage) Operation(ctx context.Context, id string) (drill.Operation, error) {
	op, err := s.Client.Operation(ctx, id)
	return drillOperation(op), err
}

func drillOperation(op admin.Operation) drill.Operation {
	d := drill.Operation{ID: op.ID, Done: op.Done()}
	if op.Drill != nil {
		d.Instances = op.Drill.Instances
	}
	if op.Failure != nil {
		d.Failure = strings.TrimSuffix(op.Failure.Cause+": "+op.Failure.Detail, ": ")
	}
	return d
}

func (s *remoteStage) End(ctx context.Context, id string) error {
	_, err := s.Cancel(ctx, id)
	if errors.Is(err, app.ErrInvalid) {
		return nil // it has ended
	}
	return err
}

func (s *remoteStage) Instances(ctx context.Context) (all []drill.Instance, err error) {
	list, err := s.Client.Instances(ctx, admin.Filter{App: s.k.App, Service: s.k.Service})
	all = []drill.Instance{}
	for _, i := range list {
		all = append(all, drill.Instance{ID: i.ID, Version: i.Version, State: i.State, Cause: i.Cause, Detail: i.Detail, Sockets: i.Sockets, Open: i.Requests})
	}
	return all, err
}

func (s *remoteStage) Requests(ctx context.Context, fn func([]byte)) error {
	q := admin.LogQuery{App: s.k.App, Service: s.k.Service, Requests: true, Follow: true, Since: time.Now(), Limit: 1}
	return s.Logs(ctx, q, func(l admin.LogLine) error {
		if l.Stream == "request" {
			fn([]byte(l.Text))
		}
		return nil
	})
}
