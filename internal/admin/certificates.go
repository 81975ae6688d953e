package admin

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Certificate is one that clients are shown, or a name that should have one.
type Certificate struct {
	Names   []string  `json:"names"`
	From    string    `json:"from"`              // file, uploaded or acme
	Until   time.Time `json:"until,omitzero"`    // not set: there is none
	Problem string    `json:"problem,omitempty"` // why there is none, or no newer one
	Again   time.Time `json:"again,omitzero"`    // when it is tried again
}

type certificateList struct {
	Certificates []Certificate `json:"certificates"`
}

func (d *door) certificates(a *visit) (any, error) {
	return certificateList{append([]Certificate{}, d.House.Certificates()...)}, nil
}

func (d *door) replaceCertificate(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	name := strings.ToLower(a.PathValue("name"))
	if err := d.House.ReplaceCertificate(a.Context(), name); err != nil {
		return nil, err
	}
	d.cfg.Log.Info("certificate replaced", "name", name, "by", a.by)
	return struct{}{}, nil
}

// Certificates lists the certificates that clients are shown.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	out, err := ask[certificateList](ctx, c, call{method: http.MethodGet, path: []string{"certificates"}})
	return out.Certificates, err
}

// ReplaceCertificate revokes the certificate of a name that the server has
// obtained, and has it obtain another. It waits for that.
func (c *Client) ReplaceCertificate(ctx context.Context, name string) error {
	_, err := ask[struct{}](ctx, c, call{method: http.MethodPost, path: []string{"certificates", name, "replace"}})
	return err
}
