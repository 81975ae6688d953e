package control

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// This is the one mechanism behind all verbs. An operation is accepted in a
// transaction that writes down what it begins; it waits until the versions it
// needs are built and ready; and its effect and its end are one transaction.
// So it happens exactly once, whatever becomes of this process in between.

const (
	// operationsKept is how many ended operations of an application stay for
	// people to read.
	operationsKept = 200

	// idDigits is the length of an operation's number in base 36: milliseconds
	// since 1970 fit for 3,000 years, and numbers of one length sort as text.
	idDigits = 9
)

// ask writes down what somebody asks for: begin changes the wishes and says
// what the operation shall do when what it needs is ready. If that is so
// already, or if it needs nothing, it is done in the same transaction.
func (c *Controller) ask(op app.Operation, begin func(w *store.Wishes, op *app.Operation) error) (app.Operation, error) {
	err := c.store.Update(func(w *store.Wishes) error {
		now := wallClock(time.Now())
		op.ID, op.Asked = newID(w, now), now
		if err := begin(w, &op); err != nil {
			return err
		}
		yield(w, op, now)
		c.findArtifacts(*w, needs(*w, op))
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closing {
			return fmt.Errorf("everything is being stopped: %w", app.ErrBusy)
		}
		op.Stage = c.stageLocked(*w, op)
		if op.Stage == app.StageDone {
			op = finish(w, op, now, nil)
		} else {
			w.Operations[op.ID] = op
		}
		return nil
	})
	if err != nil {
		return app.Operation{}, fmt.Errorf("%s %s: %w", op.Verb, aim(op), err)
	}
	return op, nil
}

// aim is what an operation is about, as people are told.
func aim(op app.Operation) string {
	k := op.Target
	switch {
	case op.Instance != "":
		return "instance " + op.Instance
	case k.Version != "":
		return k.String()
	case k.Service != "":
		return k.ServiceKey().String()
	}
	return k.App
}

// newID is greater than the id of every operation before, also when the clock
// was set back.
func newID(w *store.Wishes, now time.Time) string {
	n := now.UnixMilli()
	for id := range w.Operations {
		digits, _ := strings.CutPrefix(id, "op-")
		if other, err := strconv.ParseInt(digits, 36, 64); err == nil && len(digits) == idDigits {
			n = max(n, other+1)
		}
	}
	digits := strconv.FormatInt(n, 36)
	return "op-" + strings.Repeat("0", max(0, idDigits-len(digits))) + digits
}

// wallClock is a time as the store keeps it.
func wallClock(t time.Time) time.Time { return t.Round(0) }

// underWay lists the operations that have not ended, the oldest first.
func underWay(w store.Wishes) (all []app.Operation) {
	for _, id := range slices.Sorted(maps.Keys(w.Operations)) {
		if op := w.Operations[id]; op.Stage != app.StageDone {
			all = append(all, op)
		}
	}
	return all
}

// needs is the versions that must be ready before an operation is done: what it
// is about, what it has begun, and what gets a share that has none. A version
// that has one already keeps it, however it feels.
func needs(w store.Wishes, op app.Operation) (all []app.Key) {
	if op.Instance != "" {
		return nil
	}
	k := op.Target.ServiceKey()
	versions := map[string]bool{}
	for _, v := range op.Begun {
		versions[v] = true
	}
	if op.Verb == app.VerbDeploy || op.Verb == app.VerbStart {
		versions[op.Target.Version] = true
	}
	if op.Split != nil {
		has := w.Services[k].Split.Shares
		for v := range op.Split.Shares {
			if has[v] == 0 {
				versions[v] = true
			}
		}
	}
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		all = append(all, k.Version(v))
	}
	return all
}

// stageLocked is how far an operation has come, of which nothing has failed.
func (c *Controller) stageLocked(w store.Wishes, op app.Operation) app.Stage {
	switch {
	case op.Drill != nil:
		return app.StageDrilling
	case op.Instance != "":
		return app.StageStarting
	}
	stage := app.StageDone
	for _, k := range needs(w, op) {
		v := w.Versions[k]
		switch {
		case !c.thereLocked(v):
			return app.StageBuilding
		case c.readyLocked(v) < c.enoughLocked(op, v):
			stage = app.StageStarting
		}
	}
	return stage
}

