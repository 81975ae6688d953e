package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/build"
	"holdfast/internal/logs"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

const (
	// collectPause is the least time between two collections: they look at every
	// file of the sources.
	collectPause = 10 * time.Minute

	// recentMax is how long an artifact counts as in use after it was asked for,
	// whatever the wishes say: control has yet to write it into them.
	recentMax = time.Hour

	// opLogsKept is how many logs of operations that are forgotten stay.
	opLogsKept = 20
)

// builder makes what versions run from the sources that were uploaded. It is
// control's Builder, and clears up behind it.
type builder struct {
	builds     *build.Builder
	sources    *source.Store
	sourcesMax int64  // bytes that sources may take before unused ones go
	dir        string // of the operations' logs
	nearest    bool   // see build.Options
	log        *slog.Logger

	mu     sync.Mutex           // guards the following
	recent map[string]time.Time // when an artifact was asked for last, by id
	logs   map[string]*opLog    // those being written, by operation
}

// logPath is where the log of an operation is kept.
func (b *builder) logPath(op string) string { return filepath.Join(b.dir, op+".log") }

// Has implements control.Builder.
func (b *builder) Has(a app.Artifact) bool {
	if !b.builds.Has(a) {
		return false
	}
	b.asked(a.ID)
	return true
}

func (b *builder) asked(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.recent == nil {
		b.recent = map[string]time.Time{}
	}
	b.recent[id] = time.Now()
}

// Build implements control.Builder: it builds v.Source with v.Recipe, and what
// the tools write goes to the operation's log. What was built before is found
// again in milliseconds. Errors are *buildFailure unless ctx has ended.
func (b *builder) Build(ctx context.Context, op string, v app.Version) (app.Artifact, error) {
	l, err := b.openLog(op)
	if err != nil {
		return app.Artifact{}, &buildFailure{err: fmt.Errorf("build %s: %w", v.Key, err)}
	}
	defer b.closeLog(op, l)
	note := func(format string, args ...any) {
		if err := l.append(fmt.Sprintf(format, args...)); err != nil {
			b.log.Warn("write operation log", "operation", op, "err", err)
		}
	}
	out := l.stream()
	defer out.Close()

	note("building %s", v.Key)
	start := time.Now()
	a, err := b.builds.BuildTree(ctx, b.sources, v.Source, v.Recipe, build.Options{
		Nearest: b.nearest,
		Progress: func(p build.Phase, what string) {
			if p == build.Collect || p == build.Prepare { // the others show their commands
				note("%s: %s", p, what)
			}
		},
	}, out)
	switch {
	case err == nil:
		note("%s is built (%v)", v.Key, time.Since(start).Round(time.Millisecond))
		b.asked(a.ID)
		return a, nil
	case ctx.Err() != nil:
		note("%s: the build was stopped: %v", v.Key, context.Cause(ctx))
		return app.Artifact{}, fmt.Errorf("build %s: %w", v.Key, err)
	}
	failed := &buildFailure{err: fmt.Errorf("build %s: %w", v.Key, err)}
	f := failed.Failure()
	note("%s: %s", f.Cause, f.Detail)
	if f.Next != "" {
		note("next: %s", f.Next)
	}
	return app.Artifact{}, failed
}

// buildFailure is why a build failed, in the words of an operation.
type buildFailure struct{ err error }

func (f *buildFailure) Error() string { return f.err.Error() }
func (f *buildFailure) Unwrap() error { return f.err }

// Failure tells control, and so people, what went wrong and what to do.
func (f *buildFailure) Failure() app.Failure {
	told := app.Failure{Cause: app.BuildFailed, Detail: f.err.Error()}
	var e *build.Error
	if errors.As(f.err, &e) {
		told.Detail, told.Next, told.Tail = strings.TrimSuffix(e.Error(), "; "+e.Next), e.Next, e.Tail
	}
	if told.Next == "" && errors.Is(f.err, app.ErrNotFound) {
		told.Next = "deploy the sources again"
	}
	return told
}

// opLog is the log of one operation; several builds may write it.
type opLog struct {
	file  *logs.File // nil: nobody reads it
	users int        // guarded by builder.mu
}

func (b *builder) openLog(op string) (*opLog, error) {
	if op == "" {
		return &opLog{}, nil // the build room keeps its own log of every build
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.logs[op]
	if l == nil {
		file, err := logs.Create(b.logPath(op), logs.Limit{})
		if err != nil {
			return nil, fmt.Errorf("log of operation %s: %w", op, err)
		}
		if b.logs == nil {
			b.logs = map[string]*opLog{}
		}
		l = &opLog{file: file}
		b.logs[op] = l
	}
	l.users++
	return l, nil
}

func (b *builder) closeLog(op string, l *opLog) {
	if l.file == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(b.logs, op)
		if err := l.file.Close(); err != nil {
			b.log.Warn("close operation log", "operation", op, "err", err)
		}
	}
}

func (l *opLog) append(text string) error {
	if l.file == nil {
		return nil
	}
	return l.file.Append(logs.Line{Time: time.Now(), Stream: logs.System, Text: text})
}

func (l *opLog) stream() io.WriteCloser {
	if l.file == nil {
		return nowhere{}
	}
	return l.file.Stream(logs.Out)
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// run clears up, now and whenever the wishes have changed, until ctx ends.
// running tells the artifacts of instances that may belong to no version any
// more. What cannot be removed costs disk space and nothing else.
func (b *builder) run(ctx context.Context, s *store.Store, running func() []string) error {
	for {
		changed := s.Changed()
		if err := b.collect(s.Wishes(), running()); err != nil {
			b.log.Warn("collect", "err", err)
		}
		select {
		case <-time.After(collectPause):
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// collect removes builds, sources and logs that nothing needs, within their
// bounds. A version that is stopped needs its sources, to be built from again;
// its artifact stays while there is room.
func (b *builder) collect(w store.Wishes, running []string) error {
	artifacts, sources := slices.Clone(running), []string(nil)
	for _, v := range w.Versions {
		if v.Serving && v.Artifact.ID != "" {
			artifacts = append(artifacts, v.Artifact.ID)
		}
		if v.Source != "" {
			sources = append(sources, v.Source)
		}
	}
	b.mu.Lock()
	for id, at := range b.recent {
		if time.Since(at) > recentMax {
			delete(b.recent, id)
			continue
		}
		artifacts = append(artifacts, id)
	}
	b.mu.Unlock()
	return errors.Join(
		b.builds.Collect(artifacts...),
		b.sources.Collect(sources, b.sourcesMax),
		logs.Prune(b.dir, logs.Keep{Logs: opLogsKept}, time.Now(), func(op string) bool { _, ok := w.Operations[op]; return ok }),
	)
}
