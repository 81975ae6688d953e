package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/tunnel"
)

const chatYAML = "runtime: go\nenv: flex\nservice: chat\nenv_variables: {GREETING: file}\n"

// tree makes a source tree of contents by path.
func tree(contents map[string]string) (files []File, open func(File) (io.ReadCloser, error)) {
	for path, text := range contents {
		sum := sha256.Sum256([]byte(text))
		files = append(files, File{Path: path, Hash: hex.EncodeToString(sum[:]), Size: int64(len(text))})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, func(f File) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(contents[f.Path])), nil
	}
}

// must is for steps whose failure ends a test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestTheLifeOfAServiceAtTheClerks(t *testing.T) { life(t, reachable(t)) }

// life is what a service goes through, whatever control is behind the door.
func life(t *testing.T, w *world) {
	ctx := t.Context()
	ended := func(op Operation, err error) Operation {
		t.Helper()
		if err == nil {
			op, err = w.Follow(ctx, op.ID, nil)
		}
		if err != nil || op.Failure != nil {
			t.Fatalf("%s %s: %v %+v", op.Verb, op.Version, err, op.Failure)
		}
		return op
	}
	files, open := tree(map[string]string{"main.go": "package main", "go.mod": "module chat"})
	id := must(w.Upload(ctx, files, open, nil))(t)

	deploy := func(version string, promote bool) Operation {
		t.Helper()
		a, err := w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: version, Promote: promote, Env: map[string]string{"MORE": "flag"}, Instances: 3})
		return ended(a.Operation, err)
	}
	if op := deploy("v1", true); op.Verb != "deploy" || op.Version != "v1" || op.By != "anna" || !op.Done() || op.Failure != nil {
		t.Errorf("deployed: %+v", op)
	}
	deploy("v2", false)

	k := app.Key{App: "shop", Service: "chat", Version: "v1"}
	v := must(w.Version(ctx, k))(t)
	if v.Env["GREETING"] != "file" || v.Env["MORE"] != "flag" || v.Share != 1 || !v.Serving || v.Source != id || v.Scaling != (Scaling{Manual: true, Min: 3, Max: 3}) {
		t.Errorf("v1 = %+v", v)
	}
	if want := []string{"v1-dot-chat-dot-shop.uc.r.localhost"}; !slices.Equal(v.Hosts, want) {
		t.Errorf("hosts %q, want %q", v.Hosts, want)
	}
	list := must(w.Versions(ctx, Filter{App: "shop", Service: "chat"}))(t)
	if len(list) != 2 || list[0].Version != "v2" || list[1].Version != "v1" || list[0].Env != nil {
		t.Errorf("versions: %+v", list)
	}
	if none := must(w.Versions(ctx, Filter{Service: "other"}))(t); none == nil || len(none) != 0 {
		t.Errorf("versions of another service: %#v", none)
	}

	ended(w.SetTraffic(ctx, k.ServiceKey(), Split{By: "cookie", Shares: map[string]float64{"v1": 90, "v2": 10, "v0": 0}}))
	s := must(w.Service(ctx, k.ServiceKey()))(t)
	if want := (Split{By: "cookie", Shares: map[string]float64{"v1": 0.9, "v2": 0.1}}); !reflect.DeepEqual(s.Split, want) || len(s.Past) == 0 {
		t.Errorf("split %+v, want %+v; past %+v", s.Split, want, s.Past)
	}
	// Who does not say how the traffic is split leaves that as it is.
	ended(w.SetTraffic(ctx, k.ServiceKey(), Split{Shares: map[string]float64{"v2": 1}}))
	if s := must(w.Services(ctx, Filter{}))(t); len(s) != 1 || s[0].Split.By != "cookie" || !slices.Equal(s[0].Versions, []string{"v1", "v2"}) || s[0].Past != nil {
		t.Errorf("services: %+v", s)
	}
	ended(w.Rollback(ctx, k.ServiceKey()))

	low, seconds := 2, 90.0
	ended(w.SetScaling(ctx, k, ScalingChange{Min: &low, CoolDownSeconds: &seconds}))
	if v := must(w.Version(ctx, k))(t); v.Scaling != (Scaling{Min: 2, Max: 20, CoolDownSeconds: 90, CPU: 0.5}) {
		t.Errorf("scaling %+v", v.Scaling)
	}

	rules := []DispatchRule{{Host: "*", Path: "/chat/*", Service: "chat"}}
	ended(w.SetDispatch(ctx, "shop", rules))
	if got := must(w.Dispatch(ctx, "shop"))(t); !slices.Equal(got, rules) {
		t.Errorf("dispatch %+v", got)
	}
	if _, err := w.SetDispatch(ctx, "shop", []DispatchRule{{Path: "/x", Service: "chta"}}); !errors.Is(err, app.ErrInvalid) || !strings.Contains(err.Error(), `"chat"`) {
		t.Errorf("a rule to a service that is not there: %v", err)
	}
	ended(w.SetDispatch(ctx, "shop", nil))

	if _, err := w.DeleteVersion(ctx, k); !errors.Is(err, app.ErrBusy) {
		t.Errorf("deleting what has a share: %v", err)
	}
	ended(w.SetTraffic(ctx, k.ServiceKey(), Split{Shares: map[string]float64{"v2": 1}}))
	ended(w.StopVersion(ctx, k))
	if v := must(w.Version(ctx, k))(t); v.Serving {
		t.Error("v1 still serves")
	}
	ended(w.StartVersion(ctx, k))
	ended(w.DeleteVersion(ctx, k))
	if _, err := w.Version(ctx, k); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("v1 after its end: %v", err)
	}
	ended(w.DeleteService(ctx, k.ServiceKey()))

	ops := must(w.Operations(ctx, Filter{App: "shop"}))(t)
	if !slices.IsSortedFunc(ops, func(a, b Operation) int { return strings.Compare(b.ID, a.ID) }) || len(ops) < 10 {
		t.Errorf("operations: %+v", ops)
	}
	if pending := must(w.Operations(ctx, Filter{Pending: true}))(t); len(pending) != 0 {
		t.Errorf("under way: %+v", pending)
	}
	status := must(w.Status(ctx))(t)
	if status.Version != "test" || status.Apps != 1 || status.Services != 0 || status.UptimeSeconds < 60 {
		t.Errorf("status: %+v", status)
	}
}

