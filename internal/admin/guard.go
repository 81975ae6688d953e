package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Three things stand before the door. A token, which browsers do not send by
// themselves, is what counts. The other two are for the case that a page got
// hold of one, or that some day a browser is let in by a cookie: the name by
// which the server is asked must be one of its own, so that a stranger's name
// that was made to lead here (DNS rebinding) does not; and a browser that says
// that another site's page is asking is refused (cross-site request forgery).
// No answer ever allows another origin to read it.

// ServeHTTP lets only those in who may.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 {
		// A refused request is read to its end by net/http, so that the client hears
		// of it: that is bounded from the beginning. What reads a body on purpose
		// moves the bound, or lifts it at the end. Not all writers can, those of
		// tests for one; they need not.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	}
	name, err := d.admit(r)
	if err == nil && r.Method == http.MethodHead {
		err = invalid("HEAD is not answered; use GET")
	}
	if _, pattern := d.mux.Handler(r); err == nil && pattern == "" {
		err = d.unknown(r)
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	d.mux.ServeHTTP(&admitted{w, name}, r)
}

// admitted carries the name of a caller's token past the mux, with what the
// caller is answered.
type admitted struct {
	http.ResponseWriter
	name string
}

// Unwrap is for http.ResponseController.
func (a *admitted) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// admit says whose token a request carries, or why it is not let in.
func (d *door) admit(r *http.Request) (name string, err error) {
	if err := d.browser(r); err != nil {
		return "", err
	}
	// Two of them would be a request that somebody has tampered with.
	if sent := r.Header.Values("Authorization"); len(sent) == 1 {
		if name, ok := d.cfg.Tokens.Who(sent[0]); ok {
			return name, nil
		}
	}
	return "", &Error{Kind: KindUnauthorized, Message: "the request carries none of this server's tokens",
		Next: "Send Authorization: Bearer TOKEN; the server keeps its own in the file named token in its data directory."}
}

// unknown says what is wrong with a request that no route takes.
func (d *door) unknown(r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := d.mux.Handler(&other); pattern != "" {
			return &Error{Kind: KindInvalid, Message: fmt.Sprintf("%s is not for %s", r.Method, shown(r.URL.Path)), Next: "Use " + method + "."}
		}
	}
	return &Error{Kind: KindNotFound, Message: fmt.Sprintf("there is nothing at %s", shown(r.URL.Path)), Next: "The server may be older than who asks; compare their versions."}
}

// browser refuses what only a browser that is misled would ask.
func (d *door) browser(r *http.Request) error {
	host := hostOf(r.Host)
	if !d.ours(host) {
		return &Error{Kind: KindForbidden, Message: fmt.Sprintf("this server is not called %s", shown(host)), Next: "Ask it by its address or as localhost, or add the name to its configuration."}
	}
	// RFC 6454, 7.3; "null" is a page whose origin is hidden.
	if sent := r.Header.Values("Origin"); len(sent) > 0 {
		u, err := url.Parse(sent[0])
		if len(sent) > 1 || err != nil || !strings.EqualFold(u.Host, r.Host) || u.Host == "" {
			return &Error{Kind: KindForbidden, Message: "the request comes from a page of another site", Next: "Only programs and the server's own pages may ask."}
		}
	}
	// A browser sends no Origin when it gets something for a page, but this.
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
		return nil
	default:
		return &Error{Kind: KindForbidden, Message: "the request comes from a page of another site", Next: "Only programs and the server's own pages may ask."}
	}
}

// ours says whether a host is one of this server's. An address cannot be
// rebound: who asks for it means it. Nor can localhost and what is below it
// (RFC 6761, 6.3).
func (d *door) ours(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	for _, name := range d.cfg.Hosts {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if below, ok := strings.CutPrefix(name, "*"); ok && strings.HasPrefix(below, ".") && strings.HasSuffix(host, below) && len(host) > len(below) {
			return true
		}
		if host == name && host != "" {
			return true
		}
	}
	return false
}

// hostOf is a Host header's name, in lower case, without port, brackets and
// final dot.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
