package metrics

import (
	"cmp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/app"
	"holdfast/internal/bus"
	"holdfast/internal/certs"
	"holdfast/internal/control"
	"holdfast/internal/router"
	"holdfast/internal/tally"
	"holdfast/internal/traces"
	"holdfast/internal/tunnel"
)

// page is one scrape's answer, being written.
type page struct {
	to    chan<- prometheus.Metric
	descs map[string]described
}

type described struct {
	desc *prometheus.Desc
	kind Kind
}

// set writes a counter or a gauge down.
func (p page) set(name string, value float64, labels ...string) {
	d := p.descs[name]
	kind := prometheus.GaugeValue
	if d.kind == Counter {
		kind = prometheus.CounterValue
	}
	p.to <- prometheus.MustNewConstMetric(d.desc, kind, value, labels...)
}

// spread writes a histogram down.
func (p page) spread(name string, s tally.Spread, labels ...string) {
	buckets, sum := make(map[float64]uint64, len(s.Bounds)), int64(0)
	for i, bound := range s.Bounds {
		sum += s.Buckets[i]
		buckets[bound.Seconds()] = uint64(sum)
	}
	p.to <- prometheus.MustNewConstHistogram(p.descs[name].desc, uint64(s.Count), s.Sum.Seconds(), buckets, labels...)
}

// traffic is what the router counted.
func (p page) traffic(all map[app.Key]router.Numbers) {
	for k, n := range all {
		of := func(more ...string) []string { return append([]string{k.App, k.Service, k.Version}, more...) }
		for class, s := range n.Requests {
			if s.Count > 0 {
				p.set("holdfast_requests_total", float64(s.Count), of(classNames[class])...)
				p.spread("holdfast_request_duration_seconds", s, of(classNames[class])...)
			}
		}
		for what, count := range n.Unserved {
			kind := "request"
			if what.Handshake {
				kind = "handshake"
			}
			p.set("holdfast_requests_unserved_total", float64(count), of(kind, string(what.Cause))...)
		}
		if k.Version == "" {
			continue // it has no instances
		}
		for _, o := range router.Outcomes() {
			p.set("holdfast_handshakes_total", float64(n.Handshakes[o]), of(string(o))...)
		}
		p.set("holdfast_sockets_open", float64(n.Open), of()...)
		for end, count := range n.Endings {
			p.set("holdfast_sockets_ended_total", float64(count), of(string(end.By), string(end.Cause))...)
		}
		p.spread("holdfast_socket_lifetime_seconds", n.Lifetimes, of()...)
		p.carried(of, "from_client", n.FromClient)
		p.carried(of, "from_instance", n.FromInstance)

		p.set("holdfast_affinity_hits_total", float64(n.Affinity.Cookie), of(tunnel.ByCookie.String())...)
		p.set("holdfast_affinity_hits_total", float64(n.Affinity.Sid), of(tunnel.BySid.String())...)
		p.set("holdfast_affinity_new_total", float64(n.Affinity.New), of()...)
		for cause, count := range n.Affinity.Lost {
			p.set("holdfast_affinity_lost_total", float64(count), of(string(cause))...)
		}
	}
}

var classNames = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (p page) carried(of func(...string) []string, direction string, t tunnel.Traffic) {
	p.set("holdfast_socket_bytes_total", float64(t.Bytes), of(direction)...)
	p.set("holdfast_socket_messages_total", float64(t.Text), of(direction, "text")...)
	p.set("holdfast_socket_messages_total", float64(t.Binary), of(direction, "binary")...)
	p.set("holdfast_socket_control_frames_total", float64(t.Ping), of(direction, "ping")...)
	p.set("holdfast_socket_control_frames_total", float64(t.Pong), of(direction, "pong")...)
	p.set("holdfast_socket_control_frames_total", float64(t.Close), of(direction, "close")...)
	p.set("holdfast_socket_faults_total", float64(t.Faults), of(direction)...)
}

