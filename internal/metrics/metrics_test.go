package metrics

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/bus"
	"holdfast/internal/certs"
	"holdfast/internal/control"
	"holdfast/internal/router"
	"holdfast/internal/tally"
	"holdfast/internal/traces"
	"holdfast/internal/tunnel"
)

var key = app.Key{App: "shop", Service: "default", Version: "v1"}

// busy is a house in which everything that is shown has happened.
type busy struct{}

func (busy) Numbers() map[app.Key]router.Numbers {
	h := tally.New(tally.Bounds{time.Millisecond, time.Second})
	h.Add(500 * time.Millisecond)
	h.Add(time.Minute)
	none := tally.New(tally.Bounds{time.Millisecond}).Spread()
	n := router.Numbers{
		Unserved:   map[router.Unserved]int64{{Handshake: true, Cause: router.Full}: 3},
		Handshakes: map[router.Outcome]int64{router.Opened: 7},
		Affinity:   router.Affinity{Cookie: 4, Sid: 5, New: 6, Lost: map[app.Cause]int64{app.Aged: 1}},
		Open:       2,
		Endings:    map[router.Ending]int64{{By: tunnel.ByHoldfast, Cause: app.Deadline}: 5},
		Lifetimes:  h.Spread(),
		FromClient: tunnel.Traffic{Bytes: 100, Text: 9, Ping: 1},
	}
	for i := range n.Requests {
		n.Requests[i] = none
	}
	n.Requests[2] = h.Spread()
	stray := router.Numbers{Unserved: map[router.Unserved]int64{{Cause: router.UnknownHost}: 1}}
	for i := range stray.Requests {
		stray.Requests[i] = none
	}
	return map[app.Key]router.Numbers{key: n, {}: stray}
}

type planner struct{}

func (planner) Numbers() control.Numbers {
	h := tally.New(tally.Bounds{time.Second})
	h.Add(time.Minute)
	return control.Numbers{
		Versions: map[app.Key]control.VersionNumbers{key: {
			Started: map[app.Cause]int64{app.Crashed: 2}, Left: map[app.Cause]int64{app.Crashed: 2}, Ups: 3, Want: 4, Need: 3.5, Doubt: 0.5,
		}},
		UnderWay:   map[control.Phase]int{{Verb: app.VerbDeploy, Stage: app.StageBuilding}: 1},
		Operations: map[control.OperationEnd]int64{{Verb: app.VerbDeploy}: 1, {Verb: app.VerbDeploy, Cause: app.BuildFailed}: 2},
		Phases:     map[control.Phase]tally.Spread{{Verb: app.VerbDeploy, Stage: app.StageBuilding}: h.Spread()},
	}
}

func (planner) Instances() []control.Instance {
	at := func(state app.State, sockets int) control.Instance {
		return control.Instance{Instance: app.Instance{Key: key, State: state}, Sockets: sockets, CPU: 0.25}
	}
	return []control.Instance{at(app.Ready, 30), at(app.Ready, 10), at(app.Draining, 50), at(app.Stopped, 0)}
}

type safe struct{}

func (safe) List() []certs.Entry {
	soon := time.Now().Add(36 * time.Hour)
	return []certs.Entry{
		{Names: []string{"shop.example.org"}, From: "acme", Until: soon},
		{Names: []string{"shop.example.org"}, From: "acme", Until: soon.Add(-time.Hour), Problem: "no answer"},
		{Names: []string{"bad\xff.example.org"}, From: "file", Until: soon},
		{Names: []string{"new.example.org"}, From: "acme", Problem: "no answer"},
		{From: "file"},
	}
}

func house() House {
	return House{
		Program: "test", Router: busy{}, Control: planner{}, Certs: safe{},
		Messages: func() map[string]bus.Stats {
			return map[string]bus.Stats{"shop": {Connections: 2, Channels: 1, Patterns: 1}}
		},
		Services: func() map[app.ServiceKey]app.Service {
			return map[app.ServiceKey]app.Service{key.ServiceKey(): {Split: app.Split{Shares: map[string]float64{"v1": 1}}}}
		},
		Traces: func() traces.Numbers { return traces.Numbers{Sent: 8, Dropped: 1} },
	}
}

