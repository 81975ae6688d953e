// Brittle is an app that does what many do, and should not: it keeps people in the
// memory of one process, ends their session with their connection, says that it is
// ready before it is, and takes a pause of its own for theirs. It works for as long
// as nothing happens. Drills show what comes then:
//
//	holdfast run examples/brittle --drill --probe=ws:/ws,echo --expect=errors=0
//
// README.md says what to do about each. Start reading at sessions.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

const (
	sessionsMax = 10_000 // in memory; one more, and all are forgotten
	messageMax  = 64 << 10
	cookieName  = "brittle"

	headerTimeout = 10 * time.Second // for a stranger who opens a connection and says nothing
	finishMax     = 24 * time.Second // App Engine kills an instance soon after
	writeMax      = 10 * time.Second // a reader that takes nothing for so long is gone

	// lease is how long nobody may be silent. Whoever measures it with a clock that
	// stood still takes everybody for dead.
	lease = time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "brittle:", err)
		os.Exit(1)
	}
}

func run() error {
	warm := time.Second
	if s := os.Getenv("BRITTLE_WARM"); s != "" {
		var err error
		if warm, err = time.ParseDuration(s); err != nil {
			return fmt.Errorf("BRITTLE_WARM: %w", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	a := newApp(warm)
	go a.watch(ctx) // ends with ctx
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: headerTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }() // ends with Shutdown below
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.Background(), finishMax)
	defer cancel()
	return srv.Shutdown(bound)
}

// app is one instance, and the people that it alone knows.
type app struct {
	warm time.Time // until then it only says that it is ready

	mu       sync.Mutex      // guards the following
	sessions map[string]int  // how often each was here
	lost     context.Context // ended when everybody is taken for dead
	lose     context.CancelFunc
}

func newApp(warm time.Duration) *app {
	a := &app{warm: time.Now().Add(warm)}
	a.forget()
	return a
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }) // before it is
	mux.HandleFunc("GET /{$}", a.count)
	mux.HandleFunc("GET /ws", a.socket)
	return mux
}

// enter finds a visitor's session, or begins one. A session of which this process
// knows nothing is refused: nobody else can be asked.
func (a *app) enter(w http.ResponseWriter, r *http.Request) (id string, n int, lost context.Context, ok bool) {
	if time.Now().Before(a.warm) {
		http.Error(w, "still loading", http.StatusServiceUnavailable)
		return "", 0, nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, err := r.Cookie(cookieName); err == nil {
		if _, known := a.sessions[c.Value]; !known {
			http.Error(w, "your session is gone, log in again", http.StatusForbidden)
			return "", 0, nil, false
		}
		id = c.Value
	} else {
		id = rand.Text()
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	if len(a.sessions) >= sessionsMax {
		a.sessions = map[string]int{}
	}
	a.sessions[id]++
	return id, a.sessions[id], a.lost, true
}

// count tells a visitor how often it was here.
func (a *app) count(w http.ResponseWriter, r *http.Request) {
	if _, n, _, ok := a.enter(w, r); ok {
		fmt.Fprintf(w, "visit %d\n", n)
	}
}

// socket echoes, and ends the session with the connection.
func (a *app) socket(w http.ResponseWriter, r *http.Request) {
	id, _, lost, ok := a.enter(w, r)
	if !ok {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.sessions, id)
	}()
	conn.SetReadLimit(messageMax)
	stop := context.AfterFunc(lost, func() { conn.Close(4408, "you were silent for too long") })
	defer stop()
	for {
		kind, text, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		bound, cancel := context.WithTimeout(r.Context(), writeMax)
		err = conn.Write(bound, kind, text)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			return
		}
	}
}

// watch looks at the clock now and then. When it finds a lease gone by since the
// last look, everybody must have been silent: it does not think of itself.
func (a *app) watch(ctx context.Context) {
	tick := time.NewTicker(lease / 10)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := time.Now(); now.Sub(last) > lease {
			fmt.Println("brittle: everybody was silent for", now.Sub(last).Round(time.Millisecond))
			a.lose()
			a.forget()
			last = now
		} else {
			last = now
		}
	}
}

// forget begins anew, with nobody.
func (a *app) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions = map[string]int{}
	a.lost, a.lose = context.WithCancel(context.Background())
}
