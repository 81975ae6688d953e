package tunnel

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a loop moves the bytes of one socket.

// event notes what the kernel says of a descriptor, and carries on.
func (l *loop) event(ev unix.EpollEvent, buf []byte, now instant) {
	slot, from := ev.Fd>>1, side(ev.Fd&1)
	if int(slot) >= len(l.sockets) {
		return
	}
	s := l.sockets[slot]
	if s == nil {
		return // it ended before in the same batch
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.sign[from] |= signRead
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.sign[from] |= signHung
	}
	l.work(s, buf, now)
}

// work moves what can be moved of a socket, within its share.
func (l *loop) work(s *socket, buf []byte, now instant) {
	for {
		s.changed = false
		l.direct(s, client, buf, now)
		l.direct(s, instance, buf, now)
		if s.over {
			l.end(s)
			return
		}
		if !s.changed {
			break
		}
	}
	if s.calm && s.careful == nil {
		return
	}
	at := s.alarm()
	for from := range s.rest {
		if s.rest[from] != nil {
			at = sooner(at, s.writeBy())
		} else if side(from) == instance {
			at = sooner(at, s.pingDue())
		}
	}
	l.alarms.set(s, at)
}

// direct moves the direction that begins at from.
func (l *loop) direct(s *socket, from side, buf []byte, now instant) {
	to := from.other()
	for share := l.share; ; {
		if r := s.rest[from]; r != nil {
			if !l.flush(s, from, now) {
				return
			}
			if r.do == shut {
				l.shutDown(s, to) // what tells a TLS client so is sent
			}
			if r.do != read {
				s.wrote(from, r.do, nil, now)
			}
		}
		switch d, _ := s.next(from, now); d {
		case quit, hold:
			return
		case say, ask:
			if l.write(s, from, d, s.frame(from, d, now), now) {
				s.wrote(from, d, nil, now)
			}
		case shut:
			if l.parted(s, from, now) {
				l.shutDown(s, to)
				s.wrote(from, shut, nil, now)
			}
		case read:
			if l.ahead(s, from, buf, now) {
				continue
			}
			if s.sign[from]&signRead == 0 {
				return
			}
			if share <= 0 {
				l.requeue(s)
				return
			}
			n, ok := 0, false
			if from == client && s.tls != nil {
				n, ok = l.open(s, buf, now)
			} else {
				n, ok = l.take(s, from, buf[:min(len(buf), headroom+share)], now)
			}
			if !ok {
				return
			}
			share -= n
		}
	}
}

// ahead passes on what was read before the socket was joined. It is false when
// there is none.
func (l *loop) ahead(s *socket, from side, buf []byte, now instant) bool {
	if s.early != nil {
		if n := copy(s.room(buf), s.early[from]); n > 0 {
			s.early[from] = s.early[from][n:]
			l.pass(s, from, buf[:headroom+n], now)
			return true
		}
		if len(s.early[client])+len(s.early[instance]) == 0 {
			s.early = nil
		}
	}
	if from == client && s.tls != nil && s.tls.err != nil {
		s.finished(client, s.tls.err, now)
		return true
	}
	return false
}

// room is where to read to.
func (s *socket) room(buf []byte) []byte {
	if s.tls != nil {
		return buf[headroom:][:sealedAtOnce]
	}
	return buf[headroom:]
}

// take reads from an end and passes on what came. It returns how much that was,
// and false when there is nothing now.
func (l *loop) take(s *socket, from side, buf []byte, now instant) (n int, ok bool) {
	var errno syscall.Errno
	room := s.room(buf)
	unseen := s.unseen(from)
	bulk := unseen >= spliceLeast && s.tls == nil && l.pipe.ready()
	if bulk {
		n, errno = l.splice(s, from, unseen, buf, now)
	} else {
		n, errno = receive(s.fd[from], room)
	}
	switch {
	case errno == syscall.EINVAL && bulk:
		l.pipe.renounce()
	case errno == syscall.EAGAIN:
		s.sign[from] &^= signRead | signHung
		return 0, false
	case errno != 0:
		s.finished(from, os.NewSyscallError("read", errno), now)
	case n == 0:
		s.finished(from, io.EOF, now)
	case bulk:
	default:
		if n < len(room) && s.sign[from]&signHung == 0 {
			// All there was; what comes later makes an event.
			s.sign[from] &^= signRead
		}
		l.pass(s, from, buf[:headroom+n], now)
	}
	return n, true
}

