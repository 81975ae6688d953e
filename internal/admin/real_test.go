package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver/memory"
	"holdfast/internal/router"
)

// real is a world with the real control behind the door, over the memory
// driver, in fake time.
type real struct {
	*world
	driver  *memory.Driver
	builder *builder
}

// builder makes artifacts at once, but for sources that it is told about.
type builder struct {
	mu    sync.Mutex // guards the following
	built map[string]bool
	took  time.Duration
	fail  error
}

func (b *builder) Has(a app.Artifact) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.built[a.ID]
}

func (b *builder) Build(ctx context.Context, _ string, v app.Version) (app.Artifact, error) {
	b.mu.Lock()
	took, fail := b.took, b.fail
	b.mu.Unlock()
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return app.Artifact{}, ctx.Err()
	}
	if fail != nil {
		return app.Artifact{}, fail
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.built["build of "+v.Source] = true
	return app.Artifact{ID: "build of " + v.Source, Dir: "/build", Command: "./app"}, nil
}

func (b *builder) set(took time.Duration, fail error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took, b.fail = took, fail
}

type buildFailure struct{}

func (buildFailure) Error() string { return "go build: exit status 1" }
func (buildFailure) Failure() app.Failure {
	return app.Failure{Cause: app.BuildFailed, Detail: "go build: exit status 1", Next: "Mend it.", Tail: []string{"main.go:1: no"}}
}

// plane carries nothing.
type plane struct{}

func (plane) Set(router.Routes)            {}
func (plane) Load() map[string]router.Load { return nil }
func (plane) Busy(string) int              { return 0 }

func (plane) Shed(string, int, app.Cause) int                       { return 0 }
func (plane) Expire(app.Key, float64, time.Time, time.Duration) int { return 0 }

func inReal(t *testing.T, test func(t *testing.T, w *real)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &real{world: newWorld(t), driver: memory.New(), builder: &builder{built: map[string]bool{}}}
		c := newController(w)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()

		w.open(c)
		network := &pipes{}
		transport := &http.Transport{DialContext: network.dial}
		w.URL, w.HTTP = "http://127.0.0.1:8079", &http.Client{Transport: transport}
		close := network.listen(w.door)
		test(t, w)
		transport.CloseIdleConnections()
		close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func newController(w *real) *control.Controller {
	return control.New(w.driver, plane{}, w.store, control.Config{
		Builder: w.builder,
		// Every instance takes connections at once.
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { io.Copy(io.Discard, theirs); theirs.Close() }() // ends with ours
			return ours, nil
		},
	})
}

func TestTheLifeOfAService(t *testing.T) {
	inReal(t, func(t *testing.T, w *real) { life(t, w.world) })
}

