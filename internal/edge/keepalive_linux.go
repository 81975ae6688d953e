package edge

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAliveEach keeps net from setting what connections have inherited.
const keepAliveEach = -1

// keepAliveAll sets a listener's keep-alive, which Linux hands on to the
// connections that it accepts.
func keepAliveAll(_, _ string, c syscall.RawConn) error {
	var err error
	set := func(level, option, value int) func(fd uintptr) {
		return func(fd uintptr) { err = errors.Join(err, unix.SetsockoptInt(int(fd), level, option, value)) }
	}
	for _, s := range []func(uintptr){
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeIdle/time.Second)),
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeEvery/time.Second)),
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probeCount),
	} {
		if e := c.Control(s); e != nil {
			return e
		}
	}
	return err
}
