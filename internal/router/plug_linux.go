package router

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// plug begins a connection to an instance of this machine, for the straight
// way. On loopback the kernel carries both ends, so that the connection is there
// when connect returns, though one that does not block is told EINPROGRESS; in
// the rare case that it is not, the first write waits for it.
//
// The error says nothing of the instance: dial is for finding out.
func (r *Router) plug(addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil || r.sources == nil || !to.Addr().Is4() || !to.Addr().IsLoopback() {
		return nil, errNoPlug
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := r.sources.connect(fd, to); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &plugged{os.NewFile(uintptr(fd), addr), net.TCPAddrFromAddrPort(to)}, nil
}

var errNoPlug = errors.New("not an instance of this machine")

func (s *sources) connect(fd int, to netip.AddrPort) error {
	if from := s.source(s.loopback.Load(), true); from.IsValid() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return err
		}
	}
	// As net sets it: what is carried is not to wait for more.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// plugged is a connection that is a file: it has what a net.Conn has and the
// tunnels need, and cost three system calls where net's dialer makes nine.
type plugged struct {
	*os.File
	to net.Addr
}

func (p *plugged) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (p *plugged) RemoteAddr() net.Addr { return p.to }

// PlainSocket is for the tunnels: they take the descriptor.
func (p *plugged) PlainSocket() {}