// shutDown ends the stream towards an end. An error means that the peer is gone,
// which reading tells.
func (l *loop) shutDown(s *socket, to side) { unix.Shutdown(int(s.fd[to]), unix.SHUT_WR) }

// pass gives what was read to the socket, and what it lets pass to the other end.
func (l *loop) pass(s *socket, from side, buf []byte, now instant) {
	if p := s.took(from, buf, now); len(p) > 0 {
		l.write(s, from, read, p, now)
	}
}

// write writes to the other end than from, and keeps what that cannot take. It
// says whether all was written.
func (l *loop) write(s *socket, from side, d do, p []byte, now instant) bool {
	if from == instance && s.tls != nil {
		sealed, err := l.seal(s, p)
		if err != nil {
			s.wrote(from, d, err, now)
			return false
		}
		p = sealed
	}
	return l.send(s, from, d, p, now)
}

// send is write for what is sealed already, if it has to be.
func (l *loop) send(s *socket, from side, d do, p []byte, now instant) bool {
	if len(p) == 0 {
		return true
	}
	to := from.other()
	n, errno := send(s.fd[to], p)
	if errno != 0 && errno != syscall.EAGAIN {
		s.wrote(from, d, os.NewSyscallError("write", errno), now)
		return false
	}
	if n == len(p) {
		return true
	}
	l.keep(s, from, d, p[n:])
	l.awaitRoom(s, to)
	return false
}

// keep remembers what is still to be written. The direction reads no more until
// that is done.
func (l *loop) keep(s *socket, from side, d do, p []byte) {
	r := &rest{do: d}
	if len(p) <= smallBuffer {
		r.data = append([]byte(nil), p...)
	} else {
		if n := len(l.spares); n > 0 {
			r.chunk, l.spares = l.spares[n-1], l.spares[:n-1]
		} else {
			r.chunk = new([loopBuffer]byte)
		}
		if len(p) > len(r.chunk) { // with what had been held back
			r.data = append([]byte(nil), p...)
		} else {
			r.data = r.chunk[:copy(r.chunk[:], p)]
		}
	}
	s.rest[from] = r
}

// awaitRoom asks for an event when the descriptor can be written to again. A
// descriptor that was asked for once stays registered for it.
func (l *loop) awaitRoom(s *socket, of side) {
	if s.sign[of]&signAwait == 0 {
		s.sign[of] |= signAwait
		l.watch(unix.EPOLL_CTL_MOD, s, of, interest|unix.EPOLLOUT) // fails only for what is not registered
	}
}

// flush writes what was kept. It says whether that is over and done.
func (l *loop) flush(s *socket, from side, now instant) bool {
	r, to := s.rest[from], from.other()
	n, errno := send(s.fd[to], r.data)
	r.data = r.data[n:]
	switch {
	case errno != 0 && errno != syscall.EAGAIN:
		l.drop(s, from)
		s.wrote(from, r.do, os.NewSyscallError("write", errno), now)
		return false
	case len(r.data) == 0:
		l.drop(s, from)
		return true
	case s.over || s.writeBy().past(now):
		l.drop(s, from)
		s.wrote(from, r.do, os.ErrDeadlineExceeded, now)
		return false
	}
	l.awaitRoom(s, to)
	return false
}

// drop forgets what was kept.
func (l *loop) drop(s *socket, from side) {
	if r := s.rest[from]; r.chunk != nil && len(l.spares) < spare {
		l.spares = append(l.spares, r.chunk)
	}
	s.rest[from] = nil
}

// requeue lets others have their turn before the socket goes on.
func (l *loop) requeue(s *socket) {
	if !s.queued {
		s.queued = true
		l.again = append(l.again, s)
	}
}

// end closes both connections, and lets somebody else tell of it.
func (l *loop) end(s *socket) {
	for from := range s.rest {
		if s.rest[from] != nil {
			l.drop(s, side(from))
		}
	}
	if s.tls != nil {
		l.holdPart(s.tls, nil)
		s.tls = nil
	}
	s.closed = true
	s.early = nil
	l.alarms.set(s, 0)
	unix.Close(int(s.fd[client])) // and so they are registered no more
	unix.Close(int(s.fd[instance]))
	l.sockets[s.slot] = nil
	l.freed = append(l.freed, s.slot)
	l.count.Add(-1)
	l.set.bury(s)
}
