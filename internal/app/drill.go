package app

import (
	"slices"
	"time"
)

// Fault is what a drill does on purpose, as its command is called: what the
// platform may do at any time.
type Fault string

// The faults.
const (
	AffinityLoss    Fault = "affinity-loss"    // cookies and sessions of long polling stop counting
	InstanceCrash   Fault = "instance-crash"   // SIGKILL
	InstanceRestart Fault = "instance-restart" // the weekly one: a successor is ready first
	Sickness        Fault = "unhealthy"        // readiness fails for a while
	Hang            Fault = "hang"             // SIGSTOP
	ScaleOut        Fault = "scale-out"        // more instances are wanted for a while
	ScaleIn         Fault = "scale-in"         // fewer are
	Redeploy        Fault = "deploy"           // the same version again
	DeadlinePassed  Fault = "deadline"         // the sockets' hour passes in seconds
	SlowStarts      Fault = "slow-start"       // an instance crashes, and its successor takes its time
	EdgeRestart     Fault = "edge-restart"     // Holdfast itself starts again
)

// Faults lists them, in the order in which a service goes through all.
func Faults() []Fault {
	return []Fault{AffinityLoss, InstanceCrash, InstanceRestart, Sickness, Hang, ScaleOut, ScaleIn, Redeploy, DeadlinePassed, SlowStarts, EdgeRestart}
}

// Known says whether there is such a fault.
func (f Fault) Known() bool { return slices.Contains(Faults(), f) }

// OfClients says whether a fault meets a share of the clients; the others meet
// instances.
func (f Fault) OfClients() bool { return f == AffinityLoss || f == DeadlinePassed }

// Drill is what an operation of VerbDrill does as long as it is under way. There
// is nothing to undo that its end does not undo, however it comes to its end.
type Drill struct {
	Fault     Fault
	Share     float64       // of the ready instances, or of the clients, from 0 to 1; 0: one instance
	Long      time.Duration // as was asked for
	Until     time.Time     // its end, unless that comes before
	Instances []string      // whom it meets; none where it meets clients, or all of Holdfast
	More      int           // so many more instances than otherwise are wanted; fewer where negative
}

// Says tells people what a fault is, in one line.
func (f Fault) Says() string {
	switch f {
	case AffinityLoss:
		return "cookies and sessions of long polling stop counting, for all clients or a share"
	case InstanceCrash:
		return "instances are killed with SIGKILL"
	case InstanceRestart:
		return "instances are replaced as the weekly restart has it, a successor ready first"
	case Sickness:
		return "readiness fails for a while: no new requests, open sockets stay"
	case Hang:
		return "instances are stopped where they stand with SIGSTOP, and go on later"
	case ScaleOut:
		return "more instances are wanted for a while, then as many as before"
	case ScaleIn:
		return "fewer instances are wanted for a while, then as many as before"
	case Redeploy:
		return "the same version is deployed again: every instance is replaced, one at a time"
	case DeadlinePassed:
		return "the hour after which a socket ends passes in seconds"
	case SlowStarts:
		return "instances are killed, and their successors take long to be ready"
	case EdgeRestart:
		return "Holdfast itself starts again: every socket ends, instances stay"
	}
	return ""
}
