package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/logs"
	"holdfast/internal/server"
)

// checkDrill refuses flags that would only be understood once the app runs.
func (r *runner) checkDrill() error {
	if r.drill == "" {
		return nil
	}
	if _, err := faults(r.drill); err != nil {
		return err
	}
	if r.watch || r.tls {
		return misuse{errors.New("--drill goes with neither --watch nor --tls: it is one run over plain HTTP")}
	}
	_, err := r.drillOptions.spec()
	return err
}

// drills drills the app that run serves, on the same router as in production, and
// is done. Nobody is asked: nobody but us knows its address yet.
func (r *runner) drills(ctx context.Context, v app.Version, port int) error {
	all, err := faults(r.drill)
	if err != nil {
		return err
	}
	s, err := r.drillOptions.spec()
	if err != nil {
		return err
	}
	s.Target = drill.Target{URL: fmt.Sprintf("http://localhost:%d", port), Dial: fmt.Sprintf("127.0.0.1:%d", port)}
	stage := runStage{r.server, v.ServiceKey()}
	report := drill.Report{Service: stage.k.String(), Server: "this machine, by holdfast run"}
	return doDrills(ctx, r.screen, stage, all, s, report, formatTable, r.report, func(drill.Result) {})
}

// runStage is the one service of a server in this process.
type runStage struct {
	server *server.Server
	k      app.ServiceKey
}

func (s runStage) Begin(_ context.Context, f app.Fault, share float64, long time.Duration) (drill.Operation, error) {
	op, err := s.server.Drill(s.k, app.Drill{Fault: f, Share: share, Long: long})
	if err != nil {
		return drill.Operation{}, err
	}
	return s.Operation(context.Background(), op.ID)
}

func (s runStage) Operation(_ context.Context, id string) (drill.Operation, error) {
	op, ok := s.server.Operation(id)
	if !ok || op.Drill == nil {
		return drill.Operation{}, fmt.Errorf("operation %s: %w", id, app.ErrNotFound)
	}
	d := drill.Operation{ID: op.ID, Instances: op.Drill.Instances, Done: op.Stage == app.StageDone}
	if op.Failure != nil {
		d.Failure = strings.TrimSuffix(string(op.Failure.Cause)+": "+op.Failure.Detail, ": ")
	}
	return d, nil
}

func (s runStage) End(_ context.Context, id string) error {
	err := s.server.Cancel(id)
	if errors.Is(err, app.ErrInvalid) {
		return nil // it has ended
	}
	return err
}

func (s runStage) Instances(context.Context) ([]drill.Instance, error) {
	all := []drill.Instance{}
	for _, i := range s.server.Instances() {
		all = append(all, drill.Instance{ID: i.ID, Version: i.Key.Version, State: i.State.String(), Cause: string(i.Cause), Detail: i.Detail, Sockets: i.Sockets, Open: i.Requests})
	}
	return all, nil
}

func (s runStage) Requests(ctx context.Context, fn func([]byte)) error {
	q := logs.Query{App: s.k.App, Service: s.k.Service, Requests: true, Since: time.Now(), Limit: 1}
	return logs.Watch(ctx, s.server.LogDir(), q, func(found []logs.Entry) error {
		for _, e := range found {
			if e.Stream == logs.Request {
				fn([]byte(e.Text))
			}
		}
		return nil
	})
}
