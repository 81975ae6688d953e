package app

import "time"

// Operation is a wish on its way: what somebody asked for, how far it has come,
// and how it ended. It is kept, so that our own restart neither forgets nor
// repeats it, and ended ones stay a while for people to read.
//
//	building ──► starting ──► done
//	drilling ───────────────────┘
//
// Every operation begins where its work begins and may fall to done at once.
type Operation struct {
	ID       string // sorts by time: what was asked later has the greater one
	Verb     Verb
	Target   Key    // Version is "" when it is about a service, Service too when about the application
	Instance string // when it is about one
	By       string // who asked, for people

	Stage    Stage
	Asked    time.Time
	Deadline time.Time // starting: ready by then or given up; zero: not running yet, or no such bound
	Ended    time.Time // when it was done

	// What is done in one instant once every version of Split is ready.
	Split *Split   // nil: traffic stays
	Stop  []string // version ids of Target's service that stop serving then, unless they have a share
	Begun []string // version ids that this operation made serve; they stop again when it fails

	// Replaced is what served under Target before, with other contents; it does
	// again when the operation fails. nil: nothing did.
	Replaced *Version

	Failure *Failure // why it failed; nil while it has not

	Drill *Drill `json:",omitempty"` // what it breaks on purpose while it is under way; nil: nothing
}

// Verb is what an operation does, as its command is called.
type Verb string

// The verbs.
const (
	VerbDeploy   Verb = "deploy"
	VerbTraffic  Verb = "traffic"
	VerbRollback Verb = "rollback"
	VerbStart    Verb = "start"
	VerbStop     Verb = "stop"
	VerbDelete   Verb = "delete"
	VerbRestart  Verb = "restart"
	VerbRestore  Verb = "restore"
	VerbDispatch Verb = "dispatch"
	VerbScale    Verb = "scale"
	VerbCreate   Verb = "create" // an application
	VerbChange   Verb = "change" // what an application's services have in common
	VerbDrill    Verb = "drill"
)

// Stage is how far an operation has come.
type Stage string

// The stages.
const (
	StageBuilding Stage = "building" // an artifact is being made
	StageStarting Stage = "starting" // instances are getting ready
	StageDrilling Stage = "drilling" // what a drill breaks is broken
	StageDone     Stage = "done"     // it has ended, well if Failure is nil
)

// Failure is why an operation did not succeed. Traffic has not moved.
type Failure struct {
	Cause    Cause
	Instance string   // the one whose failure decided it; "" if there was none
	Detail   string   // how it exited, what its check met, what the build said
	Next     string   // what a person can do about it; may be ""
	Tail     []string // the last lines that the app or the build wrote
}

// Causes of operations that failed, besides those of instances.
const (
	BuildFailed Cause = "build-failed" // the sources do not build
	Cancelled   Cause = "cancelled"    // who asked for it took it back
	Superseded  Cause = "superseded"   // what it was about went away meanwhile
	Interrupted Cause = "interrupted"  // Holdfast itself ended in the middle of a drill
)