func TestInstancesAreListedAndReplaced(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	born := time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("east", 3600))
	for i, id := range []string{"b", "a", "c"} {
		w.clerk.running = append(w.clerk.running, control.Instance{
			Instance: app.Instance{ID: id, Key: app.Key{App: "shop", Service: "chat", Version: "v1"}, State: app.Ready, Born: born.Add(-time.Duration(i) * time.Minute)},
			Sockets:  i, CPU: 0.25,
		})
	}
	list := must(w.Instances(ctx, Filter{Service: "chat"}))(t)
	if len(list) != 3 || list[0].ID != "c" || list[1].ID != "a" || list[2].ID != "b" || list[0].State != "ready" || list[0].Sockets != 2 || list[0].CPU != 0.25 {
		t.Errorf("instances: %+v", list)
	}
	if i := must(w.Instance(ctx, "b"))(t); !i.Born.Equal(born) || i.Born.Location() != time.UTC || !i.Until.IsZero() {
		t.Errorf("b: %+v", i)
	}
	if only := must(w.Instances(ctx, Filter{Instance: "a"}))(t); len(only) != 1 {
		t.Errorf("only a: %+v", only)
	}
	must(w.RestartInstance(ctx, "a"))(t)
	must(w.DeleteInstance(ctx, "a"))(t)
	if _, err := w.RestartInstance(ctx, "no such one"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("restart of one that is not there: %v", err)
	}
	if want := []string{"restart shop/chat/v1 by anna", "delete shop/chat/v1 by anna"}; !slices.Equal(w.clerk.asked(), want) {
		t.Errorf("asked %q, want %q", w.clerk.asked(), want)
	}
}

