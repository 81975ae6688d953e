//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// client is one connection of the generator: a WebSocket, or HTTP requests one
// after the other.
type client struct {
	stream
	at      *generator
	kind    kind
	state   state
	began   time.Time // of what is timed: a request, a message
	head    []byte    // of an answer that has not all come
	body    int       // bytes of it that are still to come
	keep    bool      // the answer under way leaves the connection open
	frames  frames
	frame   []byte // what it sends, its stamp included
	stampAt int    // where in frame
	heard   [8]byte
}

type kind uint8

const (
	asSocket kind = iota
	asRequests
	asPoll
)

// state is where a client stands: connecting → upgrading → open for WebSockets,
// connecting → open for others.
type state uint8

const (
	connecting state = iota
	upgrading
	open
)

// sources is how many addresses of the loopback range connections come from,
// in turn: one alone has some 28,000 ports, fewer than a second of short
// connections takes.
const sources = 64

const (
	upgradeRequest = "GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + benchKey + "\r\n\r\n"
	benchKey     = "aG9sZGZhc3QncyBiZW5jaA==" // any 16 bytes
	smallRequest = "GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"
	lastRequest  = "GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	pollRequest  = "GET /poll HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

var benchAccept = []byte(acceptKey(benchKey))

var (
	errAccept  = errors.New("101 with a wrong Sec-WebSocket-Accept")
	errEcho    = errors.New("another message came back")
	errClosed  = errors.New("Close frame that nobody asked for")
	errUnasked = errors.New("bytes that nobody asked for")
)

// dial begins a connection; the job's opened or failed is told how it went.
func (g *generator) dial(k kind, o order) {
	c := &client{stream: stream{loop: g.loop, fd: -1}, at: g, kind: k, began: time.Now()}
	g.dials++
	from := [4]byte{127, 0, 1, byte(1 + g.dials%sources)}
	if !o.TLS {
		err := c.connect(o.Addr, from, unix.SOCK_NONBLOCK)
		if err == nil {
			err = g.loop.watch(c.fd, c, always)
		}
		if err != nil {
			// Later, so that nobody is told while still dialling.
			g.loop.post(func() { c.fail(err) })
		}
		return
	}
	go func() {
		err := c.connect(o.Addr, from, 0)
		if err == nil {
			err = c.encrypt(g.tls)
		}
		g.loop.post(func() {
			if err == nil {
				err = g.loop.watch(c.fd, c, always)
			}
			if err != nil {
				c.fail(err)
			}
		})
	}()
}

// connect opens the descriptor and connects it to addr, or begins to.
func (c *client) connect(addr string, from [4]byte, flags int) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0); err != nil {
		return err
	}
	unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(c.fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(c.fd, &unix.SockaddrInet4{Addr: from}); err != nil {
		return err
	}
	err = unix.Connect(c.fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// handshakeMax bounds a TLS handshake's reads and writes.
const handshakeMax = 20 * time.Second

// encrypt performs a TLS handshake on a descriptor that blocks, and then makes
// it one that does not.
func (c *client) encrypt(cfg *tls.Config) error {
	bound := unix.NsecToTimeval(int64(handshakeMax))
	unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &bound)
	unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound)
	w := &wire{stream: &c.stream, shaking: true}
	conn := tls.Client(w, cfg)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	w.shaking = false
	c.tls = conn
	return unix.SetNonblock(c.fd, true)
}

func (c *client) fail(err error) {
	if c.gone {
		return
	}
	if c.fd >= 0 {
		c.close()
	}
	c.gone = true
	c.at.failed(c, err)
}

// leave closes without anybody being told.
func (c *client) leave() {
	delete(c.at.open, c)
	c.close()
}

