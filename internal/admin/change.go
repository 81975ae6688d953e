package admin

import (
	"context"
	"io"
	"net/http"

	"holdfast/internal/app"
)

// The methods here ask for a change and return the operation that makes it,
// which goes on whether or not anybody waits: Follow does. None of them is sent
// twice. When the error's kind is KindUnreachable, it is not known whether the
// server heard it.

// Deploy asks for a version. Its tree was uploaded before.
func (c *Client) Deploy(ctx context.Context, project string, d DeployRequest) (DeployAnswer, error) {
	return ask[DeployAnswer](ctx, c, call{method: http.MethodPost, path: []string{"apps", project, "deploy"}, body: d})
}

// SetTraffic splits a service's traffic.
func (c *Client) SetTraffic(ctx context.Context, k app.ServiceKey, s Split) (Operation, error) {
	return c.change(ctx, http.MethodPut, servicePath(k, "traffic"), s)
}

// Rollback returns a service to the split before the present one.
func (c *Client) Rollback(ctx context.Context, k app.ServiceKey) (Operation, error) {
	return c.change(ctx, http.MethodPost, servicePath(k, "rollback"), nil)
}

// DeleteService deletes a service and its versions; not the default service.
func (c *Client) DeleteService(ctx context.Context, k app.ServiceKey) (Operation, error) {
	return c.change(ctx, http.MethodDelete, servicePath(k), nil)
}

// StartVersion has a stopped version run again.
func (c *Client) StartVersion(ctx context.Context, k app.Key) (Operation, error) {
	return c.change(ctx, http.MethodPost, versionPath(k, "start"), nil)
}

// StopVersion stops a version that has no share of the traffic.
func (c *Client) StopVersion(ctx context.Context, k app.Key) (Operation, error) {
	return c.change(ctx, http.MethodPost, versionPath(k, "stop"), nil)
}

// DeleteVersion deletes a version that has no share of the traffic.
func (c *Client) DeleteVersion(ctx context.Context, k app.Key) (Operation, error) {
	return c.change(ctx, http.MethodDelete, versionPath(k), nil)
}

// SetScaling changes how many instances a version has.
func (c *Client) SetScaling(ctx context.Context, k app.Key, s ScalingChange) (Operation, error) {
	return c.change(ctx, http.MethodPatch, versionPath(k, "scaling"), s)
}

// RestartInstance has an instance replaced, its successor ready first.
func (c *Client) RestartInstance(ctx context.Context, id string) (Operation, error) {
	return c.change(ctx, http.MethodPost, []string{"instances", id, "restart"}, nil)
}

// DeleteInstance has an instance drained at once; another takes its place.
func (c *Client) DeleteInstance(ctx context.Context, id string) (Operation, error) {
	return c.change(ctx, http.MethodDelete, []string{"instances", id}, nil)
}

// SetDispatch replaces the dispatch rules of an application; none removes them.
func (c *Client) SetDispatch(ctx context.Context, project string, rules []DispatchRule) (Operation, error) {
	if rules == nil {
		rules = []DispatchRule{}
	}
	return c.change(ctx, http.MethodPut, []string{"apps", project, "dispatch"}, dispatchRules{rules})
}

// Cancel gives up an operation that is under way.
func (c *Client) Cancel(ctx context.Context, op string) (Operation, error) {
	return c.change(ctx, http.MethodPost, []string{"operations", op, "cancel"}, nil)
}

// CloseSockets says goodbye to the sockets that match and returns how many
// there were. Code 0 says what goes with the cause, requested; else 1000 to 4999
// as RFC 6455 allows. An empty filter needs all.
func (c *Client) CloseSockets(ctx context.Context, f SocketFilter, all bool, code int, reason string) (int, error) {
	body := closeRequest{Filter: f, All: all, Code: code, Reason: reason}
	a, err := ask[closeAnswer](ctx, c, call{method: http.MethodPost, path: []string{"sockets", "close"}, body: body})
	return a.Closed, err
}

// Restore makes the server what it was when the backup that r has was taken.
// It returns when that holds.
func (c *Client) Restore(ctx context.Context, r io.Reader) (Operation, error) {
	req, err := c.request(ctx, call{method: http.MethodPost, path: []string{"restore"}}, r)
	if err != nil {
		return Operation{}, err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := c.exchange(req)
	if err != nil {
		return Operation{}, err
	}
	defer resp.Body.Close()
	return read[Operation](ctx, c, resp.Body)
}

func (c *Client) change(ctx context.Context, method string, path []string, body any) (Operation, error) {
	return ask[Operation](ctx, c, call{method: method, path: path, body: body})
}
