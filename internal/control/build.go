package control

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

const (
	// buildsMost is how many builds run at once: compilers use every core they
	// find, and what serves should feel little of it.
	buildsMost = 2

	// buildMost bounds one build: the longest there are fetch and compile for
	// many minutes, and what takes longer hangs.
	buildMost = time.Hour
)

// Builder makes what versions run. Its methods may be called from several
// goroutines.
type Builder interface {
	// Has says whether the artifact is there, ready to start. It is asked often.
	Has(a app.Artifact) bool

	// Build makes v's artifact, and blocks until it is there or ctx ends. op is
	// the operation that waits for it, "" if none does. An error that has a
	// method Failure() app.Failure tells people more.
	Build(ctx context.Context, op string, v app.Version) (app.Artifact, error)
}

// building is a build that runs, or has ended and is not written down yet.
type building struct {
	// Set at the start, then constant.
	key    app.Key
	source string
	cancel context.CancelFunc

	// Guarded by the controller's mu.
	ended    bool
	artifact app.Artifact
	err      error
}

// serving lists the versions that should run.
func serving(w store.Wishes) (all []app.Key) {
	for k, v := range w.Versions {
		if v.Serving {
			all = append(all, k)
		}
	}
	return all
}

// thereLocked says whether a version's artifact is known to be there.
func (c *Controller) thereLocked(v app.Version) bool {
	if c.cfg.Builder == nil {
		return true
	}
	known := c.versions[v.Key]
	return known != nil && v.Artifact.ID != "" && known.there == v.Artifact.ID
}

// findArtifacts asks the builder about artifacts that were not seen yet. It is
// called without mu: the answer comes from a disk.
func (c *Controller) findArtifacts(w store.Wishes, keys []app.Key) {
	if c.cfg.Builder == nil {
		return
	}
	for _, k := range keys {
		v := w.Versions[k]
		c.mu.Lock()
		ask := !c.thereLocked(v) && v.Artifact.ID != "" && c.building[k] == nil
		c.mu.Unlock()
		if ask && c.cfg.Builder.Has(v.Artifact) {
			c.mu.Lock()
			c.versionLocked(k).there = v.Artifact.ID
			c.mu.Unlock()
		}
	}
}

// buildLocked has missing artifacts built, those first that somebody waits for,
// and ends builds that nobody wants any more. The functions it returns begin
// them, and are called without the lock.
func (c *Controller) buildLocked(ctx context.Context, now time.Time) (acts []func()) {
	for k, b := range c.building {
		if v, ok := c.wishes.Versions[k]; c.closing || !ok || !v.Serving || v.Source != b.source {
			b.cancel()
			delete(c.building, k)
		}
	}
	if c.closing || c.cfg.Builder == nil {
		return nil
	}
	waits := map[app.Key]string{}
	for _, op := range slices.Backward(underWay(c.wishes)) {
		for _, k := range needs(c.wishes, op) {
			waits[k] = op.ID
		}
	}
	missing := slices.DeleteFunc(serving(c.wishes), func(k app.Key) bool {
		return c.building[k] != nil || c.thereLocked(c.wishes.Versions[k]) ||
			waits[k] == "" && now.Before(c.versionLocked(k).failed.pause())
	})
	slices.SortFunc(missing, func(a, b app.Key) int {
		return cmp.Or(cmp.Compare(queue(waits[a]), queue(waits[b])), compareKeys(a, b))
	})
	for _, k := range missing {
		if len(c.building) >= buildsMost {
			break
		}
		acts = append(acts, c.buildOneLocked(ctx, waits[k], c.wishes.Versions[k]))
	}
	return acts
}

// queue puts versions that no operation waits for behind all others.
func queue(op string) string { return cmp.Or(op, "~") }

func (c *Controller) buildOneLocked(ctx context.Context, op string, v app.Version) func() {
	ctx, cancel := context.WithTimeout(ctx, buildMost)
	b := &building{key: v.Key, source: v.Source, cancel: cancel}
	c.building[v.Key] = b
	c.busy.Add(1)
	return func() {
		go func() { // ends when the builder's Build does, soon after ctx
			defer c.busy.Done()
			defer cancel()
			var artifact app.Artifact
			var err error
			select {
			case c.builds <- struct{}{}: // a cancelled one may still be on its way out
				artifact, err = c.cfg.Builder.Build(ctx, op, v)
				<-c.builds
			case <-ctx.Done():
				err = ctx.Err()
			}
			if err == nil && artifact.Command == "" {
				err = errors.New("the build made nothing that could be started")
			}
			c.mu.Lock()
			b.ended, b.artifact, b.err = true, artifact, err
			if errors.Is(ctx.Err(), context.Canceled) && c.building[v.Key] == b {
				delete(c.building, v.Key) // not its own fault: it is built again when it is wanted
			}
			c.mu.Unlock()
			c.hint()
		}()
	}
}

// madeLocked lists the builds that have ended.
func (c *Controller) madeLocked() (all []*building) {
	for _, k := range slices.SortedFunc(maps.Keys(c.building), compareKeys) {
		if b := c.building[k]; b.ended {
			all = append(all, b)
		}
	}
	return all
}

// takenLocked forgets builds that are written down.
func (c *Controller) takenLocked(now time.Time, made []*building) {
	for _, b := range made {
		if c.building[b.key] != b {
			continue
		}
		delete(c.building, b.key)
		v := c.versionLocked(b.key)
		if b.err == nil {
			v.there, v.failed = b.artifact.ID, past{}
			continue
		}
		// An operation that waited for it has failed with it. Without one the
		// version stays wanted, and is tried again after a pause.
		v.failed = past{v.failed.Failures + 1, now}
		if !c.neededLocked(b.key) {
			c.log.Warn("build", "app", b.key.App, "service", b.key.Service, "version", b.key.Version, "err", b.err)
		}
	}
}

// neededLocked says whether an operation waits for the version.
func (c *Controller) neededLocked(k app.Key) bool {
	for _, e := range c.efforts {
		if e.versions[k] != nil {
			return true
		}
	}
	return false
}

// buildFailure tells people of a build that failed.
func buildFailure(err error) *app.Failure {
	failure := app.Failure{Detail: err.Error()}
	var told interface{ Failure() app.Failure }
	if errors.As(err, &told) {
		failure = told.Failure()
	}
	failure.Cause = app.BuildFailed
	return &failure
}
