package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	messageMax  = 16 << 20         // bytes of one WebSocket message, held in memory
	writeMax    = 30 * time.Second // a reader that takes nothing for so long is gone
	waitMax     = time.Hour        // of a poll, of the pause between events, of slowness: a request lasts no longer
	everyMin    = 10 * time.Millisecond
	downloadMax = 10 << 30 // bytes
)

//go:embed static
var static embed.FS

var page = template.Must(template.ParseFS(static, "static/index.html"))

// An echo is one instance and its switches.
type echo struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Instance string    `json:"instance"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`

	stopping context.Context // done once stop was called
	stop     context.CancelFunc
	sockets  sync.WaitGroup

	switches
}

func newEcho() *echo {
	e := &echo{
		Service:  env("GAE_SERVICE", "default"),
		Version:  env("GAE_VERSION", "local"),
		Instance: env("GAE_INSTANCE", fmt.Sprint("local-", os.Getpid())),
		PID:      os.Getpid(),
		Since:    time.Now().UTC(),
		switches: newSwitches(),
	}
	e.stopping, e.stop = context.WithCancel(context.Background())
	return e
}

// wait returns when every socket has ended, or when ctx does.
func (e *echo) wait(ctx context.Context) error {
	ended := make(chan struct{})
	go func() { // ends with the last socket; the process ends soon in any case
		e.sockets.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sockets: %w", ctx.Err())
	}
}

// newServer is the front door: every path this app has.
func newServer(e *echo) http.Handler {
	pages, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", e.name)
	mux.Handle("GET /echo.js", http.FileServerFS(pages))
	mux.Handle("GET /style.css", http.FileServerFS(pages))
	mux.HandleFunc("GET /ws", e.socket)
	mux.HandleFunc("GET /events", e.events)
	mux.HandleFunc("GET /poll", e.poll)
	mux.HandleFunc("/headers", e.headers)
	mux.HandleFunc("POST /upload", e.upload)
	mux.HandleFunc("PUT /upload", e.upload)
	mux.HandleFunc("GET /download", e.download)
	mux.HandleFunc("/status/{code}", e.status)
	mux.HandleFunc("GET /env", e.env)
	mux.HandleFunc("GET /ready", e.ready)
	mux.HandleFunc("GET /live", e.live)
	mux.HandleFunc("GET /switch", e.showSwitches)
	mux.HandleFunc("POST /switch/{name}", e.turn)
	return e.misbehave(mux)
}

// name says who answers: a page to browsers, JSON or a line to programs.
func (e *echo) name(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	accept := r.Header.Get("Accept")
	switch {
	case strings.Contains(accept, "text/html"):
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		page.Execute(w, e) // an error here is the connection's
	case strings.Contains(accept, "json"):
		answer(w, e)
	default:
		fmt.Fprintln(w, e.Instance)
	}
}

// socket echoes messages. With ?refuse=CODE it does not upgrade but answers
// so; with ?close=CODE&reason=TEXT the first message is answered by that Close.
func (e *echo) socket(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("refuse") != "" {
		if code, ok := number(w, r, "refuse", 0, 400, 599); ok {
			http.Error(w, "this app refuses the socket", code)
		}
		return
	}
	code, ok := number(w, r, "close", 0, 0, 4999)
	if !ok {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	e.sockets.Add(1)
	defer e.sockets.Done()
	defer conn.CloseNow()
	conn.SetReadLimit(messageMax)

	// Reading with a context that ends would cut the connection, and a Close
	// needs it: stopping is watched beside it.
	over := make(chan struct{})
	defer close(over)
	go func() { // ends with the socket
		select {
		case <-e.stopping.Done():
			conn.Close(websocket.StatusGoingAway, "stopping") // bounded by the library
		case <-over:
		}
	}()
	ctx := context.WithoutCancel(r.Context())
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		e.hangIfAsked(ctx)
		if code != 0 {
			conn.Close(websocket.StatusCode(code), r.FormValue("reason"))
			return
		}
		bounded, cancel := context.WithTimeout(ctx, writeMax)
		err = conn.Write(bounded, kind, data)
		cancel()
		if err != nil {
			return
		}
	}
}

