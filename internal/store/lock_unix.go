//go:build unix && !solaris && !aix

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/app"
)

// lock is a file that is locked while its Store is open, and says whose it is. The
// kernel unlocks it when the process ends, however that happens.
type lock struct{ f *os.File }

const (
	// A process killed while it starts another leaves the lock to that one until it
	// runs its program. So the wait is longer for a holder that has ended, or has not
	// yet said who it is, and not quite nothing for one that may be ending.
	lockWaitEnded  = 2 * time.Second
	lockWaitLiving = 100 * time.Millisecond
	lockRetry      = 10 * time.Millisecond
)

// takeLock locks the file at path. While another has it, that is app.ErrBusy, and
// names the process; it is soon told.
func takeLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, permFile)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		holder, wait := readPID(f), lockWaitEnded
		if lives(holder) {
			wait = lockWaitLiving
		}
		if time.Since(began) >= wait {
			_ = f.Close()
			who := "another process" // that had no room to say which
			if holder != 0 {
				who = fmt.Sprint("process ", holder)
			}
			return nil, fmt.Errorf("%s has it open: stop that one first, or use another data directory: %w", who, app.ErrBusy)
		}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		// A full disk: the lock holds, it only cannot say whose it is.
		_ = f.Truncate(0)
	}
	return &lock{f}, nil
}

// release unlocks, also for a process that is just being started and has the
// descriptor too. The file stays: to remove it would let two others lock two files
// of one name.
func (l *lock) release() error {
	return errors.Join(syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN), l.f.Close())
}

// readPID is 0 when the file does not name a process.
func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

func lives(pid int) bool {
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
