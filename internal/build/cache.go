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
	"sync"
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
	// bytesDefault is Builder.BytesMax when it is not said: some ten builds with
	// node_modules of a usual size.
	bytesDefault = 5_000_000_000

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
	waiting := sync.OnceFunc(func() { j.note("the same sources are being built elsewhere; waiting for that") })

	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for rounds := 0; rounds < lockRounds; {
		// The usual case: it is there, and nobody has to wait for anybody.
		l, err := tryLock(b.lockFile(id), false)
		if err != nil {
			return app.Artifact{}, err
		}
		if l != nil {
			if m, ok := at.read(); ok {
				at.use()
				b.lease(id, l)
				return b.artifact(id, at, m.made, j.machine), nil
			}
			l.release()
			// An exclusive lock is not waited for: another one may build meanwhile,
			// and keep the shared lock of what is then complete.
			if l, err = tryLock(b.lockFile(id), true); err != nil {
				return app.Artifact{}, err
			}
		}
		if l != nil {
			rounds++
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
			continue
		}
		waiting()
		select {
		case <-ctx.Done():
			return app.Artifact{}, context.Cause(ctx)
		case <-tick.C:
		}
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
	if err := at.mark(mark{made: m, Dir: at.dir, Bytes: size(at.dir)}); err != nil {
		return err
	}
	if err := os.Rename(b.failedFile(id), b.logFile(id)); err != nil {
		b.log().Warn("keep the build's output", "id", id, "err", err)
	}
	b.log().Info("built", "id", id, "runtime", j.recipe.Runtime, "dur", time.Since(start))
	return nil
}

// mark is what a complete build says about itself.
type mark struct {
	made
	Dir   string `json:"dir"`   // where it was made; elsewhere it does not work
	Bytes int64  `json:"bytes"` // what it takes on the disk, as its files' sizes say
}

// read returns the mark of a complete build.
func (p place) read() (mark, bool) {
	data, err := os.ReadFile(p.path(completeFile))
	if err != nil {
		return mark{}, false
	}
	var m mark
	if json.Unmarshal(data, &m) != nil || m.Command == "" || m.Dir != p.dir {
		return mark{}, false
	}
	if info, err := os.Stat(p.app); err != nil || !info.IsDir() {
		return mark{}, false
	}
	return m, true
}

// use notes that the build is in use, which orders what Collect keeps.
func (p place) use() {
	now := time.Now()
	_ = os.Chtimes(p.path(completeFile), now, now)
}

// size is what a directory's files take together. What cannot be read counts
// nothing: it is only a bound that is missed by that much.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// mark declares the build complete, in one step.
func (p place) mark(m mark) error {
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

// Has says whether the artifact is there, as Build made it. It does not block.
func (b *Builder) Has(a app.Artifact) bool {
	if !isID(a.ID) {
		return false
	}
	at, err := b.place(a.ID)
	if err != nil || at.app != a.Dir {
		return false
	}
	_, ok := at.read()
	return ok
}

// Collect removes builds that are not in use, by this process (inUse) or by
// another one, those used longest ago first, until all builds together take at
// most BytesMax. What inUse names is leased to this process from here on, also
// when an earlier process built it; what it does not name is released. It waits
// for nobody.
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
				at.use()
				b.lease(id, l)
			}
		}
	}

	builds, failed, err := b.list()
	if err != nil {
		return err
	}
	var bytes int64
	for _, o := range builds {
		bytes += o.bytes
	}
	var errs []error
	for _, o := range builds {
		if bytes <= cmp.Or(b.BytesMax, bytesDefault) {
			break
		}
		if slices.Contains(inUse, o.id) {
			continue
		}
		gone, err := b.remove(o.id, true)
		errs = append(errs, err)
		if gone {
			bytes -= o.bytes
		}
	}
	for _, o := range failed[:max(0, len(failed)-keepFailed)] {
		errs = append(errs, os.Remove(b.failedFile(o.id)))
	}
	b.sweep()
	return errors.Join(errs...)
}

// old is a build, or the log of one that failed.
type old struct {
	id    string
	used  time.Time
	bytes int64
}

// list lists complete builds and logs of failed ones, used longest ago first.
func (b *Builder) list() (builds, failed []old, err error) {
	list, err := os.ReadDir(b.builds())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("collect old builds: %w", err)
	}
	for _, e := range list {
		if e.IsDir() && isID(e.Name()) {
			at, err := b.place(e.Name())
			if err != nil {
				return nil, nil, err
			}
			info, err := os.Stat(at.path(completeFile))
			if err != nil {
				continue
			}
			o := old{id: e.Name()}
			// What does not work any more has no use to look back on.
			if m, ok := at.read(); ok {
				o.used, o.bytes = info.ModTime(), m.Bytes
			} else {
				o.bytes = size(at.dir)
			}
			builds = append(builds, o)
		}
		if id, ok := strings.CutPrefix(e.Name(), "failed-"); ok {
			if info, err := e.Info(); err == nil {
				failed = append(failed, old{id: strings.TrimSuffix(id, ".log"), used: info.ModTime()})
			}
		}
	}
	oldest := func(x, y old) int { return cmp.Or(x.used.Compare(y.used), cmp.Compare(x.id, y.id)) }
	slices.SortFunc(builds, oldest)
	slices.SortFunc(failed, oldest)
	return builds, failed, nil
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
		if _, err := b.remove(id, false); err != nil {
			b.log().Warn("sweep a build that was left half-made", "id", id, "err", err)
		}
	}
}

// remove removes a build unless somebody has it locked. Unless complete says so,
// it spares one that has become complete meanwhile.
func (b *Builder) remove(id string, complete bool) (gone bool, err error) {
	l, err := tryLock(b.lockFile(id), true)
	if l == nil {
		return false, err
	}
	defer l.release()
	at, err := b.place(id)
	if err != nil || !complete && at.complete() {
		return false, err
	}
	// The mark goes first: what follows may be interrupted.
	if err := os.Remove(at.path(completeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove build %s: %w", id, err)
	}
	if err := removeAll(at.dir); err != nil {
		return false, fmt.Errorf("remove build %s: %w", id, err)
	}
	os.Remove(b.logFile(id))
	return true, os.Remove(b.lockFile(id))
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
