// Package app is the vocabulary: what a service, a version, an instance and a
// cause are. It holds values only, imports nothing of ours, and so everybody
// may import it. Start with Version and Instance.
package app

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// The kinds of error that callers act on. Doors map them to exit codes and
// HTTP statuses; everything else is an internal error.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrInvalid  = errors.New("invalid")
	ErrBusy     = errors.New("busy")
)

// DefaultService is the service that is meant when none is named.
const DefaultService = "default"

// Key names one version of one service of one application.
type Key struct {
	App     string `json:"app"`     // the project id, as in GOOGLE_CLOUD_PROJECT
	Service string `json:"service"` // DefaultService when the file names none
	Version string `json:"version"`
}

// String is the key as it is printed everywhere: app/service/version.
func (k Key) String() string { return fmt.Sprintf("%s/%s/%s", k.App, k.Service, k.Version) }

// ServiceKey is the service that k's version belongs to.
func (k Key) ServiceKey() ServiceKey { return ServiceKey{k.App, k.Service} }

// ServiceKey names one service of one application.
type ServiceKey struct {
	App     string `json:"app"`
	Service string `json:"service"`
}

// String is the key as it is printed everywhere: app/service.
func (k ServiceKey) String() string { return k.App + "/" + k.Service }

// Version is the key of one of the service's versions.
func (k ServiceKey) Version(id string) Key { return Key{k.App, k.Service, id} }

// Version is one deployed state of a service: what to build, how to run it and
// how many of it. It does not change once deployed, but for Serving, Artifact
// (set by the build) and Scaling.
type Version struct {
	Key

	Recipe    Recipe            // what the build needs to know
	Source    string            // id of its source tree, to build it from; "" when only the artifact is known
	Artifact  Artifact          // what the build made; zero until then
	Env       map[string]string // env_variables, for the app at run time
	Resources Resources
	Network   Network
	Scaling   Scaling
	Ready     Check // gates traffic
	Live      Check // failing it replaces the instance

	Affinity bool          // pin a client to the instance that first served it
	Sticky   Sticky        // by what, where Affinity is on
	Sockets  Sockets       // what its WebSockets may do
	MaxBody  int64         `json:",omitempty"` // bytes of a request's body; 0 means what the server says
	Drain    time.Duration // longest time connections are given to move away
	MaxAge   time.Duration // maintenance: replace instances older than this; 0 means never

	DrainSignal bool // tell the app with SIGUSR1 that an instance drains, besides HOLDFAST_DRAIN_FILE
	Rebalance   bool // move sockets to fresh instances, gently, while the spread is uneven

	// Left out of the stored form when they say nothing, so that versions named
	// by their contents keep their names.
	Bus    bool   `json:",omitempty"` // instances get REDIS_URL, the address of a bus for messages between them
	BusEnv string `json:",omitempty"` // and under this name too; "": under none

	Beta           map[string]string // beta_settings that are not ours, kept as they are
	ServiceAccount string
	Endpoints      Endpoints

	Serving   bool
	CreatedAt time.Time

	// Edition tells contents apart that were deployed under one name, one after
	// the other; "" while there was only one. Instances' ids end with it.
	Edition string
}

// Recipe is what app.yaml says about building and starting the app.
type Recipe struct {
	Runtime       string            // python, nodejs, go, php, ruby, java, dotnet or custom
	RuntimeConfig map[string]string // operating_system, runtime_version, document_root, ...
	Entrypoint    string            // a shell command; "" means the Procfile's, then the runtime's default
	Env           map[string]string // build_env_variables
	SkipFiles     []string          // regular expressions over slash-separated relative paths; nil means flex's default
}

// Artifact is what a build made: a directory ready to be copied for each
// instance, and the command that starts the app in it.
type Artifact struct {
	ID      string            `json:"id"`      // hash of sources and recipe, in hex
	Dir     string            `json:"dir"`     // absolute; becomes the instance's working directory by copy; never written to after the build
	Command string            `json:"command"` // run as bash -c "exec COMMAND" in the copy
	Env     map[string]string `json:"env"`     // what the runtime adds, such as PATH or NODE_ENV; the version's Env wins
}

// Resources are the bounds of one instance.
type Resources struct {
	CPU      float64 // cores
	MemoryGB float64 // GiB, as App Engine counts them
	DiskGB   int
	Volumes  []Volume
}

// MemoryMB is what GAE_MEMORY_MB tells the app: MiB, rounded down.
func (r Resources) MemoryMB() int { return int(r.MemoryGB * 1024) }

// Volume is a tmpfs at /mnt/NAME, its size taken from the app's memory.
type Volume struct {
	Name   string
	SizeGB float64
}

// Network is the network section but for session affinity, which is
// Version.Affinity. On one machine it describes more than it does.
type Network struct {
	ForwardedPorts []ForwardedPort
	InstanceTag    string
	Name           string
	Subnetwork     string
	InternalIP     bool // instance_ip_mode: internal
}

// ForwardedPort leads a port of the machine to a port of the instance.
type ForwardedPort struct {
	Host, Instance int
	Protocol       string // "tcp", "udp", or "" for both
}

