// Package drill breaks things on purpose and tells how an app and its clients took
// it. Probes, which are clients of ours, live through the fault together with the
// real ones; what they met becomes a Result, and results a Report with a verdict.
//
// What is broken, and how it is undone, is the server's business: Stage asks for
// it. Nothing here knows how a server is reached or what an instance is beyond its
// name. Start with Run; client.go is the life of a probe, report.go what is told.
package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"holdfast/internal/app"
)

// Stage is the service that is drilled, on the server that it is on.
type Stage interface {
	// Begin has something broken for so long, and does not wait.
	Begin(ctx context.Context, f app.Fault, share float64, long time.Duration) (Operation, error)
	// Operation is how it stands.
	Operation(ctx context.Context, id string) (Operation, error)
	// End undoes it at once. To end what has ended succeeds.
	End(ctx context.Context, id string) error
	// Instances is what there is of the service.
	Instances(ctx context.Context) ([]Instance, error)
	// Requests calls fn for each record of the service's requests and sockets that
	// is written from now on, as the access log has them, until ctx ends or it
	// cannot go on. It must not be called again before it has returned.
	Requests(ctx context.Context, fn func(record []byte)) error
}

// Operation is a drill as its server knows it.
type Operation struct {
	ID        string
	Instances []string // whom it meets; none where it meets clients
	Done      bool
	Failure   string // why it did not go on to its end; "" if it did
}

// Instance is one copy of the service, at one moment.
type Instance struct {
	ID, Version   string
	State, Cause  string
	Detail        string
	Sockets, Open int // sockets, and requests, that are open
}

// Target is where clients find the service.
type Target struct {
	URL  string // http://HOST:PORT, with the host name of the service
	Dial string // host:port to connect to; "" is the URL's
}

// Spec is one drill. The zero values of numbers are the defaults.
type Spec struct {
	Fault   app.Fault
	Share   float64       // see app.Drill
	Clients int           // that live through it: ClientsDefault
	Probes  []Probe       // what they do, in turn; at least one
	For     time.Duration // from the first look to the last: ForDefault. See phases
	Target  Target
	Expect  Expect

	// Say is told what goes on, for people; nil: nobody listens.
	Say func(text string)
}

// The defaults and the bounds of a drill.
const (
	ClientsDefault = 20
	ClientsMost    = 5000 // each is a connection, here and there

	ForDefault = time.Minute
	ForLeast   = 2 * time.Second
	ForMost    = 20 * time.Minute
)

const (
	// connectTime is how long all clients together may take to connect before
	// anything is broken: a client that cannot now would only blur the picture.
	// connectTries is how often one is refused until it is not expected any more.
	connectTime  = 15 * time.Second
	connectTries = 5

	// connectSpread is the time over which they come, but for short drills.
	connectSpread = time.Second

	// lastLines is how long records of the last requests are waited for.
	lastLines = 500 * time.Millisecond

	// undoTime bounds asking the server to undo a drill that is interrupted.
	undoTime = 10 * time.Second

	// stepsMost is how many looks there are, at most, and stepLeast the shortest
	// time between two.
	stepsMost = 240
	stepLeast = 50 * time.Millisecond
)

// phases divides a drill's time: a fifth to see how it is without the fault, two
// for the fault, the rest to see how it recovers.
func phases(whole time.Duration) (before, fault time.Duration) { return whole / 5, whole * 2 / 5 }

// check fills in defaults and says what cannot be.
func (s *Spec) check() error {
	s.Clients = cmp.Or(s.Clients, ClientsDefault)
	s.For = cmp.Or(s.For, ForDefault)
	switch {
	case len(s.Probes) == 0:
		return fmt.Errorf("no probe: somebody has to live through it: %w", app.ErrInvalid)
	case s.Clients < 1 || s.Clients > ClientsMost:
		return fmt.Errorf("%d clients; want 1 to %d: %w", s.Clients, ClientsMost, app.ErrInvalid)
	case s.For < ForLeast || s.For > ForMost:
		return fmt.Errorf("a drill of %v; want %v to %v: %w", s.For, ForLeast, ForMost, app.ErrInvalid)
	}
	return nil
}

