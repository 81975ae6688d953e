package console

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"holdfast/internal/auth"
)

// turnAway leads who is not signed in to where that is done, and back after it.
func (c *console) turnAway(v *visit) {
	if v.r.Method != http.MethodGet || v.r.Header.Get("Upgrade") != "" {
		c.refuse(v, &auth.Refusal{Status: http.StatusUnauthorized, What: "your session has ended", Next: "Sign in again."})
		return
	}
	to := Prefix + "sign-in"
	if at := v.r.URL.RequestURI(); at != Prefix {
		to += "?to=" + url.QueryEscape(at)
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
}

type signInForm struct{ To, What, Next string }

func (c *console) askToken(w http.ResponseWriter, r *http.Request) {
	v := &visit{c: c, w: w, r: r}
	if err := c.cfg.Sessions.Called(r); err != nil {
		c.refuse(v, err)
		return
	}
	c.render(v, http.StatusOK, "sign-in", frame{Title: "Sign in", Data: signInForm{To: own(r.URL.Query().Get("to"))}})
}

func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{c: c, w: w, r: r}
	if err := c.cfg.Sessions.Same(r); err != nil {
		c.refuse(v, err)
		return
	}
	to := own(r.PostFormValue("to"))
	who, err := c.cfg.Sessions.SignIn(w, r, r.PostFormValue("token"))
	var refused *auth.Refusal
	if errors.As(err, &refused) {
		what := "That is none of this server's tokens."
		if refused.Status == http.StatusTooManyRequests {
			what = "There were too many tries. Wait a few seconds."
		}
		c.render(v, refused.Status, "sign-in", frame{Title: "Sign in", Data: signInForm{To: to, What: what}})
		return
	}
	if err != nil {
		c.refuse(v, err)
		return
	}
	c.cfg.Log.Info("signed in", "by", who.Name, "role", string(who.Role))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// Entrance is the path by which a browser gets in with a code of auth.Sessions.
func Entrance(code string) string { return Prefix + "enter?code=" + url.QueryEscape(code) }

// enter is where holdfast console leads a browser.
func (c *console) enter(w http.ResponseWriter, r *http.Request) {
	v := &visit{c: c, w: w, r: r}
	if err := c.cfg.Sessions.Called(r); err != nil {
		c.refuse(v, err)
		return
	}
	var refused *auth.Refusal
	if err := c.cfg.Sessions.Enter(w, r, r.URL.Query().Get("code")); errors.As(err, &refused) {
		c.render(v, refused.Status, "sign-in", frame{Title: "Sign in", Data: signInForm{To: Prefix, What: sentence(refused.What), Next: refused.Next}})
		return
	}
	http.Redirect(w, r, own(r.URL.Query().Get("to")), http.StatusSeeOther)
}

func (c *console) signOut(v *visit) error {
	c.cfg.Sessions.SignOut(v.w, v.r)
	http.Redirect(v.w, v.r, Prefix+"sign-in", http.StatusSeeOther)
	return nil
}

// own is a page of ours that somebody is to be led to, whatever was asked for.
func own(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, Prefix) || strings.HasPrefix(u.Path, Prefix+"sign-") {
		return Prefix
	}
	return u.RequestURI()
}

// bounce has the browser ask once more, of its own: a link in a chat or a mail
// leads to a page here, but without the session's cookie.
func (c *console) bounce(w http.ResponseWriter, r *http.Request) {
	again := template.HTMLEscapeString(r.URL.RequestURI())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Holdfast</title><meta http-equiv="refresh" content="0; url=` + again +
		`"><p><a href="` + again + `">Open the console</a></p></html>`)) // who has left sees nothing
}
