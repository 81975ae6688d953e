package tunnel

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is left of a large frame's payload is nobody's business: it goes from
// one connection to the other inside the kernel (splice(2)), by way of a pipe
// that each loop has for the purpose. Between two turns the pipe is empty: what
// the other end could not take is read out of it and kept like any remainder.

const (
	// spliceLeast is how much of a payload must be left to make it worth the
	// two calls and the pipe.
	spliceLeast = loopBuffer

	// pipeSize is the pipe's capacity as the kernel counts it, in pages however
	// little of each is used: at most loopBuffer bytes are in it.
	pipeSize = 4 * loopBuffer
)

// pipe is where spliced bytes are on their way; both its ends are 0 until it
// is first needed, and -1 where there is none to be had.
type pipe struct{ out, in int32 }

// ready opens the pipe if it is not open.
func (p *pipe) ready() bool {
	if p.in == 0 {
		var fds [2]int
		if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
			p.out, p.in = -1, -1
			return false
		}
		p.out, p.in = int32(fds[0]), int32(fds[1])
		unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, pipeSize) // a smaller one only takes more turns
	}
	return p.in > 0
}

// renounce closes the pipe for good, where the kernel does not splice.
func (p *pipe) renounce() {
	p.close()
	*p = pipe{-1, -1}
}

// close closes the pipe; it may be opened again.
func (p *pipe) close() {
	if p.in > 0 {
		unix.Close(int(p.in))
		unix.Close(int(p.out))
	}
	*p = pipe{}
}

// splice moves up to most bytes of a payload from an end to the other one; buf is
// for what that cannot take. It returns what receive would, n is 0 at the end of
// the stream, or EINVAL where this kernel cannot do it.
func (l *loop) splice(s *socket, from side, most uint64, buf []byte, now instant) (n int, errno syscall.Errno) {
	n, errno = move(s.fd[from], l.pipe.in, int(min(most, loopBuffer)))
	if n == 0 || errno != 0 {
		return 0, errno
	}
	s.skipped(from, n, now)
	left := n
	for left > 0 && errno == 0 {
		var m int
		m, errno = move(l.pipe.out, s.fd[from.other()], left)
		left -= m
	}
	if left > 0 {
		l.pipe.empty(buf[:left])
		l.write(s, from, read, buf[:left], now) // keeps it, or finds out what is wrong
	}
	return n, 0
}

// empty reads all that is in the pipe, which is as much as p holds.
func (p pipe) empty(to []byte) {
	for len(to) > 0 {
		n, err := unix.Read(int(p.out), to)
		if err != nil && err != unix.EINTR || n == 0 {
			panic(fmt.Sprintf("tunnel: %d bytes that were put into the pipe are not in it: %v", len(to), err))
		}
		to = to[max(n, 0):]
	}
}

// move splices without blocking.
func move(from, to int32, n int) (int, syscall.Errno) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), flags)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
