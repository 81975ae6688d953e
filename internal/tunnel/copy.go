package tunnel

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// The portable carrier: two goroutines a socket, one for each direction, which
// block in Read and Write. A goroutine is woken by moving the deadline of what
// it blocks in into the past, under the socket's lock; so nobody but the owner
// of a direction ever reads or writes, and no call to wake is lost.
//
// It costs two goroutines and two small buffers per idle socket.

const (
	// smallBuffer is what a direction waits with, in bytes: most messages fit.
	smallBuffer = 512

	// largeBuffer is what a direction borrows, in bytes, while what comes fills
	// the small one. It bounds what Holdfast keeps for a reader that stalls.
	largeBuffer = 16 << 10
)

type copier struct {
	large sync.Pool // of *[largeBuffer]byte
}

// copying is the copier's part of a socket.
type copying struct {
	conns [2]net.Conn // at the index of the side

	mu      sync.Mutex // guards the following, and what the carrier guards of a socket
	running int        // directions
	ways    [2]way
}

// way is a direction, at the index of the side where it begins.
type way struct {
	readBy  time.Time     // the read deadline of the end where it begins
	writeBy time.Time     // the write deadline of the end where it leads to
	woken   chan struct{} // closed to wake a direction that holds; nil: it does not
}

// longAgo is a deadline that wakes.
var longAgo = time.Unix(1, 0)

// admit makes the socket one of the copier's; nothing moves before start.
func (c *copier) admit(s *socket, client, instance net.Conn) {
	client.SetDeadline(time.Time{})
	instance.SetDeadline(time.Time{})
	s.carrier = c
	s.copying = &copying{conns: [2]net.Conn{client, instance}}
}

func (c *copier) refuse(s *socket) {
	for _, conn := range s.copying.conns {
		cut(conn)
	}
}

func (c *copier) start(s *socket) {
	s.copying.mu.Lock()
	s.copying.running = len(s.ends)
	s.copying.mu.Unlock()
	for from := range s.ends {
		go func() { // ends by next's quit, at the latest at the socket's bound
			c.direct(s, side(from))
			s.copying.mu.Lock()
			s.copying.running--
			last := s.copying.running == 0
			s.copying.mu.Unlock()
			if last {
				c.refuse(s)
				s.set.ended(s)
			}
		}()
	}
}

func (c *copier) order(s *socket, o orders) {
	c.act(s, func(now instant) { s.obey(o, now) })
}

func (c *copier) look(all []*socket, at func(s *socket, now instant)) {
	for _, s := range all {
		s.copying.mu.Lock()
		if s.copying.running > 0 {
			at(s, s.set.clock.now())
		}
		s.copying.mu.Unlock()
	}
}

// act changes the socket, alone, and lets both directions look again. It does
// not block on a connection.
func (c *copier) act(s *socket, change func(now instant)) {
	s.copying.mu.Lock()
	defer s.copying.mu.Unlock()
	change(s.set.clock.now())
	s.wakeLocked()
}

// wakeLocked wakes both directions if there is something new for them.
func (s *socket) wakeLocked() {
	if !s.changed {
		return
	}
	s.changed = false
	writeBy := s.set.clock.time(s.writeBy())
	if s.over {
		writeBy = longAgo
	}
	for from := range s.copying.ways {
		w := &s.copying.ways[from]
		w.readBy = longAgo
		s.copying.conns[from].SetReadDeadline(longAgo)
		if !w.writeBy.Equal(writeBy) {
			w.writeBy = writeBy
			s.copying.conns[side(from).other()].SetWriteDeadline(writeBy)
		}
		if w.woken != nil {
			close(w.woken)
			w.woken = nil
		}
	}
}

// direct carries one direction to its end.
func (c *copier) direct(s *socket, from side) {
	in, out := s.copying.conns[from], s.copying.conns[from.other()]
	mu, w := &s.copying.mu, &s.copying.ways[from]
	small := make([]byte, smallBuffer)
	var large *[largeBuffer]byte
	for {
		mu.Lock()
		now := s.set.clock.now()
		d, at := s.next(from, now)
		until := s.set.clock.time(at)
		s.wakeLocked()
		switch d {
		case quit:
			mu.Unlock()
			c.giveBack(large)
			return
		case read:
			if !w.readBy.Equal(until) {
				w.readBy = until
				in.SetReadDeadline(until)
			}
			mu.Unlock()
			buf := small
			if large != nil {
				buf = large[:]
			}
			n, err := in.Read(buf[headroom:])
			c.pass(s, from, out, buf[:headroom+n], err)
			if full := headroom+n == len(buf); full && large == nil {
				large = c.borrow()
			} else if !full && large != nil {
				c.giveBack(large)
				large = nil
			}
		case hold:
			woken := make(chan struct{})
			w.woken = woken
			mu.Unlock()
			waitFor(woken, until)
		case say, ask:
			frame := s.frame(from, d, now)
			mu.Unlock()
			_, err := out.Write(frame)
			c.act(s, func(now instant) { s.wrote(from, d, err, now) })
		case shut:
			mu.Unlock()
			can := shutWrite(out)
			c.act(s, func(now instant) {
				if can {
					s.wrote(from, shut, nil, now)
				} else {
					s.cannotShut(from)
				}
			})
		}
	}
}

// pass deals with what a Read returned.
func (c *copier) pass(s *socket, from side, out net.Conn, buf []byte, err error) {
	if len(buf) > headroom {
		s.copying.mu.Lock()
		p := s.took(from, buf, s.set.clock.now())
		s.wakeLocked()
		s.copying.mu.Unlock()
		if len(p) > 0 {
			if _, err := out.Write(p); err != nil {
				c.act(s, func(now instant) { s.wrote(from, read, err, now) })
			}
		}
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.act(s, func(now instant) { s.finished(from, err, now) })
	}
}

func (c *copier) borrow() *[largeBuffer]byte {
	if b, ok := c.large.Get().(*[largeBuffer]byte); ok {
		return b
	}
	return new([largeBuffer]byte)
}

func (c *copier) giveBack(b *[largeBuffer]byte) {
	if b != nil {
		c.large.Put(b)
	}
}

// waitFor waits until the channel is closed or the time has come; a zero time
// never does.
func waitFor(woken <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-woken
		return
	}
	left := time.Until(until)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-woken:
	case <-timer.C:
	}
}
