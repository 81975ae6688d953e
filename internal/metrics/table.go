package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one row of the table: a name, with its unit at the end, and what it
// says.
type Metric struct {
	Name    string
	Kind    Kind
	Labels  []string
	Meaning string
}

// Kind is how a metric behaves.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter" // only grows, and begins at 0 with the process
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

func (m Metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(m.Name, m.Meaning, m.Labels, nil)
}

// Table is all that is shown, in the order in which people should meet it, but for
// what is known of our own process: go_* and process_*, as every Go program
// shows them.
func Table() []Metric { return table() }

func table() []Metric {
	of := func(more string) []string { return strings.Fields("app service version " + more) }
	return []Metric{
		{"holdfast_build_info", Gauge, []string{"program"}, "1, for the version of Holdfast that runs."},

		{"holdfast_requests_total", Counter, of("class"), "Requests that have ended, by the class of their status: 1xx is a WebSocket's handshake that succeeded, none got no answer. Without service where the host named none; without version where none was found."},
		{"holdfast_request_duration_seconds", Histogram, of("class"), "What they took from their first byte to the end of the answer; a WebSocket's, its handshake."},
		{"holdfast_requests_unserved_total", Counter, of("kind cause"), "Requests whose answer was not the app's, or not all of it, by cause. kind is request, or handshake for a WebSocket's."},

		{"holdfast_handshakes_total", Counter, of("outcome"), "WebSocket handshakes: opened, declined by the app, refused by Holdfast, or left by the client."},
		{"holdfast_sockets_open", Gauge, of(""), "WebSockets that are open."},
		{"holdfast_sockets_ended_total", Counter, of("by cause"), "WebSockets that have ended, by who ended them (client, instance, holdfast) and why: the word in the Close frame and in the log."},
		{"holdfast_socket_lifetime_seconds", Histogram, of(""), "How long they lived."},
		{"holdfast_socket_bytes_total", Counter, of("direction"), "Bytes that came over WebSockets, frames and all, those that are open now included. direction is from_client or from_instance."},
		{"holdfast_socket_messages_total", Counter, of("direction type"), "Messages likewise: text or binary, a fragmented one once."},
		{"holdfast_socket_control_frames_total", Counter, of("direction type"), "Control frames likewise: ping, pong or close."},
		{"holdfast_socket_faults_total", Counter, of("direction"), "Frames likewise that break RFC 6455."},

		{"holdfast_affinity_hits_total", Counter, of("by"), "Requests with session affinity that came to the instance their client belongs to, by cookie or sid (the session of long polling)."},
		{"holdfast_affinity_new_total", Counter, of(""), "Requests with session affinity that brought nothing known: their client was given a place."},
		{"holdfast_affinity_lost_total", Counter, of("cause"), "Requests with session affinity that came to another instance than their client belongs to, by why: the cause for which that instance left, or unready, refused, overloaded, drill, unknown."},

		{"holdfast_instances", Gauge, of("state"), "Instances by state: starting, ready, unready, draining."},
		{"holdfast_instances_started_total", Counter, of("cause"), "Instances that were started, by why: a crashed one's successor has the cause crashed."},
		{"holdfast_instances_left_total", Counter, of("cause"), "Instances that began to drain or were gone at once, by why."},
		{"holdfast_instance_requests_open", Gauge, of(""), "Requests that are with instances now, without sockets."},
		{"holdfast_instance_cpu_cores", Gauge, of(""), "Cores that the version's instances use, together."},
		{"holdfast_instances_skew_ratio", Gauge, of(""), "Open requests and sockets of the ready instance that has most, divided by their mean: 1 is even, 2 is twice its share. 1 where nothing is open."},

		{"holdfast_traffic_share_ratio", Gauge, of(""), "The version's share of its service's new traffic, 0 to 1."},
		{"holdfast_scaling_wanted_instances", Gauge, of(""), "Instances that scaling wants."},
		{"holdfast_scaling_needed_instances", Gauge, of(""), "What the load is worth in instances, as scaling saw it last: what it grows by."},
		{"holdfast_scaling_doubted_instances", Gauge, of(""), "How much more it may be worth, as the CPU use of young instances does not count yet: what it does not shrink below."},
		{"holdfast_scaling_decisions_total", Counter, of("direction"), "Decisions to have more or fewer instances: up or down."},

		{"holdfast_operations", Gauge, []string{"verb", "stage"}, "Operations under way, such as deploys, by how far they are."},
		{"holdfast_operations_ended_total", Counter, []string{"verb", "cause"}, "Operations that ended; cause is why they failed, none for those that went well."},
		{"holdfast_operation_stage_duration_seconds", Histogram, []string{"verb", "stage"}, "How long operations were in each stage: building, starting, drilling."},

		{"holdfast_bus_connections", Gauge, []string{"app"}, "Connections to the bus."},
		{"holdfast_bus_channels", Gauge, []string{"app"}, "Channels and patterns on the bus that somebody is subscribed to."},
		{"holdfast_bus_subscriptions", Gauge, []string{"app"}, "Subscriptions to them."},
		{"holdfast_bus_published_total", Counter, []string{"app"}, "Messages that the bus took."},
		{"holdfast_bus_delivered_total", Counter, []string{"app"}, "Messages that it handed to subscribers, once for each."},
		{"holdfast_bus_cut_total", Counter, []string{"app"}, "Connections that the bus cut because too much waited for them."},

		{"holdfast_certificate_left_seconds", Gauge, []string{"name", "from"}, "Time until the certificate of a name expires; negative when it has, and 0 where there should be one and is none. from is file or acme; of a certificate with several names the first is told."},
		{"holdfast_certificate_problem", Gauge, []string{"name", "from"}, "1 where a certificate could not be obtained or renewed, else 0."},
		{"holdfast_spans_total", Counter, []string{"outcome"}, "Spans of requests and sockets: sent to the collector of otlp-endpoint, or dropped, because it did not take them in time. Missing where nothing is traced."},
	}
}
