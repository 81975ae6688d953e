package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// heedSignals turns the first signal into a polite stop and the second into a
// quick one. An output that nobody reads any more counts too: who pipes ours
// into head still wants the app stopped, not orphaned. said is called before
// stop, if a signal is what ends ctx.
func heedSignals(ctx, hurry context.Context, said, stop, cut func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(signals)
	awaitSignal(ctx, signals)
	// Said before stopping, so that it stands before what stopping prints.
	if ctx.Err() == nil {
		said()
	}
	stop()
	awaitSignal(hurry, signals)
	cut()
}

// awaitSignal returns when a signal has come that means us to stop, or ctx has
// ended. SIGPIPE comes with every write to a connection that its client has
// reset, too; it means us only if it is our own output that broke.
func awaitSignal(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGPIPE || outputBroken() {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// outputBroken says whether standard output or error is a pipe that nobody
// reads any more.
func outputBroken() bool {
	fds := []unix.PollFd{{Fd: 1}, {Fd: 2}} // errors are told without being asked for
	unix.Poll(fds, 0)
	return (fds[0].Revents|fds[1].Revents)&unix.POLLERR != 0
}