// enoughLocked is how many ready instances an operation waits for: of a version
// that it has begun, as many as there should be; of one that serves already its
// least number, so that a rollback does not wait for a scaler.
func (c *Controller) enoughLocked(op app.Operation, v app.Version) int {
	least := max(1, v.Scaling.Min) // flex never scales to zero
	if known := c.versions[v.Key]; known != nil && slices.Contains(op.Begun, v.Version) {
		return max(least, known.want)
	}
	return least
}

// finish ends an operation: with a failure what it began is undone, without one
// it has its effect, whole, unless what it needs has gone meanwhile.
func finish(w *store.Wishes, op app.Operation, now time.Time, failure *app.Failure) app.Operation {
	k := op.Target.ServiceKey()
	if gone := missing(*w, op); failure == nil && gone != "" {
		failure = &app.Failure{Cause: app.Superseded, Detail: gone}
	}
	service := w.Services[k]
	if failure == nil && op.Split != nil {
		service = moved(service, *op.Split)
		w.Services[k] = service
	}
	stop := op.Stop
	if failure != nil {
		restore(w, op)
		stop = op.Begun
	}
	for _, id := range stop {
		v, ok := w.Versions[k.Version(id)]
		// With its traffic it goes only if just that was asked for.
		if ok && v.Serving && (service.Split.Shares[id] == 0 || op.Verb == app.VerbStop) {
			v.Serving = false
			w.Versions[v.Key] = v
		}
	}
	op.Stage, op.Ended, op.Failure = app.StageDone, now, failure
	w.Operations[op.ID] = op
	forget(w, op.Target.App)
	return op
}

// restore gives a version the contents back that a failed operation replaced,
// unless something else has become of it meanwhile.
func restore(w *store.Wishes, op app.Operation) {
	v, ok := w.Versions[op.Target]
	if op.Replaced == nil || !ok {
		return
	}
	was := *op.Replaced
	was.Serving = v.Serving
	w.Versions[op.Target] = was
}

// missing says what an operation needs that is not asked for any more.
func missing(w store.Wishes, op app.Operation) string {
	if _, ok := w.Services[op.Target.ServiceKey()]; !ok && op.Split != nil {
		return "the service was deleted meanwhile"
	}
	for _, k := range needs(w, op) {
		if v, ok := w.Versions[k]; !ok {
			return fmt.Sprintf("version %s was deleted meanwhile", k.Version)
		} else if !v.Serving {
			return fmt.Sprintf("version %s was stopped meanwhile", k.Version)
		}
	}
	return ""
}

// moved is a service with another split, the present one kept for a rollback.
func moved(s app.Service, to app.Split) app.Service {
	if len(s.Split.Shares) > 0 && !sameSplit(s.Split, to) {
		s.Past = slices.Insert(slices.Clone(s.Past), 0, s.Split)
		s.Past = s.Past[:min(len(s.Past), app.SplitsKept)]
	}
	s.Split = to
	return s
}

func sameSplit(a, b app.Split) bool { return a.By == b.By && maps.Equal(a.Shares, b.Shares) }

// forget drops the oldest ended operations of an application that has too many.
func forget(w *store.Wishes, project string) {
	var ended []string
	for id, op := range w.Operations {
		if op.Target.App == project && op.Stage == app.StageDone {
			ended = append(ended, id)
		}
	}
	slices.Sort(ended)
	for _, id := range ended[:max(0, len(ended)-operationsKept)] {
		delete(w.Operations, id)
	}
}

// leaves is why the instances of a version leave that does not serve any more:
// the latest operation that took it out of service says so.
func leaves(w store.Wishes, k app.Key) app.Cause {
	latest, cause := "", app.Deployed
	for id, op := range w.Operations {
		if id < latest || op.Stage != app.StageDone || op.Instance != "" || op.Target.ServiceKey() != k.ServiceKey() {
			continue
		}
		about := op.Target.Version == k.Version || op.Target.Version == ""
		switch {
		case op.Failure != nil && slices.Contains(op.Begun, k.Version):
			latest, cause = id, op.Failure.Cause
			if cause == app.Cancelled || cause == app.Superseded {
				cause = app.Requested
			}
		case op.Failure != nil:
		case about && (op.Verb == app.VerbStop || op.Verb == app.VerbDelete):
			latest, cause = id, app.Requested
		case slices.Contains(op.Stop, k.Version):
			latest, cause = id, app.Deployed
		}
	}
	return cause
}
