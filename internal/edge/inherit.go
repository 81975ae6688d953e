package edge

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Socket activation: systemd listens, and hands its listeners to each process
// that it starts, so that a port stays open, and connections queue, while one
// Holdfast follows another. See sd_listen_fds(3).

const (
	inheritedFrom = 3  // SD_LISTEN_FDS_START
	inheritedMax  = 64 // more are not ours, whatever the environment says
)

// Handed is a listener that was handed to this process.
type Handed struct {
	net.Listener
	Name string // FileDescriptorName= of its socket unit; "" if nobody said
}

// Inherited returns the listeners that were handed to this process, of TCP and
// Unix sockets, in the order of the socket units; none when there were none. The
// caller owns them. It takes them out of the environment, so that neither a
// second call nor a process of ours finds them again.
func Inherited() ([]Handed, error) {
	pid, fds := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // fails for no name of these
	}
	if all, err := again(); err != nil || all != nil {
		return all, err
	}
	if fds == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or those of a parent
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > inheritedMax {
		return nil, fmt.Errorf("inherit listeners: LISTEN_FDS=%q: want a number up to %d", fds, inheritedMax)
	}
	for fd := inheritedFrom; fd < inheritedFrom+n; fd++ {
		syscall.CloseOnExec(fd)
	}
	var all []Handed
	for fd := inheritedFrom; fd < inheritedFrom+n; fd++ {
		l, err := inherit(fd)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("inherit listener %d of %d: %w", fd-inheritedFrom+1, n, err)
		}
		h := Handed{Listener: l}
		if i := fd - inheritedFrom; i < len(names) {
			h.Name = names[i]
		}
		all = append(all, h)
	}
	return all, nil
}

// inherit makes a listener of a descriptor, which it closes.
func inherit(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	switch l := l.(type) {
	case *net.TCPListener:
		return patient{l}, nil
	case *net.UnixListener:
		l.SetUnlinkOnClose(false) // it is not ours, and our successor's next
		return l, nil
	}
	l.Close()
	return nil, fmt.Errorf("%s takes no streams: write ListenStream=", l.Addr())
}

// patient gives each connection the keep-alive that Listen gives to the
// listener: net would have its own, which asks phones every 15 seconds, and an
// inherited listener cannot be told otherwise.
type patient struct{ *net.TCPListener }

func (p patient) Accept() (net.Conn, error) {
	c, err := p.AcceptTCP()
	if err != nil {
		return nil, err
	}
	// Fails for a connection that is gone, as its first read will tell.
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeEvery, Count: probeCount})
	return c, nil
}
