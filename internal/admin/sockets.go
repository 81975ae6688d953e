package admin

import (
	"net/url"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

const (
	// socketsDefault and socketsMax are how many sockets an answer has when
	// nobody says, and at most.
	socketsDefault = 1000
	socketsMax     = 10_000
)

// query are the parameters that say which sockets are meant.
func (f SocketFilter) query() url.Values {
	q := Filter{App: f.App, Service: f.Service, Version: f.Version, Instance: f.Instance}.query()
	if f.ID != "" {
		q.Set("id", f.ID)
	}
	if f.Client != "" {
		q.Set("client", f.Client)
	}
	return q
}

func (f SocketFilter) tunnel() tunnel.Filter {
	return tunnel.Filter{
		ID: f.ID, Instance: f.Instance, Client: f.Client,
		Key: app.Key{App: f.App, Service: f.Service, Version: f.Version},
	}
}

// sockets is the table of open sockets, or its beginning.
func (d *door) sockets(a *visit) (any, error) {
	f, err := a.filter()
	if err != nil {
		return nil, err
	}
	limit, err := a.number("limit", socketsDefault, socketsMax)
	if err != nil {
		return nil, err
	}
	q := a.URL.Query()
	s := SocketFilter{ID: q.Get("id"), App: f.App, Service: f.Service, Version: f.Version, Instance: f.Instance, Client: q.Get("client")}
	all := d.Sockets.Sockets(s.tunnel())
	table := SocketTable{Total: len(all), Sockets: []Socket{}}
	for _, s := range all[:min(limit, len(all))] {
		table.Sockets = append(table.Sockets, socketOf(s))
	}
	return table, nil
}

func (d *door) closeSockets(a *visit) (any, error) {
	var w closeRequest
	if err := a.body(&w, bodyMax); err != nil {
		return nil, err
	}
	if w.Filter == (SocketFilter{}) && !w.All {
		return nil, &Error{Kind: KindInvalid, Message: "nothing says which sockets are meant", Next: "Name some by a filter, or say that all are."}
	}
	if w.Code == 0 && w.Reason != "" {
		return nil, &Error{Kind: KindInvalid, Message: "a reason needs a close code", Next: "Choose one from 1000 or 3000 to 4999."}
	}
	n, err := d.Sockets.CloseMatching(w.Filter.tunnel(), app.Requested, w.Code, w.Reason)
	if err != nil {
		return nil, err
	}
	d.cfg.Log.Info("sockets closed by request", "by", a.by, "sockets", n, "code", w.Code)
	return closeAnswer{Closed: n}, nil
}
