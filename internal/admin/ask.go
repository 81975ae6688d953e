package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/internal/app"
)

// Status asks how the server is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, call{method: http.MethodGet, path: []string{"status"}})
}

// Services lists services by application and name.
func (c *Client) Services(ctx context.Context, f Filter) ([]Service, error) {
	out, err := ask[struct{ Services []Service }](ctx, c, call{method: http.MethodGet, path: []string{"services"}, query: f.query()})
	return out.Services, err
}

// Service is one service, with its past splits.
func (c *Client) Service(ctx context.Context, k app.ServiceKey) (Service, error) {
	return ask[Service](ctx, c, call{method: http.MethodGet, path: servicePath(k)})
}

// Versions lists versions by application, service and age, the latest first.
func (c *Client) Versions(ctx context.Context, f Filter) ([]Version, error) {
	out, err := ask[struct{ Versions []Version }](ctx, c, call{method: http.MethodGet, path: []string{"versions"}, query: f.query()})
	return out.Versions, err
}

// Version is one version, with its environment.
func (c *Client) Version(ctx context.Context, k app.Key) (Version, error) {
	return ask[Version](ctx, c, call{method: http.MethodGet, path: versionPath(k)})
}

// Instances lists what runs by application, service, version and age.
func (c *Client) Instances(ctx context.Context, f Filter) ([]Instance, error) {
	out, err := ask[struct{ Instances []Instance }](ctx, c, call{method: http.MethodGet, path: []string{"instances"}, query: f.query()})
	return out.Instances, err
}

// Instance is one instance.
func (c *Client) Instance(ctx context.Context, id string) (Instance, error) {
	return ask[Instance](ctx, c, call{method: http.MethodGet, path: []string{"instances", id}})
}

// Operations lists operations, the latest first.
func (c *Client) Operations(ctx context.Context, f Filter) ([]Operation, error) {
	out, err := ask[struct{ Operations []Operation }](ctx, c, call{method: http.MethodGet, path: []string{"operations"}, query: f.query()})
	return out.Operations, err
}

// Operation is one operation, as it is now.
func (c *Client) Operation(ctx context.Context, id string) (Operation, error) {
	return ask[Operation](ctx, c, call{method: http.MethodGet, path: []string{"operations", id}})
}

// Dispatch is the dispatch rules of an application.
func (c *Client) Dispatch(ctx context.Context, project string) ([]DispatchRule, error) {
	out, err := ask[dispatchRules](ctx, c, call{method: http.MethodGet, path: []string{"apps", project, "dispatch"}})
	return out.Rules, err
}

// Sockets is a part of the table of open sockets: the oldest limit ones that
// match; 0 means 1000.
func (c *Client) Sockets(ctx context.Context, f SocketFilter, limit int) (SocketTable, error) {
	q := f.query()
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[SocketTable](ctx, c, call{method: http.MethodGet, path: []string{"sockets"}, query: q})
}

// Logs calls fn for the lines that match, in the order of time. With q.Follow
// it goes on until ctx ends, which gives its error, or the server does, which
// gives nil. An error of fn ends it and is returned.
func (c *Client) Logs(ctx context.Context, q LogQuery, fn func(LogLine) error) error {
	return c.lines(ctx, call{method: http.MethodGet, path: []string{"logs"}, query: q.query()}, fn)
}

// OperationLog calls fn for the lines that were written while an operation went
// on, above all by the build. With follow it waits for more until the
// operation has ended. An error of fn ends it and is returned.
func (c *Client) OperationLog(ctx context.Context, id string, follow bool, fn func(LogLine) error) error {
	q := url.Values{}
	if follow {
		q.Set("follow", "true")
	}
	return c.lines(ctx, call{method: http.MethodGet, path: []string{"operations", id, "log"}, query: q}, fn)
}

// Backup writes a tar of everything the server needs to begin again to w. An
// error means that what was written is no backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: []string{"backup"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &noted{r: resp.Body}
	_, err = io.Copy(w, body)
	if _, broken := body.seen(); broken != nil && broken != io.EOF {
		return c.unreachable(ctx, broken)
	}
	return err
}

func (f Filter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"app": f.App, "service": f.Service, "version": f.Version, "instance": f.Instance} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Pending {
		q.Set("pending", "true")
	}
	return q
}

func (l LogQuery) query() url.Values {
	q := Filter{App: l.App, Service: l.Service, Version: l.Version, Instance: l.Instance}.query()
	if l.Level != "" {
		q.Set("level", l.Level)
	}
	if !l.Since.IsZero() {
		q.Set("since", l.Since.UTC().Format(time.RFC3339Nano))
	}
	if l.Limit > 0 {
		q.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.Follow {
		q.Set("follow", "true")
	}
	if l.Requests {
		q.Set("requests", "true")
	}
	return q
}

func servicePath(k app.ServiceKey, more ...string) []string {
	return append([]string{"apps", k.App, "services", k.Service}, more...)
}

func versionPath(k app.Key, more ...string) []string {
	return append(servicePath(k.ServiceKey(), "versions", k.Version), more...)
}
