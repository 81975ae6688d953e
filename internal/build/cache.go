package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
)

// The layout under Dir/builds, for a build ID:
//
//	ID/app/        the copy of the sources, with what was installed into it
//	ID/...         what the runtime keeps beside it: env, bin, bundle
//	ID/complete    written last; without it the rest does not count
//	ID.lock        held exclusively while building or collecting, shared while in use
//	ID.log         what the tools wrote
//	failed-ID.log  the same of the last build of ID that failed
//
// A build is made in its final place, since a virtual environment and many
// scripts have absolute paths inside and would not survive a rename. Whatever is
// found without its mark and not locked was left behind by a build that was
// killed, and is swept away by the next build.

const (
	// keepBuilds is how many builds Collect keeps that are not in use: enough to
	// go back a few versions, few enough for node_modules of a usual size.
	keepBuilds = 10

	// keepFailed is how many logs of failed builds Collect keeps.
	keepFailed = 20

	// lockRounds bounds how often a build is done again because somebody removed
	// it before it could be locked, which nobody does on purpose.
	lockRounds = 5

	completeFile = "complete"
	idLength     = 32 // hex digits: 128 bits, and short enough for a script's first line
)

func (b *Builder) builds() string              { return filepath.Join(b.Dir, "builds") }
func (b *Builder) lockFile(id string) string   { return filepath.Join(b.builds(), id+".lock") }
func (b *Builder) logFile(id string) string    { return filepath.Join(b.builds(), id+".log") }
func (b *Builder) failedFile(id string) string { return filepath.Join(b.builds(), "failed-"+id+".log") }

func (b *Builder) place(id string) (place, error) {
	dir, err := filepath.Abs(filepath.Join(b.builds(), id))
	if err != nil {
		return place{}, fmt.Errorf("find the directory for builds: %w", err)
	}
	return place{dir: dir, app: filepath.Join(dir, "app")}, nil
}

// once returns the build id, made by make if it does not exist. It leases the
// build to this process until Collect.
func (b *Builder) once(ctx context.Context, id string, j *job, build func(place) (made, error)) (app.Artifact, error) {
	at, err := b.place(id)
	if err != nil {
		return app.Artifact{}, err
	}
	waiting := func() { j.note("the same sources are being built elsewhere; waiting for that") }

	for range lockRounds {
		// The usual case: it is there, and nobody has to wait for anybody.
		l, err := waitLock(ctx, b.lockFile(id), false, waiting)
		if err != nil {
			return app.Artifact{}, err
		}
		if m, ok := at.read(); ok {
			b.lease(id, l)
			return b.artifact(id, at, m, j.machine), nil
		}
		l.release()

		if l, err = waitLock(ctx, b.lockFile(id), true, waiting); err != nil {
			return app.Artifact{}, err
		}
		if _, ok := at.read(); !ok {
			b.sweep()
			at.lock = l
			if err := b.fresh(id, at, j, build); err != nil {
				os.Remove(b.lockFile(id)) // held: see tryLock
				l.release()
				return app.Artifact{}, err
			}
		}
		// An exclusive lock cannot become a shared one in one step; take it anew.
		l.release()
	}
	return app.Artifact{}, fmt.Errorf("build %s was removed %d times by others: %w", id, lockRounds, app.ErrBusy)
}

// fresh builds into at, whose lock is held, and marks it complete.
func (b *Builder) fresh(id string, at place, j *job, build func(place) (made, error)) (err error) {
	if err := removeAll(at.dir); err != nil {
		return fmt.Errorf("remove what was half-made: %w", err)
	}
	defer func() {
		if err != nil {
			if left := removeAll(at.dir); left != nil { // it does not count, and is swept later
				b.log().Warn("remove a failed build", "id", id, "err", left)
			}
		}
	}()
	if err := os.MkdirAll(at.app, 0o755); err != nil {
		return fmt.Errorf("make the build's directory: %w", err)
	}
	if err := j.out.open(b.failedFile(id)); err != nil {
		return err
	}
	start := time.Now()
	m, err := build(at)
	j.out.close()
	if err != nil {
		var e *Error
		switch {
		case errors.Is(err, errChanged):
			os.Remove(b.failedFile(id))
		case errors.As(err, &e):
			e.Output = b.failedFile(id)
		}
		return err
	}
	if err := at.mark(m); err != nil {
		return err
	}
	if err := os.Rename(b.failedFile(id), b.logFile(id)); err != nil {
		b.log().Warn("keep the build's output", "id", id, "err", err)
	}
	b.log().Info("built", "id", id, "runtime", j.recipe.Runtime, "dur", time.Since(start))
	return nil
}

// read returns what a complete build says about itself, and notes its use.
func (p place) read() (made, bool) {
	data, err := os.ReadFile(p.path(completeFile))
	if err != nil {
		return made{}, false
	}
	var m made
	if json.Unmarshal(data, &m) != nil || m.Command == "" {
		return made{}, false
	}
	if info, err := os.Stat(p.app); err != nil || !info.IsDir() {
		return made{}, false
	}
	now := time.Now()
	_ = os.Chtimes(p.path(completeFile), now, now) // only orders what Collect keeps
	return m, true
}

