package app

import "time"

// Instance is one running copy of a version, as the planes speak of it.
type Instance struct {
	ID    string
	Key   Key
	Addr  string // host:port it listens on
	State State
	Cause Cause     // of the state; "" while nothing is remarkable
	Since time.Time // when State was entered
	Born  time.Time // when it was started
	Until time.Time // Draining only: by when the last of its sockets has been told goodbye
}

// State is where an instance stands in its life:
//
//	Starting ──► Ready ◄──► Unready
//	    │          │           │
//	    └──────────┴───────────┴──► Draining ──► Stopped
//
// Every state may fall to Stopped at once when the instance exits by itself.
type State uint8

const (
	Starting State = iota // exists; has not passed readiness yet; gets no traffic
	Ready                 // passes readiness; gets traffic
	Unready               // failed readiness; gets no new traffic, keeps its sockets
	Draining              // leaves: no new traffic, sockets are closed in pace until Until
	Stopped               // gone
)

var stateNames = [...]string{"starting", "ready", "unready", "draining", "stopped"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Cause is why something ended or changed. It is printed, never rephrased: the
// log line, the console, the metrics label and the reason in a Close frame all
// show the same word.
type Cause string

// Why instances come and go.
const (
	Deployed   Cause = "deployed"    // another version took over
	ScaledUp   Cause = "scaled-up"   // more were wanted
	ScaledDown Cause = "scaled-down" // fewer were wanted
	Aged       Cause = "aged"        // older than holdfast.max_age: the weekly restart
	Unhealthy  Cause = "unhealthy"   // liveness failed
	Crashed    Cause = "crashed"     // the app exited by itself
	SlowStart  Cause = "slow-start"  // not ready within app_start_timeout_sec
	Requested  Cause = "requested"   // an operator asked
)

// Why sockets end, besides the causes of their instance.
const (
	Closed       Cause = "closed"        // one end said goodbye, the other answered
	Lost         Cause = "lost"          // a connection broke without a goodbye
	Deadline     Cause = "deadline"      // holdfast.websocket_timeout passed
	Rebalanced   Cause = "rebalanced"    // its instance carried more than its share, and a fresh one less
	ShuttingDown Cause = "shutting-down" // Holdfast itself goes
)

// Why the version's frame policy ends a socket.
const (
	TooBig  Cause = "message-too-big"   // a client's message is over holdfast.max_message_bytes
	TooMany Cause = "too-many-messages" // a client began more than holdfast.max_messages_per_second
	Broken  Cause = "protocol-error"    // an end broke RFC 6455, and holdfast.strict_frames is set
)
