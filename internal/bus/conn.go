package bus

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// writeBytes is how much is written at once, and what stallTime is for.
	writeBytes = 64 << 10

	// pieceBytes is what a queued piece costs beside its bytes.
	pieceBytes = 64

	// outMax is how many bytes of answers are gathered while there are more
	// commands to read: a client that sends many at once gets few writes.
	outMax = 16 << 10
)

// Why a connection was cut.
var (
	errSlow  = errors.New("too slow: its queue is full")
	errCrowd = errors.New("its application holds too many bytes")
)

// conn is one connection. A goroutine reads and answers; another writes while
// there is something queued, and only then. So an idle subscriber costs one
// goroutine, and a publisher that is no subscriber never has a second.
type conn struct {
	bus *Bus
	net net.Conn
	id  int64

	// Owned by the reading goroutine.
	in      parser
	counted int    // bytes of in that are counted in the space
	out     []byte // answers that are not passed on yet
	space   *space // nil until it said who it is; then never another
	known   bool   // it said so, and was not reset since
	name    string
	leaving bool // nothing more is read: what is queued is still sent

	// Written by the reading goroutine under its space's lock.
	names [kinds]map[string]struct{}

	mu      sync.Mutex // guards the following
	written sync.Cond  // something was written, or the writing ended
	proto   int
	queue   [][]byte
	spare   [][]byte // a queue that was written, to be used again
	queued  int      // bytes that are not written yet, with pieceBytes for each piece
	writing bool
	dead    error
}

func newConn(b *Bus, nc net.Conn, id int64) *conn {
	c := &conn{bus: b, net: nc, id: id, proto: 2}
	c.in.size = -1
	c.written.L = &c.mu
	return c
}

// serve reads and answers until the connection ends, and leaves nothing behind.
func (c *conn) serve() {
	cause := c.read()
	if c.space != nil {
		c.space.leave(c)
	}
	c.mu.Lock()
	for cause == nil && c.writing && c.dead == nil { // bounded by stallTime
		c.written.Wait()
	}
	c.dead = cmp.Or(c.dead, cause, net.ErrClosed)
	cause = c.dead
	c.mu.Unlock()
	c.net.Close() // ends the writing
	c.mu.Lock()
	for c.writing {
		c.written.Wait()
	}
	c.mu.Unlock()
	if s := c.space; s != nil {
		s.release(c.counted)
		cut := errors.Is(cause, errSlow) || errors.Is(cause, errCrowd)
		if cut {
			c.bus.cfg.Log.Warn("cut a connection to the bus", "app", s.app, "conn", c.name, "err", cause)
		}
		s.dismiss(cut)
	}
	c.bus.left(c)
}

