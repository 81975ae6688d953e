package edge

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peeked is a connection whose first bytes can be looked at.
type peeked interface {
	net.Conn
	syscall.Conn
}

// peek copies what came on a connection into p and leaves it there to be read.
// It waits for the first byte, up to patience; n is 0 at the end of the stream.
func peek(conn peeked, p []byte, patience time.Duration) (n int, err error) {
	return peekUntil(conn, p, patience, func([]byte) bool { return true })
}

// peekUntil is peek that goes on waiting while what came is not enough. The end
// of the stream behind something does not show, and is waited for in vain.
func peekUntil(conn peeked, p []byte, patience time.Duration, enough func([]byte) bool) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	waited, failed := false, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, failed = unix.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if failed != unix.EINTR {
				break
			}
		}
		if failed != unix.EAGAIN && (failed != nil || n == 0 || n == len(p) || enough(p[:n])) {
			return true
		}
		if !waited { // a deadline costs more than looking does
			waited = true
			conn.SetReadDeadline(time.Now().Add(patience))
		}
		return false
	})
	if waited {
		conn.SetReadDeadline(time.Time{})
	}
	if err == nil {
		err = failed
	}
	return max(n, 0), err
}
