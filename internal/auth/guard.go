package auth

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Three things stand before a door. A token, which browsers do not send by
// themselves, is what counts. The other two are for the case that a page got
// hold of one, or that some day a browser is let in by a cookie: the name by
// which the server is asked must be one of its own, so that a stranger's name
// that was made to lead here (DNS rebinding) does not; and a browser that says
// that another site's page is asking is refused (cross-site request forgery).
// No answer ever allows another origin to read it.

// Guard stands before the doors of a server. Its methods may be called from
// several goroutines.
type Guard struct {
	tokens   *Tokens
	hosts    []string
	failures failures
}

// NewGuard makes a guard who lets those in who have one of the tokens. hosts
// are names of this server besides localhost and addresses, without port;
// *.example.org is any below. log hears of requests without a token that counts.
func NewGuard(t *Tokens, log *slog.Logger, hosts ...string) *Guard {
	return &Guard{t, hosts, failures{log: log, slow: make(chan struct{}, slowPlaces), known: map[string]failure{}}}
}

// Refusal says why a request is not let in.
type Refusal struct {
	Status int    // the HTTP status: 401 without a token that counts, 403 for what comes from another site's page or needs another role, 429 for too many failures
	What   string // the cause
	Next   string // the next step
}

func (r *Refusal) Error() string { return r.What }

// Admit says whose token a request carries, as Tokens.Who does, or why it is
// not let in: a *Refusal. Who fails again and again waits for it, a few seconds
// at most.
func (g *Guard) Admit(r *http.Request) (Caller, error) {
	if err := g.browser(r); err != nil {
		return Caller{}, err
	}
	// Two of them would be a request that somebody has tampered with.
	if sent := r.Header.Values("Authorization"); len(sent) == 1 {
		if c, ok := g.tokens.Who(sent[0]); ok {
			return c, nil
		}
	}
	if !g.failures.failed(r) {
		return Caller{}, &Refusal{http.StatusTooManyRequests, "too many requests came without a token that counts", "Try again in a few seconds, with a token."}
	}
	return Caller{}, &Refusal{http.StatusUnauthorized, "the request carries none of this server's tokens",
		"Send Authorization: Bearer TOKEN; the server keeps its own in the file named token in its data directory."}
}

// Need refuses a caller who has not the role.
func Need(c Caller, r Role) error {
	if c.May(r) {
		return nil
	}
	return &Refusal{http.StatusForbidden, fmt.Sprintf("the token %s has the role %s, and this needs the role %s", c.Name, c.Role, r),
		fmt.Sprintf("Ask who runs the server for a token that has it: holdfast tokens add NAME --role=%s.", r)}
}

// browser refuses what only a browser that is misled would ask.
func (g *Guard) browser(r *http.Request) error {
	host := hostOf(r.Host)
	if !g.ours(host) {
		next := "Ask it by its address, or on its own machine as localhost."
		if len(g.hosts) > 0 {
			next = "Ask it by its address, or as " + strings.Join(g.hosts, " or ") + "."
		}
		return &Refusal{http.StatusForbidden, fmt.Sprintf("this server is not called %s", shown(host)), next}
	}
	foreign := &Refusal{http.StatusForbidden, "the request comes from a page of another site", "Only programs and the server's own pages may ask."}
	// RFC 6454, 7.3; "null" is a page whose origin is hidden.
	if sent := r.Header.Values("Origin"); len(sent) > 0 {
		u, err := url.Parse(sent[0])
		if len(sent) > 1 || err != nil || !strings.EqualFold(u.Host, r.Host) || u.Host == "" {
			return foreign
		}
	}
	// A browser sends no Origin when it gets something for a page, but this.
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
		return nil
	default:
		return foreign
	}
}

// ours says whether a host is one of this server's. An address cannot be
// rebound: who asks for it means it. Nor can localhost and what is below it
// (RFC 6761, 6.3).
func (g *Guard) ours(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	for _, name := range g.hosts {
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

// shown is what a client sent, as it may be repeated to it.
func shown(s string) string {
	const most = 80 // bytes
	if len(s) > most {
		s = s[:most]
	}
	return strconv.Quote(s)
}
