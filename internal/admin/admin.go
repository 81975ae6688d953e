// Package admin is the door for operators: the HTTP API under Prefix, and the
// Go client that the commands use. It turns requests into the verbs of control
// and what the other rooms know into JSON; it decides nothing. The JSON types
// are the room's own and live in wire.go; they never leave it into other rooms,
// but for commands that print them. Start at Engine, then New and Client.
package admin

import (
	"context"
	"io"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/tunnel"
)

// Prefix is where the door lies on its listener. Google's own paths, /v1/ and
// /v1beta/, are left to the door that speaks to gcloud.
const Prefix = "/holdfast/v1/"

// Engine is what the door opens on.
type Engine struct {
	Control Control // *control.Controller: changes what is asked for, knows what runs
	Store   Store   // *store.Store: what is asked for
	Sources Sources // *source.Store: source trees
	Sockets Sockets // *tunnel.Set: open sockets
	House   House   // the server itself
}

// Control is *control.Controller: it accepts or refuses what operators ask for. None of its methods wait
// for the work; errors that wrap app.ErrNotFound, ErrExists, ErrInvalid and
// ErrBusy are told to the caller as they are, all others only as internal.
type Control interface {
	Deploy(d control.Deployment) (app.Operation, error)
	SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error)
	Rollback(k app.ServiceKey, by string) (app.Operation, error)
	StartVersion(k app.Key, by string) (app.Operation, error)
	StopVersion(k app.Key, by string) (app.Operation, error)
	DeleteVersion(k app.Key, by string) (app.Operation, error)
	DeleteService(k app.ServiceKey, by string) (app.Operation, error)
	SetScaling(k app.Key, s app.Scaling, by string) (app.Operation, error)
	RestartInstance(id, by string) (app.Operation, error)
	DeleteInstance(id, by string) (app.Operation, error)
	SetDispatch(project string, rules []app.DispatchRule, by string) (app.Operation, error)
	Cancel(op, by string) (app.Operation, error)
	Drill(k app.ServiceKey, d app.Drill, by string) (app.Operation, error)
	Instances() []control.Instance
}

// Store is *store.Store, to read.
type Store interface {
	Wishes() store.Wishes
	Changed() <-chan struct{} // taken before Wishes, closed when they differ
}

// Sources is *source.Store, to upload to.
type Sources interface {
	Missing(t source.Tree) ([]string, error)
	PutBlob(hash string, r io.Reader) error
	PutTree(t source.Tree) (id string, err error)
	Tree(id string) (source.Tree, error)
}

// Sockets is *tunnel.Set.
type Sockets interface {
	Sockets(f tunnel.Filter) []tunnel.Status
	CloseMatching(f tunnel.Filter, cause app.Cause, code int, reason string) (int, error)
}

// House is the server as a whole.
type House interface {
	// Status is what a server knows of itself; the door adds the counts.
	Status() Status
	// LogDir holds the logs of instances and requests, as the logs room writes them.
	LogDir() string
	// OperationLogDir holds what was written while operations went on, in ID.log
	// each, as the logs room writes it.
	OperationLogDir() string
	// Backup writes a tar of everything that a server needs to begin again, and
	// returns when it is written or ctx has ended.
	Backup(ctx context.Context, w io.Writer) error
	// Restore takes such a tar. It returns when what it says holds; an error
	// means that nothing has changed.
	Restore(ctx context.Context, r io.Reader, by string) (app.Operation, error)
	// Certificates tells of those that clients are shown.
	Certificates() []Certificate
	// ReplaceCertificate revokes the certificate of a name, which the server has
	// obtained, and obtains another; app.ErrNotFound if there is none.
	ReplaceCertificate(ctx context.Context, name string) error
}

const (
	// waitMax bounds ?wait=: proxies and NATs give up on silent connections
	// somewhere above a minute.
	waitMax = 60 * time.Second

	// heartbeat is how often a stream says that it is alive when it has nothing
	// else to say: an empty line. It is how either end notices that the other
	// one is gone.
	heartbeat = 10 * time.Second
)

// byHeader says who asks, for people; without it that is the token's name.
const byHeader = "Holdfast-By"

// bodyMax bounds a request's JSON: an app.yaml is 1 MiB at most, and JSON may
// double it.
const bodyMax = 4 << 20
