package googleapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
)

// Config is what the door is told once.
type Config struct {
	Guard   *auth.Guard     // lets in who may
	Dir     string          // where uploads are staged; made when absent, and this door's alone
	Goodbye <-chan struct{} // closed when the server ends: requests stop waiting then; nil: never
	Log     *slog.Logger
}

// New is the door: a handler for the paths that Serves names. Every request
// must pass cfg.Guard.
func New(e Engine, cfg Config) (http.Handler, error) {
	shelf, err := openShelf(filepath.Clean(cfg.Dir), e.Sources)
	if err != nil {
		return nil, err
	}
	d := &door{
		Engine: e, cfg: cfg, shelf: shelf,
		waiters: make(chan struct{}, waitersMax),
		told:    map[string]*progress{},
	}
	d.routes = compile(d.table())
	return d, nil
}

type door struct {
	Engine
	cfg     Config
	shelf   *shelf
	routes  []route
	waiters chan struct{} // a place for each request that waits

	mu   sync.Mutex           // guards the following
	told map[string]*progress // of operations that are polled
}

// call is one request. Its reading methods return errors that are for the
// client.
type call struct {
	*http.Request
	w     http.ResponseWriter
	path  map[string]string // the variable parts of the path
	query url.Values
	by    string // who asks
	beta  bool   // asked in the words of v1beta, which differ in nothing but type names
}

// raw is an answer that is not JSON.
type raw struct {
	kind   string // its content type
	header map[string]string
	status int // 0: 200
	text   string
}

// ServeHTTP lets only those in who may.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 {
		// Not all writers can, those of tests for one; they need not.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	}
	answer, err := d.answer(w, r)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	if text, ok := answer.(raw); ok {
		w.Header().Set("Content-Type", text.kind)
		for name, value := range text.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(max(text.status, http.StatusOK))
		_, _ = io.WriteString(w, text.text) // who does not read it has left
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (d *door) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	caller, err := d.cfg.Guard.Admit(r)
	if err != nil {
		return nil, err
	}
	c := &call{Request: r, w: w, by: caller.Name}
	if err := c.override(); err != nil {
		return nil, err
	}
	c.query, err = url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query is none: %s", shown(err.Error()))
	}
	route, err := d.find(c)
	if err != nil {
		return nil, err
	}
	if err := auth.Need(caller, route.role()); err != nil {
		return nil, err
	}
	switch alt := c.query.Get("alt"); alt {
	case "", "json", "media":
	default:
		return nil, wrong("alt", "%s: want json", shown(alt))
	}
	answer, err := route.do(c)
	if err != nil {
		return nil, err
	}
	if _, ok := answer.(raw); ok || c.query.Get("fields") == "" {
		return answer, nil
	}
	return partial(answer, c.query.Get("fields"))
}

// override turns a question whose URL would be too long, and that therefore
// comes as a form, back into what it is.
func (c *call) override() error {
	if c.Method != http.MethodPost || c.Header.Get("X-HTTP-Method-Override") != http.MethodGet {
		return nil
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	query := string(text)
	if c.URL.RawQuery != "" {
		query = c.URL.RawQuery + "&" + query
	}
	r := c.Clone(c.Context())
	r.Method, r.URL.RawQuery = http.MethodGet, query
	c.Request = r
	return nil
}

// refuse answers with an error. What is nobody's business outside is logged.
func (d *door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is there to hear
	}
	e := errorOf(err)
	if e.Code >= http.StatusInternalServerError {
		d.cfg.Log.Error("google request", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if e.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	writeJSON(w, e.Code, e.wire())
}

// writeJSON answers with one value. That the client does not hear it is seen
// by nobody, and matters to nobody else.
func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // plain values only
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// text is the request's body, of at most bodyMax bytes.
func (c *call) text() ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, bodyMax))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, refuse(http.StatusRequestEntityTooLarge, "the request is longer than %d bytes", bodyMax)
	case err != nil:
		return nil, invalid("the request broke off: %s", shown(err.Error()))
	}
	return text, nil
}

// body reads the request's JSON into v. What v does not know is for others to
// judge: the app.yaml that comes with a version says more than Google's JSON does.
func (c *call) body(v any) error {
	_, err := c.object(v)
	return err
}

// object is body, and returns the names of the JSON's first level.
func (c *call) object(v any) (names map[string]json.RawMessage, err error) {
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, invalid("the request has no JSON in it")
	}
	if err := json.Unmarshal(text, &names); err != nil || names == nil {
		return nil, invalid("the request is no JSON object: %s", shown(jsonText(err)))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return nil, invalid("the request is no JSON that fits: %s", shown(jsonText(err)))
	}
	return names, nil
}

func jsonText(err error) string {
	if err == nil {
		return "null"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// arriving is the request's body as it comes: every piece has a time of its
// own, so that a large file may take long and a client that hangs may not.
func (c *call) arriving(most int64) io.Reader {
	return pieces{http.MaxBytesReader(c.w, c.Body, most), http.NewResponseController(c.w)}
}

type pieces struct {
	r       io.Reader
	control *http.ResponseController
}

func (p pieces) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(pieceTime)) // not all can; see ServeHTTP
	n, err := p.r.Read(b)
	var long *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &long):
		return n, refuse(http.StatusRequestEntityTooLarge, "the upload is longer than %d bytes", long.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, refuse(http.StatusRequestTimeout, "the upload paused for more than %v", pieceTime)
	}
	return n, invalid("the upload broke off: %s", shown(err.Error()))
}

// wait gives an operation a while to end, and returns it as it is then.
func (d *door) wait(c *call, op app.Operation, long time.Duration) app.Operation {
	select {
	case d.waiters <- struct{}{}:
		defer func() { <-d.waiters }()
	default:
		return op
	}
	ctx, stop := context.WithTimeout(c.Context(), long)
	defer stop()
	go func() { // ends with ctx
		select {
		case <-d.cfg.Goodbye:
			stop()
		case <-ctx.Done():
		}
	}()
	if now, err := d.Control.Wait(ctx, op.ID); now.ID == op.ID && (err == nil || now.Stage != "") {
		return now
	}
	return op
}
