// Package driver is the contract with whatever runs instances. A driver starts,
// warns, stops and lists; it knows nothing of traffic, health or how many there should
// be, so it cannot misjudge them. The suite in drivertest says what each
// implementation must do; memory, in a map, is the smallest one.
package driver

import (
	"context"
	"time"

	"holdfast/internal/app"
)

// Driver runs instances. All methods may be called from several goroutines.
type Driver interface {
	// Start makes the instance id of version v exist; whether it is healthy is
	// for others to find out. It returns as soon as the instance is listed,
	// and a second call with the same id does nothing. v.Artifact must be set.
	Start(ctx context.Context, id string, v app.Version) error

	// Stop ends an instance: a polite signal, up to grace, then by force. It
	// returns when nothing of the instance is left and it is not listed any
	// more. Stopping what does not exist succeeds. When ctx ends the wait is
	// given up and the instance is ended by force.
	Stop(ctx context.Context, id string, grace time.Duration) error

	// Warn tells the app of an instance that it drains: the file that its
	// environment names as HOLDFAST_DRAIN_FILE appears, which did not exist
	// before, and then, if its version says DrainSignal, its main process gets
	// SIGUSR1. It does not wait for what the app makes of that. A second call
	// does nothing, also after our own restart, and so does one for an instance
	// that has exited or does not exist.
	Warn(ctx context.Context, id string) error

	// List is the truth, also right after our own restart: every instance that
	// was started and not yet stopped, whether it still runs or has exited.
	// The order is by id.
	List(ctx context.Context) ([]Running, error)

	// Run watches until ctx ends and puts a value into changed, without
	// blocking, whenever List may answer differently. Hints may be spurious,
	// never missing: changed has a capacity of one.
	Run(ctx context.Context, changed chan<- struct{}) error
}

// Breaker is a driver that can also do to an instance, on purpose, what may
// happen to one at any time. Drills need it; to bring an app down otherwise is
// Stop's. All methods do nothing for an instance that has exited or does not
// exist, and may be called from several goroutines.
type Breaker interface {
	// Kill ends the app by SIGKILL, as a crash would: the instance is listed as
	// Exited soon, until Stop. It does not wait for that.
	Kill(ctx context.Context, id string) error

	// Pause stops the app's processes where they stand, as if it hung. The
	// instance is listed as Paused until Resume, also after our own restart. A
	// second call does nothing, and Stop resumes the app first, so that it can
	// hear the polite signal.
	Pause(ctx context.Context, id string) error

	// Resume lets the app's processes go on. An instance that is not paused
	// does anyway.
	Resume(ctx context.Context, id string) error
}

// Running is one instance as its driver sees it.
type Running struct {
	ID     string
	Key    app.Key
	Addr   string // host:port given to the app
	Born   time.Time
	CPU    time.Duration // that its processes have used since it started, never less than before; 0: not known
	Paused bool          // see Breaker
	Exited bool          // the app ended by itself; Stop forgets it
	Exit   string        // how, for people: "exit status 1", "killed by SIGKILL", "out of memory (limit 614 MB)"
	Ended  time.Time     // when it exited
}
