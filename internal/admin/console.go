package admin

import (
	"context"
	"net/http"

	"holdfast/internal/auth"
)

// Invite makes a code that leads a browser into the console as c, once and
// within a minute, or with often at any time; see auth.Sessions.
type Invite func(c auth.Caller, often bool) string

// Invitation leads a browser into the console, once and within a minute.
type Invitation struct {
	Code string `json:"code"`
}

func (d *door) invite(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	return Invitation{d.cfg.Invite(a.w.(*admitted).caller, false)}, nil
}

// Invite asks for a way into the console for whoever has the client's token.
func (c *Client) Invite(ctx context.Context) (Invitation, error) {
	return ask[Invitation](ctx, c, call{method: http.MethodPost, path: []string{"console"}})
}
