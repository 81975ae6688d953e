package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Most of what a WebSocket's handshake costs in net/http is for what comes
// after a request, and nothing does: the connection is taken away. So a handler
// may look at the first request of a connection before net/http does.

// Ahead is a handler that can do without net/http for some connections.
type Ahead interface {
	http.Handler

	// Take is shown a new connection, who it is from, which is not conn's peer
	// where a proxy has told of another, and what came on it first, which is still
	// there to be read. It returns nil if it took the connection, which is its
	// own from then on; else the connection that net/http is to serve: conn
	// with nothing read from it, perhaps with something around it that is from
	// client too. It must not keep first, and must not block for long.
	Take(conn *net.TCPConn, client net.Addr, first []byte) net.Conn
}

const (
	// firstTime is how long the first bytes of a connection are waited for
	// before it is net/http's, which goes on waiting. Who connects to ask, asks
	// within a round trip; browsers connect ahead and say nothing for long.
	firstTime = time.Second

	// restingMax is how many goroutines wait for the next connection to look at:
	// each has grown the stack that a handshake needs, some 16 KB, which costs
	// more than to wake it.
	restingMax = 32

	// firstBytes is how much of them is looked at, in bytes: handshakes fit, and
	// what is longer is net/http's.
	firstBytes = 4 << 10
)

// door is a listener of the connections that are left for net/http.
type door struct {
	net.Listener
	ahead Ahead
	gone  func(net.Addr) // called for each connection that is not left, with who it was from
	taken func()         // called for each that the handler took
	log   *slog.Logger
	left  chan arrival
	next  chan caller   // for who rests
	bye   chan struct{} // closed by Close

	firsts  sync.Pool // *[firstBytes]byte
	resting atomic.Int32

	mu      sync.Mutex // guards the following
	closed  bool
	looking map[*net.TCPConn]struct{} // connections that nobody has yet
	idle    chan struct{}             // closed when closed, and nobody is looking
}

// caller is a connection to be looked at.
type caller struct {
	conn *net.TCPConn
	all  net.Conn // conn, or what stands around it and says from whom it is
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

// newDoor puts a door before l, which it owns. It accepts until Close.
func newDoor(l net.Listener, ahead Ahead, gone func(net.Addr), taken func(), log *slog.Logger) *door {
	d := &door{
		Listener: l,
		ahead:    ahead,
		gone:     gone,
		taken:    taken,
		log:      log,
		left:     make(chan arrival),
		next:     make(chan caller),
		bye:      make(chan struct{}),
		firsts:   sync.Pool{New: func() any { return new([firstBytes]byte) }},
		looking:  map[*net.TCPConn]struct{}{},
		idle:     make(chan struct{}),
	}
	go d.accept() // ends with Close
	return d
}

func (d *door) accept() {
	defer close(d.next)
	for {
		conn, err := d.Listener.Accept()
		one := caller{all: conn}
		switch c := conn.(type) {
		case *net.TCPConn:
			one.conn = c
		case *relayed:
			one.conn = c.TCPConn
		}
		if err != nil || one.conn == nil {
			// Whoever accepts from us rests after an error, and so do we: here.
			if !d.leave(arrival{conn, err}) {
				return
			}
			continue
		}
		select {
		case d.next <- one:
		default:
			go d.lookOn(one) // ends when enough others rest, or with accept
		}
	}
}

// lookOn looks at connections, one after the other.
func (d *door) lookOn(one caller) {
	for ok := true; ok; {
		d.look(one)
		if d.resting.Add(1) > restingMax {
			d.resting.Add(-1)
			return
		}
		one, ok = <-d.next
		d.resting.Add(-1)
	}
}

// leave hands an arrival to net/http. It is false when the door is closed; the
// connection is closed then.
func (d *door) leave(a arrival) bool {
	select {
	case d.left <- a:
		return true
	case <-d.bye:
		if a.conn != nil {
			a.conn.Close()
			d.gone(a.conn.RemoteAddr())
		}
		return false
	}
}

// look shows one connection to the handler.
func (d *door) look(one caller) {
	conn, from := one.conn, one.all.RemoteAddr()
	if !d.begin(conn) {
		conn.Close()
		d.gone(from)
		return
	}
	defer d.end(conn)
	defer func() {
		// As net/http does it: what one connection brought about must not end
		// all others.
		if p := recover(); p != nil {
			d.log.Error("panic while looking at a connection", "client", conn.RemoteAddr().String(), "err", p, "stack", string(debug.Stack()))
			conn.Close()
			d.gone(from)
		}
	}()
	first := d.firsts.Get().(*[firstBytes]byte)
	n, err := peek(conn, first[:], firstTime)
	left := one.all
	if n > 0 && err == nil {
		left = d.ahead.Take(conn, from, first[:n])
		if left == net.Conn(conn) {
			left = one.all
		}
	}
	d.firsts.Put(first)
	if left == nil {
		d.taken()
		d.gone(from)
		return
	}
	d.leave(arrival{conn: left})
}

// begin counts a connection as looked at; false after Close.
func (d *door) begin(conn *net.TCPConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.looking[conn] = struct{}{}
	}
	return !d.closed
}

func (d *door) end(conn *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.looking, conn)
	d.idleLocked()
}

func (d *door) idleLocked() {
	if d.closed && len(d.looking) == 0 {
		close(d.idle)
	}
}

// Accept is for net/http.
func (d *door) Accept() (net.Conn, error) {
	select {
	case a := <-d.left:
		return a.conn, a.err
	case <-d.bye:
		return nil, net.ErrClosed
	}
}

// Close accepts no more. Connections that are being looked at stay; see wait.
func (d *door) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.idleLocked()
	d.mu.Unlock()
	close(d.bye)
	return d.Listener.Close()
}

// wait returns after Close when no connection is being looked at any more,
// which it brings about when ctx ends.
func (d *door) wait(ctx context.Context) {
	select {
	case <-d.idle:
		return
	case <-ctx.Done():
	}
	d.mu.Lock()
	for conn := range d.looking {
		conn.Close()
	}
	d.mu.Unlock()
	<-d.idle
}