// Endpoints is endpoints_api_service.
type Endpoints struct {
	Name, ConfigID, Rollout string // Rollout is fixed or managed
	TraceSampling           *bool  // nil: not said
}

// Scaling says how many instances a version has. Min == Max is manual scaling.
type Scaling struct {
	Manual      bool // the file said manual_scaling
	Min, Max    int
	CoolDown    time.Duration // after its start, before an instance's load counts
	CPU         float64       // target utilisation of a core-share, 0 to 1
	CPUWindow   time.Duration // over which it is averaged; 0 means the scaler's own choice
	Connections int           // target_concurrent_requests: open connections per instance; 0 means not used

	Targets map[string]float64 // the other documented and undocumented targets, by their app.yaml name
	Metrics []Metric
}

// Metric is one entry of custom_metrics.
type Metric struct {
	Name, Type, Filter string
	Utilization        float64 // target_utilization; 0: not given
	PerInstance        float64 // single_instance_assignment; 0: not given
}

// Sockets is what a version asks of its WebSockets. The zero value asks for
// nothing.
type Sockets struct {
	MaxAge               time.Duration // one ends this long after it was opened; 0 means never
	PingInterval         time.Duration // we ping the client this often; 0 means never
	MaxMessageBytes      int64         // of a client's message, as it was sent; 0 means any
	MaxMessagesPerSecond int           // of one client's socket; 0 means any
	MaxPerClient         int           // open at once by one client address; 0 means any
	AllowedOrigins       []string      // see router.origins; nil means any
	Strict               bool          // a frame that breaks RFC 6455 ends the socket
}

// Sticky says by what clients are known again, for session affinity. The zero
// value is both ways.
type Sticky string

// The ways to know a client again.
const (
	StickyBoth   Sticky = ""       // a cookie of ours, and the sessions of long polling
	StickyCookie Sticky = "cookie" // the cookie alone
	StickySid    Sticky = "sid"    // the sessions alone: no cookie is set or read
)

// Check is one of the two split health checks.
type Check struct {
	Path         string // "": an accepted TCP connection passes
	Host         string // the Host header; "" is the instance's own address
	Timeout      time.Duration
	Interval     time.Duration
	Failures     int           // so many in a row fail the check
	Successes    int           // so many in a row pass it
	InitialDelay time.Duration // liveness: answers count only this long after the start
	Within       time.Duration // readiness: app_start_timeout_sec, the start's own bound
}

// SplitBy says what decides which version a client gets.
type SplitBy string

// The three ways to split.
const (
	ByIP     SplitBy = "ip"
	ByCookie SplitBy = "cookie"
	ByRandom SplitBy = "random"
)

// Split shares a service's traffic among versions. Shares sum to 1.
type Split struct {
	By     SplitBy
	Shares map[string]float64 // by version id
}

// Versions lists the versions that get traffic, sorted.
func (s Split) Versions() []string { return slices.Sorted(maps.Keys(s.Shares)) }

// Service splits its traffic over versions.
type Service struct {
	App, Name string
	Split     Split
	Past      []Split // the splits before this one, the latest first, at most SplitsKept: what a rollback returns to
	CreatedAt time.Time
}

// SplitsKept bounds Service.Past.
const SplitsKept = 10

// Key names the service.
func (s Service) Key() ServiceKey { return ServiceKey{s.App, s.Name} }

// Application is a project: what its services have in common.
type Application struct {
	ID       string
	Dispatch []DispatchRule // the first match wins; none: host names alone decide
	Location string         // where it was said to be when it was created; "": where the server is

	ServiceAccount string // kept as it is

	Firewall  []FirewallRule // by priority, each once; the first that matches decides, and none allows
	Domains   []string       // host names besides its own, sorted: exact, or *.DOMAIN for all one name below
	CreatedAt time.Time

	Certificates []Certificate     `json:",omitempty"` // that were uploaded for its names, by id
	Secured      map[string]string `json:",omitempty"` // the id of the certificate that a mapped name was given; any other name gets the best there is for it
	Debugged     []string          `json:",omitempty"` // ids of instances that somebody looks into: they stay as they are
}

// Certificate is one that was uploaded, with its key.
type Certificate struct {
	ID    string    // a number, as Google's are
	Name  string    // for people
	Chain string    // PEM: the certificate, then those it stands on
	Key   Secret    // PEM
	Names []string  // what it is for, in lower case, as it says itself
	Until time.Time // when it expires
}

// Secret is text that is kept and never printed: every form of it but the
// stored one says only that there is one.
type Secret string

func (s Secret) String() string   { return "(secret)" }
func (s Secret) GoString() string { return `"(secret)"` }

// FirewallRule lets clients in or keeps them out.
type FirewallRule struct {
	Priority    int // 1 to FirewallDefault; the lowest number is asked first
	Deny        bool
	Range       netip.Prefix // the clients' addresses; the zero value is all
	Description string
}

// FirewallDefault is the priority of the rule for whoever no other is about. An
// application without such a rule lets everybody in.
const FirewallDefault = 1<<31 - 1

// DispatchRule leads what matches to a service, as dispatch.yaml has it.
type DispatchRule struct {
	Host    string // exact, or beginning with *; "*" is any
	Path    string // exact, or ending in *
	Service string
}