// read answers commands until there are no more. Nil means that what is queued
// should still be sent.
func (c *conn) read() error {
	c.setKnown(false)
	for {
		n, err := c.net.Read(c.in.room())
		c.in.fed(n)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil // it may have closed its half alone
			}
			return err
		}
		if err := c.answer(); err != nil || c.leaving {
			return err
		}
		if !c.hold(c.in.extra()) {
			return errCrowd
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

// setKnown says whether it is known who this is. A stranger has authTime to say.
func (c *conn) setKnown(known bool) {
	c.known, c.in.known = known, known
	var until time.Time
	if !known {
		until = time.Now().Add(authTime)
	}
	_ = c.net.SetReadDeadline(until) // fails when it is closed, as the next read does
}

// answer answers every command that has come whole.
func (c *conn) answer() error {
	for {
		args, err := c.in.next()
		if err != nil {
			c.out = appendError(c.out, "ERR Protocol error: "+err.Error())
			c.leaving = true
		} else if args == nil {
			return nil
		} else {
			c.command(args)
		}
		if c.leaving || len(c.out) > outMax {
			if err := c.flush(); err != nil {
				return err
			}
		}
		if c.leaving {
			return nil
		}
	}
}

// hold tells the space how many bytes are half read.
func (c *conn) hold(n int) bool {
	if c.space == nil || n == c.counted {
		return true
	}
	if n > c.counted && !c.space.hold(n-c.counted) {
		return false
	}
	if n < c.counted {
		c.space.release(c.counted - n)
	}
	c.counted = n
	return true
}

// flush sends the answers. It waits for the client to take them, so that one
// who sends and does not read stops being read.
func (c *conn) flush() error {
	c.mu.Lock()
	if c.subscribed() || c.writing || c.dead != nil {
		for c.queued > outMax && c.dead == nil {
			c.written.Wait()
		}
		err := c.dead
		c.mu.Unlock()
		if err == nil {
			c.pass()
		}
		return err
	}
	c.mu.Unlock()
	// Nobody else writes to who is not subscribed.
	err := c.write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > 2*outMax {
		c.out = nil
	}
	return err
}

// pass queues the answers there are, behind what is queued already.
func (c *conn) pass() {
	if len(c.out) > 0 {
		c.enqueue(c.out)
		c.out = nil // it is the queue's now
	}
}

// push queues a message.
func (c *conn) push(m *message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueueLocked(m.in(c.proto))
}

func (c *conn) enqueue(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enqueueLocked(b)
}

// enqueueLocked never waits. Who is too slow is cut: waiting would make others
// wait, and leaving out messages would make it miss them without knowing.
func (c *conn) enqueueLocked(b []byte) {
	if c.dead != nil {
		return
	}
	n := len(b) + pieceBytes
	if c.queued+n > queueBytesMax {
		c.dead = errSlow
	} else if !c.space.hold(n) {
		c.dead = errCrowd
	}
	if c.dead != nil {
		c.net.Close()
		c.written.Broadcast()
		return
	}
	c.queue = append(c.queue, b)
	c.queued += n
	if !c.writing {
		c.writing = true
		go c.writeQueue() // ends when the queue is empty or c is dead; serve waits for it
	}
}

// writeQueue writes until there is nothing left, small pieces together.
func (c *conn) writeQueue() {
	p := c.bus.scratch.Get().(*[]byte)
	defer c.bus.scratch.Put(p)
	scratch := (*p)[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && c.dead == nil {
		pieces := c.queue
		c.queue = c.spare[:0]
		bytes := 0
		for i, b := range pieces {
			if len(scratch)+len(b) > writeBytes {
				c.writeLocked(scratch, bytes)
				scratch, bytes = scratch[:0], 0
			}
			if len(b) > writeBytes {
				c.writeLocked(b, len(b)+pieceBytes)
			} else {
				scratch = append(scratch, b...)
				bytes += len(b) + pieceBytes
			}
			pieces[i] = nil
		}
		c.writeLocked(scratch, bytes)
		scratch = scratch[:0]
		if c.spare = pieces[:0]; cap(c.spare) > queueKept {
			c.spare = nil
		}
	}
	// What a dead connection did not get is still counted in its space.
	c.space.release(c.queued)
	c.queued = 0
	c.queue = nil
	c.writing = false
	c.written.Broadcast()
}

// queueKept is how long a queue is kept for the next messages, in pieces.
const queueKept = 256

// writeLocked writes b without the lock, and then forgets counted bytes.
func (c *conn) writeLocked(b []byte, counted int) {
	if c.dead != nil || len(b) == 0 {
		return
	}
	c.mu.Unlock()
	err := c.write(b)
	c.mu.Lock()
	if err != nil {
		c.dead = cmp.Or(c.dead, err)
		c.net.Close() // ends the reading
		return
	}
	c.queued -= counted
	c.space.release(counted)
	c.written.Broadcast()
}

// write gives the client stallTime for every writeBytes.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBytes)
		// A connection that takes no deadline is closed, and says so now.
		if err := c.net.SetWriteDeadline(time.Now().Add(stallTime)); err != nil {
			return err
		}
		if _, err := c.net.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// count is how many subscriptions Redis tells for a kind: channels and patterns
// are counted together, sharded channels apart.
func (c *conn) count(k kind) int {
	if k == shard {
		return len(c.names[shard])
	}
	return len(c.names[channel]) + len(c.names[pattern])
}

func (c *conn) subscribed() bool { return c.count(channel)+c.count(shard) > 0 }

// tell answers a subscription; without a name, that there was none to end.
func (c *conn) tell(what string, name *string, count int) {
	c.out = appendPush(c.out, c.proto, 3)
	c.out = appendBulk(c.out, what)
	if name != nil {
		c.out = appendBulk(c.out, *name)
	} else {
		c.out = appendNull(c.out, c.proto)
	}
	c.out = appendInt(c.out, count)
}
