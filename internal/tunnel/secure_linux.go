package tunnel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
	"time"
	"unsafe"
)

// How a loop carries a client that speaks TLS.
//
// tls.Conn knows how to seal and to open records; a loop knows when there is
// something to be read or room to write. So the tls.Conn stands on the loop's
// gate: the loop reads the descriptor, gives the gate one whole record and calls
// tls.Conn.Read; what tls.Conn writes meanwhile, or when the loop calls its
// Write, the gate keeps for the loop to send. Neither call ever waits.
//
// What crypto/tls does with errors decides how the gate has to behave (conn.go of
// Go 1.26). A Read of it that is told "nothing now" by a net.Error which is
// Temporary may be repeated; what has been read of a record or of a handshake
// message stays where it was. A Write that failed, for whatever reason, has
// broken the connection for good, as the peer could miss a part of a record. So
// the gate takes everything that is written.
//
// Handshake messages may come at any time: with TLS 1.3 a KeyUpdate, which wants
// an answer under the old key before the new one is used (RFC 8446, 4.6.3). Reading
// therefore writes; answers go behind what could not be sent yet.

const (
	// sealedAtOnce is how much a loop reads at once from either end of a TLS
	// socket, in bytes: with a record's beginning in front, or sealed in the
	// smallest of records, it still fits into loopBuffer.
	sealedAtOnce = loopBuffer - recordMax

	// answersMax bounds what may wait for a client that asks for answers and
	// does not read them, in bytes.
	answersMax = loopBuffer + 16<<10

	// inputBuffer is what a loop lends to a tls.Conn, in bytes: a record, and
	// what it always wants to have in reserve.
	inputBuffer = recordMax + 2*bytes.MinRead
)

// secured is the TLS part of a socket.
type secured struct {
	conn  *tls.Conn
	base  *base // what it stands on
	part  []byte
	chunk *[recordMax]byte // where part is, unless it is small
	err   error            // how the stream from the client ended, if that came with what was read ahead
	input *bytes.Buffer    // where conn puts what it reads; nil: it cannot be told
}

// secure is the TLS part of a socket whose client speaks through conn. It is
// nil where conn stands on something that cannot be exchanged.
func secure(conn *tls.Conn) *secured {
	b, ok := conn.NetConn().(*base)
	if !ok || !conn.ConnectionState().HandshakeComplete {
		return nil
	}
	return &secured{conn: conn, base: b, input: buffer(conn, "rawInput")}
}

