// Package build turns an app's directory into an app.Artifact: it copies what
// belongs to the app, installs what it depends on, compiles what must be
// compiled and says which command starts it. What was built once is found again
// by the hash of sources and settings. It knows nothing of instances, traffic or
// app.yaml's syntax. Start with Builder.Build; one file for each runtime says
// what is done for it.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

const (
	// buildMax bounds one build, waiting for another one of the same sources
	// included: Cloud Build's own patience is 10 minutes, and a laptop is slower.
	buildMax = 30 * time.Minute

	// changesMax is how often a build starts over because the sources changed
	// while they were copied, as they do under an editor that saves.
	changesMax = 5
)

// Phase names a part of a build, for progress and errors.
type Phase string

// The phases, in their order.
const (
	Collect Phase = "collect" // find, hash and copy the sources
	Prepare Phase = "prepare" // find the toolchain and the start command
	Install Phase = "install" // fetch what the app depends on
	Compile Phase = "compile" // make what runs
)

// Builder builds apps and keeps what it built under Dir. Its methods may be
// called from several goroutines, and several processes may share a Dir. The
// fields do not change once it is in use.
type Builder struct {
	Dir     string       // made when it is missing
	Log     *slog.Logger // nil: nothing is logged
	Environ []string     // the machine's environment, as from os.Environ; nil means exactly that

	// BytesMax is what all builds may take on the disk before Collect removes
	// those that are not in use; 0 means 5 GB.
	BytesMax int64

	mu     sync.Mutex       // guards the following
	leases map[string]*lock // builds handed out and not yet released, by id
}

// Options are what the one who asks for a build may choose.
type Options struct {
	// Nearest takes the nearest version of a runtime that the machine has when
	// it lacks the one that was asked for.
	Nearest bool

	// Progress, when set, is called as a phase begins, with what is being done.
	// It is called from the building goroutine and must not block.
	Progress func(p Phase, what string)
}

// Build makes an artifact of the app in src. When the same sources were built
// before with the same settings it returns at once with what was made then. Two
// builds of the same sources, by whatever processes, are done once: the later
// one waits.
//
// What the tools write reaches out line by line, free of control sequences, as
// it comes; out may be nil. An error that a person can act on is an *Error. When
// ctx ends, every process of the build is killed and nothing half-made remains.
//
// The artifact stays until Collect is called without its id.
func (b *Builder) Build(ctx context.Context, src string, r app.Recipe, opt Options, out io.Writer) (app.Artifact, error) {
	from, err := b.open(src)
	if err != nil {
		return app.Artifact{}, err
	}
	defer from.root.Close()
	return b.build(ctx, from, r, opt, out)
}

// BuildTree is Build for the tree id that s keeps. It makes the same artifact as
// Build makes of the folder that the tree was listed from. What is there already
// is found without writing anything; else the sources are checked out to where
// they are built.
func (b *Builder) BuildTree(ctx context.Context, s *source.Store, id string, r app.Recipe, opt Options, out io.Writer) (app.Artifact, error) {
	t, err := s.Tree(id)
	if err != nil {
		return app.Artifact{}, ended(ctx, Collect, err)
	}
	if err := b.makeDir(); err != nil {
		return app.Artifact{}, err
	}
	return b.build(ctx, &kept{store: s, id: id, tree: t}, r, opt, out)
}

func (b *Builder) build(ctx context.Context, src sources, r app.Recipe, opt Options, out io.Writer) (app.Artifact, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildMax, fmt.Errorf("the build took longer than %v", buildMax))
	defer cancel()
	if out == nil {
		out = io.Discard
	}
	j := &job{b: b, src: src, recipe: r, opt: opt, out: &output{to: out}, machine: b.machine()}
	j.phase(Prepare, "finding the toolchain")
	rt, err := j.runtime()
	if err != nil {
		return app.Artifact{}, err
	}
	j.tools, err = rt.choose(ctx, j)
	if err != nil {
		return app.Artifact{}, ended(ctx, Prepare, err)
	}

	for range changesMax {
		j.phase(Collect, "reading "+src.String())
		t, err := src.list(ctx, j)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return app.Artifact{}, ended(ctx, Collect, err)
		}
		id := j.id(t)
		a, err := b.once(ctx, id, j, func(to place) (made, error) {
			return j.make(ctx, rt, to, t)
		})
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			b.log().Info("build failed", "source", src.String(), "id", id, "err", err)
			return app.Artifact{}, ended(ctx, Compile, err)
		}
		return a, nil
	}
	return app.Artifact{}, restless(src)
}

// open opens src so that nothing outside it can be reached through it, and
// makes the builder's own directory, which must not become a part of the app.
func (b *Builder) open(src string) (*folder, error) {
	dir, err := filepath.Abs(src)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", src, err)
	}
	if err := b.makeDir(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &Error{Phase: Collect, Err: err, Next: noFolder}
	}
	f := &folder{root: root, dir: dir}
	builds, err := filepath.Abs(b.Dir)
	if err == nil {
		builds, err = filepath.EvalSymlinks(builds)
	}
	if real, err2 := filepath.EvalSymlinks(dir); err == nil && err2 == nil {
		if rel, err := filepath.Rel(real, builds); err == nil && filepath.IsLocal(rel) {
			f.own = filepath.ToSlash(rel)
		}
	}
	if f.own == "." {
		root.Close()
		return nil, &Error{Phase: Collect, Err: fmt.Errorf("%s is where builds are kept, not an app", dir)}
	}
	return f, nil
}

func (b *Builder) makeDir() error {
	if err := os.MkdirAll(b.builds(), 0o755); err != nil {
		return fmt.Errorf("make the directory for builds: %w", err)
	}
	return nil
}

func (b *Builder) log() *slog.Logger {
	if b.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return b.Log
}

// job is one call of Build.
type job struct {
	b       *Builder
	src     sources
	recipe  app.Recipe
	opt     Options
	out     *output
	machine environ // what the machine's environment gives to tools
	tools   []tool  // the toolchain that was chosen, the one that matters first

	// Set by make.
	at place
}

// place is where a build is made: at its final path from the start, because
// virtual environments and the like have absolute paths inside. It counts only
// once it is marked complete.
type place struct {
	dir  string // the build's own directory
	app  string // the copy of the sources; the artifact's Dir
	lock *lock  // held while it is being built
}

func (p place) path(name ...string) string {
	return filepath.Join(append([]string{p.dir}, name...)...)
}

// made is what a runtime says about what it built.
type made struct {
	Command string            `json:"command"`
	Env     map[string]string `json:"env,omitempty"`
	Path    []string          `json:"path,omitempty"` // goes before the machine's PATH
}

func (j *job) phase(p Phase, what string) {
	if j.opt.Progress != nil {
		j.opt.Progress(p, what)
	}
}

// make copies the sources and lets the runtime build in the copy.
func (j *job) make(ctx context.Context, rt appRuntime, to place, t source.Tree) (made, error) {
	j.at = to
	j.phase(Collect, fmt.Sprintf("copying %d files", len(t)))
	// Verified as it is written: an editor may have saved since it was listed,
	// and the artifact would be found by the wrong name for ever.
	if err := j.src.copy(ctx, t, to.app); err != nil {
		return made{}, ended(ctx, Collect, err)
	}
	return rt.build(ctx, j)
}
