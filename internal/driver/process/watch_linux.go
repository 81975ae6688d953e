package process

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// awaitEnd blocks until ended says so, or until ctx ends and its error is
// returned. pid is whom to watch; ended is the judge. A parked goroutine costs
// no thread: a pidfd is readable once its process has ended.
func awaitEnd(ctx context.Context, pid int, ended func() bool) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return pollEnd(ctx, ended)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	// Asked after opening: if it has not ended now, the number is still its own.
	if ended() {
		return nil
	}
	if f.SetReadDeadline(time.Time{}) != nil { // a kernel that cannot wait for it
		return pollEnd(ctx, ended)
	}
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return pollEnd(ctx, ended)
	}
	conn.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if err := ctx.Err(); err != nil && !ended() {
		return err
	}
	return pollEnd(ctx, ended) // true at the first look
}

// signalIf sends sig to pid if still says that it is who we mean, asked when
// the number cannot pass on to another process any more.
func signalIf(pid int, sig syscall.Signal, still func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		if still() {
			return unix.Kill(pid, sig)
		}
		return nil
	}
	defer unix.Close(fd)
	if !still() {
		return nil
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err == unix.ESRCH {
		return nil
	}
	return err
}
