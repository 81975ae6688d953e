package router

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// latePort has the kernel choose the port when it knows the other end, so that
// one port serves connections to several instances: ip(7),
// IP_BIND_ADDRESS_NO_PORT.
func latePort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Without it ports are only scarcer.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
