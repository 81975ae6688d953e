package router

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// A WebSocket over HTTP/2 (RFC 8441) is a stream that CONNECT opened, for the
// protocol websocket. To an instance it is the handshake that it knows, with a
// key of ours; to the tunnels it is a connection like any other, but for the
// descriptor that it does not have.

// protocolField is where net/http shows the :protocol of an extended CONNECT.
const protocolField = ":protocol"

// translate makes of an extended CONNECT the request that opens a WebSocket over
// HTTP/1.1, and keeps the stream. It is false for other protocols.
func (x *exchange) translate() bool {
	if p := x.req.Header[protocolField]; len(p) != 1 || !strings.EqualFold(p[0], "websocket") {
		return false
	}
	var key [16]byte
	rand.Read(key[:])
	req := x.req.Clone(x.req.Context())
	req.Method, req.Proto, req.ProtoMajor, req.ProtoMinor = http.MethodGet, "HTTP/1.1", 1, 1
	req.Body, req.ContentLength = http.NoBody, max(0, req.ContentLength) // a stream is open; a length would be a body
	delete(req.Header, protocolField)
	req.Header["Upgrade"], req.Header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
	req.Header["Sec-Websocket-Key"] = []string{base64.StdEncoding.EncodeToString(key[:])} // RFC 8441, 5: the client sends none
	x.stream, x.req = newStream(x.w.ResponseWriter, x.req), req
	return true
}

// joinStream answers an extended CONNECT that the instance agreed to, and begins
// the socket's life. It owns conn.
func (x *exchange) joinStream(conn net.Conn, answer http.Header) {
	dropHops(answer)
	delete(answer, "Sec-Websocket-Accept") // it proves something to us
	x.platform(http.StatusSwitchingProtocols, answer)
	h := x.w.Header()
	for name, values := range answer {
		h[name] = values
	}
	x.w.WriteHeader(http.StatusOK)
	x.w.flush()
	x.joined = x.stream
	x.handOver(x.stream, conn, extended(answer))
}

// stream is an HTTP/2 stream as a connection. net/http ends it when its handler
// returns, and reads from it only for that; so the handler is what carries what
// comes to the readers, until the stream is closed.
type stream struct {
	local, remote net.Addr
	out           *http.ResponseController
	w             http.ResponseWriter
	body          io.ReadCloser

	arrived chan []byte   // from pump to Read; closed when nothing more comes
	err     error         // why; set before arrived is closed
	closed  chan struct{} // by Close
	readBy  *deadline
	rest    []byte // of what arrived; owned by Read

	mu      sync.Mutex // guards the following
	over    bool       // closed
	writing bool       // a Write is under way
	writeBy time.Time
	expiry  *time.Timer // while writing: at writeBy; nil: never
	late    bool        // that was not in time, and has ended the stream
}

// streamChunk is how much is read from a stream at once, in bytes. There are two
// such buffers for each stream, one being filled while the other is read.
const streamChunk = 2 << 10

func newStream(w http.ResponseWriter, req *http.Request) *stream {
	local, _ := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return &stream{
		local: local, remote: textAddr(req.RemoteAddr),
		out: http.NewResponseController(w), w: w, body: req.Body,
		arrived: make(chan []byte), closed: make(chan struct{}), readBy: newDeadline(),
	}
}

// pump is the handler's part. It returns when the stream is closed.
func (s *stream) pump() {
	defer func() { <-s.closed }()
	defer close(s.arrived)
	var bufs [2][]byte
	for i := 0; ; i = 1 - i {
		if bufs[i] == nil {
			bufs[i] = make([]byte, streamChunk)
		}
		n, err := s.body.Read(bufs[i])
		if n > 0 {
			select {
			case s.arrived <- bufs[i][:n]: // taken only when the other buffer has been read
			case <-s.closed:
				return
			}
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		select {
		case <-s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		default:
		}
		select {
		case b, ok := <-s.arrived:
			if !ok {
				return 0, s.err
			}
			s.rest = b
		case <-s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write sends p at once. If that takes longer than until the deadline, the
// stream is reset: a part of p may have been sent.
func (s *stream) Write(p []byte) (n int, err error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	n, err = s.w.Write(p)
	if err == nil {
		err = s.out.Flush()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	s.armLocked()
	if err != nil && s.late {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (s *stream) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return net.ErrClosed
	case s.late, !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
		return os.ErrDeadlineExceeded
	}
	s.writing = true
	s.armLocked()
	return nil
}

// armLocked has a write under way expire in time.
func (s *stream) armLocked() {
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if s.writing && !s.writeBy.IsZero() {
		s.expiry = time.AfterFunc(time.Until(s.writeBy), s.expire)
	}
}

// expire ends a write that is under way, and with it the stream.
func (s *stream) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing && !s.over && !s.writeBy.IsZero() && !time.Now().Before(s.writeBy) {
		s.late = true
		s.out.SetWriteDeadline(past)
	}
}

func (s *stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.readBy.set(t)
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	s.armLocked()
	return nil
}

// Close ends the stream, both ways. It must not be called while a Write is under
// way. What is written after it, and what the client sends, goes nowhere.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.over = true
		s.out.SetReadDeadline(past) // the handler may be reading
		close(s.closed)
	}
	return nil
}

func (s *stream) LocalAddr() net.Addr  { return s.local }
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// textAddr is an address of which only the text is known.
type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

// deadline tells those who wait that a time has passed; it may be moved.
type deadline struct {
	mu    sync.Mutex  // guards the following
	at    time.Time   // zero: never
	timer *time.Timer // nil: never, or it has passed
	gone  chan struct{}
}

func newDeadline() *deadline { return &deadline{gone: make(chan struct{})} }

// passed is closed when the deadline has passed. Who waits learns of one that is
// moved into the past.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

// set moves it; a zero time never comes.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; d.goneLocked() {
		d.gone = make(chan struct{})
	}
	switch left := time.Until(t); {
	case t.IsZero():
	case left > 0:
		d.timer = time.AfterFunc(left, d.expire)
	default:
		close(d.gone)
	}
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && !time.Now().Before(d.at) && !d.goneLocked() { // it may have been moved meanwhile
		close(d.gone)
	}
}

func (d *deadline) goneLocked() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}
