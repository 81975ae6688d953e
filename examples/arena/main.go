// Arena is a game for many, made to be read in ten minutes: world.go has the
// rules, room.go the people, peers.go what instances tell each other, wire.go
// the frames, socket.go one person's connection, static/ is the page. There is
// one room on each instance, found again by session affinity; when an instance
// leaves, its room goes to another. Start reading at newServer, or at step.
package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// goodbyeMax bounds the end of the process: App Engine kills an instance
	// 25 to 30 seconds after SIGTERM, and people want to be elsewhere sooner.
	goodbyeMax = 3 * time.Second

	headerTimeout = 10 * time.Second // for a stranger who opens a connection and says nothing
	idleTimeout   = 2 * time.Minute  // longer than a front end keeps its idle connections

	drainLook = 100 * time.Millisecond // how often we look for the file that says that we drain
)

//go:embed static
var static embed.FS

// identity says which instance speaks. App Engine tells an app who it is in
// its environment.
type identity struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, log); err != nil {
		log.Error("arena ends", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends and then says goodbye, within goodbyeMax.
func run(ctx context.Context, log *slog.Logger) error {
	me := identity{
		Service:  env("GAE_SERVICE", "default"),
		Version:  env("GAE_VERSION", "local"),
		Instance: env("GAE_INSTANCE", "local-"+token(4)),
		Since:    time.Now().UTC(),
	}
	listener, err := net.Listen("tcp", ":"+env("PORT", "8080"))
	if err != nil {
		return err
	}
	arena := newRoom(me, log)
	srv := &http.Server{Handler: newServer(arena), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }() // ends with Shutdown below
	log.Info("arena listens", "addr", listener.Addr().String(), "instance", me.Instance, "room", arena.w.name)

	// The game and the bus stay until the room has been handed over.
	lasting, endAll := context.WithCancel(context.WithoutCancel(ctx))
	defer endAll()
	told := make(chan error, 1)
	go func() { told <- runPeers(lasting, arena, os.Getenv("REDIS_URL"), os.Getenv("REDIS_PREFIX")) }() // ends with endAll
	go arena.run(lasting)                                                                               // ends with endAll

	drains := drain(ctx, os.Getenv("HOLDFAST_DRAIN_FILE"))
	for waiting := true; waiting; {
		select {
		case err := <-served:
			return err
		case err := <-told:
			return err
		case why := <-drains:
			log.Info("drains", "by", why)
			arena.handOver(lasting)
		case <-ctx.Done():
			waiting = false
		}
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeMax)
	defer cancel()
	arena.handOver(bounded) // on App Engine SIGTERM is the first that one hears
	// Sockets first: Shutdown knows nothing of connections that were upgraded.
	if err := arena.waitForSockets(bounded); err != nil {
		log.Warn("not everybody answered the goodbye", "err", err) // a phone asleep, say: the end of the process cuts it
	}
	if err := srv.Shutdown(bounded); err != nil {
		log.Warn("requests are cut", "err", err)
		return srv.Close()
	}
	endAll()
	return <-told
}

// drain tells once that this instance begins to drain, and by what it knows:
// SIGUSR1, which app.yaml asks for, or the file that Holdfast names. It looks
// until ctx ends.
func drain(ctx context.Context, file string) <-chan string {
	told := make(chan string, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() { // ends with ctx, or having told
		defer signal.Stop(signals)
		look := time.NewTicker(drainLook)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				told <- "SIGUSR1"
				<-ctx.Done() // a second signal must not end us
				return
			case <-look.C:
				if _, err := os.Stat(file); file != "" && err == nil {
					told <- "HOLDFAST_DRAIN_FILE"
					<-ctx.Done()
					return
				}
			}
		}
	}()
	return told
}

// newServer is the arena's front door: the page, the socket and the checks.
func newServer(arena *room) http.Handler {
	pages, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	files := http.FileServerFS(pages)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", arena.serveSocket)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !arena.ready() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// The page and its script change together with a deploy.
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		files.ServeHTTP(w, r)
	})
	return mux
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// token is a random word of n bytes.
func token(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
