package router

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lineBytes is the size of a line's read buffer: one for most answers.
const lineBytes = 4 << 10

// line is a connection to an instance that carries direct requests, one at a
// time. It belongs to the request's goroutine from take or newLine until keep
// or close; in between, idle has it.
type line struct {
	conn net.Conn
	raw  syscall.RawConn // nil where the connection cannot be looked at; then it is not kept
	in   *bufio.Reader   // reads through Read
	to   member
	look func(fd uintptr) // sets dead

	since time.Time // put into idle

	// Of the request under way.
	x     *exchange
	stop  func() bool // ends the watch for the client's leaving
	left  int         // bytes that may be read yet; negative: any number
	heard bool        // a byte of the answer came
	dead  bool
}

// past is a deadline that ends reads and writes at once.
var past = time.Unix(1, 0)

func newLine(conn net.Conn, to member, until time.Time) *line {
	l := &line{conn: conn, to: to}
	if c, ok := conn.(syscall.Conn); ok {
		l.raw, _ = c.SyscallConn() // an error means a closed connection: the next read tells
	}
	l.in = bufio.NewReaderSize(l, lineBytes)
	l.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		l.dead = err != unix.EAGAIN
	}
	conn.SetDeadline(until)
	return l
}

// quiet tells whether a line that was kept is still open and has nothing to
// read. What an app says unasked, such as a 408 before it closes, must not pass
// for the next request's answer.
func (l *line) quiet() bool {
	err := l.raw.Control(l.look)
	return err == nil && !l.dead
}

// lend begins a request on the line.
func (l *line) lend(x *exchange) {
	l.x, l.heard = x, false
	l.stop = context.AfterFunc(x.req.Context(), func() { l.conn.SetDeadline(past) })
}

// close ends the line.
func (l *line) close() {
	if l.stop != nil {
		l.stop()
	}
	l.conn.Close()
}

// keep makes the line wait for another request, if it can carry one. The last
// answer was read to its end.
func (l *line) keep() {
	// A watch that has begun may still set its deadline.
	if !l.stop() || l.raw == nil || l.in.Buffered() > 0 || l.x.r.closed.Load() {
		l.conn.Close()
		return
	}
	l.x, l.stop = nil, nil
	l.to.load.idle.put(l)
}

func (l *line) write(p []byte) (int, error) {
	n, err := l.conn.Write(p)
	return n, bounded(err)
}

// Read is for l.in. It is called when everything that came was used: the moment
// to send on what the client has not got yet, so that events arrive at once,
// and an answer that came in one piece goes out in one.
func (l *line) Read(p []byte) (int, error) {
	if l.x.w.pending {
		l.x.w.flush()
	}
	if l.left == 0 {
		return 0, errHeadLong
	}
	if l.left > 0 && len(p) > l.left {
		p = p[:l.left]
	}
	n, err := l.conn.Read(p)
	if l.left > 0 {
		l.left -= n
	}
	l.heard = l.heard || n > 0
	return n, bounded(err)
}

// bounded names the end of a line's deadline. Where the client's leaving set
// it, its context tells.
func bounded(err error) error {
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return errResponse
	}
	return err
}

// idle is an instance's lines that wait for a request. Its zero value works.
// Its timer runs only while there are any.
type idle struct {
	mu    sync.Mutex // guards the following
	lines []*line    // oldest first
	timer *time.Timer
	armed bool
}

// take returns the youngest line that is fit for use, nil for none, with a
// deadline of its own.
func (i *idle) take(addr string, until time.Time) *line {
	for {
		l := i.pop()
		if l == nil {
			return nil
		}
		if l.to.addr == addr && time.Since(l.since) < idleConn && l.quiet() {
			if l.conn.SetDeadline(until) == nil {
				return l
			}
		}
		l.conn.Close()
	}
}

func (i *idle) pop() *line {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.lines) - 1
	if n < 0 {
		return nil
	}
	l := i.lines[n]
	i.lines[n] = nil
	i.lines = i.lines[:n]
	return l
}

func (i *idle) put(l *line) {
	l.since = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.lines) >= idleConnsMax {
		l.conn.Close()
		return
	}
	i.lines = append(i.lines, l)
	if i.armed {
		return
	}
	i.armed = true
	if i.timer == nil {
		i.timer = time.AfterFunc(idleConn, i.sweep)
	} else {
		i.timer.Reset(idleConn)
	}
}

// sweep closes what has waited too long.
func (i *idle) sweep() {
	i.mu.Lock()
	defer i.mu.Unlock()
	now, old := time.Now(), 0
	for old < len(i.lines) && now.Sub(i.lines[old].since) >= idleConn {
		i.lines[old].conn.Close()
		old++
	}
	rest := copy(i.lines, i.lines[old:])
	clear(i.lines[rest:])
	i.lines = i.lines[:rest]
	if i.armed = rest > 0; i.armed {
		i.timer.Reset(idleConn - now.Sub(i.lines[0].since))
	}
}

// closeAll closes what waits.
func (i *idle) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, l := range i.lines {
		l.conn.Close()
	}
	clear(i.lines)
	i.lines = i.lines[:0]
}
