package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// call is a connection that speaks HTTP/1, on its way to net/http, which reads
// only what the scanner lets pass. Instead of what it does not, net/http is given
// bytes that are malformed wherever they come, so that it is who answers 400 when
// it gets there.
type call struct {
	net.Conn
	stall  time.Duration
	gone   func() // called once, when it is closed or hijacked
	served int    // requests; owned by who serves them

	mu    sync.Mutex // guards the following; not held while reading
	scan  scanner
	held  []byte // read from the connection, and not passed yet
	early []byte // the byte that was passed from behind a head that asks for another protocol
	taken bool   // hijacked: what comes is somebody else's
	left  bool   // gone was called
	sour  []byte // what net/http is given next, of sourBytes

	// A deadline of ours holds while net/http has set none.
	readBy time.Time // net/http's
	read   time.Time // when ours was last set; zero: it is not

	wrote atomic.Int64 // when our deadline for writing was last set, in Unix nanoseconds; 0: it is not
}

// sourBytes are what net/http refuses in any place: after a chunk's size and its
// data because the first line does not end as those must, in a head and among
// trailers because the second has no colon.
const sourBytes = "\r\r\n\x00\r\n\r\n"

const (
	// sourTime and sourMax are how long, and how much, a connection that was
	// refused is read from before it is closed: to close it with something unread
	// would reset it, and the answer with it.
	sourTime = 500 * time.Millisecond
	sourMax  = 256 << 10
)

// secureCall is a call over TLS: net/http asks for its state by that method.
type secureCall struct {
	*call
	state tls.ConnectionState
}

func (c secureCall) ConnectionState() tls.ConnectionState { return c.state }

// newCall puts a call before conn. A tls.Conn has its handshake behind it.
func newCall(conn net.Conn, stall time.Duration, gone func()) net.Conn {
	c := &call{Conn: conn, stall: stall, gone: gone}
	if t, ok := conn.(*tls.Conn); ok {
		return secureCall{c, t.ConnectionState()}
	}
	return c
}

// Read is for net/http, which calls it from one goroutine at a time.
func (c *call) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if n, err := c.readHeld(p); n > 0 || err != nil {
		return n, err
	}
	c.hurry()
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.mu.Lock()
		n = c.passLocked(p, n)
		c.mu.Unlock()
	}
	return n, err
}

// hurry bounds the wait for the next piece of a body. Between requests, and for
// their heads, net/http does.
func (c *call) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := c.scan.at != inStart && c.scan.at != inFields && c.scan.at != inAsked
	if !c.readBy.IsZero() || c.taken || !body && c.read.IsZero() {
		return
	}
	if !body {
		c.read = time.Time{}
		c.Conn.SetReadDeadline(time.Time{})
		return
	}
	if now := time.Now(); now.Sub(c.read) > c.stall/4 { // not each time: it costs more than to look at the clock
		c.read = now
		c.Conn.SetReadDeadline(now.Add(c.stall))
	}
}

func (c *call) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy, c.read = t, time.Time{}
	return c.Conn.SetReadDeadline(t)
}

func (c *call) SetDeadline(t time.Time) error {
	c.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// SetWriteDeadline is for net/http, which takes ours away behind each answer: the
// next write sets it again.
func (c *call) SetWriteDeadline(t time.Time) error {
	c.wrote.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// Write bounds how long the client may take for it.
func (c *call) Write(p []byte) (int, error) {
	if now := time.Now(); now.UnixNano()-c.wrote.Load() > int64(c.stall/4) {
		c.wrote.Store(now.UnixNano())
		c.Conn.SetWriteDeadline(now.Add(c.stall))
	}
	return c.Conn.Write(p)
}

// readHeld reads what need not come from the connection.
func (c *call) readHeld(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.taken:
	case c.scan.at == inLost:
		// Again and again: the end of the stream would tell net/http that the
		// client has left, and it may be with an earlier request still.
		if len(c.sour) == 0 {
			c.sour = []byte(sourBytes)
		}
		n := copy(p, c.sour)
		c.sour = c.sour[n:]
		return n, nil
	case c.scan.at == inAsked && c.early != nil:
		return 0, io.EOF // nobody reads on before the answer
	}
	if len(c.held) == 0 {
		return 0, nil
	}
	n := copy(p, c.held)
	if c.held = c.held[n:]; len(c.held) == 0 {
		c.held = nil
	}
	return c.passLocked(p, n), nil
}

// passLocked returns how much net/http may have of the n bytes in p, which are
// one at least. What it must not have yet is held.
func (c *call) passLocked(p []byte, n int) int {
	if c.taken {
		return n
	}
	pass := c.scan.scan(p[:n])
	switch {
	case pass == n:
	case c.scan.at == inLost:
		k := copy(p[pass:], sourBytes)
		c.held, c.sour = nil, []byte(sourBytes[k:])
		return pass + k
	default:
		// Behind a head that asks for another protocol comes nothing before the
		// answer. net/http, which watches for the client's leaving by reading one
		// byte, gets that of who sends something all the same.
		if pass == 0 {
			pass, c.early = 1, bytes.Clone(p[:1])
		}
		c.held = append(bytes.Clone(p[pass:n]), c.held...)
	}
	return pass
}

// answered is called when a request was: where it asked for another protocol and
// was declined, another may follow.
func (c *call) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scan.at == inAsked {
		c.scan.at = inStart
		c.scan.scan(c.early)
		c.early = nil
	}
}

// hijacked is called when net/http gives the connection away: from there on it
// is read as it is.
func (c *call) hijacked() {
	c.mu.Lock()
	c.taken = true
	c.mu.Unlock()
	c.leave()
}

// leave tells once that the connection is net/http's no more.
func (c *call) leave() {
	c.mu.Lock()
	again := c.left
	c.left = true
	c.mu.Unlock()
	if !again {
		c.gone()
	}
}

// Release gives the connection beneath to who hijacked this one, and what was
// read from it already and comes behind what net/http has buffered.
func (c *call) Release() (conn net.Conn, unread []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unread, c.held = c.held, nil
	return c.Conn, unread
}

// Close closes the connection; one that was refused when its client has heard so.
func (c *call) Close() error {
	defer c.leave()
	c.mu.Lock()
	refused := c.scan.at == inLost && !c.taken
	c.mu.Unlock()
	if refused && c.CloseWrite() == nil {
		c.Conn.SetReadDeadline(time.Now().Add(sourTime))
		io.CopyN(io.Discard, c.Conn, sourMax) // what it is, and whether it comes, is all the same
	}
	return c.Conn.Close()
}

// CloseWrite ends the stream to the client.
func (c *call) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

// LocalAddr is how a request's call is found, which net/http shows its handlers
// nothing else of.
func (c *call) LocalAddr() net.Addr { return callAddr{c.Conn.LocalAddr(), c} }

type callAddr struct {
	net.Addr
	call *call
}

// Unwrap is the address as the connection beneath has it, for who else finds
// something by it.
func (a callAddr) Unwrap() net.Addr { return a.Addr }

// callOf is the call that a request came by.
func callOf(r *http.Request) *call {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(callAddr)
	return a.call
}

// calls is a listener whose connections are looked through.
type calls struct {
	net.Listener
	crowd *crowd
}

func (l calls) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newCall(conn, l.crowd.limits.StallTime, l.crowd.leaver(conn)), nil
}

// overCalls serves the requests that come over HTTP/1.
type overCalls struct {
	http.Handler
	limits Limits
}

func (h overCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	defer c.answered()
	if c.served++; c.served >= h.limits.Requests {
		w.Header().Set("Connection", "close")
	}
	h.Handler.ServeHTTP(w, r)
}
