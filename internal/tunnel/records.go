package tunnel

import "net"

// A TLS record is cut by a header in clear (RFC 8446, 5.1; RFC 5246, 6.2.1):
//
//	byte 0     content type
//	1 and 2    a version
//	3 and 4    the length of what follows, in network order
const (
	recordHeader = 5

	// recordMax is the longest a record may be, header and all, in bytes: what
	// TLS 1.2 allows, which is more than TLS 1.3 (RFC 5246, 6.2.3).
	recordMax = recordHeader + 16<<10 + 2048
)

// TLSBase is conn for a tls.Conn to stand on: only such a TLS connection can be
// carried by a loop, when it is joined as a client's. It owns conn.
//
//	client := tls.Server(tunnel.TLSBase(conn), config)
func TLSBase(conn net.Conn) net.Conn { return &base{Conn: conn} }

// base follows the records that are read from it, so that whoever takes it over
// knows where in one they stand. What it stands on itself may be exchanged
// while nobody calls it.
type base struct {
	net.Conn
	came records // owned by Read
}

func (b *base) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	for q := p[:n]; len(q) > 0; {
		q = q[b.came.advance(q):]
	}
	return n, err
}

// NetConn is the connection beneath.
func (b *base) NetConn() net.Conn { return b.Conn }

// records follows a stream of them, as scanner follows frames. The zero value
// stands before the first one.
type records struct {
	head [recordHeader]byte
	have uint8  // header bytes of the record under way; 0: between two records
	left uint16 // bytes of it that are still to come, once its header is whole
}

// advance follows the stream through p, but not beyond the end of the record
// under way, or of the next one when none is. It returns how far it came.
func (r *records) advance(p []byte) int {
	n := 0
	if r.left == 0 {
		n = copy(r.head[r.have:], p)
		r.have += uint8(n)
		if r.have < recordHeader {
			return n
		}
		r.left = uint16(r.head[3])<<8 | uint16(r.head[4])
	}
	rest := min(len(p)-n, int(r.left))
	r.left -= uint16(rest)
	if r.left == 0 {
		r.have = 0
	}
	return n + rest
}

// between says whether the stream stands between two records.
func (r *records) between() bool { return r.have == 0 }

// hopeless says that the record under way is longer than any may be.
func (r *records) hopeless() bool { return int(r.left) > recordMax-recordHeader }
