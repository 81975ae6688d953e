package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A handshake is the dearest thing that a stranger can ask for, some half a
// millisecond of a core. It is done before net/http has the connection, because
// its outcome decides who serves it: HTTP/1 and HTTP/2 are looked through by
// different eyes.

// handshakeTime is how long a client may take for its part of TLS's handshake:
// two or three round trips.
const handshakeTime = 10 * time.Second

// alpnHTTP2 is HTTP/2's name in ALPN (RFC 9113, 3.2).
const alpnHTTP2 = "h2"

// handshakes does those of a listener's connections.
type handshakes struct {
	from   *secure
	limits Limits
	crowd  *crowd
	log    *slog.Logger
	http1  *outlet
	http2  *outlet

	mu    sync.Mutex // guards the following
	under map[net.Conn]struct{}
	ended bool
}

// shakeHands does the handshakes of l's connections until either outlet is
// closed. It owns l.
func shakeHands(l *secure, limits Limits, crowd *crowd, log *slog.Logger) *handshakes {
	h := &handshakes{from: l, limits: limits, crowd: crowd, log: log, under: map[net.Conn]struct{}{}}
	h.http1, h.http2 = newOutlet(l.Addr(), h.end), newOutlet(l.Addr(), h.end)
	go h.accept() // ends with l
	return h
}

func (h *handshakes) accept() {
	for {
		conn, err := h.from.Accept()
		if err != nil {
			// net/http rests after what passes, and ends after what does not.
			if !h.http1.put(arrival{nil, err}) {
				return
			}
			continue
		}
		// Who cannot come in is not told why: that would take the handshake.
		if h.crowd.enter(conn.RemoteAddr()) != "" {
			conn.(*tls.Conn).NetConn().Close()
			continue
		}
		if !h.begin(conn) {
			conn.(*tls.Conn).NetConn().Close()
			h.crowd.leave(conn.RemoteAddr())
			continue
		}
		go h.shake(conn.(*tls.Conn)) // ends within handshakeTime, and when its outlet takes it or is closed
	}
}

// begin counts a handshake as under way, unless there are as many as there may be.
func (h *handshakes) begin(conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || len(h.under) >= h.limits.Handshakes {
		return false
	}
	h.under[conn] = struct{}{}
	return true
}

func (h *handshakes) shake(conn *tls.Conn) {
	err := hello(conn)
	h.mu.Lock()
	delete(h.under, conn)
	h.mu.Unlock()
	if err != nil {
		h.log.Debug("TLS handshake", "client", conn.RemoteAddr().String(), "err", err)
		conn.NetConn().Close()
		h.crowd.leave(conn.RemoteAddr())
		return
	}
	gone := h.crowd.leaver(conn)
	if state := conn.ConnectionState(); state.NegotiatedProtocol == alpnHTTP2 {
		h.http2.put(arrival{newStreams(conn, state, h.limits, gone), nil})
	} else {
		h.http1.put(arrival{newCall(conn, h.limits.StallTime, gone), nil})
	}
}

// hello does one handshake. Who speaks HTTP where TLS is spoken is told so.
func hello(conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	var wrong tls.RecordHeaderError
	if errors.As(err, &wrong) && wrong.Conn != nil {
		switch string(wrong.RecordHeader[:]) {
		case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
			wrong.Conn.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(wrong.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+
				"This port speaks HTTPS: write https:// instead of http://.\n")
			if half, ok := wrong.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				wrong.Conn.SetReadDeadline(time.Now().Add(sourTime))
				io.CopyN(io.Discard, wrong.Conn, sourMax) // or the answer would be lost with a reset
			}
		}
	}
	return err
}

// end takes no more connections, and cuts those that did not come to speak.
func (h *handshakes) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil
	}
	h.ended = true
	for conn := range h.under {
		conn.(*tls.Conn).NetConn().Close()
	}
	return h.from.Close()
}

// outlet is a listener whose connections come from somebody else.
type outlet struct {
	addr  net.Addr
	ended func() error // called by Close
	conns chan arrival
	once  sync.Once
	bye   chan struct{} // closed by Close
}

func newOutlet(addr net.Addr, ended func() error) *outlet {
	return &outlet{addr: addr, ended: ended, conns: make(chan arrival), bye: make(chan struct{})}
}

// put hands an arrival to who accepts. It is false when nobody does any more;
// the connection is closed then.
func (o *outlet) put(a arrival) bool {
	select {
	case o.conns <- a:
		return true
	case <-o.bye:
		if a.conn != nil {
			a.conn.Close()
		}
		return false
	}
}

func (o *outlet) Accept() (net.Conn, error) {
	select {
	case a := <-o.conns:
		return a.conn, a.err
	case <-o.bye:
		return nil, net.ErrClosed
	}
}

func (o *outlet) Addr() net.Addr { return o.addr }

func (o *outlet) Close() error {
	o.once.Do(func() { close(o.bye) })
	return o.ended()
}
