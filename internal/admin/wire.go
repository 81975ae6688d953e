package admin

import "time"

// The JSON of the API. Names are snake_case, times RFC 3339 in UTC, durations
// seconds as numbers. What is empty may be left out.

// Status is what a server says of itself.
type Status struct {
	Version       string     `json:"version"`
	PID           int        `json:"pid"`
	Started       time.Time  `json:"started"`
	UptimeSeconds float64    `json:"uptime_seconds"`
	Data          string     `json:"data"` // its data directory
	Listeners     []Listener `json:"listeners"`
	Domains       []string   `json:"domains"` // base domains of the apps' host names
	Region        string     `json:"region"`
	Project       string     `json:"project,omitempty"` // application that is meant when none is named; "": the only one there is
	Limits        string     `json:"limits"`            // what holds instances to their resources, in words
	SocketsMax    int        `json:"sockets_max"`       // as many sockets are carried at once; 0: not known

	Apps       int `json:"apps"`
	Services   int `json:"services"`
	Versions   int `json:"versions"`
	Instances  int `json:"instances"`
	Sockets    int `json:"sockets"`
	Operations int `json:"operations_under_way"`
}

// Listener is an address that a server listens on.
type Listener struct {
	Name string `json:"name"` // what arrives there: http, https, admin
	Addr string `json:"addr"` // host:port
}

// Filter says which ones of a list are meant: those that have all of what is
// not empty.
type Filter struct {
	App, Service, Version string
	Instance              string // where it is about instances or operations
	Pending               bool   // of operations: only those under way
}

// Split shares a service's traffic among its versions.
type Split struct {
	By     string             `json:"by,omitempty"` // ip, cookie or random; "" leaves it as it is
	Shares map[string]float64 `json:"shares"`       // by version id; they are weighed against each other
}

// Service is a service and its versions.
type Service struct {
	App      string    `json:"app"`
	Service  string    `json:"service"`
	Split    Split     `json:"split"`
	Past     []Split   `json:"past,omitempty"` // the splits before this one, the latest first; only of a single service
	Versions []string  `json:"versions"`
	Created  time.Time `json:"created,omitzero"`
	Hosts    []string  `json:"hosts,omitempty"` // host names that lead to it
}

// Version is a deployed version.
type Version struct {
	App     string    `json:"app"`
	Service string    `json:"service"`
	Version string    `json:"version"`
	Serving bool      `json:"serving"` // it should run
	Share   float64   `json:"share"`   // of its service's traffic, 0 to 1
	Ready   int       `json:"ready"`   // instances that take traffic
	Running int       `json:"running"` // instances that are not stopped
	Sockets int       `json:"sockets"`
	Built   bool      `json:"built"`
	Runtime string    `json:"runtime"`
	Source  string    `json:"source,omitempty"` // its source tree
	Build   string    `json:"build,omitempty"`  // its artifact
	Created time.Time `json:"created,omitzero"`

	Scaling   Scaling   `json:"scaling"`
	Resources Resources `json:"resources"`

	DrainSeconds  float64           `json:"drain_seconds"`   // longest time connections are given to move away
	MaxAgeSeconds float64           `json:"max_age_seconds"` // instances are replaced at that age; 0: never
	Affinity      bool              `json:"session_affinity"`
	Entrypoint    string            `json:"entrypoint,omitempty"`
	Env           map[string]string `json:"env,omitempty"` // only of a single version: it may hold secrets
	Hosts         []string          `json:"hosts,omitempty"`
}

// Scaling is how many instances a version has.
type Scaling struct {
	Manual          bool    `json:"manual"`
	Min             int     `json:"min"` // manual: min and max are the number
	Max             int     `json:"max"`
	CoolDownSeconds float64 `json:"cool_down_seconds,omitempty"`
	CPU             float64 `json:"cpu_utilization,omitempty"` // target, 0 to 1
	Connections     int     `json:"target_concurrent_requests,omitempty"`
}

// ScalingChange changes what is not nil.
type ScalingChange struct {
	Instances       *int     `json:"instances,omitempty"` // manual scaling; alone
	Min             *int     `json:"min,omitempty"`       // any of the others: automatic scaling
	Max             *int     `json:"max,omitempty"`
	CoolDownSeconds *float64 `json:"cool_down_seconds,omitempty"`
	CPU             *float64 `json:"cpu_utilization,omitempty"`
	Connections     *int     `json:"target_concurrent_requests,omitempty"` // 0: not used
}

// Resources are the bounds of one instance.
type Resources struct {
	CPU      float64 `json:"cpu"`
	MemoryGB float64 `json:"memory_gb"`
	DiskGB   int     `json:"disk_gb"`
}

// Instance is a running copy of a version.
type Instance struct {
	ID       string    `json:"id"`
	App      string    `json:"app"`
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Addr     string    `json:"addr,omitempty"`
	State    string    `json:"state"`           // starting, ready, unready, draining, stopped
	Cause    string    `json:"cause,omitempty"` // of the state
	Since    time.Time `json:"since,omitzero"`  // when the state was entered
	Born     time.Time `json:"born,omitzero"`
	Until    time.Time `json:"until,omitzero"` // draining: by when its last socket has been told goodbye
	Sockets  int       `json:"sockets"`
	Requests int       `json:"requests"` // under way
	CPU      float64   `json:"cpu"`      // cores in use
	Detail   string    `json:"detail,omitempty"`
}

