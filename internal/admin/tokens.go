package admin

import (
	"context"
	"net/http"
	"time"

	"holdfast/internal/auth"
)

// Token is a token that was given to somebody.
type Token struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Token   string    `json:"token,omitempty"` // told once, when it is made
}

type tokenList struct {
	Tokens []Token `json:"tokens"`
}

func (d *door) listTokens(a *visit) (any, error) {
	list := tokenList{Tokens: []Token{}}
	for _, n := range d.cfg.Tokens.List() {
		list.Tokens = append(list.Tokens, Token{Name: n.Name, Role: string(n.Role), Created: n.Created})
	}
	return list, nil
}

func (d *door) addToken(a *visit) (any, error) {
	var w struct {
		Name string `json:"name"`
		Role string `json:"role"`
	}
	if err := a.body(&w, bodyMax); err != nil {
		return nil, err
	}
	token, err := d.cfg.Tokens.Add(w.Name, auth.Role(w.Role))
	if err != nil {
		return nil, err
	}
	d.cfg.Log.Info("token added", "name", w.Name, "role", w.Role, "by", a.by)
	return Token{Name: w.Name, Role: w.Role, Created: time.Now().UTC().Truncate(time.Second), Token: token}, nil
}

func (d *door) removeToken(a *visit) (any, error) {
	if err := a.nothing(); err != nil {
		return nil, err
	}
	name := a.PathValue("name")
	if err := d.cfg.Tokens.Remove(name); err != nil {
		return nil, err
	}
	d.cfg.Log.Info("token removed", "name", name, "by", a.by)
	return struct{}{}, nil
}

// Tokens lists the named tokens, without themselves: only their hashes are kept.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	out, err := ask[tokenList](ctx, c, call{method: http.MethodGet, path: []string{"tokens"}})
	return out.Tokens, err
}

// AddToken makes a token, which is told this once.
func (c *Client) AddToken(ctx context.Context, name, role string) (Token, error) {
	return ask[Token](ctx, c, call{method: http.MethodPost, path: []string{"tokens"}, body: map[string]string{"name": name, "role": role}})
}

// RemoveToken has a token accepted no more.
func (c *Client) RemoveToken(ctx context.Context, name string) error {
	_, err := ask[struct{}](ctx, c, call{method: http.MethodDelete, path: []string{"tokens", name}})
	return err
}
