package build

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPoll is how often a lock that another process holds is tried again. flock
// cannot be waited for together with a context, and a build takes seconds.
const lockPoll = 50 * time.Millisecond

// lock is an advisory lock on a file, between processes as between goroutines.
// The kernel drops it when we die.
type lock struct{ f *os.File }

// tryLock takes the lock of path, exclusively or shared. It returns nil when
// somebody holds it in a way that excludes ours.
func tryLock(path string, exclusive bool) (*lock, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open the lock: %w", err)
		}
		if err := flock(f, how|syscall.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Whoever collects a build removes its lock file while holding it; a
		// lock on a removed file protects nothing.
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if named, err := os.Stat(path); err == nil && os.SameFile(ours, named) {
			return &lock{f}, nil
		}
		f.Close()
	}
}

// release gives the lock up. It unlocks by name, not only by closing, because a
// process that the build left behind may have inherited the descriptor.
func (l *lock) release() {
	_ = flock(l.f, syscall.LOCK_UN)
	l.f.Close()
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
