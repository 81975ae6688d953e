//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// backend is the instance behind every proxy: it echoes WebSocket messages,
// pushes to all sockets when told, answers small requests and holds long polls
// until told. One loop does all of it.
type backend struct {
	loop   *loop
	listen int
	buf    []byte // what is read, one at a time
	reply  []byte // what is answered to it

	sockets map[*guest]struct{}
	polls   map[*guest]struct{}
}

const (
	readBytes = 256 << 10 // one buffer for all connections
	backlog   = 4096      // what the kernel allows by default (somaxconn)
)

const (
	smallAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world.\n"
	lostAnswer  = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
	agreed      = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

// backendMain is the role "backend": it reports its address, then obeys.
func backendMain([]string) error {
	b, addr, err := newBackend()
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- b.loop.run() }()
	first := true
	obeyed := make(chan error, 1)
	go func() {
		obeyed <- obey(os.Stdin, os.Stdout, func(o order) report {
			r := b.do(o)
			if first {
				r.Addr, first = addr, false
			}
			return r
		})
	}()
	select {
	case err := <-ran:
		return err
	case err := <-obeyed:
		return err
	}
}

func newBackend() (*backend, string, error) {
	l, err := newLoop()
	if err != nil {
		return nil, "", err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, "", fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, "", fmt.Errorf("getsockname: %w", err)
	}
	b := &backend{
		loop:    l,
		listen:  fd,
		buf:     make([]byte, readBytes),
		sockets: map[*guest]struct{}{},
		polls:   map[*guest]struct{}{},
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	return b, addr, l.watch(fd, b, unix.EPOLLIN)
}

// do obeys one order: "push" N rounds of messages to all sockets, "release"
// all long polls, "count" sockets and polls.
func (b *backend) do(o order) report {
	switch o.Do {
	case "push":
		return b.push(o)
	case "release":
		return b.on(func(r *report) {
			for g := range b.polls {
				r.Done++
				g.say([]byte(smallAnswer))
			}
			clear(b.polls)
		})
	case "count":
		return b.on(func(r *report) { r.Done = len(b.sockets) + len(b.polls) })
	default:
		return report{Err: fmt.Sprintf("unknown order %q", o.Do)}
	}
}

// on runs f on the loop.
func (b *backend) on(f func(*report)) report {
	var r report
	done := make(chan struct{})
	b.loop.post(func() { f(&r); close(done) })
	<-done
	return r
}

// push sends one message to every socket, N times, Every so often. Done counts
// the messages.
func (b *backend) push(o order) report {
	frame := appendHead(nil, opBinary, o.Bytes, false)
	frame = append(frame, make([]byte, o.Bytes)...)
	started := time.Now()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	var total report
	for range o.N {
		r := b.on(func(r *report) {
			for g := range b.sockets {
				g.say(frame)
				r.Done++
			}
		})
		total.Done += r.Done
		<-tick.C
	}
	total.Elapsed = time.Since(started)
	return total
}

// ready takes the connections that wait.
func (b *backend) ready(uint32) {
	for {
		fd, _, err := unix.Accept4(b.listen, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return // none left, or no descriptor for it: its proxy will tell
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		g := &guest{stream: stream{loop: b.loop, fd: fd}, at: b}
		if b.loop.watch(fd, g, always) != nil {
			unix.Close(fd)
		}
	}
}

// guest is one connection at the backend.
type guest struct {
	stream
	at     *backend
	socket bool   // upgraded
	last   bool   // closed once all is sent
	head   []byte // of a request that has not all come
	frames frames
}

func (g *guest) ready(events uint32) {
	if g.gone {
		return
	}
	if events&unix.EPOLLOUT != 0 && len(g.out) > 0 {
		if g.flush() != nil {
			g.end()
			return
		}
	}
	// While a client does not take what it asked for, nothing more is read.
	for len(g.out) == 0 {
		n, err := g.read(g.at.buf)
		if err == errLater {
			return
		}
		if err != nil || !g.took(g.at.buf[:n]) {
			g.end()
			return
		}
		if g.drained(n, len(g.at.buf), events) {
			return
		}
	}
}

// took answers what was read; false ends the connection.
func (g *guest) took(p []byte) bool {
	b := g.at
	b.reply = b.reply[:0]
	for len(p) > 0 && !g.last {
		if g.socket {
			p = g.echo(p)
			continue
		}
		if len(g.head) > 0 {
			p = append(g.head, p...)
			g.head = nil
		}
		head, rest, whole := cutHead(p)
		if !whole {
			g.head = append([]byte(nil), p...)
			break
		}
		p = rest
		g.answer(head)
	}
	if len(g.head) > headMax {
		return false
	}
	if len(b.reply) > 0 && g.write(b.reply) != nil {
		return false
	}
	return !g.last || len(g.out) > 0
}

// answer adds the answer to a request without a body to the reply.
func (g *guest) answer(head []byte) {
	b := g.at
	_, target, _ := strings.Cut(string(head[:min(len(head), 64)]), " ")
	path, _, _ := strings.Cut(target, " ")
	switch {
	case strings.EqualFold(header(head, "Upgrade"), "websocket"):
		b.reply = append(b.reply, agreed+acceptKey(header(head, "Sec-WebSocket-Key"))+"\r\n\r\n"...)
		g.socket = true
		b.sockets[g] = struct{}{}
		return
	case path == "/poll":
		b.polls[g] = struct{}{}
		return
	case path == "/small":
		b.reply = append(b.reply, smallAnswer...)
	default:
		b.reply = append(b.reply, lostAnswer...)
	}
	g.last = strings.EqualFold(header(head, "Connection"), "close")
}

// echo adds what comes of a piece of a WebSocket to the reply, and returns the
// rest after one frame. A long message is answered while it comes.
func (g *guest) echo(p []byte) []byte {
	b := g.at
	part, at, rest, ended, err := g.frames.next(p)
	if err != nil {
		g.last = true
		return nil
	}
	if at == 0 && (len(part) > 0 || ended) {
		b.reply = appendHead(b.reply, g.frames.op, int(g.frames.length), false)
	}
	g.frames.unmask(part, at)
	b.reply = append(b.reply, part...)
	if ended && g.frames.op == opClose {
		g.last = true
	}
	return rest
}

func (g *guest) say(p []byte) {
	if g.write(p) != nil {
		g.end()
	}
}

func (g *guest) end() {
	g.close()
	delete(g.at.sockets, g)
	delete(g.at.polls, g)
}
