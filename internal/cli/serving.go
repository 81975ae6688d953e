package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/certs"
	"holdfast/internal/config"
	"holdfast/internal/console"
	"holdfast/internal/control"
	"holdfast/internal/edge"
	"holdfast/internal/server"
)

// serve runs a server until it is told to stop.
func serve(ctx context.Context, c config.Config) error {
	log := newLog(c)
	if err := edge.OfferSockets(); err != nil { // before anything is opened: it may start us again
		log.Warn("settings", "warning", err)
	}
	for _, w := range warnings(c) {
		log.Warn("settings", "warning", w)
	}
	open, err := openListeners(c)
	if err != nil {
		return err
	}
	var again *edge.Again
	s, err := newServer(c, open, log, func() (err error) {
		again, err = edge.KeepOpen(open.handed())
		return err
	})
	if err != nil {
		open.close()
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
	here := place{URL: open.adminURL(c), PID: os.Getpid()}
	if err := announcePlace(c.Data, here); err != nil {
		// As on a full disk, which is no reason to stop serving.
		log.Warn("leave word for the commands of this machine", "err", err)
	}
	defer forgetPlace(c.Data, here)
	notify("READY=1")
	log.Info("serving", "requests", strings.Join(open.urls(), ","), "admin", here.URL, "console", here.URL+console.Prefix, "data", c.Data,
		"domains", strings.Join(c.Domains, ","), "limits", s.Limits())
	if screen := newScreen(os.Stdout); screen.lively { // somebody watches
		screen.say("\n  Apps are served at %s\n  Deploy one with: holdfast deploy DIR\n  Look at them with: holdfast console\n", open.address("PROJECT."+c.Domains[0]))
	}
	err = <-served
	if errors.Is(err, server.ErrAgain) {
		forgetPlace(c.Data, here)
		return startAgain(again, log)
	}
	return err
}

// startAgain makes this process a new Holdfast, with the same words and listeners.
// It returns only when that fails.
func startAgain(again *edge.Again, log *slog.Logger) error {
	self, err := os.Executable()
	if err == nil {
		log.Info("starting again", "program", self)
		err = again.Exec(self, os.Args)
	}
	return fmt.Errorf("start again: %w", err)
}

func newServer(c config.Config, open listeners, log *slog.Logger, again func() error) (*server.Server, error) {
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
	from, err := certificates(c)
	if err != nil {
		return nil, err
	}
	s, err := server.New(server.Config{
		Data:          c.Data,
		Plain:         open.plain,
		TLS:           open.secure,
		Admin:         open.adminPlain,
		AdminTLS:      open.adminSecure,
		Certs:         from,
		Redirect:      c.Redirect,
		Limits:        edgeLimits(c.Limits),
		BodyMax:       c.Limits.BodyBytes,
		AppOpen:       c.Limits.AppOpen,
		HSTS:          c.HSTS,
		Trusted:       c.TrustedProxies,
		TrustedUnix:   c.TrustedUnix,
		Domains:       c.Domains,
		Region:        c.Region,
		App:           c.Project,
		User:          c.User,
		Redis:         c.Redis,
		Keeper:        []string{self, keeper},
		Hidden:        hiddenFrom(c),
		Log:           log,
		Program:       version(),
		KeepInstances: c.KeepInstances,
		Maintenance:   control.Window(c.Maintenance),
		Nearest:       c.NearestRuntime,
		BuildsMax:     c.BuildsMax,
		SourcesMax:    c.SourcesMax,
		LogsMax:       c.LogsMax,
		Print:         printing(c.LogStdout),
		OTLP:          c.OTLP,
		OTLPShare:     c.OTLPShare,
		LogsAge:       c.LogsAge,
		StopWithin:    c.StopWithin,
		Again:         again,
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

// printing is whose lines go to standard output.
func printing(what string) server.Print {
	return server.Print{
		Requests: what == config.StdoutRequests || what == config.StdoutAll,
		Apps:     what == config.StdoutApps || what == config.StdoutAll,
	}
}

// certificates is where the certificates for TLS come from.
func certificates(c config.Config) (from certs.Config, err error) {
	from.ACME = certs.ACME{Email: c.ACMEEmail, CA: c.ACMECA, Hook: c.ACMEHook}
	if c.ACMECARoot != "" {
		if from.ACME.Roots, err = certs.ReadRoots(c.ACMECARoot); err != nil {
			return from, &problem{what: err.Error(), err: err, next: "Name a file of certificates with acme-ca-root, or leave it out."}
		}
	}
	for i, cert := range c.TLSCert {
		from.Files = append(from.Files, certs.Files{Cert: cert, Key: c.TLSKey[i]})
	}
	return from, nil
}

// hiddenFrom is what apps must not see: what the server keeps, and the tokens
// that its user has for commands.
func hiddenFrom(c config.Config) []string {
	if !c.Confine {
		return nil
	}
	all := []string{c.Data}
	if dir, err := configDir(); err == nil && filepath.IsAbs(dir) {
		all = append(all, dir)
	}
	return all
}

// edgeLimits are the limits that the edge holds strangers to.
func edgeLimits(l config.Limits) edge.Limits {
	return edge.Limits{
		Conns:          l.Conns,
		ConnsPerClient: l.ConnsPerClient,
		HeaderBytes:    int(l.HeaderBytes),
		HeaderTime:     l.HeaderTime,
		IdleTime:       l.IdleTime,
		StallTime:      l.StallTime,
		Requests:       l.ConnRequests,
		Handshakes:     l.Handshakes,
		Streams:        l.Streams,
		Resets:         l.Resets,
		Control:        l.Control,
	}
}
