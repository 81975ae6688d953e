//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// loop is one epoll instance and what it watches, on one locked thread. What
// measures has to cost less than what is measured, hence no goroutine per
// connection and system calls that do not tell Go's scheduler of themselves.
type loop struct {
	// Owned by run.
	ep      int
	watched []watcher // by descriptor
	events  [512]unix.EpollEvent
	over    bool

	bell  int        // an eventfd: there are tasks
	mu    sync.Mutex // guards the following
	tasks []func()
}

// watcher is told of what epoll says of its descriptor. An event may be
// spurious: of a descriptor that was closed and is now another's.
type watcher interface{ ready(events uint32) }

// always is what every connection is watched for, once and for all: edges, so
// that there is no call to change it.
const always = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{ep: ep, bell: bell}
	return l, l.watch(bell, (*bellRinger)(l), unix.EPOLLIN)
}

// watch tells w of events at fd until fd is closed with forget.
func (l *loop) watch(fd int, w watcher, events uint32) error {
	for fd >= len(l.watched) {
		l.watched = append(l.watched, make([]watcher, fd+1-len(l.watched)+1024)...)
	}
	l.watched[fd] = w
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// forget closes fd, whether it is watched or not.
func (l *loop) forget(fd int) {
	if fd < len(l.watched) {
		l.watched[fd] = nil
	}
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
}

// post has f run on the loop's thread. Any goroutine may call it.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.tasks = append(l.tasks, f)
	l.mu.Unlock()
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(l.bell, one[:])
}

// run serves until a task or a watcher sets over.
func (l *loop) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !l.over {
		n, err := unix.EpollWait(l.ep, l.events[:], -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for i := range l.events[:n] {
			e := &l.events[i]
			if w := l.watched[e.Fd]; w != nil {
				w.ready(e.Events)
			}
		}
	}
	return nil
}

// bellRinger is the loop as the watcher of its own bell.
type bellRinger loop

func (b *bellRinger) ready(uint32) {
	var count [8]byte
	unix.Read(b.bell, count[:])
	b.mu.Lock()
	tasks := b.tasks
	b.tasks = nil
	b.mu.Unlock()
	for _, f := range tasks {
		f()
	}
}
