package appyaml

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"holdfast/internal/app"
)

// InstancesMax is how many instances may be asked for beside an app.yaml: what
// one machine can be expected to run of one app. A file may ask for more.
const InstancesMax = 200

// Overlay is what is said beside an app.yaml, by a command's flags or by a
// request, and wins over it. Its zero value says nothing.
type Overlay struct {
	Service   string            // "": the file's
	Env       map[string]string // added to the file's; the same names are replaced
	Instances int               // run so many, whatever the file says about scaling; 0: as it says
}

// Check says whether the overlay may be laid over a version. The error matches
// app.ErrInvalid and is meant for people.
func (o Overlay) Check() error {
	if o.Service != "" {
		if why := checkLabel(o.Service); why != "" {
			return fmt.Errorf("service %s: %s: %w", quote(o.Service), why, app.ErrInvalid)
		}
	}
	if o.Instances < 0 || o.Instances > InstancesMax {
		return fmt.Errorf("%d instances: want 1 to %d: %w", o.Instances, InstancesMax, app.ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		if what, hint := checkVariable(name, o.Env[name]); what != "" {
			return fmt.Errorf("variable %s: %s: %w", what, hint, app.ErrInvalid)
		}
	}
	return nil
}

// Apply lays the overlay over v, or returns Check's error and changes nothing.
// v's maps are replaced, not written to.
func (o Overlay) Apply(v *app.Version) error {
	if err := o.Check(); err != nil {
		return err
	}
	if o.Service != "" {
		v.Service = o.Service
	}
	if o.Instances > 0 {
		v.Scaling = app.Scaling{Manual: true, Min: o.Instances, Max: o.Instances}
	}
	if len(o.Env) > 0 {
		env := maps.Clone(v.Env)
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, o.Env)
		v.Env = env
	}
	return nil
}

// The bounds of automatic_scaling that are checked in two places.
const (
	minCoolDown       = 60 * time.Second
	minCPUUtilization = 1e-6
)

// CheckScaling says whether a version may scale like this; the bounds are
// those of the file. The error matches app.ErrInvalid and is meant for people.
func CheckScaling(s app.Scaling) error {
	bad := func(name string, value, least, most any) error {
		return fmt.Errorf("%s is %v: want %v to %v: %w", name, value, least, most, app.ErrInvalid)
	}
	if s.Manual {
		if s.Min != s.Max || s.Min < 1 || s.Min > maxInstances {
			return bad("instances", s.Min, 1, maxInstances)
		}
		return nil
	}
	switch {
	case s.Min < 1 || s.Min > maxInstances:
		return bad("min_num_instances", s.Min, 1, maxInstances)
	case s.Max < 1 || s.Max > maxInstances:
		return bad("max_num_instances", s.Max, 1, maxInstances)
	case s.Min > s.Max:
		return fmt.Errorf("min_num_instances (%d) is more than max_num_instances (%d): %w", s.Min, s.Max, app.ErrInvalid)
	case s.CoolDown < minCoolDown || s.CoolDown > maxSeconds*time.Second:
		return bad("cool_down_period_sec", s.CoolDown.Seconds(), minCoolDown.Seconds(), maxSeconds)
	case !(s.CPU >= minCPUUtilization && s.CPU <= 1): // NaN too
		return bad("cpu_utilization", s.CPU, minCPUUtilization, 1)
	case s.Connections < 0 || s.Connections > math.MaxInt32:
		return bad("target_concurrent_requests", s.Connections, 0, math.MaxInt32)
	}
	return nil
}

// DefaultScaling is how a version scales whose file says nothing about it.
func DefaultScaling() app.Scaling { return defaults().Scaling }