// mark declares the build complete, in one step.
func (p place) mark(m made) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("mark the build: %w", err)
	}
	beside := p.path(completeFile + ".new")
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("mark the build: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(beside, p.path(completeFile))
	}
	if err != nil {
		return fmt.Errorf("mark the build: %w", err)
	}
	return nil
}

// artifact is a build as others see it. PATH is put together anew each time: the
// machine's may have changed since the build.
func (b *Builder) artifact(id string, at place, m made, machine environ) app.Artifact {
	env := map[string]string{}
	for k, v := range m.Env {
		env[k] = v
	}
	env["PATH"] = joinPath(m.Path, machine.get("PATH"))
	return app.Artifact{ID: id, Dir: at.app, Command: m.Command, Env: env}
}

// lease keeps the shared lock on a build that was handed out.
func (b *Builder) lease(id string, l *lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leases[id] != nil {
		l.release()
		return
	}
	if b.leases == nil {
		b.leases = map[string]*lock{}
	}
	b.leases[id] = l
}

// Collect removes old builds: all but those in use, by this process (inUse) or
// by another one, and the ten used last. What inUse names is leased to
// this process from here on, also when an earlier process built it; what it does
// not name is released. It waits for nobody.
func (b *Builder) Collect(inUse ...string) error {
	b.mu.Lock()
	for id, l := range b.leases {
		if !slices.Contains(inUse, id) {
			l.release()
			delete(b.leases, id)
		}
	}
	b.mu.Unlock()
	for _, id := range inUse {
		if !isID(id) {
			continue
		}
		if at, err := b.place(id); err == nil && at.complete() {
			if l, _ := tryLock(b.lockFile(id), false); l != nil {
				b.lease(id, l)
			}
		}
	}

	type build struct {
		id   string
		used time.Time
	}
	var old []build
	var failed []build
	list, err := os.ReadDir(b.builds())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("collect old builds: %w", err)
	}
	for _, e := range list {
		if e.IsDir() && isID(e.Name()) && !slices.Contains(inUse, e.Name()) {
			if info, err := os.Stat(filepath.Join(b.builds(), e.Name(), completeFile)); err == nil {
				old = append(old, build{e.Name(), info.ModTime()})
			}
		}
		if id, ok := strings.CutPrefix(e.Name(), "failed-"); ok {
			if info, err := e.Info(); err == nil {
				failed = append(failed, build{strings.TrimSuffix(id, ".log"), info.ModTime()})
			}
		}
	}
	newest := func(x, y build) int { return cmp.Or(y.used.Compare(x.used), cmp.Compare(x.id, y.id)) }
	slices.SortFunc(old, newest)
	slices.SortFunc(failed, newest)
	var errs []error
	for _, o := range old[min(keepBuilds, len(old)):] {
		errs = append(errs, b.remove(o.id, true))
	}
	for _, o := range failed[min(keepFailed, len(failed)):] {
		errs = append(errs, os.Remove(b.failedFile(o.id)))
	}
	b.sweep()
	return errors.Join(errs...)
}

// Close releases every build that was handed out. They stay until somebody
// collects them.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.leases {
		l.release()
		delete(b.leases, id)
	}
	return nil
}

// sweep removes what killed builds left behind: directories without a mark that
// nobody has locked, and the locks and logs of nothing.
func (b *Builder) sweep() {
	list, err := os.ReadDir(b.builds())
	if err != nil {
		return
	}
	for _, e := range list {
		id := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".lock"), ".log")
		if !isID(id) {
			continue
		}
		at, err := b.place(id)
		if err != nil || at.complete() {
			continue
		}
		if err := b.remove(id, false); err != nil {
			b.log().Warn("sweep a build that was left half-made", "id", id, "err", err)
		}
	}
}

// remove removes a build unless somebody has it locked. Unless complete says so,
// it spares one that has become complete meanwhile.
func (b *Builder) remove(id string, complete bool) error {
	l, err := tryLock(b.lockFile(id), true)
	if l == nil {
		return err
	}
	defer l.release()
	at, err := b.place(id)
	if err != nil || !complete && at.complete() {
		return err
	}
	// The mark goes first: what follows may be interrupted.
	if err := os.Remove(at.path(completeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove build %s: %w", id, err)
	}
	if err := removeAll(at.dir); err != nil {
		return fmt.Errorf("remove build %s: %w", id, err)
	}
	os.Remove(b.logFile(id))
	return os.Remove(b.lockFile(id))
}

func (p place) complete() bool {
	_, err := os.Stat(p.path(completeFile))
	return err == nil
}

func isID(s string) bool {
	return len(s) == idLength && strings.Trim(s, "0123456789abcdef") == ""
}

// removeAll removes a tree that may hold read-only directories, as module
// caches do.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
