package router

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"holdfast/internal/app"
)

// What a version asks of its WebSockets is partly decided here, at the
// handshake; the rest goes to the tunnel with the socket.

// errFull refuses a socket before descriptors run out: then nothing would work
// any more, for those inside neither.
var errFull = &refusal{Full, http.StatusServiceUnavailable, "This server has as many WebSockets open as it can carry. Please try again in a moment."}

// errAppFull refuses what one app has too much of, so that the others have some.
var errAppFull = &refusal{AppFull, http.StatusServiceUnavailable, "This application has as many requests and WebSockets open as it may have. Please try again in a moment."}

// admit counts the request, or the socket that it becomes, as one of its app,
// unless there are as many as there may be.
func (x *exchange) admit() bool {
	open := x.table.services[x.place.App][x.place.Service].open
	if n := open.Add(1); n > int64(x.r.cfg.App) && x.r.cfg.App > 0 {
		open.Add(-1)
		return false
	}
	x.counted = open
	return true
}

// enter counts one socket more for the whole router, unless there are as many
// as it may have. leave is called when it has ended, or was not opened.
func (r *Router) enter() bool {
	if r.open.Add(1) > int64(r.cfg.Sockets) && r.cfg.Sockets > 0 {
		r.leave()
		return false
	}
	return true
}

func (r *Router) leave() { r.open.Add(-1) }

// mayOpen applies the version's policy to a handshake, and takes the client's
// ticket if there are only so many. The error is a *refusal.
func (x *exchange) mayOpen() error {
	p := x.pool.sockets
	if p.AllowedOrigins != nil && !originAllowed(x.req.Header["Origin"], x.req.Host, p.AllowedOrigins) {
		return &refusal{ForeignOrigin, http.StatusForbidden, "This application does not take WebSockets from pages of that origin."}
	}
	if p.MaxPerClient == 0 || x.ticket != nil {
		return nil
	}
	t, ok := x.r.clients.take(claim{x.key, household(x.client)}, p.MaxPerClient)
	if !ok {
		return &refusal{TooManySockets, http.StatusTooManyRequests,
			fmt.Sprintf("This client has %d WebSockets open, which is as many as this application allows.", p.MaxPerClient)}
	}
	x.ticket = t
	return nil
}

// originAllowed compares a handshake's Origin with a list of "self", which is
// the host that was asked, exact origins, and origins whose host begins with
// "*.". All are in lower case. A client without Origin is no browser, and the
// check protects people in browsers from other sites' pages (RFC 6455, 10.2);
// who sends two is nobody's browser.
func originAllowed(sent []string, host string, list []string) bool {
	if len(sent) == 0 {
		return true
	}
	if len(sent) > 1 {
		return false
	}
	from := strings.ToLower(sent[0])
	u, err := url.Parse(from)
	if err != nil || u.Host == "" { // "null", of a sandboxed page
		return false
	}
	for _, o := range list {
		scheme, name, _ := strings.Cut(o, "://*.")
		switch {
		case o == "self":
			if u.Host == strings.ToLower(host) {
				return true
			}
		case o == from:
			return true
		case name != "" && u.Scheme == scheme && strings.HasSuffix(u.Host, "."+name):
			return true
		}
	}
	return false
}

// claim is who may open only so many sockets to what.
type claim struct {
	key    app.Key
	client netip.Prefix
}

// household is what counts as one client: an IPv4 address, or the 64 bits of
// an IPv6 address that a single line is given whole.
func household(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address, as on a Unix socket: all such are one
	}
	return p
}

// clients counts the sockets of clients, for versions that bound them. Its
// zero value is ready. It holds no more entries than there are sockets.
type clients struct {
	mu   sync.Mutex // guards the following
	open map[claim]int
}

// take counts one socket more, unless there are most already.
func (c *clients) take(who claim, most int) (*ticket, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[who] >= most {
		return nil, false
	}
	if c.open == nil {
		c.open = map[claim]int{}
	}
	c.open[who]++
	return &ticket{c, who}, true
}

// ticket is one socket that was counted.
type ticket struct {
	from  *clients
	claim claim
}

// giveBack counts the socket no more. It is called once for each ticket, and
// does nothing for none.
func (t *ticket) giveBack() {
	if t == nil {
		return
	}
	t.from.mu.Lock()
	defer t.from.mu.Unlock()
	if t.from.open[t.claim]--; t.from.open[t.claim] <= 0 {
		delete(t.from.open, t.claim)
	}
}