// takeOver makes the gate what conn stands on, and returns what that had read and
// opened already and what it wants to be sent.
func (t *secured) takeOver(l *loop) (early, out []byte) {
	var g gate
	t.base.Conn = &g
	for p := make([]byte, smallBuffer); t.err == nil; {
		n, err := t.conn.Read(p)
		early = append(early, p[:n]...)
		if errors.Is(err, errNothingNow) {
			break
		}
		t.err = err
	}
	t.base.Conn = &l.gate
	// What the handshake needed is garbage, but conn would keep it.
	for _, b := range []*bytes.Buffer{t.input, buffer(t.conn, "hand")} {
		if b != nil && b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
	return early, g.out
}

// buffer is a buffer of the connection's own. They keep for ever what their
// largest content needed, 4 to 18 KB a socket, and crypto/tls has no call that
// empties them. It is nil where there is none of that name and type: then
// that is what a socket costs more, and nothing else is different.
func buffer(conn *tls.Conn, name string) *bytes.Buffer {
	f := reflect.ValueOf(conn).Elem().FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[bytes.Buffer]() {
		return nil
	}
	return (*bytes.Buffer)(unsafe.Pointer(f.UnsafeAddr()))
}

// open reads from a TLS client and passes on what came. It returns how much was
// read, and false when there is nothing now.
func (l *loop) open(s *socket, buf []byte, now instant) (moved int, ok bool) {
	t := s.tls
	if l.sealed == nil {
		l.sealed, l.input = make([]byte, sealedAtOnce), make([]byte, inputBuffer)
	}
	had := copy(l.sealed, t.part)
	room := l.sealed[had:]
	n, errno := receive(s.fd[client], room)
	switch {
	case errno == syscall.EAGAIN:
		s.sign[client] &^= signRead | signHung
		return 0, false
	case errno != 0:
		s.finished(client, os.NewSyscallError("read", errno), now)
		return 0, true
	case n == 0 && t.base.came.between() && had == 0:
		s.finished(client, io.EOF, now) // without the alert that belongs to it, as many do
		return 0, true
	case n == 0:
		s.finished(client, io.ErrUnexpectedEOF, now)
		return 0, true
	}
	if n < len(room) && s.sign[client]&signHung == 0 {
		s.sign[client] &^= signRead // all there was; what comes later makes an event
	}
	plain, rest, err := l.unseal(t, l.sealed[:had+n], buf[headroom:])
	if err != nil {
		rest = nil // nobody will want it
	}
	l.holdPart(t, rest)
	l.answer(s, now)
	if plain > 0 {
		l.pass(s, client, buf[:headroom+plain], now)
	}
	if err != nil {
		s.finished(client, err, now)
	}
	return n, true
}

// unseal opens the whole records in p, of which the first may be the end of one,
// into out, and returns how much that was, and the beginning of a record that
// remains. What has to be sent is in the gate then.
func (l *loop) unseal(t *secured, p, out []byte) (n int, rest []byte, err error) {
	l.gate.out = l.gate.out[:0]
	if t.input != nil && t.input.Len() == 0 {
		// It is empty again after each record, so one for all of them will do.
		*t.input = *bytes.NewBuffer(l.input[:0])
		defer func() { *t.input = bytes.Buffer{} }()
	}
	for len(p) > 0 && err == nil {
		next := t.base.came
		size := next.advance(p)
		if !next.between() && !next.hopeless() {
			break
		}
		l.gate.in, p = p[:size], p[size:]
		var k int
		// One call empties what a record holds, as out always has room for more.
		if k, err = t.conn.Read(out[n:]); errors.Is(err, errNothingNow) {
			err = nil // it was no data
		}
		n += k
	}
	l.gate.in = nil
	return n, p, err
}

// holdPart keeps the beginning of a record until the rest comes.
func (l *loop) holdPart(t *secured, p []byte) {
	switch {
	case len(p) == 0:
		if t.chunk != nil && len(l.chunks) < spare {
			l.chunks = append(l.chunks, t.chunk)
		}
		t.part, t.chunk = nil, nil
	case len(p) <= smallBuffer && t.chunk == nil:
		t.part = append(t.part[:0], p...)
	default:
		if t.chunk == nil {
			if n := len(l.chunks); n > 0 {
				t.chunk, l.chunks = l.chunks[n-1], l.chunks[:n-1]
			} else {
				t.chunk = new([recordMax]byte)
			}
		}
		t.part = t.chunk[:copy(t.chunk[:], p)]
	}
}

// seal makes records of p for the client. They are valid until the next call.
func (l *loop) seal(s *socket, p []byte) ([]byte, error) {
	l.gate.out = l.gate.out[:0]
	_, err := s.tls.conn.Write(p)
	return l.gate.out, err
}

// answer sends what reading made tls.Conn write, behind what waits already.
func (l *loop) answer(s *socket, now instant) {
	p := l.gate.out
	if c := &s.ends[client]; len(p) == 0 || c.shut || c.deaf {
		return
	}
	r := s.rest[instance]
	switch {
	case r == nil:
		l.send(s, instance, read, p, now)
	case len(r.data)+len(p) > answersMax:
		l.drop(s, instance)
		s.wrote(instance, r.do, errNoReader, now)
	default:
		r.data = append(r.data, p...)
	}
}

// gate is what the tls.Conns of a loop stand on: each for the time of one call.
type gate struct {
	in  []byte // what may be read
	out []byte // what was written
}

func (g *gate) Read(p []byte) (int, error) {
	if len(g.in) == 0 {
		return 0, errNothingNow
	}
	n := copy(p, g.in)
	g.in = g.in[n:]
	return n, nil
}

func (g *gate) Write(p []byte) (int, error) {
	g.out = append(g.out, p...)
	return len(p), nil
}

func (g *gate) Close() error                     { return nil }
func (g *gate) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (g *gate) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

var (
	errNothingNow error = nothingNow{}
	errNoReader         = errors.New("the client asks and does not read the answers")
)

// nothingNow is a net.Error that says: later perhaps.
type nothingNow struct{}

func (nothingNow) Error() string   { return "nothing to be read now" }
func (nothingNow) Timeout() bool   { return true }
func (nothingNow) Temporary() bool { return true }

// parted tells a TLS client that its stream ends. It is false when that has to
// wait for what is still to be written.
func (l *loop) parted(s *socket, from side, now instant) bool {
	if from == client || s.tls == nil {
		return true
	}
	l.gate.out = l.gate.out[:0]
	s.tls.conn.CloseWrite() // an error is that it is broken, and a stream that just ends says the same
	return l.send(s, from, shut, l.gate.out, now)
}