func (c *client) ready(events uint32) {
	if c.gone {
		return
	}
	if c.state == connecting {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			errno, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			c.fail(unix.Errno(errno))
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		c.connected()
	} else if events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		if err := c.flush(); err != nil {
			c.fail(err)
			return
		}
	}
	for !c.gone {
		n, err := c.read(c.at.buf)
		if err == errLater {
			return
		}
		if err == nil {
			err = c.took(c.at.buf[:n])
		}
		if err != nil {
			c.fail(err)
			return
		}
		if c.drained(n, len(c.at.buf), events) {
			return
		}
	}
}

func (c *client) connected() {
	c.state = open
	var err error
	switch c.kind {
	case asSocket:
		c.state = upgrading
		err = c.write([]byte(upgradeRequest))
	case asPoll:
		err = c.write([]byte(pollRequest))
		c.at.job.opened(c)
	case asRequests:
		c.at.job.opened(c)
	}
	if err != nil {
		c.fail(err)
	}
}

// took is given what was read.
func (c *client) took(p []byte) error {
	for len(p) > 0 && !c.gone {
		var err error
		if c.kind == asSocket && c.state == open {
			p, err = c.tookFrame(p)
		} else {
			p, err = c.tookAnswer(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tookAnswer takes an HTTP answer, or a part of it.
func (c *client) tookAnswer(p []byte) (rest []byte, err error) {
	if c.body == 0 {
		if len(c.head) > 0 {
			p = append(c.head, p...)
			c.head = nil
		}
		head, rest, whole := cutHead(p)
		if !whole {
			if len(p) > headMax {
				return nil, errHead
			}
			c.head = append([]byte(nil), p...)
			return nil, nil
		}
		code, err := status(head)
		if err != nil {
			return nil, err
		}
		if c.state == upgrading {
			return rest, c.upgraded(code, head)
		}
		if code != 200 {
			return nil, fmt.Errorf("status %d", code)
		}
		c.body, err = strconv.Atoi(header(head, "Content-Length"))
		if err != nil {
			return nil, fmt.Errorf("answer without Content-Length")
		}
		c.keep = !strings.EqualFold(header(head, "Connection"), "close")
		p = rest
	}
	n := min(c.body, len(p))
	if c.body -= n; c.body == 0 {
		if c.at.job.answered == nil {
			return nil, errUnasked
		}
		c.at.job.answered(c, c.keep)
	}
	return p[n:], nil
}

func (c *client) upgraded(code int, head []byte) error {
	if code != 101 {
		return fmt.Errorf("status %d", code)
	}
	if !bytes.Equal([]byte(header(head, "Sec-WebSocket-Accept")), benchAccept) {
		return errAccept
	}
	c.state = open
	c.at.open[c] = struct{}{}
	c.at.job.opened(c)
	return nil
}

// compose makes the message that a client sends from now on.
func (c *client) compose(size int) {
	c.frame = appendHead(nil, opBinary, size, true)
	c.stampAt = len(c.frame)
	c.frame = append(c.frame, make([]byte, size)...)
}

// send sends its message with a new stamp. The one before must have come back.
func (c *client) send() error {
	c.at.stamps++
	binary.BigEndian.PutUint64(c.frame[c.stampAt:], c.at.stamps)
	c.began = time.Now()
	return c.lend(c.frame)
}

// tookFrame takes a frame, or a part of it.
func (c *client) tookFrame(p []byte) (rest []byte, err error) {
	part, at, rest, ended, err := c.frames.next(p)
	if err != nil {
		return nil, err
	}
	if at < uint64(len(c.heard)) {
		copy(c.heard[at:], part)
	}
	switch {
	case !ended:
	case c.frames.op == opClose:
		if c.at.job.ended == nil {
			return nil, errClosed
		}
	case c.at.job.message == nil:
		return nil, errUnasked
	default:
		c.at.job.message(c)
	}
	return rest, nil
}

// echoed tells whether the message that came is the one that was sent.
func (c *client) echoed() bool {
	return int(c.frames.length) == len(c.frame)-c.stampAt && bytes.Equal(c.heard[:], c.frame[c.stampAt:c.stampAt+8])
}
