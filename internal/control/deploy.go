package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// versionsKept is how many versions an application may have, as on App Engine.
// At the next deploy the oldest of those that are stopped, and that no rollback
// leads to, goes.
const versionsKept = 210

// Deployment is what Deploy is asked for.
type Deployment struct {
	Version    app.Version // Version.Version "": it is named by its contents
	Promote    bool        // all traffic of its service goes to it, once as many as it wants are ready
	KeepOthers bool        // the versions that this takes all traffic from go on serving
	Replace    bool        // what serves under the same name with other contents is replaced
	By         string      // who asks, for people
}

// Deploy brings a version up beside what serves, building it first if its
// artifact is missing. It accepts or refuses, and does not wait.
//
// What serves with the same contents under the same name is found again: it
// gets the new scaling, and the operation is done as soon as it is ready, which
// is mostly at once. One that serves with other contents is app.ErrExists, or
// with Replace gets the new ones: its instances are replaced one at a time,
// successor first, once they are built. A stopped one is replaced, once nothing
// of it runs any more. While another
// operation of the service is under way it is app.ErrBusy.
//
// The operation fails when the build does, when startTries instances have
// exited before one was ever ready, or when not enough are ready within the
// version's Ready.Within. Then traffic has not moved, and the version, unless it
// served before, is stopped.
func (c *Controller) Deploy(d Deployment) (app.Operation, error) {
	v := d.Version
	if v.Version == "" {
		v.Version = named(v)
	}
	op := app.Operation{Verb: app.VerbDeploy, Target: v.Key, By: d.By}
	switch {
	case v.App == "" || v.Service == "":
		return app.Operation{}, fmt.Errorf("deploy %s: its application or its service has no name: %w", v.Key, app.ErrInvalid)
	case v.Artifact.Command == "" && (v.Source == "" || c.cfg.Builder == nil):
		return app.Operation{}, fmt.Errorf("deploy %s: it has neither an artifact nor sources to build one from: %w", v.Key, app.ErrInvalid)
	}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if err := free(*w, v.ServiceKey()); err != nil {
			return err
		}
		old, known := w.Versions[v.Key]
		switch {
		case known && same(old, v):
			old.Scaling = v.Scaling
			v = old // with its artifact, and its age
		case known && old.Serving && d.Replace:
			op.Replaced = &old
			v.Serving, v.Edition = true, edition()
		case known && old.Serving:
			return fmt.Errorf("it serves with other contents; choose another version: %w", app.ErrExists)
		case c.leftOver(v):
			return fmt.Errorf("instances of other contents under this name still drain; choose another version: %w", app.ErrBusy)
		case !known:
			if err := makeRoom(w, v.App); err != nil {
				return err
			}
		}
		if v.CreatedAt.IsZero() {
			v.CreatedAt = op.Asked
		}
		w.Versions[v.Key] = v
		if _, ok := w.Apps[v.App]; !ok {
			w.Apps[v.App] = app.Application{ID: v.App, CreatedAt: op.Asked}
		}
		service, ok := w.Services[v.ServiceKey()]
		if !ok {
			service = app.Service{App: v.App, Name: v.Service, CreatedAt: op.Asked}
			w.Services[service.Key()] = service
		}
		serve(w, op, v.Version)
		if !d.Promote {
			return nil
		}
		by := service.Split.By
		if by == "" {
			by = app.ByIP
		}
		op.Split = &app.Split{By: by, Shares: map[string]float64{v.Version: 1}}
		if !d.KeepOthers {
			for _, k := range serving(*w) {
				if k.ServiceKey() == v.ServiceKey() && k != v.Key {
					op.Stop = append(op.Stop, k.Version)
				}
			}
			slices.Sort(op.Stop)
		}
		return nil
	})
}