func TestADeployIsFollowedFromBuildToTraffic(t *testing.T) {
	inReal(t, func(t *testing.T, w *real) {
		ctx := t.Context()
		files, open := tree(map[string]string{"main.go": "package main"})
		id := must(w.Upload(ctx, files, open, nil))(t)
		w.builder.set(time.Minute, nil)
		ask := DeployRequest{YAML: chatYAML, Tree: id, Promote: true}
		a := must(w.Deploy(ctx, "shop", ask))(t)
		if a.Operation.Version == "" || a.Operation.Done() {
			t.Errorf("accepted: %+v", a.Operation)
		}
		_, err := w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: "other", Promote: true})
		if !errors.Is(err, app.ErrBusy) || !strings.Contains(err.Error(), a.Operation.ID) {
			t.Errorf("a second deploy meanwhile: %v", err)
		}
		var stages []string
		op := must(w.Follow(ctx, a.Operation.ID, func(o Operation) { stages = append(stages, o.Stage) }))(t)
		if want := []string{"building", "starting", "done"}; !slices.Equal(stages, want) || op.Failure != nil {
			t.Errorf("stages %q, want %q; failure %+v", stages, want, op.Failure)
		}
		all := must(w.Instances(ctx, Filter{Version: op.Version}))(t)
		if len(all) != 2 || all[0].State != "ready" || all[1].State != "ready" {
			t.Errorf("instances: %+v", all)
		}
		v := must(w.Version(ctx, app.Key{App: "shop", Service: "chat", Version: op.Version}))(t)
		if v.Share != 1 || v.Ready != 2 || v.Running != 2 || !v.Built {
			t.Errorf("version: %+v", v)
		}

		// The unchanged again is found.
		begin := time.Now()
		again := must(w.Deploy(ctx, "shop", ask))(t)
		if op := must(w.Follow(ctx, again.Operation.ID, nil))(t); op.Failure != nil || op.Version != v.Version || time.Since(begin) > time.Second {
			t.Errorf("the unchanged again: %+v after %v", op, time.Since(begin))
		}

		// An instance is replaced, its successor first.
		op = must(w.RestartInstance(ctx, all[0].ID))(t)
		if op = must(w.Follow(ctx, op.ID, nil))(t); op.Failure != nil || op.Instance != all[0].ID {
			t.Errorf("restarted: %+v", op)
		}
		if _, err := w.RestartInstance(ctx, all[0].ID); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("restart of what is gone: %v", err)
		}
	})
}

func TestADeployThatFailsSaysWhy(t *testing.T) {
	inReal(t, func(t *testing.T, w *real) {
		ctx := t.Context()
		files, open := tree(map[string]string{"main.go": "package main"})
		id := must(w.Upload(ctx, files, open, nil))(t)
		w.builder.set(0, buildFailure{})
		a := must(w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: "v1", Promote: true}))(t)
		op := must(w.Follow(ctx, a.Operation.ID, nil))(t)
		if f := op.Failure; f == nil || f.Cause != "build-failed" || f.Next != "Mend it." || !slices.Equal(f.Tail, []string{"main.go:1: no"}) {
			t.Errorf("failure %+v", f)
		}
		w.builder.set(time.Hour, nil)
		a = must(w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: "v2", Promote: true}))(t)
		must(w.Cancel(ctx, a.Operation.ID))(t)
		if op = must(w.Follow(ctx, a.Operation.ID, nil))(t); op.Failure == nil || op.Failure.Cause != "cancelled" {
			t.Errorf("cancelled: %+v", op.Failure)
		}
		if _, err := w.Cancel(ctx, "no such one"); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("cancelling what is not there: %v", err)
		}
		if vs := must(w.Versions(ctx, Filter{}))(t); slices.ContainsFunc(vs, func(v Version) bool { return v.Serving }) {
			t.Errorf("versions: %+v", vs)
		}
	})
}

// Many operators at once, and nothing is a mixture: each operation that was
// accepted ends, and what was refused says so.
func TestManyOperatorsAtOnce(t *testing.T) {
	inReal(t, func(t *testing.T, w *real) {
		ctx := t.Context()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				files, open := tree(map[string]string{"main.go": fmt.Sprint("package main // ", i)})
				id, err := w.Upload(ctx, files, open, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for try := range 100 {
					a, err := w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: fmt.Sprint("v", i), Promote: true})
					if errors.Is(err, app.ErrBusy) {
						time.Sleep(time.Duration(try+i) * time.Second)
						continue
					}
					if err == nil {
						a.Operation, err = w.Follow(ctx, a.Operation.ID, nil)
					}
					if err != nil || a.Operation.Failure != nil {
						t.Errorf("v%d: %v %+v", i, err, a.Operation.Failure)
					}
					return
				}
				t.Errorf("v%d was refused every time", i)
			})
		}
		wg.Wait()
		s := must(w.Service(ctx, app.ServiceKey{App: "shop", Service: "chat"}))(t)
		if len(s.Split.Shares) != 1 || len(s.Versions) != 8 {
			t.Errorf("service: %+v", s)
		}
	})
}
