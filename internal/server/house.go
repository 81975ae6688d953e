package server

import (
	"context"
	"io"
	"net"
	"os"
	"time"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/googleapi"
)

// house is the server as a whole, as the door sees it.
type house struct{ *Server }

func (h house) Status() admin.Status {
	return admin.Status{
		Version: h.cfg.Program,
		PID:     os.Getpid(),
		Started: h.started,
		Data:    h.cfg.Data,
		Listeners: []admin.Listener{
			{Name: "http", Addr: h.cfg.Listener.Addr().String()},
			{Name: "admin", Addr: h.cfg.Admin.Addr().String()},
		},
		Domains:       h.cfg.Domains,
		Region:        h.cfg.Region,
		Limits:        h.driver.Limits(),
		Project:       h.cfg.App,
		SocketsMax:    socketsMax(),
		UptimeSeconds: time.Since(h.started).Seconds(),
	}
}

// Place is how the apps are reached, as gcloud is told.
func (h house) Place() googleapi.Place {
	p := googleapi.Place{Domain: h.cfg.Domains[0], Region: h.cfg.Region, Project: h.cfg.App}
	if _, port, err := net.SplitHostPort(h.cfg.Listener.Addr().String()); err == nil && port != "80" {
		p.Port = ":" + port
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
