package tunnel

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
)

// stream is one direction of a fake connection: a bounded buffer.
type stream struct {
	mu    sync.Mutex
	moved sync.Cond
	buf   []byte
	limit int // bytes the buffer takes before writers block
	piece int // bytes that one Read gives at most; 0: all
	fin   bool
	reset bool // either side is gone
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.moved.L = &s.mu
	return s
}

func (s *stream) set(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.moved.Broadcast()
}

// fake is one end of an in-memory connection that behaves like TCP: buffered,
// with half-close, reset and deadlines. It works in a synctest bubble.
type fake struct {
	in, out           *stream
	readBy, writeBy   time.Time // guarded by the stream's mutex
	readBell, outBell *time.Timer
	once              sync.Once
}

// past says that the time is set and has come.
func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// fakes is a connection. Each direction buffers limit bytes.
func fakes(limit int) (a, b *fake) {
	x, y := newStream(limit), newStream(limit)
	return &fake{in: x, out: y}, &fake{in: y, out: x}
}

func (f *fake) Read(p []byte) (int, error) {
	s := f.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case past(f.readBy, time.Now()):
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			if s.piece > 0 {
				n = min(n, s.piece)
			}
			s.buf = s.buf[n:]
			s.moved.Broadcast()
			return n, nil
		case s.fin:
			return 0, io.EOF
		case s.reset:
			return 0, &net.OpError{Op: "read", Net: "fake", Err: syscall.ECONNRESET}
		}
		s.moved.Wait()
	}
}

func (f *fake) Write(p []byte) (n int, err error) {
	s := f.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) {
		switch {
		case s.reset, s.fin:
			return n, &net.OpError{Op: "write", Net: "fake", Err: syscall.EPIPE}
		case past(f.writeBy, time.Now()):
			return n, os.ErrDeadlineExceeded
		case len(s.buf) < s.limit:
			k := min(len(p)-n, s.limit-len(s.buf))
			s.buf = append(s.buf, p[n:n+k]...)
			n += k
			s.moved.Broadcast()
			continue
		}
		s.moved.Wait()
	}
	return n, nil
}

func (f *fake) CloseWrite() error {
	f.out.set(func() { f.out.fin = true })
	return nil
}

// Close ends what goes out in order, and what comes in by a reset.
func (f *fake) Close() error {
	f.once.Do(func() {
		f.CloseWrite()
		f.in.set(func() { f.in.reset = true })
	})
	return nil
}

// Reset is what a dying peer does: nothing more can be read or written.
func (f *fake) Reset() {
	f.once.Do(func() {
		f.out.set(func() { f.out.reset = true })
		f.in.set(func() { f.in.reset = true })
	})
}

func (f *fake) SetDeadline(t time.Time) error {
	f.SetReadDeadline(t)
	return f.SetWriteDeadline(t)
}

func (f *fake) SetReadDeadline(t time.Time) error {
	f.in.set(func() { f.readBy = t; f.readBell = bell(f.readBell, f.in, t) })
	return nil
}

func (f *fake) SetWriteDeadline(t time.Time) error {
	f.out.set(func() { f.writeBy = t; f.outBell = bell(f.outBell, f.out, t) })
	return nil
}

func bell(old *time.Timer, s *stream, t time.Time) *time.Timer {
	if old != nil {
		old.Stop()
	}
	if t.IsZero() || past(t, time.Now()) {
		return nil // the caller wakes them
	}
	return time.AfterFunc(time.Until(t), func() { s.set(func() {}) })
}

func (f *fake) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "fake"} }
func (f *fake) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "fake"} }

// stalled is how many bytes the far side has not read yet.
func (f *fake) stalled() int {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	return len(f.out.buf)
}

// rig is one socket under test: the far ends of both of its connections.
type rig struct {
	t                *testing.T
	set              *Set
	client, instance *fake
	opened           time.Time
	ended            chan Ending
}

const fakeBuffer = 4 << 10 // bytes that a fake connection keeps in flight

var testKey = app.Key{App: "shop", Service: "default", Version: "v1"}

func newSet() *Set { return New(Config{}, slog.New(slog.DiscardHandler)) }

