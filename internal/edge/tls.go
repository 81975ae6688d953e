package edge

import (
	"crypto/tls"
	"net"
)

// TLS is a listener whose connections speak TLS as cfg says, each of them on what
// base makes of it; a nil base leaves it as it is. The handshake is done by
// whoever first reads from a connection, and Serve bounds its time. It owns l.
//
// tls.NewListener has no place for a base, and a tls.Conn stands on the same
// connection for as long as it lives: who wants to take that over one day, as
// the tunnels do, has to be there from the beginning.
func TLS(l net.Listener, cfg *tls.Config, base func(net.Conn) net.Conn) net.Listener {
	return &secure{Listener: l, cfg: cfg, base: base}
}

type secure struct {
	net.Listener
	cfg  *tls.Config
	base func(net.Conn) net.Conn
}

func (s *secure) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if s.base != nil {
		c = s.base(c)
	}
	return tls.Server(c, s.cfg), nil
}
