package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/control"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/tunnel"
)

// world is a door with its neighbours, and a client before it. Sources, store,
// sockets and tokens are the real ones; control is a clerk.
type world struct {
	*Client
	t       testing.TB
	dir     string
	door    http.Handler
	clerk   *clerk
	store   *store.Store
	sources *source.Store
	sockets *tunnel.Set
	house   *house
	goodbye chan struct{}
	tokens  *auth.Tokens
	token   string
}

// newWorld is a world that nobody can reach yet.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), store: store.Memory(), goodbye: make(chan struct{})}
	tokens, err := auth.Open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if w.token, err = auth.Read(auth.Path(w.dir)); err != nil {
		t.Fatal(err)
	}
	if w.sources, err = source.Open(filepath.Join(w.dir, "source")); err != nil {
		t.Fatal(err)
	}
	w.sockets = tunnel.New(tunnel.Config{Portable: true}, slog.New(slog.DiscardHandler))
	w.clerk = &clerk{store: w.store}
	w.house = &house{dir: w.dir}
	w.tokens = tokens
	w.open(w.clerk)
	w.Client = &Client{Token: w.token, By: "anna"}
	return w
}

// open makes the door, before one control or another.
func (w *world) open(c Control) {
	w.door = New(
		Engine{Control: c, Store: w.store, Sources: w.sources, Sockets: w.sockets, House: w.house},
		Config{Tokens: w.tokens, Guard: auth.NewGuard(w.tokens, slog.New(slog.DiscardHandler), "cupboard.lan", "*.home.example"), Goodbye: w.goodbye, Log: slog.New(slog.DiscardHandler), Invite: func(auth.Caller, bool) string { return "a-code" }},
	)
}

// reachable is a world behind a loopback address.
func reachable(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	s := httptest.NewServer(w.door)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	w.URL, w.HTTP = s.URL, s.Client()
	return w
}

// pipes is a network without sockets, for bubbles of fake time. Nothing is
// buffered in it: who does not read is noticed at once.
type pipes struct {
	mu       sync.Mutex
	incoming chan net.Conn // nil: nobody listens
}