func TestWhoAsksIsTheTokensNameUnlessSaid(t *testing.T) {
	w := reachable(t)
	w.clerk.running = []control.Instance{{Instance: app.Instance{ID: "a"}}}
	w.By = ""
	must(w.RestartInstance(t.Context(), "a"))(t)
	if want := []string{"restart // by owner"}; !slices.Equal(w.clerk.asked(), want) {
		t.Errorf("asked %q, want %q", w.clerk.asked(), want)
	}
}

func TestErrorsComeBackAsWhatTheyAre(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	w.clerk.running = []control.Instance{{Instance: app.Instance{ID: "a"}}}
	for _, c := range []struct {
		err  error
		kind Kind
		is   error
		text string
	}{
		{fmt.Errorf("restart a: %w", app.ErrBusy), KindBusy, app.ErrBusy, "restart a: busy"},
		{fmt.Errorf("restart a: %w", app.ErrExists), KindExists, app.ErrExists, "restart a"},
		{fmt.Errorf("restart a: %w", app.ErrInvalid), KindInvalid, app.ErrInvalid, "restart a"},
		{fmt.Errorf("restart a: %w", app.ErrNotFound), KindNotFound, app.ErrNotFound, "restart a"},
		{errors.New("the secret of the house"), KindInternal, nil, "internal error"},
		{fmt.Errorf("write holdfast.db: %w; make room on the disk", syscall.ENOSPC), KindUnavailable, nil, "make room on the disk"},
	} {
		w.clerk.mu.Lock()
		w.clerk.fail = c.err
		w.clerk.mu.Unlock()
		_, err := w.RestartInstance(ctx, "a")
		var e *Error
		if !errors.As(err, &e) || e.Kind != c.kind || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v came back as %#v", c.err, err)
		}
		for _, other := range []error{app.ErrBusy, app.ErrExists, app.ErrInvalid, app.ErrNotFound} {
			if other != c.is && errors.Is(err, other) {
				t.Errorf("%v came back as %v", c.err, other)
			}
		}
	}
}

func TestDeployRefusesWhatCannotBe(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	files, open := tree(map[string]string{"main.go": "package main"})
	id := must(w.Upload(ctx, files, open, nil))(t)
	good := DeployRequest{YAML: chatYAML, Tree: id, Promote: true}
	for name, c := range map[string]struct {
		project string
		change  func(*DeployRequest)
		kind    Kind
		text    string
	}{
		"yaml":       {"shop", func(d *DeployRequest) { d.YAML = "env: flex\nruntimee: go\n" }, KindInvalid, "app.yaml:2:1"},
		"no yaml":    {"shop", func(d *DeployRequest) { d.YAML = "" }, KindInvalid, "app.yaml"},
		"project":    {"Shop", func(d *DeployRequest) {}, KindInvalid, `project "Shop"`},
		"long names": {strings.Repeat("p", 50), func(d *DeployRequest) { d.Service = "a-service" }, KindInvalid, "shorten"},
		"version":    {"shop", func(d *DeployRequest) { d.Version = "latest" }, KindInvalid, "latest"},
		"service":    {"shop", func(d *DeployRequest) { d.Service = "a.b" }, KindInvalid, "service"},
		"variable":   {"shop", func(d *DeployRequest) { d.Env = map[string]string{"GAE_X": ""} }, KindInvalid, "reserved"},
		"instances":  {"shop", func(d *DeployRequest) { d.Instances = 100_000 }, KindInvalid, "instances"},
		"no tree":    {"shop", func(d *DeployRequest) { d.Tree = "" }, KindNotFound, "source tree"},
		"lost tree":  {"shop", func(d *DeployRequest) { d.Tree = strings.Repeat("0", 64) }, KindNotFound, "source tree"},
		"tree path":  {"shop", func(d *DeployRequest) { d.Tree = "../../../etc/passwd" }, KindNotFound, "source tree"},
		"keeping":    {"shop", func(d *DeployRequest) { d.Promote, d.KeepOthers = false, true }, KindInvalid, "keep_others"},
	} {
		d := good
		c.change(&d)
		_, err := w.Deploy(ctx, c.project, d)
		var e *Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %s with %q", name, err, c.kind, c.text)
		}
	}
	if calls := w.clerk.asked(); len(calls) != 0 {
		t.Errorf("control was asked: %q", calls)
	}
	a := must(w.Deploy(ctx, "shop", DeployRequest{YAML: "runtime: go\nvm: true\n", Tree: id}))(t)
	if len(a.Warnings) == 0 || !strings.HasPrefix(a.Warnings[0], "app.yaml:2:") {
		t.Errorf("warnings %q", a.Warnings)
	}
}

