package router

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/tunnel"
)

// The straight way: a handshake that is the first thing on its connection, is
// there in one piece, and leads to an instance of this machine that answers 101
// at once. Most are so. It does without net/http, which prepares for much that
// does not come: a body, an answer, another request.
//
// Whatever turns out otherwise is left to net/http, and nothing has been read
// from the connection until the 101 is written to it: so net/http finds the
// request as it came and there is one place that refuses, waits and explains,
// ServeHTTP. Where the instance was asked already, ServeHTTP goes on from there.

// promptly is how long the straight way waits for the instance. Meanwhile nobody
// notices whether the client leaves, as net/http does: short, then, and long
// enough for any app that has nothing to look up.
const promptly = 100 * time.Millisecond

// Take carries a handshake the straight way; see edge.Ahead. It blocks no longer
// than promptly.
func (r *Router) Take(client *net.TCPConn, from net.Addr, first []byte) net.Conn {
	if r.closed.Load() {
		return client
	}
	req := openingHandshake(first)
	if req == nil {
		return client
	}
	s := straights.Get().(*straight)
	defer straights.Put(s)
	x := &exchange{r: r, w: &answerWriter{}, req: req, start: time.Now(), socket: true}
	x.from(tcpAddress(from), plainAddress(tcpAddress(client.LocalAddr())))
	if x.elsewhere() != "" || !x.find() || x.barred() || !x.admit() || !x.enter() || !x.choose() || x.mayOpen() != nil {
		x.undo()
		return client
	}
	s.out = x.appendHandshake(s.out[:0])
	conn, err := r.plug(x.at.addr, s.out)
	if err != nil {
		x.undo() // nothing was sent
		return client
	}
	x.tries = 1
	// Whoever lets others run first finds the answer there more often than not,
	// where there is much to do: then nobody ever has to watch the connection.
	runtime.Gosched()
	n := conn.look(s.answer[:])
	if n == 0 {
		conn.SetReadDeadline(time.Now().Add(promptly))
		n, _ = conn.Read(s.answer[:])
	}
	h, size := switched(s.answer[:n])
	if h == nil || x.checkSwitch(h) != nil {
		// Slow, in pieces, another answer or none: ServeHTTP's to wait and to tell.
		conn.SetDeadline(time.Time{})
		return &begun{TCPConn: client, client: from, x: x, instance: conn, early: bytes.Clone(s.answer[:n])}
	}
	defer x.end()
	extended := extended(h)
	s.out = x.appendHello(s.out[:0], h)
	if _, err := io.ReadFull(client, s.in[:len(first)]); err != nil {
		x.err, x.why = errLeft, ClientLeft
		client.Close()
		conn.Close()
		return nil
	}
	x.greet(client, tunnel.Unread(conn, bytes.Clone(s.answer[size:n])), s.out, extended)
	return nil
}

// straight is the room that a handshake on the straight way takes meanwhile.
type straight struct {
	in, answer [straightBytes]byte
	out        []byte
}

// straightBytes bounds the heads that go the straight way, of either side. It
// is no less than what edge shows.
const straightBytes = 4 << 10

// straights holds room for those under way: *straight.
var straights = sync.Pool{New: func() any { return new(straight) }}

// openingHandshake reads what came first on a connection. It is nil for
// anything but one whole handshake with nothing behind it.
func openingHandshake(first []byte) *http.Request {
	if len(first) > straightBytes || !bytes.HasPrefix(first, []byte("GET /")) || !bytes.HasSuffix(first, []byte("\r\n\r\n")) ||
		!bytes.Contains(first, []byte("\nUpgrade:")) && !bytes.Contains(first, []byte("\nupgrade:")) {
		return nil // most are told here from handshakes
	}
	req := readRequest(string(first))
	if req == nil {
		return nil
	}
	if status, _ := handshake(req); status != http.StatusSwitchingProtocols {
		return nil
	}
	return req
}

// switched reads an instance's answer. Its headers are nil for anything but a
// whole 101, which is size bytes long.
func switched(answer []byte) (h http.Header, size int) {
	end := bytes.Index(answer, []byte("\r\n\r\n"))
	if end < 0 || !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
		return nil, 0
	}
	size = end + len("\r\n\r\n")
	line, fields, _ := strings.Cut(string(answer[:size]), "\r\n")
	if strings.IndexByte(line, '\n') >= 0 {
		return nil, 0
	}
	return readFields(fields), size
}

// tcpAddress is the address of a TCP connection's end.
func tcpAddress(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// begun is a client's connection whose handshake is with an instance already,
// on its way through net/http to ServeHTTP. It is what is not read yet that
// tells net/http of the request.
type begun struct {
	*net.TCPConn
	client   net.Addr // who it is from
	x        *exchange
	instance net.Conn
	early    []byte // read from the instance

	resumed atomic.Bool // ServeHTTP has the exchange
}

// RemoteAddr is what edge has said.
func (b *begun) RemoteAddr() net.Addr { return b.client }

// LocalAddr is how ServeHTTP finds what has begun: of a connection that is not
// hijacked, net/http shows its handlers nothing else that is ours.
func (b *begun) LocalAddr() net.Addr { return begunAddr{b.TCPConn.LocalAddr(), b} }

type begunAddr struct {
	net.Addr
	begun *begun
}

// Close also ends what ServeHTTP never saw: net/http went away, or the client.
func (b *begun) Close() error {
	if !b.resumed.Swap(true) {
		b.instance.Close()
		b.x.err, b.x.why = errLeft, ClientLeft
		b.x.end()
	}
	return b.TCPConn.Close()
}

// resumes goes on with a handshake that has begun the straight way. It is false
// for a request that is none.
func (r *Router) resumes(w http.ResponseWriter, req *http.Request) bool {
	addr := req.Context().Value(http.LocalAddrContextKey)
	if above, ok := addr.(interface{ Unwrap() net.Addr }); ok {
		addr = above.Unwrap() // the edge has something of its own to find
	}
	a, ok := addr.(begunAddr)
	if !ok || a.begun.resumed.Swap(true) { // a later one on the same connection
		return false
	}
	x := a.begun.x
	x.w, x.req = &answerWriter{ResponseWriter: w}, req
	defer x.end()
	ctx, cancel := x.patience()
	defer cancel()
	x.answered(ctx, a.begun.instance, a.begun.early)
	return true
}
