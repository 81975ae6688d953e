package router

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// plugged is a connection to an instance of this machine: first a descriptor
// that nobody watches, which the tunnels take as it is; a file in Go's poller
// from when somebody has to wait for it. net's dialer makes nine system calls
// where this makes three, and the tunnels five more to be rid of the poller.
//
// It belongs to one goroutine, but for SetDeadline once it is watched.
type plugged struct {
	to   *net.TCPAddr
	fd   int      // negative: there is none any more, or file has it
	file *os.File // nil while nobody had to wait
}

// plug connects to an instance of this machine and sends the beginning, all of
// it. On loopback the kernel carries both ends, so that the connection is there
// when connect returns, though one that does not block is told EINPROGRESS.
//
// After an error nothing was sent, and it says nothing of the instance: dial is
// for finding out.
func (r *Router) plug(addr string, head []byte) (*plugged, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil || r.sources == nil || !to.Addr().Is4() || !to.Addr().IsLoopback() {
		return nil, errNoPlug
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &plugged{to: net.TCPAddrFromAddrPort(to), fd: fd}
	if err := r.sources.connect(fd, to); err != nil {
		p.Close()
		return nil, err
	}
	n, err := unix.Write(fd, head)
	if n <= 0 { // not connected yet, or never
		p.Close()
		return nil, err
	}
	if n < len(head) { // no fresh socket has so little room; what is wrong, the answer tells
		p.SetWriteDeadline(time.Now().Add(promptly))
		p.Write(head[n:])
	}
	return p, nil
}

var errNoPlug = errors.New("not an instance of this machine")

// connect begins to connect a socket, from the source that worked last.
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

// look reads what is there, without waiting; 0 if nothing is, or the end.
func (p *plugged) look(b []byte) int {
	n, err := unix.Read(p.fd, b)
	if err != nil {
		return 0
	}
	return n
}

// watched is the connection in Go's poller.
func (p *plugged) watched() *os.File {
	if p.file == nil {
		p.file, p.fd = os.NewFile(uintptr(p.fd), "instance"), -1
	}
	return p.file
}

func (p *plugged) Read(b []byte) (int, error)         { return p.watched().Read(b) }
func (p *plugged) Write(b []byte) (int, error)        { return p.watched().Write(b) }
func (p *plugged) SetDeadline(t time.Time) error      { return p.watched().SetDeadline(t) }
func (p *plugged) SetReadDeadline(t time.Time) error  { return p.watched().SetReadDeadline(t) }
func (p *plugged) SetWriteDeadline(t time.Time) error { return p.watched().SetWriteDeadline(t) }

func (p *plugged) Close() error {
	if p.file != nil {
		return p.file.Close()
	}
	if p.fd < 0 {
		return nil
	}
	fd := p.fd
	p.fd = -1
	return unix.Close(fd)
}

func (p *plugged) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (p *plugged) RemoteAddr() net.Addr { return p.to }

// What follows is for the tunnels; see tunnel.Loose.

func (p *plugged) SyscallConn() (syscall.RawConn, error) { return p.watched().SyscallConn() }
func (p *plugged) Loose() (fd int, ok bool)              { return p.fd, p.fd >= 0 }
func (p *plugged) Forget()                               { p.fd = -1 }