func TestSplitsAndScalingsThatCannotBeAreRefused(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	files, open := tree(map[string]string{"main.go": "package main"})
	id := must(w.Upload(ctx, files, open, nil))(t)
	must(w.Deploy(ctx, "shop", DeployRequest{YAML: chatYAML, Tree: id, Version: "v1", Promote: true}))(t)
	before := len(w.clerk.asked())
	k := app.Key{App: "shop", Service: "chat", Version: "v1"}
	many := map[string]float64{}
	for i := range splitMax + 1 {
		many[fmt.Sprint("v", i)] = 1
	}
	for _, s := range []Split{
		{}, {Shares: map[string]float64{"v1": 0}}, {Shares: map[string]float64{"v1": -1, "v2": 2}}, {By: "dice", Shares: map[string]float64{"v1": 1}},
		{Shares: map[string]float64{"v1": 1e308, "v2": 1e308}}, {Shares: many},
	} {
		if _, err := w.SetTraffic(ctx, k.ServiceKey(), s); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("SetTraffic(%v): %v", s, err)
		}
	}
	zero, two, much, negative := 0, 2, 21, -1.0
	for _, c := range []ScalingChange{
		{}, {Instances: &zero}, {Instances: &two, Min: &two}, {Min: &zero}, {Min: &much}, {CPU: &negative}, {CoolDownSeconds: &negative},
	} {
		if _, err := w.SetScaling(ctx, k, c); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("SetScaling(%+v): %v", c, err)
		}
	}
	if calls := w.clerk.asked(); len(calls) != before {
		t.Errorf("control was asked: %q", calls[before:])
	}
}

func TestSocketsAreListedAndClosed(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); w.sockets.Run(running) }()
	defer func() { stop(); <-ended }()
	for i, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"} {
		far, near := net.Pipe()
		instance, app1 := net.Pipe()
		for _, c := range []net.Conn{far, app1} {
			go io.Copy(io.Discard, c)
			t.Cleanup(func() { c.Close() })
		}
		if err := w.sockets.Join(tunnel.Socket{
			ID: fmt.Sprint("s", i), Key: app.Key{App: "shop", Service: "chat", Version: "v1"}, Instance: "i1", Client: client,
			Opened: time.Now().Add(time.Duration(i) * time.Second),
		}, near, instance); err != nil {
			t.Fatal(err)
		}
	}
	table := must(w.Sockets(ctx, SocketFilter{Service: "chat"}, 2))(t)
	if table.Total != 3 || len(table.Sockets) != 2 || table.Sockets[0].ID != "s0" || table.Sockets[1].Client != "192.0.2.2" || table.Sockets[0].Service != "chat" {
		t.Errorf("sockets: %+v", table)
	}
	for _, f := range []SocketFilter{{ID: "s1"}, {Client: "192.0.2.2"}, {Client: "192.0.2.2", App: "shop", Version: "v1", Instance: "i1"}} {
		if table := must(w.Sockets(ctx, f, 0))(t); table.Total != 1 || table.Sockets[0].ID != "s1" {
			t.Errorf("Sockets(%+v): %+v", f, table)
		}
	}
	if _, err := w.CloseSockets(ctx, SocketFilter{}, false, 0, ""); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("closing without saying which: %v", err)
	}
	for _, code := range []int{-1, 1, 999, 1005, 5000} {
		if _, err := w.CloseSockets(ctx, SocketFilter{ID: "s0"}, false, code, "x"); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("closing with code %d: %v", code, err)
		}
	}
	if _, err := w.CloseSockets(ctx, SocketFilter{ID: "s0"}, false, 0, "why"); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("a reason without a code: %v", err)
	}
	if n := must(w.CloseSockets(ctx, SocketFilter{Client: "192.0.2.1"}, false, 4000, "enough"))(t); n != 2 {
		t.Errorf("closed %d, want 2", n)
	}
	if n := must(w.CloseSockets(ctx, SocketFilter{}, true, 0, ""))(t); n < 1 {
		t.Errorf("closed %d, want all that are left", n)
	}
}

