package edge

import (
	"cmp"
	"net/netip"
	"time"
)

// Limits are what strangers may have of us. Zero values mean the defaults.
type Limits struct {
	Conns          int // open at once, without those that are WebSockets: newcomers get 503
	ConnsPerClient int // the same of one address, or of an IPv6 /64: newcomers get 429

	// Trusts says whether an address is a proxy's that comes for many clients, whose
	// connections count for nobody; nil: none is.
	Trusts func(netip.Addr) bool

	HeaderBytes int           // of a request's line and headers: 431 beyond
	HeaderTime  time.Duration // from a connection's or a request's first byte until its headers are there; then it is closed
	IdleTime    time.Duration // between two requests; then the connection is closed
	StallTime   time.Duration // that a connection may take nothing of what is written to it; then it is cut
	Requests    int           // that one connection may carry; the answer to the last says that it ends
	Handshakes  int           // of TLS that may be under way at once; newcomers are closed

	// Of an HTTP/2 connection.
	Streams int // open at once; more are refused
	Resets  int // streams that the client may give up in a second; more end the connection
	Control int // other frames that carry nothing, in a second; more end the connection
}

// The defaults. App Engine takes some 15 KB of headers. Browsers connect ahead and
// say nothing for long, hence the patience between requests. Chrome opens 100
// streams at once and may reset all of them when a page is left; nobody is known
// to send more control frames than some tens a second by themselves.
var defaults = Limits{
	Conns:          10_000,
	ConnsPerClient: 1_000,

	HeaderBytes: HeaderBytes,
	HeaderTime:  30 * time.Second,
	IdleTime:    10 * time.Minute,
	StallTime:   time.Minute,
	Requests:    10_000,
	Handshakes:  500,
	Streams:     250,
	Resets:      200,
	Control:     500,
}

// orDefaults fills in what is not said.
func (l Limits) orDefaults() Limits {
	d := defaults
	return Limits{
		Conns:          cmp.Or(l.Conns, d.Conns),
		ConnsPerClient: cmp.Or(l.ConnsPerClient, d.ConnsPerClient),
		Trusts:         l.Trusts,

		HeaderBytes: cmp.Or(l.HeaderBytes, d.HeaderBytes),
		HeaderTime:  cmp.Or(l.HeaderTime, d.HeaderTime),
		IdleTime:    cmp.Or(l.IdleTime, d.IdleTime),
		StallTime:   cmp.Or(l.StallTime, d.StallTime),
		Requests:    cmp.Or(l.Requests, d.Requests),
		Handshakes:  cmp.Or(l.Handshakes, d.Handshakes),
		Streams:     cmp.Or(l.Streams, d.Streams),
		Resets:      cmp.Or(l.Resets, d.Resets),
		Control:     cmp.Or(l.Control, d.Control),
	}
}
