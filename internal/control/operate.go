package control

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/app"
)

// Builder makes what versions run. Its methods may be called from several
// goroutines.
type Builder interface {
	// Has says whether the artifact is there, ready to start.
	Has(a app.Artifact) bool

	// Build makes v's artifact, and blocks until it is there or ctx ends. op is
	// the operation that waits for it, "" if none does. An error that has a
	// method Failure() app.Failure tells people more.
	Build(ctx context.Context, op string, v app.Version) (app.Artifact, error)
}

// Deployment is what Deploy is asked for.
type Deployment struct {
	Version    app.Version // Version.Version "": it is named by its contents
	Promote    bool        // all traffic of the service goes to it once it is ready
	KeepOthers bool        // and the service's other versions go on serving
	By         string      // who asks, for people
}

// The verbs. Each accepts or refuses at once and does not wait for the end:
// Wait does. What is accepted holds, whatever happens to this process.

func unbuilt(what any) (app.Operation, error) {
	return app.Operation{}, fmt.Errorf("%v: %w", what, errors.ErrUnsupported)
}

func (c *Controller) Deploy(d Deployment) (app.Operation, error) { return unbuilt(d.Version.Key) }

func (c *Controller) SetTraffic(k app.ServiceKey, s app.Split, by string) (app.Operation, error) {
	return unbuilt(k)
}

func (c *Controller) Rollback(k app.ServiceKey, by string) (app.Operation, error) { return unbuilt(k) }

func (c *Controller) StartVersion(k app.Key, by string) (app.Operation, error) { return unbuilt(k) }

func (c *Controller) StopVersion(k app.Key, by string) (app.Operation, error) { return unbuilt(k) }

func (c *Controller) DeleteVersion(k app.Key, by string) (app.Operation, error) { return unbuilt(k) }

func (c *Controller) DeleteService(k app.ServiceKey, by string) (app.Operation, error) {
	return unbuilt(k)
}

func (c *Controller) SetScaling(k app.Key, s app.Scaling, by string) (app.Operation, error) {
	return unbuilt(k)
}

func (c *Controller) RestartInstance(id, by string) (app.Operation, error) { return unbuilt(id) }

func (c *Controller) DeleteInstance(id, by string) (app.Operation, error) { return unbuilt(id) }

func (c *Controller) SetDispatch(project string, rules []app.DispatchRule, by string) (app.Operation, error) {
	return unbuilt(project)
}

func (c *Controller) Cancel(op, by string) (app.Operation, error) { return unbuilt(op) }

// Wait returns the operation when it is done and traffic has followed, or as it
// is when ctx ends, with ctx's error.
func (c *Controller) Wait(ctx context.Context, op string) (app.Operation, error) { return unbuilt(op) }
