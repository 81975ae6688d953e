package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/build"
	"holdfast/internal/control"
	"holdfast/internal/logs"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

var _ control.Builder = (*builder)(nil)

// newTestBuilder is a builder in a new directory whose machine has node and npm,
// the latter being a script.
func newTestBuilder(t *testing.T, npm string) *builder {
	t.Helper()
	data, bin := t.TempDir(), t.TempDir()
	for name, script := range map[string]string{"node": "echo v20.1.0", "npm": npm} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := source.Open(filepath.Join(data, "source"))
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{
		builds:  &build.Builder{Dir: data, Environ: []string{"PATH=" + bin, "HOME=" + data}},
		sources: sources, sourcesMax: 1 << 30,
		dir: filepath.Join(data, "operations"),
		log: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { b.builds.Close() })
	return b
}

// version uploads a Node app of the given files and returns a version of it.
func version(t *testing.T, b *builder, id string, files map[string]string) app.Version {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := app.Version{Key: app.Key{App: "shop", Service: "default", Version: id}, Recipe: app.Recipe{Runtime: "nodejs"}, Serving: true}
	tree, err := build.List(t.Context(), dir, v.Recipe, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree {
		if err := b.sources.PutBlob(f.Hash, strings.NewReader(files[f.Path])); err != nil {
			t.Fatal(err)
		}
	}
	if v.Source, err = b.sources.PutTree(tree); err != nil {
		t.Fatal(err)
	}
	return v
}

func node(text string) map[string]string {
	return map[string]string{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`, "text": text}
}

// said is the log of an operation.
func said(t *testing.T, b *builder, op string) (system, out []string) {
	t.Helper()
	lines, err := logs.Tail(b.logPath(op), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if l.Stream == logs.System {
			system = append(system, l.Text)
		} else {
			out = append(out, l.Text)
		}
	}
	return system, out
}

func TestBuilderBuildsWhatWasUploaded(t *testing.T) {
	b := newTestBuilder(t, `echo installing`)
	v := version(t, b, "v1", node("one"))
	if b.Has(v.Artifact) {
		t.Error("Has says yes before the build")
	}
	a, err := b.Build(t.Context(), "op1", v)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(a.Dir, "text")); err != nil || string(text) != "one" || !b.Has(a) {
		t.Errorf("built %q, %v; Has = %v", text, err, b.Has(a))
	}
	system, out := said(t, b, "op1")
	if !slices.Contains(out, "installing") || !strings.Contains(strings.Join(system, "\n"), "shop/default/v1 is built") || !strings.Contains(strings.Join(system, "\n"), "copying 2 files") {
		t.Errorf("the log says %q and %q", system, out)
	}

	// The same sources for another version: nothing is copied, nothing runs.
	v.Version = "v2"
	again, err := b.Build(t.Context(), "op2", v)
	if err != nil || again.ID != a.ID {
		t.Errorf("Build of the same = %+v, %v; want %s", again, err, a.ID)
	}
	if system, out := said(t, b, "op2"); strings.Contains(strings.Join(system, "\n"), "copying") || len(out) > 0 {
		t.Errorf("the log of the same again says %q and %q", system, out)
	}
	// Without an operation there is no log of one.
	if _, err := b.Build(t.Context(), "", v); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(b.dir); err != nil || len(list) != 2 {
		t.Errorf("logs: %v, %v; want two", list, err)
	}
	// What somebody removed is not there any more.
	if err := os.RemoveAll(a.Dir); err != nil {
		t.Fatal(err)
	}
	if b.Has(a) {
		t.Error("Has says yes after the directory was removed")
	}
}

// failureOf is what an error tells control.
func failureOf(err error) (app.Failure, bool) {
	var f interface{ Failure() app.Failure }
	if errors.As(err, &f) {
		return f.Failure(), true
	}
	return app.Failure{}, false
}

func TestBuilderTellsWhyABuildFailed(t *testing.T) {
	b := newTestBuilder(t, "i=1\nwhile [ $i -le 30 ]; do echo line $i; i=$((i+1)); done\nexit 3")
	v := version(t, b, "v1", node("one"))
	_, err := b.Build(t.Context(), "op1", v)
	f, ok := failureOf(err)
	if !ok || f.Cause != app.BuildFailed || !strings.Contains(f.Detail, "npm") || !strings.Contains(f.Detail, "exit status 3") || f.Next == "" || strings.Contains(f.Detail, f.Next) {
		t.Errorf("Build = %v; failure %+v", err, f)
	}
	if len(f.Tail) != 20 || f.Tail[19] != "line 30" {
		t.Errorf("the last lines are %q", f.Tail)
	}
	system, out := said(t, b, "op1")
	if !slices.Contains(out, "line 1") || !strings.Contains(strings.Join(system, "\n"), "exit status 3") {
		t.Errorf("the log says %q and %q", system, out)
	}

	v.Source = strings.Repeat("0", 64)
	_, err = b.Build(t.Context(), "op2", v)
	if f, ok := failureOf(err); !ok || !errors.Is(err, app.ErrNotFound) || f.Cause != app.BuildFailed || f.Next != "deploy the sources again" {
		t.Errorf("Build without sources = %v; failure %+v", err, f)
	}
	v.Source = ""
	_, err = b.Build(t.Context(), "op3", v)
	if f, ok := failureOf(err); !ok || f.Next != "deploy the sources again" {
		t.Errorf("Build of nothing = %v; failure %+v", err, f)
	}
}

// A build that is stopped has not failed: it may be taken up again.
func TestBuilderStopsWithoutFailing(t *testing.T) {
	b := newTestBuilder(t, "echo waiting\n/bin/sleep 600")
	v := version(t, b, "v1", node("one"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := b.Build(ctx, "op1", v); done <- err }()
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		_ = logs.Follow(ctx, b.logPath("op1"), time.Time{}, func(l logs.Line) error {
			if l.Text == "waiting" {
				return io.EOF
			}
			return nil
		})
	}()
	select {
	case <-seen:
	case <-time.After(30 * time.Second):
		t.Fatal("the build does not begin")
	}
	cancel()
	select {
	case err := <-done:
		if _, failed := failureOf(err); failed || !errors.Is(err, context.Canceled) {
			t.Errorf("a build that was stopped = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the build goes on")
	}
}

// Several versions of one operation are built at once, into one log.
func TestBuilderSharesTheLogOfAnOperation(t *testing.T) {
	b := newTestBuilder(t, "echo installing")
	var wg sync.WaitGroup
	for i := range 4 {
		v := version(t, b, fmt.Sprint("v", i), node(fmt.Sprint(i)))
		wg.Go(func() {
			if _, err := b.Build(t.Context(), "op1", v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, out := said(t, b, "op1"); strings.Count(strings.Join(out, "\n"), "installing") != 4 {
		t.Errorf("the log says %q", out)
	}
	if len(b.logs) != 0 {
		t.Errorf("logs are still open: %v", b.logs)
	}
}

func TestCollectKeepsWhatVersionsNeed(t *testing.T) {
	b := newTestBuilder(t, "exit 0")
	b.builds.BytesMax, b.sourcesMax = 1, 1
	w := store.Wishes{Versions: map[app.Key]app.Version{}, Operations: map[string]app.Operation{}}
	built := map[string]app.Version{}
	for i := range opLogsKept + 4 {
		id := fmt.Sprintf("v%02d", i)
		v := version(t, b, id, node(id))
		var err error
		if v.Artifact, err = b.Build(t.Context(), "op-"+id, v); err != nil {
			t.Fatal(err)
		}
		built[id] = v
	}
	serving, stopped, orphan, gone := built["v00"], built["v01"], built["v02"], built["v03"]
	stopped.Serving = false
	w.Versions[serving.Key], w.Versions[stopped.Key] = serving, stopped
	w.Operations["op-v00"] = app.Operation{ID: "op-v00"}

	// What was asked for just now stays, whatever the wishes say.
	if err := b.collect(w, nil); err != nil {
		t.Fatal(err)
	}
	for id, v := range built {
		if !b.builds.Has(v.Artifact) {
			t.Fatalf("%s was removed right after it was built", id)
		}
	}
	for id := range b.recent {
		b.recent[id] = time.Now().Add(-2 * recentMax)
	}
	old := time.Now().Add(-2 * time.Hour)
	err := filepath.WalkDir(filepath.Join(filepath.Dir(b.dir), "source"), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chtimes(p, old, old)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.collect(w, []string{orphan.Artifact.ID}); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		v             app.Version
		build, source bool
	}{
		"a version that serves":             {serving, true, true},
		"a stopped one":                     {stopped, false, true},
		"a deleted one whose instance runs": {orphan, true, false},
		"a deleted one":                     {gone, false, false},
	} {
		if has := b.builds.Has(c.v.Artifact); has != c.build {
			t.Errorf("%s has its build: %v", what, has)
		}
		if _, err := b.sources.Tree(c.v.Source); (err == nil) != c.source {
			t.Errorf("%s has its sources: %v", what, err)
		}
	}
	// The stopped one is built again when it is wanted.
	if a, err := b.Build(t.Context(), "", stopped); err != nil || a.ID != stopped.Artifact.ID {
		t.Errorf("Build of the stopped one = %+v, %v", a, err)
	}
	list, err := os.ReadDir(b.dir)
	if err != nil || len(list) != opLogsKept+1 {
		t.Errorf("%d logs are left, %v; want %d", len(list), err, opLogsKept+1)
	}
	if _, err := os.Stat(b.logPath("op-v00")); err != nil {
		t.Errorf("the log of an operation that is kept: %v", err)
	}
}

func TestBuilderRunsUntilItIsTold(t *testing.T) {
	b := newTestBuilder(t, "exit 0")
	ctx, cancel := context.WithCancel(t.Context())
	looked, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- b.run(ctx, store.Memory(), sync.OnceValue(func() []string { close(looked); return nil }))
	}()
	<-looked
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("run goes on")
	}
}
