// Package googleapi speaks to gcloud in Google's words: the App Engine Admin
// API and, as far as gcloud uses them with it, Cloud Storage, Service Usage and
// Cloud Logging. It turns requests into the same few verbs on control as the
// admin room does, and decides nothing. One file for each API; the JSON types
// are the room's own and never leave it. What gcloud sends and accepts was
// measured, and the traps stand where they are minded. Start at Engine and the
// table in routes.go.
package googleapi

import (
	"context"
	"io"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

// Engine is what the door opens on.
type Engine struct {
	Control Control // *control.Controller: changes what is asked for, knows what runs
	Store   Store   // *store.Store: what is asked for
	Sources Sources // *source.Store: source trees
	House   House   // the server itself
}

// Control is *control.Controller. None of its methods but Wait waits; errors
// that wrap app.ErrNotFound, ErrExists, ErrInvalid and ErrBusy are told to the
// caller as they are, all others only as internal.
type Control interface {
	Deploy(d control.Deployment) (app.Operation, error)
	SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error)
	StartVersion(k app.Key, by string) (app.Operation, error)
	StopVersion(k app.Key, by string) (app.Operation, error)
	DeleteVersion(k app.Key, by string) (app.Operation, error)
	DeleteService(k app.ServiceKey, by string) (app.Operation, error)
	SetScaling(k app.Key, s app.Scaling, by string) (app.Operation, error)
	DeleteInstance(id, by string) (app.Operation, error)
	SetDispatch(project string, rules []app.DispatchRule, by string) (app.Operation, error)
	CreateApplication(a app.Application, by string) (app.Operation, error)
	ChangeApplication(project, by string, change func(a *app.Application) error) (app.Operation, error)
	Instances() []control.Instance
	Wait(ctx context.Context, op string) (app.Operation, error)
}

// Store is *store.Store, to read.
type Store interface {
	Wishes() store.Wishes
}

// Sources is *source.Store, to upload to.
type Sources interface {
	Missing(t source.Tree) ([]string, error)
	PutBlob(hash string, r io.Reader) error
	PutTree(t source.Tree) (id string, err error)
	ReadFile(t source.Tree, name string, most int64) ([]byte, error)
}

// House is the server as a whole.
type House interface {
	// Place is how the server is reached.
	Place() Place
	// LogDir holds the logs of instances and requests, as the logs room writes them.
	LogDir() string
	// OperationLogDir holds what was written while operations went on, in ID.log
	// each, as the logs room writes it.
	OperationLogDir() string
}

// Place is how a server is reached, and what is meant there when nobody says.
type Place struct {
	Domain  string // base domain of the host names
	Port    string // what follows the host names, as in ":8080"; "" where none is needed
	TLS     bool   // the port speaks TLS
	Region  string // REGION_ID
	Project string // the application that is meant when nobody names one; may be ""
}

// scheme is what stands before a host name. gcloud says https:// before the
// default host name whatever is said here; what it asks us for is true.
func (p Place) scheme() string {
	if p.TLS {
		return "https://"
	}
	return "http://"
}

const (
	// quickWait is how long a request that changes something waits for its end
	// before it answers that it goes on: gcloud asks again a second later and then
	// every five, so that a deploy that takes two seconds is told at once.
	quickWait = 8 * time.Second

	// pollWait is how long a question for an operation that goes on waits for its
	// end, for the same reason.
	pollWait = 2 * time.Second

	// waitersMax bounds how many requests wait like this at once; more are
	// answered without waiting.
	waitersMax = 128

	// writeTime bounds how long a client may take to read an answer.
	writeTime = 30 * time.Second

	// readTime bounds how long a request's JSON may take to arrive, and pieceTime
	// how long a client may pause within an upload.
	readTime  = 30 * time.Second
	pieceTime = time.Minute

	// bodyMax bounds a request's JSON in bytes. The longest one lists the files of
	// a version: some 250 bytes for each of source.FilesMax.
	bodyMax = 32 << 20
)

// Serves says whether a path is one of Google's, which this door answers.
func Serves(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "v1", "v1beta", "v1beta1", "v2", "v2beta3", "storage", "upload", "resumable", "compute":
		return true
	}
	return false
}
