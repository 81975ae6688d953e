package admin

import (
	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// fields are the filter's names in a query, and what they hold.
func (f SocketFilter) fields() []field {
	return []field{
		{"id", f.ID}, {"app", f.App}, {"service", f.Service},
		{"version", f.Version}, {"instance", f.Instance}, {"client", f.Client},
	}
}

type field struct{ name, value string }

func (f SocketFilter) tunnel() tunnel.Filter {
	return tunnel.Filter{
		ID: f.ID, Instance: f.Instance, Client: f.Client,
		Key: app.Key{App: f.App, Service: f.Service, Version: f.Version},
	}
}