// named names a version by all that makes its instances what they are, so that
// the same again is found again.
func named(v app.Version) string {
	v.Key.Version, v.Serving, v.CreatedAt, v.Scaling, v.Edition = "", false, time.Time{}, app.Scaling{}, ""
	if v.Source != "" {
		v.Artifact = app.Artifact{} // it follows from the rest
	}
	v.Artifact.Dir = ""
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	sum := sha256.Sum256(text)
	return "v" + hex.EncodeToString(sum[:5])
}

// same says whether two versions differ in nothing but what may change.
func same(a, b app.Version) bool {
	a.Scaling, a.Serving, a.CreatedAt, a.Artifact.Dir, a.Edition = b.Scaling, b.Serving, b.CreatedAt, b.Artifact.Dir, b.Edition
	if a.Source != "" && a.Source == b.Source {
		a.Artifact = b.Artifact
	}
	return reflect.DeepEqual(a, b)
}

// leftOver says whether instances run, or drain, that are known to be of other
// contents under v's name. What was found running and is of a name that nobody
// knows is taken for v's own.
func (c *Controller) leftOver(v app.Version) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.versions[v.Key]
	if known == nil || !known.known || same(known.Version, v) {
		return false
	}
	return slices.ContainsFunc(known.all, func(i *instance) bool { return !i.stopped })
}

// makeRoom sees that an application can have one more version.
func makeRoom(w *store.Wishes, project string) error {
	needed := map[app.Key]bool{}
	for _, s := range w.Services {
		for _, split := range append(slices.Clone(s.Past), s.Split) {
			for v := range split.Shares {
				needed[s.Key().Version(v)] = true
			}
		}
	}
	for _, op := range underWay(*w) {
		for _, k := range needs(*w, op) {
			needed[k] = true
		}
	}
	n := 0
	var stopped []app.Version
	for _, v := range w.Versions {
		if v.App != project {
			continue
		}
		n++
		if !v.Serving && !needed[v.Key] {
			stopped = append(stopped, v)
		}
	}
	if n < versionsKept {
		return nil
	}
	if len(stopped) == 0 {
		return fmt.Errorf("the application has %d versions; delete one: %w", n, app.ErrInvalid)
	}
	oldest := slices.MinFunc(stopped, func(a, b app.Version) int { return a.CreatedAt.Compare(b.CreatedAt) })
	delete(w.Versions, oldest.Key)
	return nil
}

// serve has versions of an operation's service serve, and notes those that did
// not, so that they stop again when it fails.
func serve(w *store.Wishes, op *app.Operation, versions ...string) {
	for _, id := range versions {
		v := w.Versions[op.Target.ServiceKey().Version(id)]
		if !v.Serving {
			v.Serving = true
			w.Versions[v.Key] = v
			op.Begun = append(op.Begun, id)
		}
	}
}

// free says why no operation may begin that changes what a service serves: one
// at a time, so that what comes of it is what one of them asked for.
func free(w store.Wishes, k app.ServiceKey) error {
	for _, op := range underWay(w) {
		if op.Instance == "" && op.Drill == nil && op.Target.ServiceKey() == k {
			return underWayError(op)
		}
	}
	return nil
}

// unneeded says why a version may not stop or go: an operation needs it.
func unneeded(w store.Wishes, k app.Key) error {
	for _, op := range underWay(w) {
		needed := slices.Contains(needs(w, op), k)
		if op.Split != nil && op.Target.ServiceKey() == k.ServiceKey() {
			needed = needed || op.Split.Shares[k.Version] > 0
		}
		if needed {
			return underWayError(op)
		}
	}
	return nil
}

func underWayError(op app.Operation) error {
	return fmt.Errorf("operation %s (%s of %s, %s) is under way; wait for it, or end it with: holdfast operations cancel %s: %w",
		op.ID, op.Verb, aim(op), op.Stage, op.ID, app.ErrBusy)
}

// shared says which versions get traffic of a service, for people.
func shared(s app.Split) string {
	text := ""
	for _, v := range slices.Sorted(maps.Keys(s.Shares)) {
		text += fmt.Sprintf(" %s=%g", v, s.Shares[v]*100)
	}
	return text
}
