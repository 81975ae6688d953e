package cli

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/logs"
)

// followers print the logs of instances, each from its own goroutine.
type followers struct {
	screen *screen

	mu   sync.Mutex // guards the following
	ends map[string]context.CancelFunc
	all  sync.WaitGroup
}

func newFollowers(s *screen) *followers {
	return &followers{screen: s, ends: map[string]context.CancelFunc{}}
}

// begin prints the log at path from a time on, until end or wait. A second
// begin for the same instance does nothing.
func (f *followers) begin(instance, path string, from time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends[instance] != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.ends[instance] = cancel
	f.all.Go(func() {
		err := logs.Follow(ctx, path, from, func(l logs.Line) error {
			f.screen.log(instance, l)
			return nil
		})
		if err != nil {
			f.screen.warn("the log of %s cannot be followed: %v", instance, err)
		}
	})
}

// end stops following an instance once all that it wrote has been printed. It
// stays known, so that a late begin does not print its log again.
func (f *followers) end(instance string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cancel := f.ends[instance]; cancel != nil {
		cancel()
		f.ends[instance] = func() {}
	}
}

// wait ends all and returns when everything has been printed.
func (f *followers) wait() {
	f.mu.Lock()
	for _, cancel := range f.ends {
		cancel()
	}
	f.mu.Unlock()
	f.all.Wait()
}