func TestABackupIsWholeOrAnError(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	whole := bytes.Repeat([]byte("backup "), 100_000)
	w.house.backup = func(_ context.Context, to io.Writer) error { _, err := to.Write(whole); return err }
	var got bytes.Buffer
	if err := w.Backup(ctx, &got); err != nil || !bytes.Equal(got.Bytes(), whole) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	w.house.backup = func(_ context.Context, to io.Writer) error {
		to.Write(whole)
		return errors.New("the disk has gone")
	}
	var e *Error
	if err := w.Backup(ctx, io.Discard); !errors.As(err, &e) || e.Kind != KindUnreachable {
		t.Errorf("half a backup: %v", err)
	}
	w.house.backup = func(context.Context, io.Writer) error { return fmt.Errorf("backup: %w", app.ErrBusy) }
	if err := w.Backup(ctx, io.Discard); !errors.Is(err, app.ErrBusy) {
		t.Errorf("no backup: %v", err)
	}
	full := errors.New("our own disk is full")
	w.house.backup = func(_ context.Context, to io.Writer) error { _, err := to.Write(whole); return err }
	if err := w.Backup(ctx, failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}

	w.house.restore = func(_ context.Context, r io.Reader, by string) (app.Operation, error) {
		data, err := io.ReadAll(r)
		if err == nil && (!bytes.Equal(data, whole) || by != "anna") {
			err = fmt.Errorf("restore: %d bytes by %s: %w", len(data), by, app.ErrInvalid)
		}
		return app.Operation{ID: "op", Verb: app.VerbRestore, Stage: app.StageDone}, err
	}
	if op, err := w.Restore(ctx, bytes.NewReader(whole)); err != nil || op.Verb != "restore" || !op.Done() {
		t.Errorf("restored: %+v, %v", op, err)
	}
	if _, err := w.Restore(ctx, bytes.NewReader(whole[1:])); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("another backup: %v", err)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestAServerThatIsNoneIsSaidSo(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	addr := l.Addr().String()
	l.Close()
	c := &Client{URL: "http://" + addr, Token: "x", HTTP: &http.Client{Transport: &http.Transport{}}}
	_, err := c.StartVersion(t.Context(), app.Key{App: "a", Service: "b", Version: "c"})
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(e.Next, "holdfast serve") {
		t.Errorf("nobody there: %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	w := reachable(t)
	w.Token = "holdfast_" + strings.Repeat("A", 43)
	if _, err := w.Status(t.Context()); !errors.As(err, &e) || e.Kind != KindUnauthorized {
		t.Errorf("another token: %v", err)
	}
	for _, url := range []string{"127.0.0.1:8079", "ftp://127.0.0.1", "http://[", ""} {
		c := &Client{URL: url}
		if _, err := c.StartVersion(t.Context(), app.Key{App: "a", Service: "b", Version: "c"}); !errors.As(err, &e) {
			t.Errorf("URL %q: %v", url, err)
		}
	}
}