// listen serves h until stop is called.
func (p *pipes) listen(h http.Handler) (stop func()) {
	l := &pipeListener{incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	p.incoming = l.incoming
	p.mu.Unlock()
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(l)
	}()
	return func() {
		p.mu.Lock()
		p.incoming = nil
		p.mu.Unlock()
		s.Close()
		<-ended
	}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	to := p.incoming
	p.mu.Unlock()
	if to == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	select {
	case to <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeListener struct {
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// house is a server that knows little.
type house struct {
	dir     string
	backup  func(ctx context.Context, w io.Writer) error
	restore func(ctx context.Context, r io.Reader, by string) (app.Operation, error)
}

func (h *house) Status() Status {
	return Status{Version: "test", Data: h.dir, Domains: []string{"localhost"}, Region: "uc", Started: time.Now().Add(-time.Minute)}
}
func (h *house) Certificates() []Certificate {
	return []Certificate{{Names: []string{"a.example.org"}, From: "file"}}
}
func (h *house) ReplaceCertificate(_ context.Context, name string) error {
	return fmt.Errorf("certificate of %s: %w", name, app.ErrNotFound)
}
func (h *house) LogDir() string          { return filepath.Join(h.dir, "logs") }
func (h *house) OperationLogDir() string { return filepath.Join(h.dir, "operations") }
func (h *house) Backup(ctx context.Context, w io.Writer) error {
	if h.backup == nil {
		return errors.New("no backup in this world")
	}
	return h.backup(ctx, w)
}
func (h *house) Restore(ctx context.Context, r io.Reader, by string) (app.Operation, error) {
	if h.restore == nil {
		_, err := io.Copy(io.Discard, r)
		return app.Operation{}, errors.Join(err, errors.New("no restore in this world"))
	}
	return h.restore(ctx, r, by)
}

// clerk is a small control that works: it keeps what it is told in the store at
// once, and runs nothing.
type clerk struct {
	store *store.Store

	mu      sync.Mutex // guards the following
	calls   []string   // what it was asked, in order
	running []control.Instance
	hold    bool  // operations are not done before finish
	fail    error // for all that comes
	n       int
}

func (c *clerk) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// do notes a call and keeps its operation, unless change refuses.
func (c *clerk) do(verb app.Verb, k app.Key, by string, change func(w *store.Wishes) error) (app.Operation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, fmt.Sprintf("%s %s by %s", verb, k, by))
	if c.fail != nil {
		return app.Operation{}, c.fail
	}
	c.n++
	o := app.Operation{ID: fmt.Sprintf("op%04d", c.n), Verb: verb, Target: k, By: by, Stage: app.StageDone, Asked: time.Now(), Ended: time.Now()}
	if c.hold {
		o.Stage, o.Ended = app.StageStarting, time.Time{}
	}
	return o, c.store.Update(func(w *store.Wishes) error {
		for _, other := range w.Operations {
			if other.Stage != app.StageDone && other.Target.ServiceKey() == k.ServiceKey() {
				return fmt.Errorf("%s %s: operation %s is under way: %w", verb, k, other.ID, app.ErrBusy)
			}
		}
		w.Operations[o.ID] = o
		return change(w)
	})
}

// finish moves an operation to a stage.
func (c *clerk) finish(id string, stage app.Stage, failure *app.Failure) {
	c.store.Update(func(w *store.Wishes) error {
		o := w.Operations[id]
		o.Stage, o.Failure = stage, failure
		w.Operations[id] = o
		return nil
	})
}

func (c *clerk) Deploy(d control.Deployment) (app.Operation, error) {
	v := d.Version
	if v.Version == "" {
		v.Version = "vabcdef0123"
	}
	return c.do(app.VerbDeploy, v.Key, d.By, func(w *store.Wishes) error {
		if old, ok := w.Versions[v.Key]; ok && old.Serving && old.Source != v.Source {
			return fmt.Errorf("deploy %s: it serves with other contents; choose another version: %w", v.Key, app.ErrExists)
		}
		v.Serving, v.CreatedAt = true, time.Now()
		w.Versions[v.Key] = v
		w.Apps[v.App] = app.Application{ID: v.App}
		s := w.Services[v.ServiceKey()]
		s.App, s.Name = v.App, v.Service
		if d.Promote || s.Split.Shares == nil {
			s.Past = append([]app.Split{s.Split}, s.Past...)
			s.Split = app.Split{By: app.ByIP, Shares: map[string]float64{v.Version: 1}}
		}
		w.Services[v.ServiceKey()] = s
		return nil
	})
}

func (c *clerk) Drill(k app.ServiceKey, d app.Drill, by string) (app.Operation, error) {
	if !d.Fault.Known() {
		return app.Operation{}, fmt.Errorf("there is no drill %q: %w", d.Fault, app.ErrInvalid)
	}
	o, err := c.do(app.VerbDrill, k.Version(""), by, func(w *store.Wishes) error { return nil })
	if err != nil {
		return o, err
	}
	o.Drill = &d
	return o, c.store.Update(func(w *store.Wishes) error {
		w.Operations[o.ID] = o
		return nil
	})
}

func (c *clerk) SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error) {
	return c.do(app.VerbTraffic, k.Version(""), by, func(w *store.Wishes) error {
		for id := range s.Shares {
			if _, ok := w.Versions[k.Version(id)]; !ok {
				return fmt.Errorf("traffic %s: version %s: %w", k, id, app.ErrNotFound)
			}
		}
		service := w.Services[k]
		service.Past = append([]app.Split{service.Split}, service.Past...)
		service.Split = s
		w.Services[k] = service
		return nil
	})
}

func (c *clerk) Rollback(k app.ServiceKey, by string) (app.Operation, error) {
	return c.do(app.VerbRollback, k.Version(""), by, func(w *store.Wishes) error {
		s, ok := w.Services[k]
		if !ok || len(s.Past) == 0 {
			return fmt.Errorf("rollback %s: %w", k, app.ErrNotFound)
		}
		s.Split, s.Past = s.Past[0], append([]app.Split{s.Split}, s.Past...)
		w.Services[k] = s
		return nil
	})
}

func (c *clerk) version(verb app.Verb, k app.Key, by string, change func(w *store.Wishes, v app.Version)) (app.Operation, error) {
	return c.do(verb, k, by, func(w *store.Wishes) error {
		v, ok := w.Versions[k]
		switch {
		case !ok:
			return fmt.Errorf("%s %s: %w", verb, k, app.ErrNotFound)
		case verb == app.VerbDelete && w.Services[k.ServiceKey()].Split.Shares[k.Version] > 0:
			return fmt.Errorf("%s %s: it has a share of the traffic: %w", verb, k, app.ErrBusy)
		}
		change(w, v)
		return nil
	})
}

func (c *clerk) StartVersion(k app.Key, by string) (app.Operation, error) {
	return c.version(app.VerbStart, k, by, func(w *store.Wishes, v app.Version) { v.Serving = true; w.Versions[k] = v })
}

func (c *clerk) StopVersion(k app.Key, by string) (app.Operation, error) {
	return c.version(app.VerbStop, k, by, func(w *store.Wishes, v app.Version) { v.Serving = false; w.Versions[k] = v })
}

func (c *clerk) DeleteVersion(k app.Key, by string) (app.Operation, error) {
	return c.version(app.VerbDelete, k, by, func(w *store.Wishes, v app.Version) { delete(w.Versions, k) })
}

func (c *clerk) SetScaling(k app.Key, s app.Scaling, by string) (app.Operation, error) {
	return c.version(app.VerbScale, k, by, func(w *store.Wishes, v app.Version) { v.Scaling = s; w.Versions[k] = v })
}

func (c *clerk) DeleteService(k app.ServiceKey, by string) (app.Operation, error) {
	return c.do(app.VerbDelete, k.Version(""), by, func(w *store.Wishes) error {
		if k.Service == app.DefaultService {
			return fmt.Errorf("delete %s: every application has a default service: %w", k, app.ErrInvalid)
		}
		if _, ok := w.Services[k]; !ok {
			return fmt.Errorf("delete %s: %w", k, app.ErrNotFound)
		}
		delete(w.Services, k)
		maps.DeleteFunc(w.Versions, func(v app.Key, _ app.Version) bool { return v.ServiceKey() == k })
		return nil
	})
}

func (c *clerk) instance(verb app.Verb, id, by string) (app.Operation, error) {
	for _, i := range c.Instances() {
		if i.ID == id {
			return c.do(verb, i.Key, by, func(*store.Wishes) error { return nil })
		}
	}
	return app.Operation{}, fmt.Errorf("%s instance %s: %w", verb, id, app.ErrNotFound)
}

func (c *clerk) RestartInstance(id, by string) (app.Operation, error) {
	return c.instance(app.VerbRestart, id, by)
}

func (c *clerk) DeleteInstance(id, by string) (app.Operation, error) {
	return c.instance(app.VerbDelete, id, by)
}

func (c *clerk) SetDispatch(project string, rules []app.DispatchRule, by string) (app.Operation, error) {
	return c.do(app.VerbDispatch, app.Key{App: project}, by, func(w *store.Wishes) error {
		a := w.Apps[project]
		a.Dispatch = rules
		w.Apps[project] = a
		return nil
	})
}

func (c *clerk) Cancel(op, by string) (app.Operation, error) {
	o, ok := c.store.Wishes().Operations[op]
	if !ok {
		return o, fmt.Errorf("cancel %s: %w", op, app.ErrNotFound)
	}
	c.finish(op, app.StageDone, &app.Failure{Cause: app.Cancelled})
	return c.store.Wishes().Operations[op], nil
}

func (c *clerk) Instances() []control.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.running)
}
