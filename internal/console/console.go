// Package console shows what runs to people with a browser, and lets them act:
// pages that are rendered here, a little JavaScript, and a WebSocket over which a
// page that is open stays true. HTML lives here and nowhere else. The room
// decides nothing: it reads what others know, and calls the same verbs as the
// door for programs.
//
// Start at Engine and New; page.go is how a page is made of regions, live.go how
// they are kept true, act.go what may be asked for. Every page has a file of its
// own.
package console

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/control"
	"holdfast/internal/journal"
	"holdfast/internal/store"
	"holdfast/internal/tunnel"
)

// Prefix is where the console lies on its listener.
const Prefix = "/console/"

// Engine is what the console looks at and acts on.
type Engine struct {
	Control Control          // *control.Controller
	Store   Store            // *store.Store
	Sockets Sockets          // *tunnel.Set
	Journal *journal.Journal // what has happened
	Tokens  *auth.Tokens     // to list, add and remove
	About   func() About     // the server itself
	Certs   func() []Cert    // that clients are shown

	// Memory is how many bytes an instance holds, false where nobody knows.
	Memory  func(instance string) (int64, bool)
	LogDir  string // logs of instances and requests, as the logs room writes them
	Reports string // folder of what drills' clients have met, as the admin room keeps it
}

// Control is *control.Controller: what may be asked for, and what runs.
type Control interface {
	SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error)
	Rollback(k app.ServiceKey, by string) (app.Operation, error)
	StartVersion(k app.Key, by string) (app.Operation, error)
	StopVersion(k app.Key, by string) (app.Operation, error)
	DeleteVersion(k app.Key, by string) (app.Operation, error)
	RestartInstance(id, by string) (app.Operation, error)
	DeleteInstance(id, by string) (app.Operation, error)
	Cancel(op, by string) (app.Operation, error)
	Drill(k app.ServiceKey, d app.Drill, by string) (app.Operation, error)
	Instances() []control.Instance
	Checks(instance string) []control.Check
}

// Store is *store.Store, to read.
type Store interface {
	Wishes() store.Wishes
}

// Sockets is *tunnel.Set.
type Sockets interface {
	Sockets(f tunnel.Filter) []tunnel.Status
	CloseMatching(f tunnel.Filter, cause app.Cause, code int, reason string) (int, error)
}

// About is what a server says of itself.
type About struct {
	Version    string
	PID        int
	Started    time.Time
	Data       string
	Listeners  []Listener
	Domains    []string
	Region     string
	Limits     string // what holds instances to their resources, in words
	SocketsMax int    // 0: not known
}

// Cert is a certificate that clients are shown, or a name that should have one.
type Cert struct {
	Names   []string
	From    string    // file, uploaded, acme
	Issuer  string    // who signed it; "": there is none
	Until   time.Time // zero: there is none
	Problem string    // why there is none, or no newer one
	Again   time.Time // when it is tried again; zero: nobody knows, or nothing is wrong
}

// Listener is where a server listens.
type Listener struct{ Name, Addr string }

// Config is what the console is told once.
type Config struct {
	Sessions *auth.Sessions  // whom it lets in
	Goodbye  <-chan struct{} // closed when the server ends; nil: never
	Log      *slog.Logger
}

//go:embed templates static
var files embed.FS

const (
	// writeTime bounds how long a browser may take to read a page.
	writeTime = 30 * time.Second

	// formMax bounds a form that is sent, in bytes.
	formMax = 64 << 10
)

