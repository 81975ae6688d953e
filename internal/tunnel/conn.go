package tunnel

import (
	"net"
	"syscall"
)

// Unread is conn with data, which was already read from it, put back in front
// of what is still to come. Whoever hijacks a connection uses it for what a
// buffered reader had taken. It keeps data.
func Unread(conn net.Conn, data []byte) net.Conn {
	if len(data) == 0 {
		return conn
	}
	return &unread{Conn: conn, data: data}
}

type unread struct {
	net.Conn
	data []byte // owned by Read
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.data) == 0 {
		return u.Conn.Read(p)
	}
	n := copy(p, u.data)
	u.data = u.data[n:]
	if len(u.data) == 0 {
		u.data = nil
	}
	return n, nil
}

// NetConn is the connection beneath.
func (u *unread) NetConn() net.Conn { return u.Conn }

// Loose is a connection whose descriptor nobody may be watching yet, Go's poller
// neither. Then it can be taken as it is, which spares what own does.
type Loose interface {
	net.Conn
	syscall.Conn

	// Loose is the descriptor of a stream socket that does not block; false if
	// it is watched by now. It stays the connection's.
	Loose() (fd int, ok bool)

	// Forget leaves what Loose returned to the caller. Closing the connection
	// does nothing then.
	Forget()
}

// beneath is what connections that wrap another one have; tls.Conn too.
type beneath interface{ NetConn() net.Conn }

// shutWrite ends the stream towards the peer and leaves the other one open. It
// is false when the connection cannot do that.
func shutWrite(conn net.Conn) bool {
	for {
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite() // an error means that the peer is gone, which reading tells
			return true
		}
		b, ok := conn.(beneath)
		if !ok {
			return false
		}
		conn = b.NetConn()
	}
}

// cut closes the connection and all beneath it, the innermost first: a
// tls.Conn would else try to say so to a peer that may not listen.
func cut(conn net.Conn) {
	if b, ok := conn.(beneath); ok {
		cut(b.NetConn())
	}
	conn.Close()
}
