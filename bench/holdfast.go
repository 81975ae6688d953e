//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/app"
	"holdfast/internal/edge"
	"holdfast/internal/logs"
	"holdfast/internal/router"
	"holdfast/internal/tunnel"
)

// goodbyeTime bounds how long sockets and requests may take to end with the
// process.
const goodbyeTime = time.Second

// holdfastMain is the role "holdfast": the data plane as the server wires it,
// with the access log in a rotated file, counters and the deadline of an hour,
// and with routes that nobody changes. Its arguments are a backend, a
// directory, and with TLS a certificate and its key.
func holdfastMain(args []string) error {
	backend, dir := args[0], args[1]
	profiled, err := profile()
	if err != nil {
		return err
	}

	listener, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if len(args) > 2 {
		pair, err := tls.LoadX509KeyPair(args[2], args[3])
		if err != nil {
			return err
		}
		listener = edge.TLS(listener, edge.TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }), tunnel.TLSBase)
	}
	access, err := logs.Create(filepath.Join(dir, "requests.log"), logs.Limit{})
	if err != nil {
		return err
	}
	defer access.Close()

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	tunnels := tunnel.New(tunnel.Config{}, log)
	rt := router.New(router.Config{
		Domains: []string{"localhost"},
		Access:  slog.New(slog.NewJSONHandler(access, nil)),
		Log:     log,
	}, tunnels)
	rt.Set(routesTo(backend))

	asked, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	g, ctx := errgroup.WithContext(context.Background())
	ctx, end := context.WithCancel(ctx)
	g.Go(func() error {
		select {
		case <-asked.Done():
			profiled() // while everything is still there
		case <-ctx.Done():
		}
		end()
		return nil
	})
	g.Go(func() error { return tunnels.Run(ctx) })
	g.Go(func() error { return edge.Serve(ctx, []net.Listener{listener}, rt, edge.Limits{}, goodbyeTime, log) })
	return g.Wait()
}

// routesTo leads every request to one instance, which has been ready for long.
func routesTo(addr string) router.Routes {
	key := app.Key{App: "bench", Service: app.DefaultService, Version: "v1"}
	longAgo := time.Now().Add(-time.Hour)
	return router.Routes{
		Default: router.Default{App: key.App, Service: key.Service},
		Apps: map[string]router.App{key.App: {Services: map[string]router.Service{key.Service: {
			Split: app.Split{By: app.ByIP, Shares: map[string]float64{key.Version: 1}},
			Pools: map[string]router.Pool{key.Version: {
				Sockets:   app.Sockets{MaxAge: time.Hour},
				Instances: []app.Instance{{ID: "i1", Key: key, Addr: addr, State: app.Ready, Since: longAgo, Born: longAgo}},
			}},
		}}}},
	}
}

// profileVariable asks the role for profiles of its life: the beginning of
// their paths.
const profileVariable = "HOLDFAST_BENCH_PROFILE"

// profile begins a CPU profile, where that is asked for, and returns what ends
// it and writes a heap profile.
func profile() (stop func(), err error) {
	path := os.Getenv(profileVariable)
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
		if f, err := os.Create(path + ".heap.pprof"); err == nil {
			pprof.Lookup("heap").WriteTo(f, 1) // as text, with the runtime's own counts
			f.Close()
		}
	}, nil
}
