package tunnel

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How a loop comes by a descriptor, and what it does with one. The calls that
// cannot block are made without telling the scheduler, which costs half as much.

// descriptor is the connection under what Unread may have put around it, and
// what was read ahead; over is the TLS that is spoken there. It is false where
// there is no descriptor that a loop could read from and write to by itself.
func descriptor(conn net.Conn) (raw syscall.RawConn, early []byte, over *secured, ok bool) {
	if u, wrapped := conn.(*unread); wrapped {
		early, conn = u.data, u.Conn
	}
	if t, is := conn.(*tls.Conn); is {
		if over = secure(t); over == nil {
			return nil, nil, nil, false
		}
		conn = over.base.Conn
	}
	// What only says from whom a connection is stands around it as tls.Conn does.
	for w, is := conn.(interface{ NetConn() net.Conn }); is; w, is = conn.(interface{ NetConn() net.Conn }) {
		conn = w.NetConn()
	}
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	case Loose:
		if fd, ok := c.Loose(); ok {
			return loose{c, int32(fd)}, early, nil, true
		}
		raw, err = c.SyscallConn()
	default:
		return nil, nil, nil, false
	}
	return raw, early, over, err == nil
}

// own duplicates a connection's descriptor. Once the connection is closed the
// copy is ours alone, which costs three system calls and frees what Go keeps
// for a connection. To use the connection's own number would be cheaper, were
// it not for Go's poller, which watches it and would wake with each message.
func own(raw syscall.RawConn) (fd int32, ok bool) {
	if l, ok := raw.(loose); ok {
		return l.fd, true
	}
	raw.Control(func(theirs uintptr) {
		n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, theirs, unix.F_DUPFD_CLOEXEC, 0)
		fd, ok = int32(n), errno == 0
	})
	return fd, ok
}

// disown gives up what own returned; the connection is as it was.
func disown(raw syscall.RawConn, fd int32) {
	if _, ok := raw.(loose); !ok {
		unix.Close(int(fd))
	}
}

// leave ends a connection whose descriptor is owned.
func leave(conn net.Conn, raw syscall.RawConn) {
	if l, ok := raw.(loose); ok {
		l.conn.Forget()
		return
	}
	cut(conn)
}

// loose is a connection's descriptor that nobody watches.
type loose struct {
	conn Loose
	fd   int32
}

func (l loose) Control(f func(fd uintptr)) error { f(uintptr(l.fd)); return nil }
func (l loose) Read(func(uintptr) bool) error    { return errors.ErrUnsupported }
func (l loose) Write(func(uintptr) bool) error   { return errors.ErrUnsupported }

// receive reads without blocking; n is 0 at the end of the stream.
func receive(fd int32, p []byte) (n int, err syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// send writes without blocking, and without the signal that a write to a
// connection that is gone would raise. n may be less than all.
func send(fd int32, p []byte) (n int, err syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
