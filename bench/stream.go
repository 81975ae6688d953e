//go:build linux

package main

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stream is a connection on a loop: reads that never wait, and writes that
// keep what the kernel does not take yet. With tls set it is encrypted.
type stream struct {
	loop *loop
	fd   int
	tls  *tls.Conn // over the stream's own wire
	out  []byte    // not taken by the kernel yet
	lent bool      // out is the caller's memory
	gone bool
}

// errLater says that there is nothing to read now. To crypto/tls it is an
// error after which one may go on.
var errLater error = later{}

type later struct{}

func (later) Error() string   { return "nothing to read yet" }
func (later) Timeout() bool   { return true }
func (later) Temporary() bool { return true }

// read reads once; errLater means to wait for the next event.
func (s *stream) read(p []byte) (int, error) {
	if s.tls != nil {
		return s.tls.Read(p)
	}
	return s.rawRead(p)
}

func (s *stream) rawRead(p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch {
		case errno == syscall.EAGAIN:
			return 0, errLater
		case errno == syscall.EINTR:
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// drained says that a read of n bytes into a buffer of size took all there
// was, so that asking once more would only cost a call. An end of the stream
// that came before the read gives no further event; hence events.
func (s *stream) drained(n, size int, events uint32) bool {
	const ended = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	return s.tls == nil && n < size && events&ended == 0
}

// write sends p, now or later; p may be used again at once.
func (s *stream) write(p []byte) error {
	if s.tls != nil {
		_, err := s.tls.Write(p)
		return err
	}
	return s.push(p, false)
}

// lend is write without a copy of what has to wait: p must not change until
// out is empty.
func (s *stream) lend(p []byte) error {
	if s.tls != nil {
		return s.write(p)
	}
	return s.push(p, true)
}

func (s *stream) push(p []byte, lent bool) error {
	if len(s.out) == 0 {
		n, err := s.rawWrite(p)
		if err != nil {
			return err
		}
		if p = p[n:]; len(p) > 0 && lent {
			s.out, s.lent = p, true
			return nil
		}
	}
	if len(p) > 0 {
		if s.lent {
			s.out, s.lent = append([]byte(nil), s.out...), false
		}
		s.out = append(s.out, p...)
	}
	return nil
}

// flush sends what waits, as far as it goes.
func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	n, err := s.rawWrite(s.out)
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out, s.lent = nil, false
	}
	return err
}

// rawWrite writes what the kernel takes now; zero bytes is no error.
func (s *stream) rawWrite(p []byte) (done int, err error) {
	for done < len(p) {
		rest := p[done:]
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)))
		switch {
		case errno == syscall.EAGAIN:
			return done, nil
		case errno == syscall.EINTR:
		case errno != 0:
			return done, errno
		default:
			done += int(n)
			if int(n) < len(rest) {
				return done, nil // full; epoll tells when not any more
			}
		}
	}
	return done, nil
}

func (s *stream) close() {
	if !s.gone {
		s.gone = true
		s.loop.forget(s.fd)
	}
}

// wire is the stream beneath its encryption. While the handshake runs, on a
// goroutine of its own, the descriptor blocks.
type wire struct {
	*stream
	shaking bool
}

func (w *wire) Read(p []byte) (int, error) {
	if !w.shaking {
		return w.rawRead(p)
	}
	n, err := unix.Read(w.fd, p)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.shaking {
		return len(p), w.push(p, false)
	}
	for done := 0; done < len(p); {
		n, err := unix.Write(w.fd, p[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

func (w *wire) Close() error                     { return nil } // the stream's business
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
