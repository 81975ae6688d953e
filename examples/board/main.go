// Board is one document that everybody edits at once, made to be read in ten
// minutes: record.go keeps the edits, room.go the people, peers.go tells the other
// instances, socket.go carries one person's connection, static/ is the page.
//
// Merging is the pages' work, by Yjs: an edit ("update") is bytes to us, and
// whoever has the same set of updates, in whatever order, has the same text. So
// an instance keeps a set, and instances agree by exchanging what the other
// lacks. Start reading at newServer.
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
		log.Error("board ends", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends and then says goodbye, within goodbyeMax.
func run(ctx context.Context, log *slog.Logger) error {
	me := identity{
		Service:  env("GAE_SERVICE", "default"),
		Version:  env("GAE_VERSION", "local"),
		Instance: env("GAE_INSTANCE", "local-"+token()),
		Since:    time.Now().UTC(),
	}
	listener, err := net.Listen("tcp", ":"+env("PORT", "8080"))
	if err != nil {
		return err
	}
	board := newRoom(me, log)
	srv := &http.Server{Handler: newServer(board), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }() // ends with Shutdown below
	log.Info("board listens", "addr", listener.Addr().String(), "instance", me.Instance)

	// The bus stays until the last person has left: what they typed last is
	// told to the peers.
	lasting, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	told := make(chan error, 1)
	go func() { told <- runPeers(lasting, board, os.Getenv("REDIS_URL"), os.Getenv("REDIS_PREFIX")) }() // ends with hangUp

	select {
	case err := <-served:
		return err
	case err := <-told:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeMax)
	defer cancel()
	// Sockets first: Shutdown knows nothing of connections that were upgraded.
	if err := board.goodbye(bounded); err != nil {
		log.Warn("not everybody answered the goodbye", "err", err) // a phone asleep, say: the end of the process cuts it
	}
	if err := srv.Shutdown(bounded); err != nil {
		log.Warn("requests are cut", "err", err)
		return srv.Close()
	}
	hangUp()
	return <-told
}

// newServer is the board's front door: the page, the socket and the checks.
func newServer(board *room) http.Handler {
	pages, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	files := http.FileServerFS(pages)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", board.serveSocket)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	// An instance that has not heard its peers yet would show an empty page.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !board.ready() {
			http.Error(w, "not now", http.StatusServiceUnavailable)
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

// token is a short random word.
func token() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
