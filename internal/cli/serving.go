package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/config"
	"holdfast/internal/control"
	"holdfast/internal/edge"
	"holdfast/internal/server"
)

// serve runs a server until it is told to stop.
func serve(ctx context.Context, c config.Config) error {
	log := newLog(c)
	for _, w := range warnings(c) {
		log.Warn("settings", "warning", w)
	}
	requests, operators, err := listeners(c)
	if err != nil {
		return err
	}
	// They may have been handed to us.
	if err := hidden(c, operators.Addr().String()); err != nil && operators.Addr().Network() == "tcp" {
		requests.Close()
		operators.Close()
		return err
	}
	s, err := newServer(c, requests, operators, log)
	if err != nil {
		requests.Close()
		operators.Close()
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hurry, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	go heedSignals(ctx, hurry, func() {
		notify("STOPPING=1")
		log.Info("stopping", "within", c.StopWithin, "keep_instances", c.KeepInstances)
	}, stop, cut)

	served := make(chan error, 1)
	go func() { served <- s.Run(ctx, hurry) }()
	here := place{URL: "http://" + reachable(operators.Addr()), PID: os.Getpid()}
	if err := announcePlace(c.Data, here); err != nil {
		// As on a full disk, which is no reason to stop serving.
		log.Warn("leave word for the commands of this machine", "err", err)
	}
	defer forgetPlace(c.Data, here)
	notify("READY=1")
	log.Info("serving", "requests", "http://"+reachable(requests.Addr()), "admin", here.URL, "data", c.Data,
		"domains", strings.Join(c.Domains, ","), "limits", s.Limits())
	if screen := newScreen(os.Stdout); screen.lively { // somebody watches
		screen.say("\n  Apps are served at %s\n  Deploy one with: holdfast deploy DIR\n", appsAt(c, requests.Addr()))
	}
	return <-served
}

// appsAt shows where apps are to be found.
func appsAt(c config.Config, a net.Addr) string {
	return addressOf("PROJECT."+c.Domains[0], []admin.Listener{{Name: "http", Addr: a.String()}})
}

func newServer(c config.Config, requests, operators net.Listener, log *slog.Logger) (*server.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	mode := os.FileMode(0o700)
	if c.User != "" {
		mode = 0o711 // the apps' user passes through, and sees nothing
	}
	if err := os.MkdirAll(c.Data, mode); err != nil {
		return nil, &problem{what: fmt.Sprintf("the data directory cannot be made: %v", err), err: err, next: "Name another with --data=DIR."}
	}
	s, err := server.New(server.Config{
		Data:          c.Data,
		Listener:      requests,
		Admin:         operators,
		Domains:       c.Domains,
		Region:        c.Region,
		App:           c.Project,
		User:          c.User,
		Redis:         c.Redis,
		Keeper:        []string{self, keeper},
		Log:           log,
		Program:       version(),
		KeepInstances: c.KeepInstances,
		Maintenance:   control.Window(c.Maintenance),
		Nearest:       c.NearestRuntime,
		BuildsMax:     c.BuildsMax,
		SourcesMax:    c.SourcesMax,
		StopWithin:    c.StopWithin,
	})
	if errors.Is(err, app.ErrBusy) {
		return nil, &problem{what: strings.TrimSuffix(err.Error(), ": "+app.ErrBusy.Error()), err: err,
			next: "Commands find that server by themselves: holdfast services. For a second one, keep its state apart with --data=DIR."}
	}
	if err != nil {
		return nil, &problem{what: fmt.Sprintf("%s: %v", shorten(c.Data), err), err: err}
	}
	return s, nil
}

// listeners opens both listeners, or takes those that were handed to us: the
// first for requests, the second for operators.
func listeners(c config.Config) (requests, operators net.Listener, err error) {
	all, err := edge.Inherited()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, l := range all {
				l.Close()
			}
		}
	}()
	if len(all) > 2 {
		return nil, nil, &problem{what: fmt.Sprintf("%d listeners were handed to us", len(all)), next: "At most two are taken: where requests arrive, then the admin API."}
	}
	if len(all) < 1 {
		l, err := listen(c.Listen, "--listen=HOST:PORT", "--listen=127.0.0.1:0", "--listen=127.0.0.1:8080")
		if err != nil {
			return nil, nil, err
		}
		all = append(all, l)
	}
	if len(all) < 2 {
		l, err := listen(c.Admin, "--admin=HOST:PORT", "--admin=127.0.0.1:0", "--admin=127.0.0.1:8079")
		if err != nil {
			return nil, nil, err
		}
		all = append(all, l)
	}
	return all[0], all[1], nil
}

// reachable is an address of this machine at which a listener is reached: one
// that listens on all has none of its own.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