func join(t *testing.T, set *Set, id string, maxAge time.Duration) *rig {
	t.Helper()
	c, nearC := fakes(fakeBuffer)
	i, nearI := fakes(fakeBuffer)
	r := &rig{t: t, set: set, client: c, instance: i, opened: time.Now(), ended: make(chan Ending, 2)}
	sock := Socket{ID: id, Key: testKey, Instance: "i1", Client: "192.0.2.1", Opened: r.opened, MaxAge: maxAge,
		Done: func(e Ending) { r.ended <- e }}
	if err := set.Join(sock, nearC, nearI); err != nil {
		t.Fatalf("Join: %v", err)
	}
	return r
}

// end waits for the socket's end.
func (r *rig) end() Ending {
	r.t.Helper()
	select {
	case e := <-r.ended:
		return e
	case <-time.After(time.Hour): // of fake time
		r.t.Fatal("the socket did not end")
		return Ending{}
	}
}

func (r *rig) wantEnd(by By, cause app.Cause, code int, reason string) Ending {
	r.t.Helper()
	e := r.end()
	if e.By != by || e.Cause != cause || e.Code != code || e.Reason != reason {
		r.t.Errorf("Ending = by %s, %s, %d %q; want by %s, %s, %d %q", e.By, e.Cause, e.Code, e.Reason, by, cause, code, reason)
	}
	if len(r.ended) != 0 {
		r.t.Error("Done was called twice")
	}
	return e
}

// frame writes a frame as the RFC draws it, independently of goodbye.go.
func frame(fin bool, op byte, masked bool, payload []byte) []byte {
	var f []byte
	first := op
	if fin {
		first |= 0x80
	}
	f = append(f, first)
	var m byte
	if masked {
		m = 0x80
	}
	switch n := len(payload); {
	case n <= 125:
		f = append(f, m|byte(n))
	case n <= 0xFFFF:
		f = append(f, m|126, byte(n>>8), byte(n))
	default:
		f = append(f, m|127)
		f = binary.BigEndian.AppendUint64(f, uint64(n))
	}
	if !masked {
		return append(f, payload...)
	}
	key := [4]byte{0xA5, 0x3C, 0x77, 0x01}
	f = append(f, key[:]...)
	for i, c := range payload {
		f = append(f, c^key[i%4])
	}
	return f
}

func closing(masked bool, code int, reason string) []byte {
	return frame(true, 8, masked, append([]byte{byte(code >> 8), byte(code)}, reason...))
}

// got is one frame as it was read.
type got struct {
	fin, masked bool
	op          byte
	payload     string // unmasked
}

// readFrame reads one frame; at the end of the stream it returns its error.
func readFrame(r io.Reader) (got, error) {
	var h [14]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return got{}, err
	}
	g := got{fin: h[0]&0x80 != 0, op: h[0] & 15, masked: h[1]&0x80 != 0}
	n := uint64(h[1] & 0x7F)
	switch n {
	case 126:
		if _, err := io.ReadFull(r, h[:2]); err != nil {
			return g, err
		}
		n = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		if _, err := io.ReadFull(r, h[:8]); err != nil {
			return g, err
		}
		n = binary.BigEndian.Uint64(h[:])
	}
	var key [4]byte
	if g.masked {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return g, err
		}
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return g, err
	}
	for i := range p {
		p[i] ^= key[i%4]
	}
	g.payload = string(p)
	return g, nil
}

// wantClose reads the next frame, which has to be a Close.
func wantClose(t *testing.T, who string, f *fake, masked bool, code int, reason string) {
	t.Helper()
	g, err := readFrame(f)
	want := got{fin: true, masked: masked, op: 8, payload: string([]byte{byte(code >> 8), byte(code)}) + reason}
	if err != nil || g != want {
		t.Errorf("%s got %+v, %v; want a Close frame %d %q, masked %t", who, g, err, code, reason, masked)
	}
}

func wantEOF(t *testing.T, who string, f *fake) {
	t.Helper()
	if n, err := f.Read(make([]byte, 64)); n != 0 || err != io.EOF {
		t.Errorf("%s: Read = %d bytes, %v; want the end of the stream", who, n, err)
	}
}

func write(t *testing.T, f *fake, ps ...[]byte) {
	t.Helper()
	for _, p := range ps {
		if _, err := f.Write(p); err != nil {
			t.Fatalf("write %d bytes: %v", len(p), err)
		}
	}
}

func wantFrame(t *testing.T, who string, f *fake, want []byte) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(f, b); err != nil || string(b) != string(want) {
		t.Errorf("%s got %q, %v; want %q", who, b, err, want)
	}
}
