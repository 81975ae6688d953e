package control

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"holdfast/internal/app"
)

// takeLocked takes in what is asked for now. It says whether that is new.
func (c *Controller) takeLocked() bool {
	changed, w := c.store.Changed(), c.store.Wishes()
	first := c.changed == nil
	if changed == c.changed {
		return false
	}
	before := c.wishes
	c.changed, c.wishes = changed, w
	for k, wished := range w.Versions {
		if wished.Serving {
			c.versionLocked(k)
		}
		if v := c.versions[k]; v != nil { // one that leaves drains as it was told
			v.Version, v.known = wished, true
		}
	}
	under := map[string]bool{}
	for _, op := range underWay(w) {
		under[op.ID] = true
		if c.efforts[op.ID] == nil {
			c.beginLocked(op)
		}
	}
	c.drills = nil
	for _, op := range underWay(w) {
		if op.Drill != nil {
			c.drills = append(c.drills, op)
		}
	}
	for id, op := range w.Operations {
		if _, old := before.Operations[id]; !old && !first && op.Split != nil && op.Failure == nil {
			c.expectLocked(before.Services[op.Target.ServiceKey()], op)
		}
	}
	maps.DeleteFunc(c.efforts, func(id string, _ *effort) bool { return !under[id] })
	for _, id := range slices.Sorted(maps.Keys(w.Operations)) {
		op := w.Operations[id]
		old, ok := before.Operations[id]
		if ok && reflect.DeepEqual(old, op) || first && op.Stage == app.StageDone {
			continue
		}
		c.countOperationLocked(old, ok, op, time.Now())
		c.told = append(c.told, op)
		c.tellLocked(op)
	}
	return true
}

// beginLocked notes a new operation. What was learned of earlier attempts at
// the versions it begins is not held against them.
func (c *Controller) beginLocked(op app.Operation) {
	e := &effort{versions: map[app.Key]*attempt{}}
	for _, k := range needs(c.wishes, op) {
		e.attempt(k)
	}
	c.efforts[op.ID] = e
	fresh := op.Begun
	if op.Replaced != nil {
		fresh = append(slices.Clone(fresh), op.Target.Version)
	}
	for _, id := range fresh {
		v := c.versionLocked(op.Target.ServiceKey().Version(id))
		v.past, v.failed, v.lost, v.ready, v.reached, v.up = past{}, past{}, "", false, false, app.Deployed
		if op.Verb != app.VerbDeploy {
			v.up = app.Requested
		}
	}
}

// expectLocked has the versions that get traffic start with as many instances as
// carry it now, each with its part of them, so that a deploy under load is no
// outage. From there the scaler goes on.
func (c *Controller) expectLocked(s app.Service, op app.Operation) {
	carry := 0.0
	for id := range s.Split.Shares {
		if v := c.versions[s.Key().Version(id)]; v != nil {
			carry += float64(v.want)
		}
	}
	for id, share := range op.Split.Shares {
		v := c.versions[op.Target.ServiceKey().Version(id)]
		if v == nil || v.Scaling.Manual {
			continue
		}
		if enough := min(whole(carry*share), v.Scaling.Max); enough > max(v.want, v.load.Want) {
			v.load = history{Want: enough}
		}
	}
}

// tellLocked writes an operation's way into the log.
func (c *Controller) tellLocked(op app.Operation) {
	attrs := []any{"operation", op.ID, "verb", string(op.Verb), "app", op.Target.App, "service", op.Target.Service,
		"version", op.Target.Version, "stage", string(op.Stage)}
	if op.Instance != "" {
		attrs = append(attrs, "instance", op.Instance)
	}
	if op.Stage == app.StageDone {
		attrs = append(attrs, "dur", op.Ended.Sub(op.Asked))
	}
	if d := op.Drill; d != nil {
		attrs = append(attrs, "fault", string(d.Fault), "instances", d.Instances, "share", d.Share, "until", d.Until)
	}
	if op.Failure != nil {
		attrs = append(attrs, "cause", string(op.Failure.Cause), "detail", op.Failure.Detail)
	}
	c.log.Info("operation", attrs...)
}
