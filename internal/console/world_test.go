package console

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/control"
	"holdfast/internal/driver/memory"
	"holdfast/internal/journal"
	"holdfast/internal/router"
	"holdfast/internal/store"
	"holdfast/internal/tunnel"
)

// world is a console with its neighbours, all real but for the driver, which
// runs nothing, and a browser before it.
type world struct {
	t       testing.TB
	url     string
	browser *http.Client
	store   *store.Store
	control *control.Controller
	sockets *tunnel.Set
	journal *journal.Journal
	tokens  *auth.Tokens
	token   string
	certs   []Cert
	dir     string       // of logs
	memory  int64        // that each instance holds
	log     *slog.Logger // the router's records
}

// newWorld makes one; with may put other neighbours into it.
func newWorld(t testing.TB, with ...func(*Engine)) *world {
	t.Helper()
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	w := &world{t: t, dir: dir, memory: 300 << 20, store: store.Memory(), sockets: tunnel.New(tunnel.Config{Portable: true}, quiet)}
	var err error
	if w.tokens, err = auth.Open(dir); err != nil {
		t.Fatal(err)
	}
	if w.token, err = auth.Read(auth.Path(dir)); err != nil {
		t.Fatal(err)
	}
	if w.journal, err = journal.Open(journal.Config{Log: quiet}); err != nil {
		t.Fatal(err)
	}
	w.log = slog.New(w.journal.Tap(slog.NewJSONHandler(io.Discard, nil)))
	w.control = control.New(memory.New(), router.New(router.Config{Log: quiet}, w.sockets), w.store, control.Config{
		Events:     func(e control.Event) { w.journal.ToldInstance(e.Time, e.Instance, e.Detail) },
		Operations: w.journal.ToldOperation,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.control.Run(ctx) }()
	sessions := auth.NewSessions(auth.NewGuard(w.tokens, quiet), Prefix)
	started := time.Now()
	engine := Engine{
		Control: w.control, Store: w.store, Sockets: w.sockets, Journal: w.journal, Tokens: w.tokens, LogDir: dir,
		Memory: func(string) (int64, bool) { return w.memory, w.memory > 0 },
		Certs:  func() []Cert { return w.certs },
		About:  func() About { return About{Version: "test", Started: started, Data: dir} },
	}
	for _, change := range with {
		change(&engine)
	}
	c, err := New(engine, Config{Sessions: sessions, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); cancel(); <-ended })
	w.url = s.URL
	w.browser = w.another()
	return w
}

// another is a browser that is nobody yet.
func (w *world) another() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute}
}

// deploy makes a version serve with so many instances.
func (w *world) deploy(id string, instances int) app.Key {
	w.t.Helper()
	k := app.Key{App: "shop", Service: "default", Version: id}
	v := app.Version{Key: k, Artifact: app.Artifact{ID: "a", Dir: w.t.TempDir(), Command: "true"}, Scaling: app.Scaling{Manual: true, Min: instances, Max: instances}}
	op, err := w.control.Deploy(control.Deployment{Version: v, Promote: true})
	if err != nil {
		w.t.Fatal(err)
	}
	_ = op
	return k
}

func (w *world) signIn(token string) (status int, page string) {
	w.t.Helper()
	return w.post("sign-in", url.Values{"token": {token}}, nil)
}

func (w *world) get(path string) (status int, page string) {
	w.t.Helper()
	return w.do("GET", path, nil, nil)
}

// post sends a form as a page of ours does, unless headers say otherwise.
func (w *world) post(path string, form url.Values, headers map[string]string) (status int, page string) {
	w.t.Helper()
	all := map[string]string{"Origin": w.url, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
	for k, v := range headers {
		all[k] = v
	}
	return w.do("POST", path, strings.NewReader(form.Encode()), all)
}

func (w *world) do(method, path string, body io.Reader, headers map[string]string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+Prefix+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range headers {
		if v != "" {
			r.Header.Set(k, v)
		}
	}
	resp, err := w.browser.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe") {
		w.t.Errorf("%s %s has the policy %q", method, path, policy)
	}
	return resp.StatusCode, string(text)
}

// has fails unless a page has all of the texts.
func has(t testing.TB, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q:\n%s", text, page)
		}
	}
}

// request is what the router writes of one.
func (w *world) request(k app.Key, status int, more ...slog.Attr) {
	all := append([]slog.Attr{slog.String("app", k.App), slog.String("service", k.Service), slog.String("version", k.Version), slog.String("client", "10.0.0.1"), slog.Int("status", status)}, more...)
	w.log.LogAttrs(context.Background(), slog.LevelInfo, "request", all...)
}

// ended is what the router writes of a socket.
func (w *world) ended(k app.Key, id, instance string, cause app.Cause, code int) {
	w.log.LogAttrs(context.Background(), slog.LevelInfo, "socket",
		slog.String("id", id), slog.String("client", "10.0.0.1"), slog.String("app", k.App), slog.String("service", k.Service), slog.String("version", k.Version),
		slog.String("instance", instance), slog.Duration("dur", time.Minute), slog.String("by", "holdfast"), slog.String("cause", string(cause)),
		slog.Int("code", code), slog.String("reason", string(cause)), slog.Group("from_client", slog.Int64("bytes", 1200), slog.Int64("text", 7)))
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}
