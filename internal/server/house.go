package server

import (
	"context"
	"io"
	"os"
	"slices"
	"time"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/googleapi"
)

// house is the server as a whole, as the door sees it.
type house struct{ *Server }

func (h house) Status() admin.Status {
	return admin.Status{
		Version:       h.cfg.Program,
		PID:           os.Getpid(),
		Started:       h.started,
		Data:          h.cfg.Data,
		Listeners:     h.listeners(),
		Domains:       h.cfg.Domains,
		Region:        h.cfg.Region,
		Limits:        h.driver.Limits(),
		Project:       h.cfg.App,
		SocketsMax:    socketsMax(),
		UptimeSeconds: time.Since(h.started).Seconds(),
	}
}

// listeners are where we listen, those first that people should use.
func (h house) listeners() (all []admin.Listener) {
	for _, l := range h.cfg.TLS {
		all = append(all, admin.Listener{Name: "https", Addr: l.Addr().String()})
	}
	for _, l := range h.cfg.Plain {
		all = append(all, admin.Listener{Name: "http", Addr: l.Addr().String()})
	}
	for _, l := range slices.Concat(h.cfg.Admin, h.cfg.AdminTLS) {
		all = append(all, admin.Listener{Name: "admin", Addr: l.Addr().String()})
	}
	return all
}

// Place is how the apps are reached, as gcloud is told. It says https:// before
// their names where that is spoken, and has a place for a port, not for a scheme:
// so the port is that of TLS.
func (h house) Place() googleapi.Place {
	p := googleapi.Place{Domain: h.cfg.Domains[0], Region: h.cfg.Region, Project: h.cfg.App}
	if len(h.cfg.TLS) > 0 {
		p.TLS, p.Port = true, portSuffix("https", h.cfg.TLS[0].Addr())
	} else {
		p.Port = portSuffix("http", h.cfg.Plain[0].Addr())
	}
	return p
}

func (h house) OperationLogDir() string { return h.builder.dir }

func (h house) Backup(ctx context.Context, w io.Writer) error { return h.keep.backup(ctx, w) }

func (h house) Restore(ctx context.Context, r io.Reader, by string) (app.Operation, error) {
	wishes, err := h.keep.restore(ctx, r)
	if err != nil {
		return app.Operation{}, err
	}
	return h.control.Restore(wishes, by)
}

// Certificates tells of those that clients are shown.
func (h house) Certificates() (all []admin.Certificate) {
	for _, e := range h.certs.List() {
		all = append(all, admin.Certificate{Names: e.Names, From: e.From, Until: e.Until, Problem: e.Problem, Again: e.Next})
	}
	return all
}

func (h house) ReplaceCertificate(ctx context.Context, name string) error {
	return h.certs.Replace(ctx, name)
}
