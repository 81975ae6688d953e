package edge

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// crowd counts the connections that net/http serves, or will: all of them, and
// those of each client. Sockets are the router's to count, as their connections
// are no longer here. Its methods may be called from any goroutine.
type crowd struct {
	limits Limits

	mu      sync.Mutex // guards the following
	all     int
	clients map[netip.Prefix]int
	turned  int // are being told that they cannot come in
}

func newCrowd(limits Limits) *crowd {
	return &crowd{limits: limits, clients: map[netip.Prefix]int{}}
}

const (
	// turnedMax is how many are told at once why they cannot come in; more are
	// just closed. turnedTime bounds how long that takes with one.
	turnedMax  = 64
	turnedTime = time.Second
)

// listener is l without those that are too many.
func (c *crowd) listener(l net.Listener) net.Listener { return &crowded{l, c} }

type crowded struct {
	net.Listener
	crowd *crowd
}

func (l *crowded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		answer := l.crowd.enter(conn.RemoteAddr())
		if answer == "" {
			return conn, nil
		}
		l.crowd.turnAway(conn, answer)
	}
}

// The answers to those who are too many, to clients whose connection is plain.
const (
	tooMany     = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\n" + turnedHead + "This server has as many connections open as it can carry.\n"
	tooManyHere = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\n" + turnedHead + "Your address has as many connections open as one may have.\n"
	turnedHead  = "Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)

// enter counts a connection from an address; if it is one too many it returns
// what the client is told.
func (c *crowd) enter(from net.Addr) (answer string) {
	who, counted := c.who(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.all >= c.limits.Conns:
		return tooMany
	case counted && c.clients[who] >= c.limits.ConnsPerClient:
		return tooManyHere
	}
	c.all++
	if counted {
		c.clients[who]++
	}
	return ""
}

// leave counts it no more. It is called once for each that entered.
func (c *crowd) leave(from net.Addr) {
	who, counted := c.who(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if !counted {
		return
	}
	if c.clients[who]--; c.clients[who] == 0 {
		delete(c.clients, who)
	}
}

// leaver is leave for a connection that entered, when it is over.
func (c *crowd) leaver(conn net.Conn) func() {
	from := conn.RemoteAddr()
	return func() { c.leave(from) }
}

// who is what counts as one client: an IPv4 address, or the 64 bits of an IPv6
// address that a single line is given whole. Unix sockets are nobody's, and
// trusted proxies come for many.
func (c *crowd) who(from net.Addr) (netip.Prefix, bool) {
	a, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	addr := a.AddrPort().Addr().Unmap().WithZone("")
	if c.limits.Trusts != nil && c.limits.Trusts(addr) {
		return netip.Prefix{}, false
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}

// turnAway says why, if it can be said at once, and closes the connection. Over
// TLS it cannot: the handshake would be dearer than what is spared.
func (c *crowd) turnAway(conn net.Conn, answer string) {
	c.mu.Lock()
	told := c.turned < turnedMax
	if told {
		c.turned++
	}
	c.mu.Unlock()
	if !told {
		conn.Close()
		return
	}
	go func() { // ends within turnedTime
		defer func() {
			conn.Close()
			c.mu.Lock()
			c.turned--
			c.mu.Unlock()
		}()
		conn.SetDeadline(time.Now().Add(turnedTime))
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			io.CopyN(io.Discard, conn, sourMax) // or the answer would be lost with a reset
		}
	}()
}
