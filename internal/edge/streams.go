package edge

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// HTTP/2 is net/http's, which bounds how many streams are open, how many
// handlers wait, how long a header block is and how many answers to control
// frames wait. It does not bound how often: who resets each stream as soon as it
// is open never has many of them, and makes an app begin each. So the frames
// that come are counted on their way to it; who sends more than anybody needs
// loses the connection. Nothing but their heads is read.

// Flags and types of frames (RFC 9113, 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4

	frameHeadBytes = 9
	prefaceBytes   = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
)

// updateBytes is how many bytes of ours a client may answer with one
// WINDOW_UPDATE, beside those that count: the most diligent clients send one for
// each 4 KiB, for the stream and for the connection.
const updateBytes = 1 << 10

var errFrames = errors.New("more frames of this kind than anybody needs")

// streams is a connection that speaks HTTP/2, on its way to net/http. Over TLS,
// which net/http does not see.
type streams struct {
	net.Conn
	state    tls.ConnectionState
	limits   Limits
	gone     func() // called once, when it is closed
	left     sync.Once
	requests atomic.Int64
	written  atomic.Int64 // bytes, since a WINDOW_UPDATE last drew on them

	// Owned by Read.
	head    [frameHeadBytes]byte
	had     int       // bytes of head
	skip    int       // bytes until the next head: the preface, a payload
	pending bool      // a header block is under way
	by      bool      // a deadline for that is set
	second  time.Time // when the counts began
	resets  int
	control int
	err     error
}

func newStreams(conn net.Conn, state tls.ConnectionState, limits Limits, gone func()) *streams {
	return &streams{Conn: conn, state: state, limits: limits, gone: gone, skip: prefaceBytes}
}

func (s *streams) Close() error {
	defer s.left.Do(s.gone)
	return s.Conn.Close()
}

// Read is for net/http, which calls it from one goroutine.
func (s *streams) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.Conn.Read(p)
	if n > 0 && !s.count(p[:n]) {
		s.err = errFrames
		return 0, s.err
	}
	return n, err
}

func (s *streams) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.written.Add(int64(n))
	return n, err
}

// count goes over what came. It is false when that is too much.
func (s *streams) count(p []byte) bool {
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.second, s.resets, s.control = now, 0, 0
	}
	for len(p) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(p))
			s.skip -= n
			p = p[n:]
			continue
		}
		n := copy(s.head[s.had:], p)
		p = p[n:]
		if s.had += n; s.had < len(s.head) {
			break
		}
		s.had = 0
		s.frame()
	}
	s.hurry()
	return s.resets <= s.limits.Resets && s.control <= s.limits.Control
}

// frame counts the frame whose head is there.
func (s *streams) frame() {
	size := int(binary.BigEndian.Uint32(s.head[:4]) >> 8)
	kind, flags := s.head[3], s.head[4]
	s.skip = size
	switch kind {
	case frameHeaders, frameContinuation:
		s.pending = flags&flagEndHeaders == 0
		if kind == frameContinuation {
			s.control++
		}
	case frameData:
		if size == 0 && flags&flagEndStream == 0 {
			s.control++ // says nothing
		}
	case frameWindowUpdate:
		if s.written.Add(-updateBytes) < 0 {
			s.written.Add(updateBytes)
			s.control++
		}
	case frameReset:
		s.resets++
	default: // PRIORITY, SETTINGS, PING, GOAWAY, and what nobody knows
		s.control++
	}
}

// hurry bounds the time of a header block, which net/http does not: nothing else
// may come on the connection until it ends (RFC 9113, 4.3).
func (s *streams) hurry() {
	switch {
	case s.pending && !s.by:
		s.SetReadDeadline(time.Now().Add(s.limits.HeaderTime))
		s.by = true
	case !s.pending && s.by:
		s.SetReadDeadline(time.Time{})
		s.by = false
	}
}

// LocalAddr is how a request's connection is found, which net/http shows its
// handlers nothing else of.
func (s *streams) LocalAddr() net.Addr { return streamsAddr{s.Conn.LocalAddr(), s} }

type streamsAddr struct {
	net.Addr
	streams *streams
}

// overStreams serves the requests that come over HTTP/2.
type overStreams struct {
	http.Handler
	limits Limits
}

func (h overStreams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := r.Context().Value(http.LocalAddrContextKey).(streamsAddr)
	r.TLS = &a.streams.state
	if a.streams.requests.Add(1) >= int64(h.limits.Requests) {
		w.Header().Set("Connection", "close") // to net/http: no more streams (GOAWAY)
	}
	if fault := streamFault(r); fault != "" {
		http.Error(w, "400 Bad Request: "+fault, http.StatusBadRequest)
		return
	}
	h.Handler.ServeHTTP(w, r)
}

// streamFault says what of a request that net/http took from HTTP/2 an app could
// read differently once it is HTTP/1; "" when it is sound.
func streamFault(r *http.Request) string {
	hosts := r.Header["Host"]
	delete(r.Header, "Host")
	switch {
	case !isAuthority(r.Host):
		return "an :authority that is none"
	case len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host):
		return ":authority and Host that disagree"
	case !isToken([]byte(r.Method)):
		return "a :method that is none"
	case len(r.Header["Content-Length"]) > 1:
		return "two lengths"
	case r.Method == http.MethodConnect && r.Header[":protocol"] == nil:
		return ""
	case !strings.HasPrefix(r.RequestURI, "/") && (r.RequestURI != "*" || r.Method != http.MethodOptions):
		return "a :path that is none"
	case strings.ContainsFunc(r.RequestURI, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }):
		return "a byte that no :path has"
	}
	for name := range r.Header {
		if name != "Content-Length" && framing([]byte(name)) && strings.Contains(name, "_") {
			return "a header that CGI takes for another"
		}
	}
	return ""
}