// Operation is a wish on its way.
type Operation struct {
	ID       string    `json:"id"`
	Verb     string    `json:"verb"`
	App      string    `json:"app"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Instance string    `json:"instance,omitempty"`
	By       string    `json:"by,omitempty"` // who asked
	Stage    string    `json:"stage"`        // building, starting, drilling, done
	Asked    time.Time `json:"asked"`
	Deadline time.Time `json:"deadline,omitzero"` // starting: ready by then or given up
	Ended    time.Time `json:"ended,omitzero"`
	Split    *Split    `json:"split,omitempty"` // what holds once it is done
	Failure  *Failure  `json:"failure,omitempty"`
	Drill    *Drill    `json:"drill,omitempty"` // what it breaks while it is under way
}

// Done says whether the operation has ended, well or badly.
func (o Operation) Done() bool { return o.Stage == "done" }

// Failure is why an operation did not succeed. Traffic has not moved.
type Failure struct {
	Cause    string   `json:"cause"`
	Instance string   `json:"instance,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Next     string   `json:"next,omitempty"` // what a person can do about it
	Tail     []string `json:"tail,omitempty"` // the last lines that the app or the build wrote
}

// File is one file or link of a source tree.
type File struct {
	Path string `json:"path"`           // relative, slash-separated
	Hash string `json:"hash,omitempty"` // SHA-256 of the contents, in hex; "" for a link
	Size int64  `json:"size,omitempty"`
	Exec bool   `json:"exec,omitempty"`
	Link string `json:"link,omitempty"` // where a link leads
}

// treeRequest asks to keep a tree.
type treeRequest struct {
	Files []File `json:"files"`
}

// treeAnswer names the tree once nothing is missing.
type treeAnswer struct {
	ID      string   `json:"id,omitempty"`
	Missing []string `json:"missing,omitempty"` // hashes to upload first
}

// DeployRequest asks for a version.
type DeployRequest struct {
	YAML       string            `json:"yaml"`                  // the text of app.yaml
	Tree       string            `json:"tree"`                  // its source tree
	Service    string            `json:"service,omitempty"`     // instead of app.yaml's
	Version    string            `json:"version,omitempty"`     // "": named by what is in it
	Promote    bool              `json:"promote"`               // move all traffic to it once it is ready
	KeepOthers bool              `json:"keep_others,omitempty"` // with promote: versions without a share go on
	Env        map[string]string `json:"env,omitempty"`         // over app.yaml's
	Instances  int               `json:"instances,omitempty"`   // so many, whatever app.yaml says; 0: as it says
}

// DeployAnswer is a deployment that was accepted.
type DeployAnswer struct {
	Operation Operation `json:"operation"`
	Warnings  []string  `json:"warnings,omitempty"` // about app.yaml
}

// DispatchRule leads what matches to a service.
type DispatchRule struct {
	Host    string `json:"host,omitempty"` // exact, or beginning with *; "" is any
	Path    string `json:"path"`           // exact, or ending in *
	Service string `json:"service"`
}

type dispatchRules struct {
	Rules []DispatchRule `json:"rules"`
}

// LogQuery says which lines of logs are meant.
type LogQuery struct {
	App, Service, Version, Instance string // "": any

	Level    string    // at least: debug, info, warning, error, critical; "": any
	Since    time.Time // zero: from the beginning
	Limit    int       // the last so many lines; 0: 100
	Follow   bool      // and then what is written, of new instances too
	Requests bool      // the requests too
}

// LogLine is one line of a log.
type LogLine struct {
	Time     time.Time `json:"time,omitzero"` // zero: it was not written by us
	App      string    `json:"app,omitempty"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Stream   string    `json:"stream"` // out, err, sys (our own remark) or request
	Level    string    `json:"level"`
	Text     string    `json:"text"`
}

// SocketFilter says which sockets are meant: those that have all of what is
// not empty.
type SocketFilter struct {
	ID       string `json:"id,omitempty"`
	App      string `json:"app,omitempty"`
	Service  string `json:"service,omitempty"`
	Version  string `json:"version,omitempty"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client,omitempty"` // address
}

// SocketTable is a part of the table of open sockets, the oldest first.
type SocketTable struct {
	Total   int      `json:"total"` // that match
	Sockets []Socket `json:"sockets"`
}

// Socket is an open socket.
type Socket struct {
	ID               string    `json:"id"`
	App              string    `json:"app"`
	Service          string    `json:"service"`
	Version          string    `json:"version"`
	Instance         string    `json:"instance"`
	Client           string    `json:"client"`
	Affinity         string    `json:"affinity,omitempty"` // by what the client belongs to the instance: cookie or sid
	Opened           time.Time `json:"opened"`
	Deadline         time.Time `json:"deadline,omitzero"` // when it is closed for its age
	IdleSeconds      float64   `json:"idle_seconds"`
	RoundTripSeconds float64   `json:"round_trip_seconds,omitempty"` // of the last ping that was answered
	FromClient       Traffic   `json:"from_client"`
	FromInstance     Traffic   `json:"from_instance"`
	Leaving          string    `json:"leaving,omitempty"` // why it is ending
}

// Traffic is what came from one end of a socket: payload bytes, and messages by
// kind.
type Traffic struct {
	Bytes  int64 `json:"bytes"`
	Text   int64 `json:"text"`
	Binary int64 `json:"binary"`
}

// closeRequest says goodbye to sockets.
type closeRequest struct {
	Filter SocketFilter `json:"filter"`
	All    bool         `json:"all,omitempty"`  // needed where the filter is empty
	Code   int          `json:"code,omitempty"` // 0: what goes with the cause, requested
	Reason string       `json:"reason,omitempty"`
}

type closeAnswer struct {
	Closed int `json:"closed"`
}
