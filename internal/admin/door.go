package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/auth"
)

const (
	// writeTime bounds how long a client may take to read an answer, or the next
	// piece of a long one, before the connection is cut.
	writeTime = 30 * time.Second

	// readTime bounds how long a request's JSON may take to arrive.
	readTime = 30 * time.Second

	// pieceTime bounds how long a client may pause within an upload.
	pieceTime = time.Minute

	// waitersMax bounds how many answers may be waiting for something at once:
	// long polls and streams. Each is a goroutine, and a follower of logs reads
	// directories ten times a second.
	waitersMax = 128

	// putsMax bounds how many files are written at once: as many as two clients
	// send. More make a disk slower, not faster.
	putsMax = 8

	// retryAfter is when who was refused for want of room should come again.
	retryAfter = time.Second
)

// Config is what the door is told once.
type Config struct {
	Guard   *auth.Guard     // lets in who may
	Tokens  *auth.Tokens    // whose tokens the guard lets in, to list and change
	Invite  Invite          // into the console
	Goodbye <-chan struct{} // closed when the server ends: streams and long polls end then; nil: never
	Log     *slog.Logger
}

// New is the door: a handler for everything below Prefix. Every request must
// pass cfg.Guard. All that wait or take long are bounded in number, and
// clients that do not read or send are cut off.
func New(e Engine, cfg Config) http.Handler {
	d := &door{Engine: e, cfg: cfg, waiters: make(chan struct{}, waitersMax), puts: make(chan struct{}, putsMax), restores: make(chan struct{}, 1)}
	d.mux = http.NewServeMux()
	for _, r := range d.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		d.mux.Handle(method+" "+Prefix+path, d.room(r))
	}
	return d
}

type door struct {
	Engine
	cfg Config
	mux *http.ServeMux // the rooms behind; entered by ServeHTTP only

	// Places, each taken by putting something in.
	waiters  chan struct{} // long polls and streams
	puts     chan struct{} // uploads of files
	restores chan struct{} // backups that are being restored
}

// route is one thing that can be asked for. One of answer and stream is set.
type route struct {
	pattern string    // METHOD path, as http.ServeMux has it, below Prefix
	needs   auth.Role // "": see role
	query   string    // the parameters that it knows, with spaces between
	answer  func(*visit) (any, error)
	stream  func(http.ResponseWriter, *visit) error // writes by itself, and returns an error only before its first byte
}

