package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// unixKnock bounds asking a Unix socket whether anybody listens there, which the
// system answers at once, unless its queue is full: somebody listens then.
const unixKnock = time.Second

// listenUnix listens on a Unix socket. Whoever reaches its folder may connect, as
// whoever reaches a port may. One that a process left behind which is gone is
// removed first; anything else that lies there stays.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		c, err := net.DialTimeout("unix", path, unixKnock)
		if err == nil {
			c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = os.Remove(path)
			if err != nil {
				return nil, fmt.Errorf("listen on %s: %w", path, err)
			}
		}
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortTakenError{Addr: "unix:" + path}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}
