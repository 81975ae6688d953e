package process

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// holdPort reserves the number among all drivers of this machine: an abstract
// socket name has the scope that ports have (the network namespace), asks for
// no directory that all users share, and goes with the last process that has
// it open, the instance's keeper.
func holdPort(port int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@holdfast-port-" + strconv.Itoa(port)}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "port "+strconv.Itoa(port)), nil
}

func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
