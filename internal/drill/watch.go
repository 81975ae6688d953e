package drill

import (
	"context"
	"sync"
	"time"
)

// watch looks at the service while a drill goes on.
type watch struct {
	stage Stage
	r     *recorder
	every time.Duration
	busy  sync.WaitGroup
}

func newWatch(stage Stage, r *recorder, every time.Duration) *watch {
	return &watch{stage: stage, r: r, every: every}
}

const (
	// lookTime is how long an answer about the instances may take: a server that
	// starts again gives none, and the next look should not wait for it.
	lookTime = 2 * time.Second

	// followPause is the wait before the access log is asked for again.
	followPause = 200 * time.Millisecond
)

// begin looks until ctx ends.
func (w *watch) begin(ctx context.Context) {
	w.look(ctx)
	w.busy.Go(func() { // ends with ctx
		for rest(ctx, w.every) == nil {
			w.look(ctx)
		}
	})
	w.busy.Go(func() { // ends with ctx
		for {
			// What ends it is told by what is missing: a server that starts
			// again is asked anew.
			_ = w.stage.Requests(ctx, w.r.record)
			if rest(ctx, followPause) != nil {
				return
			}
		}
	})
}

func (w *watch) wait() { w.busy.Wait() }

func (w *watch) look(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	all, err := w.stage.Instances(bound)
	if err != nil {
		all = nil
	}
	if ctx.Err() == nil {
		w.r.look(all)
	}
}

// last is the last look.
func (w *watch) last(ctx context.Context) { w.look(ctx) }
