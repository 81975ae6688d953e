package edge

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// relayTime is how long a trusted proxy may take for the beginning of a
	// connection. Those that speak the PROXY protocol say it at once, and others
	// may connect ahead of their next request.
	relayTime = 5 * time.Second

	// relaysMax is how many connections of trusted proxies may be waited for at
	// once; others wait in the system's queue.
	relaysMax = 10_000
)

// Relayed is a listener that believes the PROXY protocol of the addresses that
// trusts says yes to, whose Addr is not valid over Unix sockets: their connections
// come from whom they say. They may leave the header out, and then come from
// themselves; a header that means nothing ends the connection. Anybody else's is
// left where it is, and is no request. It owns l, and accepts until Close.
func Relayed(l net.Listener, trusts func(netip.Addr) bool, log *slog.Logger) net.Listener {
	r := &relay{
		Listener: l, trusts: trusts, log: log,
		left: make(chan arrival), places: make(chan struct{}, relaysMax), bye: make(chan struct{}),
		waiting: map[net.Conn]struct{}{},
	}
	go r.accept() // ends with Close
	return r
}

type relay struct {
	net.Listener
	trusts func(netip.Addr) bool
	log    *slog.Logger
	left   chan arrival
	places chan struct{} // one for each that is waited for
	bye    chan struct{} // closed by Close

	mu      sync.Mutex // guards the following
	closed  bool
	waiting map[net.Conn]struct{}
}

func (r *relay) accept() {
	for {
		conn, err := r.Listener.Accept()
		if err != nil || !r.trusts(addressOf(conn)) {
			if !r.leave(arrival{conn, err}) {
				return
			}
			continue
		}
		select {
		case r.places <- struct{}{}:
			go r.look(conn) // ends within relayTime, or with Close
		case <-r.bye:
			conn.Close()
			return
		}
	}
}

// leave hands an arrival on. It is false after Close; the connection is closed
// then.
func (r *relay) leave(a arrival) bool {
	select {
	case r.left <- a:
		return true
	case <-r.bye:
		if a.conn != nil {
			a.conn.Close()
		}
		return false
	}
}

func (r *relay) look(conn net.Conn) {
	defer func() { <-r.places }()
	if !r.begin(conn) {
		conn.Close()
		return
	}
	said, err := readRelayed(conn)
	r.end(conn)
	if err != nil {
		conn.Close()
		if err != io.EOF { // who only knocks
			r.log.Debug("connection of a proxy", "client", conn.RemoteAddr().String(), "err", err)
		}
		return
	}
	r.leave(arrival{conn: said})
}

func (r *relay) begin(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.waiting[conn] = struct{}{}
	}
	return !r.closed
}

func (r *relay) end(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, conn)
}

// Accept is for Serve, and for TLS.
func (r *relay) Accept() (net.Conn, error) {
	select {
	case a := <-r.left:
		return a.conn, a.err
	case <-r.bye:
		return nil, net.ErrClosed
	}
}

// Close accepts no more, and ends the connections that are waited for.
func (r *relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	for conn := range r.waiting {
		conn.Close()
	}
	r.mu.Unlock()
	close(r.bye)
	return r.Listener.Close()
}

// addressOf is who connects; not valid over a Unix socket.
func addressOf(conn net.Conn) netip.Addr {
	if t, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// readRelayed takes the header from the beginning of a connection, and nothing
// behind it; what is returned is conn where there is none.
func readRelayed(conn net.Conn) (net.Conn, error) {
	p, ok := conn.(peeked)
	if !ok {
		return conn, nil // of a listener that is not of the system's; none of ours is
	}
	var first [proxyBytes]byte
	n, err := peekUntil(p, first[:], relayTime, func(b []byte) bool {
		what, _, _ := proxyHeader(b)
		return what != partHeader
	})
	if err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() && n == 0 {
			return conn, nil // it connected ahead
		}
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	what, client, size := proxyHeader(first[:n])
	switch what {
	case noHeader:
		return conn, nil
	case partHeader, badHeader:
		return nil, errProxyHeader
	}
	if _, err := io.ReadFull(conn, first[:size]); err != nil {
		return nil, err
	}
	if !client.IsValid() {
		return conn, nil
	}
	from := net.TCPAddrFromAddrPort(client)
	switch c := conn.(type) {
	case *net.TCPConn:
		return &relayed{c, from}, nil
	case *net.UnixConn:
		return &relayedUnix{c, from}, nil
	}
	return nil, errProxyHeader // it was read, and there is nobody to tell
}

var errProxyHeader = errors.New("the header of the PROXY protocol cannot be read")

// relayed is a connection that comes from somebody else than its peer. NetConn
// is the connection itself, as tls.Conn has it.
type relayed struct {
	*net.TCPConn
	client net.Addr
}

func (r *relayed) RemoteAddr() net.Addr { return r.client }
func (r *relayed) NetConn() net.Conn    { return r.TCPConn }

type relayedUnix struct {
	*net.UnixConn
	client net.Addr
}

func (r *relayedUnix) RemoteAddr() net.Addr { return r.client }
func (r *relayedUnix) NetConn() net.Conn    { return r.UnixConn }
