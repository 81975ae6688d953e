package appyaml

import (
	"fmt"
	"math"
	"strings"

	"holdfast/internal/app"
)

// target reads one of the targets that have no field of their own.
func (r *reader) target(n *node) {
	var i int
	r.whole(&i, 1, math.MaxInt32)(n)
	if n.bad {
		return
	}
	if r.v.Scaling.Targets == nil {
		r.v.Scaling.Targets = map[string]float64{}
	}
	r.v.Scaling.Targets[strings.TrimPrefix(n.name, "automatic_scaling.")] = float64(i)
}

// metric reads one entry of custom_metrics.
func (r *reader) metric(n *node) {
	var m app.Metric
	section{
		"metric_name":                r.text(&m.Name, word, "a name"),
		"target_type":                r.oneOf(&m.Type, "GAUGE", "DELTA_PER_SECOND", "DELTA_PER_MINUTE"),
		"target_utilization":         r.number(&m.Utilization, 1e-6, 1e12),
		"single_instance_assignment": r.number(&m.PerInstance, 1e-6, 1e12),
		"filter": value(func(n *node) {
			if r.is(n, scalar) {
				m.Filter = n.text
			}
		}),
	}.take(r, n)
	if n.bad || !r.required(n, "metric_name", "target_type") || !r.good(n.name+".target_utilization", n.name+".single_instance_assignment") {
		return
	}
	if (m.Utilization > 0) == (m.PerInstance > 0) {
		r.wrong(n, "", "%s must have one of target_utilization and single_instance_assignment", n.name)
		return
	}
	r.v.Scaling.Metrics = append(r.v.Scaling.Metrics, m)
}

func (r *reader) finishScaling() {
	automatic, manual := r.seen["automatic_scaling"], r.seen["manual_scaling"]
	s := &r.v.Scaling
	switch {
	case automatic != nil && manual != nil:
		second, first := manual, automatic
		if second.key.line < first.key.line {
			second, first = first, second
		}
		r.fail(second.key, fmt.Sprintf("%s and %s (line %d) are both there", second.name, first.name, first.key.line), "keep one of them")
	case manual != nil:
		if !manual.bad && r.required(manual, "instances") {
			// Nothing scales by itself, so that nothing of that remains.
			*s = app.Scaling{Manual: true, Min: s.Min, Max: s.Min}
		}
	case s.Min > s.Max && r.good("automatic_scaling.min_num_instances", "automatic_scaling.max_num_instances"):
		least, most := r.seen["automatic_scaling.min_num_instances"], r.seen["automatic_scaling.max_num_instances"]
		switch {
		case least == nil:
			r.fail(most.place, fmt.Sprintf("automatic_scaling: max_num_instances (%d) is less than min_num_instances (%d, the default)", s.Max, s.Min), "set min_num_instances too")
		case most == nil:
			r.fail(least.place, fmt.Sprintf("automatic_scaling: min_num_instances (%d) is more than max_num_instances (%d, the default)", s.Min, s.Max), "set max_num_instances too")
		default:
			r.fail(least.place, fmt.Sprintf("automatic_scaling: min_num_instances (%d) is more than max_num_instances (%d)", s.Min, s.Max), "")
		}
	}
}
