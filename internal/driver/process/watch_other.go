//go:build !linux

package process

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitEnd blocks until ended says so, or until ctx ends and its error is
// returned.
func awaitEnd(ctx context.Context, pid int, ended func() bool) error {
	return pollEnd(ctx, ended)
}

// signalIf sends sig to pid if still says that it is who we mean.
func signalIf(pid int, sig syscall.Signal, still func() bool) error {
	if !still() {
		return nil
	}
	err := unix.Kill(pid, sig)
	if err == unix.ESRCH {
		return nil
	}
	return err
}