func (d *door) routes() []route {
	const filter = "app service version instance"
	return []route{
		{pattern: "GET status", answer: d.status},

		{pattern: "GET services", query: filter, answer: d.services},
		{pattern: "GET versions", query: filter, answer: d.versions},
		{pattern: "GET instances", query: filter, answer: d.instances},
		{pattern: "GET operations", query: filter + " pending", answer: d.operations},
		{pattern: "GET apps/{app}/services/{service}", answer: d.service},
		{pattern: "GET apps/{app}/services/{service}/versions/{version}", answer: d.version},
		{pattern: "GET apps/{app}/dispatch", answer: d.dispatch},
		{pattern: "GET instances/{id}", answer: d.instance},
		{pattern: "GET operations/{id}", query: "wait stage", answer: d.operation},
		{pattern: "GET operations/{id}/log", query: "follow", stream: d.operationLog},

		{pattern: "PUT blobs/{hash}", answer: d.putBlob},
		{pattern: "POST trees", answer: d.putTree},
		{pattern: "POST apps/{app}/deploy", answer: d.deploy},

		{pattern: "PUT apps/{app}/services/{service}/traffic", answer: d.setTraffic},
		{pattern: "POST apps/{app}/services/{service}/rollback", answer: d.rollback},
		{pattern: "DELETE apps/{app}/services/{service}", answer: d.deleteService},
		{pattern: "POST apps/{app}/services/{service}/versions/{version}/start", answer: d.startVersion},
		{pattern: "POST apps/{app}/services/{service}/versions/{version}/stop", answer: d.stopVersion},
		{pattern: "DELETE apps/{app}/services/{service}/versions/{version}", answer: d.deleteVersion},
		{pattern: "PATCH apps/{app}/services/{service}/versions/{version}/scaling", answer: d.setScaling},
		{pattern: "POST instances/{id}/restart", answer: d.restartInstance},
		{pattern: "DELETE instances/{id}", answer: d.deleteInstance},
		{pattern: "PUT apps/{app}/dispatch", answer: d.setDispatch},
		{pattern: "POST operations/{id}/cancel", answer: d.cancel},

		{pattern: "GET drills", answer: d.drills},
		{pattern: "POST apps/{app}/services/{service}/drills", answer: d.drill},
		{pattern: "GET operations/{id}/report", answer: d.report},
		{pattern: "PUT operations/{id}/report", answer: d.keepReport},

		{pattern: "GET logs", query: filter + " level since limit follow requests", stream: d.logs},
		{pattern: "GET sockets", query: filter + " id client limit", answer: d.sockets},
		{pattern: "POST sockets/close", answer: d.closeSockets},

		{pattern: "GET backup", needs: auth.Admin, stream: d.backup},
		{pattern: "POST restore", needs: auth.Admin, answer: d.restore},

		{pattern: "GET certificates", answer: d.certificates},
		{pattern: "POST certificates/{name}/replace", needs: auth.Admin, answer: d.replaceCertificate},
		{pattern: "POST console", needs: auth.Viewer, answer: d.invite},

		{pattern: "GET tokens", needs: auth.Admin, answer: d.listTokens},
		{pattern: "POST tokens", needs: auth.Admin, answer: d.addToken},
		{pattern: "DELETE tokens/{name}", needs: auth.Admin, answer: d.removeToken},
	}
}

// role is the least that a route needs: to look, unless it says otherwise, and
// to change what runs.
func (r route) role() auth.Role {
	switch {
	case r.needs != "":
		return r.needs
	case strings.HasPrefix(r.pattern, http.MethodGet+" "):
		return auth.Viewer
	}
	return auth.Deployer
}

// room makes a handler of a route.
func (d *door) room(r route) http.Handler {
	known := strings.Fields(r.query)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		caller := w.(*admitted).caller
		a := &visit{Request: req, w: w, by: caller.Name} // a panic above here is a way in that asks for no token
		if by := req.Header.Get(byHeader); by != "" {
			a.by = by
		}
		control := http.NewResponseController(w)
		err := refusal(auth.Need(caller, r.role()))
		if err == nil {
			err = a.check(known)
		}
		if err == nil && r.stream != nil {
			if err = r.stream(w, a); err == nil {
				return
			}
		}
		var answer any
		if err == nil {
			answer, err = r.answer(a)
		}
		// Not all can; see ServeHTTP.
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		if err != nil {
			d.refuse(w, req, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

// refuse answers with an error. What is nobody's business outside is logged.
func (d *door) refuse(w http.ResponseWriter, req *http.Request, err error) {
	if errors.Is(err, context.Canceled) && req.Context().Err() != nil {
		return // nobody is there to hear
	}
	e := errorOf(err)
	if e.Kind == KindInternal {
		d.cfg.Log.Error("admin request", "method", req.Method, "path", req.URL.Path, "err", err)
	}
	switch {
	case e.Kind == KindUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	case e.Retry > 0:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(e.Retry.Seconds()))))
	}
	writeJSON(w, e.status(), e.wire())
}

// place takes one of a bounded number of places, or refuses. What it returns
// gives the place back.
func place(places chan struct{}, what string) (func(), error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, &Error{Kind: KindUnavailable, Retry: retryAfter, Message: fmt.Sprintf("%d %s are under way, which is the most at once", cap(places), what), Next: "Try again in a moment."}
	}
}