// New is the console: a handler for everything below Prefix.
func New(e Engine, cfg Config) (http.Handler, error) {
	pages, err := readTemplates()
	if err != nil {
		return nil, err
	}
	c := &console{Engine: e, cfg: cfg, templates: pages, mux: http.NewServeMux(), lives: make(chan struct{}, livesMax)}
	for _, p := range c.pages() {
		c.mux.Handle("GET "+Prefix+p.path, c.inside(func(v *visit) error { return c.show(v, p) }))
	}
	for _, a := range c.acts() {
		c.mux.Handle("POST "+Prefix+"do/"+a.name, c.inside(func(v *visit) error { return c.act(v, a) }))
	}
	c.mux.Handle("GET "+Prefix+"drills/{id}/report", c.inside(c.report))
	c.mux.Handle("GET "+guidePrefix+"{path...}", c.inside(c.guide))
	c.mux.Handle("GET "+Prefix+"live", c.inside(c.live))
	c.mux.Handle("POST "+Prefix+"sign-out", c.inside(c.signOut))
	c.mux.HandleFunc("GET "+Prefix+"sign-in", c.askToken)
	c.mux.HandleFunc("POST "+Prefix+"sign-in", c.signIn)
	c.mux.HandleFunc("GET "+Prefix+"enter", c.enter)
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, err
	}
	c.mux.Handle("GET "+Prefix+"static/", http.StripPrefix(Prefix+"static/", http.FileServerFS(static)))
	c.mux.Handle(Prefix, c.inside(func(v *visit) error {
		return fmt.Errorf("page %s: %w", strings.TrimPrefix(v.r.URL.Path, Prefix), app.ErrNotFound)
	}))
	return c, nil
}

type console struct {
	Engine
	cfg       Config
	templates map[string]*template.Template // by name of the page
	mux       *http.ServeMux
	lives     chan struct{} // a place for each page that is kept true
	table     tableCache
}

// visit is one request of somebody who was let in.
type visit struct {
	c   *console
	w   http.ResponseWriter
	r   *http.Request
	who auth.Caller
	now time.Time
}

// policy lets a page use what comes from here and nothing else: no script or
// style that stands in a page, no frame around it (CSP 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP says what holds for every answer.
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if strings.HasPrefix(r.URL.Path, Prefix+"static/") {
		h.Set("Cache-Control", "no-cache") // asked again, but not sent again
		h.Set("ETag", c.etag())
		if r.Header.Get("If-None-Match") == c.etag() {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	control := http.NewResponseController(w)
	// Not all writers can, those of tests for one; they need not.
	_ = control.SetReadDeadline(time.Now().Add(writeTime))
	_ = control.SetWriteDeadline(time.Now().Add(writeTime))
	if r.Method == http.MethodGet && foreign(r) && !strings.HasPrefix(r.URL.Path, Prefix+"static/") {
		c.bounce(w, r)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// etag changes with our version and each start: files have no other.
func (c *console) etag() string { return fmt.Sprintf("\"%x\"", c.About().Started.UnixNano()) }

// foreign says whether a page of another site leads here. The browser does not
// send the session then.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// inside makes a handler for those who were let in.
func (c *console) inside(do func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, w: w, r: r, now: time.Now()}
		var err error
		if r.Method != http.MethodGet || r.Header.Get("Upgrade") != "" {
			err = c.cfg.Sessions.Same(r)
		} else if err = c.cfg.Sessions.Called(r); err == nil && foreignPart(r) {
			err = &auth.Refusal{Status: http.StatusForbidden, What: "the request comes from a page of another site", Next: "Open the console itself."}
		}
		if err != nil {
			c.refuse(v, err)
			return
		}
		var ok bool
		if v.who, ok = c.cfg.Sessions.Who(r); !ok {
			c.turnAway(v)
			return
		}
		if err := do(v); err != nil {
			c.refuse(v, err)
		}
	})
}

// foreignPart says whether a page of another site wants an answer as a part of
// itself.
func foreignPart(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// refuse answers with an error, in words for people.
func (c *console) refuse(v *visit, err error) {
	var refused *auth.Refusal
	status, what, next := http.StatusInternalServerError, "something went wrong in here; the server's log says what", ""
	switch {
	case errors.As(err, &refused):
		status, what, next = refused.Status, refused.What, refused.Next
	case errors.Is(err, app.ErrNotFound):
		status, what = http.StatusNotFound, err.Error()
	case errors.Is(err, app.ErrInvalid):
		status, what = http.StatusBadRequest, err.Error()
	case errors.Is(err, app.ErrExists), errors.Is(err, app.ErrBusy):
		status, what = http.StatusConflict, err.Error()
	default:
		c.cfg.Log.Error("console", "method", v.r.Method, "path", v.r.URL.Path, "err", err)
	}
	c.render(v, status, "problem", frame{Title: http.StatusText(status), Data: struct{ What, Next string }{sentence(what), next}})
}

// sentence makes an error a sentence for people.
func sentence(text string) string {
	if text == "" {
		return text
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
