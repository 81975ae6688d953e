// Package metrics shows the numbers of the other rooms to Prometheus. It counts
// nothing itself and asks nobody until it is asked: each scrape reads the plain
// values that the rooms keep anyway and writes them down.
//
// Labels are bounded: applications, services and versions are those that are
// deployed, or were minutes ago; causes and the like are words of the code. No
// label is an instance, a client or a path.
//
// All names stand in table.go. Start at New.
package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/internal/app"
	"holdfast/internal/bus"
	"holdfast/internal/certs"
	"holdfast/internal/control"
	"holdfast/internal/router"
	"holdfast/internal/traces"
)

// Path is where Prometheus finds the numbers on the admin listener.
const Path = "/metrics"

// House is whose numbers are shown.
type House struct {
	Program  string // our version
	Router   Router
	Control  Control
	Certs    Certs
	Messages func() map[string]bus.Stats // by application; nil where the bus is a Redis of somebody's
	Services func() map[app.ServiceKey]app.Service
	Traces   func() traces.Numbers // nil: nothing is traced
}

// Router is *router.Router.
type Router interface {
	Numbers() map[app.Key]router.Numbers
}

// Control is *control.Controller.
type Control interface {
	Numbers() control.Numbers
	Instances() []control.Instance
}

// Certs is *certs.Set.
type Certs interface{ List() []certs.Entry }

const (
	// scrapesMax is how many may be answered at once: each looks at every open
	// socket.
	scrapesMax = 2

	// scrapeTime bounds an answer; Prometheus itself waits 10 s unless it is told
	// otherwise.
	scrapeTime = 10 * time.Second
)

// New is a handler that answers scrapes, in the text format or OpenMetrics, for
// whoever is let in before it.
func New(h House, log *slog.Logger) http.Handler {
	all := prometheus.NewRegistry()
	all.MustRegister(
		collector{h},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: scrapesMax,
		Timeout:             scrapeTime,
	})
}

// collector is a prometheus.Collector that asks the house anew each time.
type collector struct{ house House }

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range table() {
		to <- m.desc()
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	p := page{to: to, descs: map[string]described{}}
	for _, m := range table() {
		p.descs[m.Name] = described{m.desc(), m.Kind}
	}
	p.set("holdfast_build_info", 1, c.house.Program)
	p.traffic(c.house.Router.Numbers())
	p.planning(c.house.Control.Numbers())
	p.instances(c.house.Control.Instances())
	p.services(c.house.Services())
	p.messages(c.house.Messages())
	if c.house.Traces != nil {
		p.spans(c.house.Traces())
	}
	p.certificates(time.Now(), c.house.Certs.List())
}
