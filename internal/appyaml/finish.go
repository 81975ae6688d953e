package appyaml

import (
	"fmt"
	"strings"
)

// finish judges what only the whole file shows: what is missing, what does not
// fit together, and what deserves a warning. It does not judge values whose
// reading failed already.
func (r *reader) finish(root *node) {
	r.finishGeneral(root)
	r.finishAffinity()
	r.finishNetwork()
	r.finishResources()
	r.finishChecks()
	r.finishScaling()
	r.finishEndpoints()
	r.finishBus()
	r.warnIgnored()
}

// finishAffinity: the WebSockets page of App Engine writes session_affinity at
// the top level, its reference under network.
func (r *reader) finishAffinity() {
	above, inside := r.affinityAbove, r.affinityInNetwork
	switch {
	case above != nil && inside != nil && *above != *inside:
		n := r.seen["session_affinity"]
		r.fail(n.key, fmt.Sprintf("session_affinity is %v here, and %v under network in line %d", *above, *inside, r.seen["network.session_affinity"].key.line), "keep one, best the one under network")
	case inside != nil:
		r.v.Affinity = *inside
	case above != nil:
		r.v.Affinity = *above
	}
	if n := r.seen["beta_settings.holdfast.affinity"]; n != nil && !n.bad && !r.v.Affinity {
		r.warn(n.key, "holdfast.affinity has no effect without session_affinity: true")
	}
	if n := r.seen["beta_settings.holdfast.rebalance"]; n != nil && r.v.Affinity && r.v.Rebalance {
		r.warn(n.key, "holdfast.rebalance has no effect with session_affinity: it leads clients back to where they were")
	}
}

func (r *reader) finishEndpoints() {
	n, e := r.seen["endpoints_api_service"], &r.v.Endpoints
	if n == nil || n.bad || !r.good("endpoints_api_service.name", "endpoints_api_service.config_id", "endpoints_api_service.rollout_strategy") {
		return
	}
	if e.Name == "" {
		r.fail(n.key, "endpoints_api_service has no name", "")
	}
	if e.Rollout == "" {
		e.Rollout = "fixed"
	}
	switch {
	case e.Rollout == "fixed" && e.ConfigID == "":
		r.fail(n.key, "endpoints_api_service has no config_id", `a fixed rollout_strategy needs one; "rollout_strategy: managed" needs none`)
	case e.Rollout == "managed" && e.ConfigID != "":
		r.fail(r.seen["endpoints_api_service.config_id"].key, "config_id is of no use with a managed rollout_strategy", "remove one of them")
	}
}

// finishBus: a bus that nobody can find is a slip.
func (r *reader) finishBus() {
	if n := r.seen["beta_settings.holdfast.bus_env"]; n != nil && !n.bad && r.seen["beta_settings.holdfast.bus"] == nil {
		r.fail(n.key, "holdfast.bus_env names a variable for a bus, and there is none", `add "holdfast.bus: redis"`)
	}
	if n := r.seen["beta_settings.holdfast.bus"]; n != nil && r.v.Bus {
		for _, name := range []string{"REDIS_URL", r.v.BusEnv} {
			if _, said := r.v.Env[name]; said {
				r.warn(n.key, fmt.Sprintf("%s is set by env_variables, and so does not lead to the bus", name))
			}
		}
	}
}

// warnIgnored names in one warning all that has no effect.
func (r *reader) warnIgnored() {
	if len(r.ignored) == 0 {
		return
	}
	names := make([]string, len(r.ignored))
	for i, n := range r.ignored {
		names[i] = n.name
	}
	r.warn(r.ignored[0].key, "without effect in the flexible environment: "+strings.Join(names, ", "))
}