// planning is what control counted.
func (p page) planning(n control.Numbers) {
	for k, v := range n.Versions {
		of := func(more ...string) []string { return append([]string{k.App, k.Service, k.Version}, more...) }
		for cause, count := range v.Started {
			p.set("holdfast_instances_started_total", float64(count), of(string(cause))...)
		}
		for cause, count := range v.Left {
			p.set("holdfast_instances_left_total", float64(count), of(string(cause))...)
		}
		p.set("holdfast_scaling_wanted_instances", float64(v.Want), of()...)
		p.set("holdfast_scaling_needed_instances", v.Need, of()...)
		p.set("holdfast_scaling_doubted_instances", v.Doubt, of()...)
		p.set("holdfast_scaling_decisions_total", float64(v.Ups), of("up")...)
		p.set("holdfast_scaling_decisions_total", float64(v.Downs), of("down")...)
	}
	for at, count := range n.UnderWay {
		p.set("holdfast_operations", float64(count), string(at.Verb), string(at.Stage))
	}
	for end, count := range n.Operations {
		p.set("holdfast_operations_ended_total", float64(count), string(end.Verb), cmp.Or(string(end.Cause), "none"))
	}
	for at, s := range n.Phases {
		p.spread("holdfast_operation_stage_duration_seconds", s, string(at.Verb), string(at.Stage))
	}
}

// instances sums up what runs, by version.
func (p page) instances(all []control.Instance) {
	type sum struct {
		states   [app.Stopped]int
		requests int
		cores    float64
		open     []int // of the ready ones
	}
	sums := map[app.Key]*sum{}
	for _, i := range all {
		s := sums[i.Key]
		if s == nil {
			s = &sum{}
			sums[i.Key] = s
		}
		if i.State >= app.Stopped {
			continue
		}
		s.states[i.State]++
		s.requests += i.Requests
		s.cores += i.CPU
		if i.State == app.Ready {
			s.open = append(s.open, i.Requests+i.Sockets)
		}
	}
	for k, s := range sums {
		for state, count := range s.states {
			p.set("holdfast_instances", float64(count), k.App, k.Service, k.Version, app.State(state).String())
		}
		p.set("holdfast_instance_requests_open", float64(s.requests), k.App, k.Service, k.Version)
		p.set("holdfast_instance_cpu_cores", s.cores, k.App, k.Service, k.Version)
		p.set("holdfast_instances_skew_ratio", skew(s.open), k.App, k.Service, k.Version)
	}
}

// skew is how many times its even share the fullest carries.
func skew(open []int) float64 {
	total, most := 0, 0
	for _, n := range open {
		total += n
		most = max(most, n)
	}
	if total == 0 {
		return 1
	}
	return float64(most) * float64(len(open)) / float64(total)
}

// services are what operators asked for.
func (p page) services(all map[app.ServiceKey]app.Service) {
	for k, s := range all {
		for version, share := range s.Split.Shares {
			p.set("holdfast_traffic_share_ratio", share, k.App, k.Service, version)
		}
	}
}

func (p page) messages(all map[string]bus.Stats) {
	for name, s := range all {
		p.set("holdfast_bus_connections", float64(s.Connections), name)
		p.set("holdfast_bus_channels", float64(s.Channels+s.Patterns), name)
		p.set("holdfast_bus_subscriptions", float64(s.Subscriptions), name)
		p.set("holdfast_bus_published_total", float64(s.Published), name)
		p.set("holdfast_bus_delivered_total", float64(s.Delivered), name)
		p.set("holdfast_bus_cut_total", float64(s.Cut), name)
	}
}

// certificates tells of each name once from where it is, of the one that lasts
// longest: that is the one which is used.
func (p page) spans(n traces.Numbers) {
	p.set("holdfast_spans_total", float64(n.Sent), "sent")
	p.set("holdfast_spans_total", float64(n.Dropped), "dropped")
}

func (p page) certificates(now time.Time, all []certs.Entry) {
	type row struct{ name, from string }
	best := map[row]certs.Entry{}
	for _, e := range all {
		if len(e.Names) == 0 {
			continue
		}
		r := row{strings.ToValidUTF8(e.Names[0], "?"), e.From} // the file is somebody else's
		if was, ok := best[r]; !ok || e.Until.After(was.Until) {
			best[r] = e
		}
	}
	for r, e := range best {
		left, problem := 0.0, 0.0
		if !e.Until.IsZero() {
			left = e.Until.Sub(now).Seconds()
		}
		if e.Problem != "" {
			problem = 1
		}
		p.set("holdfast_certificate_left_seconds", left, r.name, r.from)
		p.set("holdfast_certificate_problem", problem, r.name, r.from)
	}
}