// events ticks: server-sent events, ?every=1s apart, ?count=N of them or
// without end. They are numbered, and go on after the Last-Event-ID.
func (e *echo) events(w http.ResponseWriter, r *http.Request) {
	every, err := time.ParseDuration(valueOr(r, "every", "1s"))
	if err != nil || every < everyMin || every > waitMax {
		http.Error(w, "every: a duration from 10ms to 1h, such as 100ms", http.StatusBadRequest)
		return
	}
	count, ok := number(w, r, "count", 0, 0, 1<<30)
	if !ok {
		return
	}
	n, _ := strconv.Atoi(r.Header.Get("Last-Event-ID")) // 0 if there is none
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // App Engine's own front end would hold it back
	flush := http.NewResponseController(w).Flush
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for sent := 1; ; sent++ {
		n++
		fmt.Fprintf(w, "id: %d\nevent: tick\ndata: {\"n\":%d,\"instance\":%q,\"at\":%q}\n\n", n, n, e.Instance, time.Now().UTC().Format(time.RFC3339Nano))
		if flush() != nil || sent == count {
			return
		}
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		case <-e.stopping.Done():
			fmt.Fprintf(w, "event: bye\ndata: {\"instance\":%q}\n\n", e.Instance)
			return
		}
		e.hangIfAsked(r.Context())
	}
}

// poll waits ?seconds=N and answers.
func (e *echo) poll(w http.ResponseWriter, r *http.Request) {
	s, err := strconv.ParseFloat(valueOr(r, "seconds", "1"), 64)
	if err != nil || !(s >= 0 && s <= waitMax.Seconds()) {
		http.Error(w, "seconds: a number from 0 to 3600", http.StatusBadRequest)
		return
	}
	start := time.Now()
	if pause(r.Context(), time.Duration(s*float64(time.Second))) {
		answer(w, map[string]any{"instance": e.Instance, "waited_ms": time.Since(start).Milliseconds()})
	}
}

// headers shows the request as it was received. Go keeps no order of header
// names, so they are sorted; Host is not among them.
func (e *echo) headers(w http.ResponseWriter, r *http.Request) {
	list := [][2]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			list = append(list, [2]string{name, v})
		}
	}
	answer(w, map[string]any{
		"instance": e.Instance, "method": r.Method, "url": r.RequestURI, "proto": r.Proto, "host": r.Host, "headers": list,
		"remote_addr": r.RemoteAddr, "content_length": r.ContentLength, "transfer_encoding": r.TransferEncoding,
	})
}

// upload counts the body as it comes and keeps nothing of it.
func (e *echo) upload(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, fmt.Sprintf("the body broke off after %d bytes: %v", n, err), http.StatusBadRequest)
		return
	}
	answer(w, map[string]any{"instance": e.Instance, "bytes": n, "took_ms": time.Since(start).Milliseconds()})
}

// download sends ?bytes=N, its length announced unless ?chunked=1.
func (e *echo) download(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "bytes", 1<<20, 0, downloadMax)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(n))
	}
	block := []byte(strings.Repeat("0123456789abcdef", 2048))
	for n > 0 {
		sent, err := w.Write(block[:min(n, len(block))])
		if err != nil {
			return
		}
		n -= sent
	}
}

// status answers with the status in the path.
func (e *echo) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "a status from 200 to 599", http.StatusBadRequest)
		return
	}
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintf(w, "%d %s from %s\n", code, http.StatusText(code), e.Instance)
	}
}

// env shows what App Engine tells an app, and nothing else of the environment.
func (e *echo) env(w http.ResponseWriter, _ *http.Request) {
	vars := map[string]string{}
	for _, kv := range os.Environ() {
		if name, v, _ := strings.Cut(kv, "="); name == "PORT" || strings.HasPrefix(name, "GAE_") {
			vars[name] = v
		}
	}
	answer(w, vars)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v) // an error here is the connection's
}

// number reads a whole number from the query, between low and high. If there
// is none, it is otherwise; if it is wrong, the request is answered.
func number(w http.ResponseWriter, r *http.Request, name string, otherwise, low, high int) (int, bool) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		http.Error(w, fmt.Sprintf("%s: a whole number from %d to %d", name, low, high), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

func valueOr(r *http.Request, name, otherwise string) string {
	if v := r.URL.Query().Get(name); v != "" {
		return v
	}
	return otherwise
}

// pause reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