func scrape(t *testing.T, h House) string {
	t.Helper()
	w := httptest.NewRecorder()
	New(h, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", Path, nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestWhatIsShownIsWhatHappened(t *testing.T) {
	page := scrape(t, house())
	for _, want := range []string{
		`holdfast_requests_total{app="shop",class="2xx",service="default",version="v1"} 2`,
		`holdfast_request_duration_seconds_bucket{app="shop",class="2xx",service="default",version="v1",le="1"} 1`,
		`holdfast_request_duration_seconds_bucket{app="shop",class="2xx",service="default",version="v1",le="+Inf"} 2`,
		`holdfast_request_duration_seconds_sum{app="shop",class="2xx",service="default",version="v1"} 60.5`,
		`holdfast_requests_unserved_total{app="shop",cause="full",kind="handshake",service="default",version="v1"} 3`,
		`holdfast_requests_unserved_total{app="",cause="unknown-host",kind="request",service="",version=""} 1`,
		`holdfast_sockets_open{app="shop",service="default",version="v1"} 2`,
		`holdfast_sockets_ended_total{app="shop",by="holdfast",cause="deadline",service="default",version="v1"} 5`,
		`holdfast_socket_bytes_total{app="shop",direction="from_client",service="default",version="v1"} 100`,
		`holdfast_affinity_hits_total{app="shop",by="sid",service="default",version="v1"} 5`,
		`holdfast_affinity_lost_total{app="shop",cause="aged",service="default",version="v1"} 1`,
		`holdfast_instances{app="shop",service="default",state="ready",version="v1"} 2`,
		`holdfast_instances_skew_ratio{app="shop",service="default",version="v1"} 1.5`,
		`holdfast_instance_cpu_cores{app="shop",service="default",version="v1"} 0.75`,
		`holdfast_scaling_needed_instances{app="shop",service="default",version="v1"} 3.5`,
		`holdfast_operations_ended_total{cause="none",verb="deploy"} 1`,
		`holdfast_operations_ended_total{cause="build-failed",verb="deploy"} 2`,
		`holdfast_bus_channels{app="shop"} 2`,
		`holdfast_certificate_left_seconds{from="acme",name="new.example.org"} 0`,
		`holdfast_certificate_problem{from="acme",name="shop.example.org"} 0`,
		`holdfast_spans_total{outcome="sent"} 8`,
		`holdfast_spans_total{outcome="dropped"} 1`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("not on the page: %s", want)
		}
	}
	if left := regexp.MustCompile(`holdfast_certificate_left_seconds{from="acme",name="shop.example.org"} 1[23]\d\d\d\d`); !left.MatchString(page) {
		t.Error("the certificate that is used does not have a day and a half left")
	}
	if t.Failed() {
		t.Log(page)
	}
}

// Who documents a metric shows it, and the other way round is checked by every
// scrape.
func TestTheTableIsTheWholePage(t *testing.T) {
	page := scrape(t, house())
	for _, m := range Table() {
		if !strings.Contains(page, fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Meaning, m.Name, m.Kind)) {
			t.Errorf("%s is in the table and not shown as it says", m.Name)
		}
		if unit := regexp.MustCompile(`_(total|seconds|ratio|cores|instances|days|info|open|connections|channels|subscriptions|operations|problem)$`); !unit.MatchString(m.Name) {
			t.Errorf("%s: what is its unit?", m.Name)
		}
		if (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if slices.Contains(m.Labels, "instance") || slices.Contains(m.Labels, "client") || slices.Contains(m.Labels, "path") {
			t.Errorf("%s has a label without bound: %v", m.Name, m.Labels)
		}
	}
}

func TestNothingHappenedYet(t *testing.T) {
	h := house()
	h.Router, h.Control, h.Certs = noTraffic{}, noPlan{}, noCerts{}
	h.Messages = func() map[string]bus.Stats { return nil }
	h.Services = func() map[app.ServiceKey]app.Service { return nil }
	if page := scrape(t, h); !strings.Contains(page, `holdfast_build_info{program="test"} 1`) || !strings.Contains(page, "process_open_fds") {
		t.Error(page)
	}
}

type (
	noTraffic struct{}
	noPlan    struct{}
	noCerts   struct{}
)

func (noTraffic) Numbers() map[app.Key]router.Numbers { return nil }
func (noPlan) Numbers() control.Numbers               { return control.Numbers{} }
func (noPlan) Instances() []control.Instance          { return nil }
func (noCerts) List() []certs.Entry                   { return nil }

// Debian's promtool is the judge of names, units and help.
func TestPromtoolFindsNothingWrong(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not here: apt-get install prometheus")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(ours(scrape(t, house())))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// ours leaves out what the library shows of our process.
func ours(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if strings.Contains(line, "holdfast_") {
			io.WriteString(&b, line)
		}
	}
	return b.String()
}
