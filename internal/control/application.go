package control

import (
	"fmt"

	"holdfast/internal/app"
	"holdfast/internal/store"
)

// CreateApplication makes an application that has nothing yet, which a first
// deploy would do by itself. One that exists is app.ErrExists.
func (c *Controller) CreateApplication(a app.Application, by string) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbCreate, Target: app.Key{App: a.ID}, By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		if _, ok := w.Apps[a.ID]; ok {
			return app.ErrExists
		}
		a.CreatedAt = op.Asked
		w.Apps[a.ID] = a
		return nil
	})
}

// ChangeApplication changes what an application's services have in common,
// but for its dispatch rules, which are SetDispatch's. One that does not exist
// yet begins with the change. change may be called with what is then not kept; an
// error of it is returned, and nothing has changed. It must replace lists and
// maps instead of writing to them.
func (c *Controller) ChangeApplication(project, by string, change func(a *app.Application) error) (app.Operation, error) {
	op := app.Operation{Verb: app.VerbChange, Target: app.Key{App: project}, By: by}
	return c.ask(op, func(w *store.Wishes, op *app.Operation) error {
		a, ok := w.Apps[project]
		if !ok {
			a = app.Application{ID: project, CreatedAt: op.Asked}
		}
		if err := change(&a); err != nil {
			return err
		}
		if a.ID != project {
			return fmt.Errorf("an application keeps its name: %w", app.ErrInvalid)
		}
		w.Apps[project] = a
		return nil
	})
}