// Run does one drill and tells what it was like. Nothing is broken unless all
// clients could connect before. When ctx ends, or anything else goes wrong, what
// is broken is undone at once, and the error says so.
func Run(ctx context.Context, stage Stage, s Spec) (Result, error) {
	if err := s.check(); err != nil {
		return Result{}, err
	}
	say := s.Say
	if say == nil {
		say = func(string) {}
	}
	// Everything below ends with life, and is waited for.
	life, enough := context.WithCancel(ctx)
	defer enough()

	r := newRecorder(s, mark())
	crowd := newCrowd(s, r)
	say(fmt.Sprintf("%d clients connect", s.Clients))
	crowd.begin(life)
	defer crowd.wait()
	defer enough()
	if err := crowd.connected(life); err != nil {
		return Result{}, err
	}

	whole := s.For
	before, long := phases(whole)
	watch := newWatch(stage, r, max(stepLeast, whole/stepsMost))
	r.start()
	watch.begin(life)
	defer watch.wait()
	defer enough()

	if err := rest(ctx, before); err != nil {
		return Result{}, interrupted(err)
	}
	say(fmt.Sprintf("%s for %v", s.Fault, long))
	op, err := stage.Begin(ctx, s.Fault, s.Share, long)
	if err != nil {
		return Result{}, err
	}
	r.broke(op)
	done := false
	defer func() {
		if !done {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			_ = stage.End(bounded, op.ID) // the server does so by itself when its time is over
		}
	}()
	if err := rest(ctx, long); err != nil {
		return Result{}, interrupted(err)
	}
	ended, err := over(ctx, stage, op.ID)
	if err != nil {
		return Result{}, err
	}
	done = true
	r.mended()
	say("recovery")
	if err := rest(ctx, whole-r.since()); err != nil {
		return Result{}, interrupted(err)
	}
	// Who went away late has its time too.
	for s.Expect.Recover != nil && r.hopes(*s.Expect.Recover) {
		if err := rest(ctx, stepLeast); err != nil {
			return Result{}, interrupted(err)
		}
	}
	watch.last(ctx)
	r.stop()
	_ = rest(ctx, lastLines) // what is late is missed
	enough()
	crowd.wait()
	watch.wait()
	return r.result(ended), nil
}

func interrupted(err error) error {
	return fmt.Errorf("interrupted; what the drill did is undone: %w", err)
}

// overTime is how long a server may take to end a drill whose time is over: it may
// be starting again.
const overTime = 30 * time.Second

// overEvery is how often it is asked.
const overEvery = 100 * time.Millisecond

// over waits until the server has ended the drill.
func over(ctx context.Context, stage Stage, id string) (Operation, error) {
	bound, cancel := context.WithTimeout(ctx, overTime)
	defer cancel()
	for {
		op, err := stage.Operation(bound, id)
		if err == nil && op.Done {
			return op, nil
		}
		if waited := rest(bound, overEvery); waited != nil {
			if ctx.Err() != nil {
				return op, interrupted(ctx.Err())
			}
			return op, errors.Join(fmt.Errorf("the server has not ended the drill %v after its time", overTime), err)
		}
	}
}

// rest waits so long, or until ctx ends, whose error it returns.
func rest(ctx context.Context, long time.Duration) error {
	if long <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ours begins the trace of every request that a drill makes itself.
const ours = "d9111fa57d9111fa"

// Ours says whether a request, by its trace, was made by a drill.
func Ours(trace string) bool { return strings.HasPrefix(trace, ours) }

// mark begins the traces of one drill's requests. The rest of a trace is theirs.
func mark() string { return fmt.Sprintf("%s%08x", ours, rand.Uint32()) }

// dialer connects to the target, whatever address is asked for.
func (t Target) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return d.DialContext(ctx, network, cmp.Or(t.Dial, addr))
	}
}
