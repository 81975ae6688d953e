//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stand is what one measurement needs, made anew for each: a backend, the peer
// in front of it and the generator in front of both. Fresh processes mean that
// no figure depends on what was measured before, and fresh ports that none
// meets the other's closed connections.
type stand struct {
	ctx     context.Context
	size    size
	load    *helper
	backend *helper
	peer    *process // nil: nothing between generator and backend
	addr    string   // where the generator goes
	tls     bool

	profiled bool // the peer writes profiles at its end

	figures  map[string]float64 // by row
	costs    map[string]float64 // what measuring cost the generator, by row
	problems []string           // everything that failed
}

const (
	// settleTime is how long a proxy may take to return memory after a burst
	// before it is measured: a garbage collector needs a moment.
	settleTime = 3 * time.Second

	// startTime is the same before the burst, after the little of warm.
	startTime = time.Second

	// tailTime is how long after the last answer work still counts as its:
	// logs, closings.
	tailTime = 50 * time.Millisecond

	// jobTime is within what an order has to be done, beyond the time it takes
	// by its nature. The slowest proxy opens 9,000 sockets in some 8 s.
	jobTime = 30 * time.Second

	// dialsAtOnce is how many connections are being opened at a time. Fewer than
	// any listener's queue.
	dialsAtOnce = 32

	smallMessage = 128 // bytes
)

// stand starts everything for p. dir is its own.
func (r *runner) stand(ctx context.Context, p peer, tls bool, dir string, env []string) (*stand, error) {
	s := &stand{ctx: ctx, size: r.size, tls: tls, figures: map[string]float64{}, costs: map[string]float64{}}
	started := false
	defer func() {
		if !started {
			s.stop()
		}
	}()
	var err error
	if s.backend, err = startHelper(r.self, "backend"); err != nil {
		return nil, err
	}
	first, err := s.backend.do(ctx, order{Do: "count"})
	if err != nil {
		return nil, err
	}
	s.addr = first.Addr
	if p.name != direct {
		var with *certs
		if tls {
			with = &r.certs
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if s.peer, err = p.start(ctx, r.self, dir, first.Addr, with, env); err != nil {
			return nil, err
		}
		s.addr, s.profiled = s.peer.addr, len(env) > 0
	}
	if s.load, err = startHelper(r.self, "load"); err != nil {
		return nil, err
	}
	if err := s.warm(); err != nil {
		return nil, err
	}
	started = true
	return s, nil
}

func (s *stand) stop() {
	if s.profiled {
		s.peer.stop() // with its sockets, which are what a heap profile is for
	}
	if s.load != nil {
		s.load.stop()
	}
	if s.peer != nil {
		s.peer.stop()
	}
	if s.backend != nil {
		s.backend.stop()
	}
}

// warm lets everything happen once that happens only once. It is little, so
// that what a proxy keeps for reuse, or has not collected yet, is no gift to
// the measurement.
func (s *stand) warm() error {
	const few = 32
	for _, o := range []order{
		{Do: "open", N: few, Hello: true, Bytes: smallMessage},
		{Do: "goodbye"},
		{Do: "ask", AtOnce: few, KeepAlive: true},
	} {
		r, err := s.do(o)
		if err != nil {
			return err
		}
		if r.failures() > 0 {
			return fmt.Errorf("does not serve: %s: %s", o.Do, r.tally())
		}
	}
	return nil
}

// do gives the generator an order, with what all of them have in common. What
// failed is noted; that nothing went well is an error.
func (s *stand) do(o order) (report, error) {
	o.Addr, o.TLS, o.Within = s.addr, s.tls, jobTime
	if o.AtOnce == 0 {
		o.AtOnce = dialsAtOnce
	}
	r, err := s.load.do(s.ctx, o)
	if n := r.failures(); n > 0 {
		s.problems = append(s.problems, fmt.Sprintf("%s: %d failed, %d did not: %s", o.Do, n, r.Done, r.tally()))
	}
	if err == nil && r.Done == 0 && !o.Later {
		err = fmt.Errorf("%s: nothing went well", o.Do)
	}
	return r, err
}

// proxy lists the processes that are measured.
func (s *stand) proxy() []int {
	if s.peer == nil {
		return []int{s.backend.cmd.Process.Pid}
	}
	return tree(s.peer.cmd.Process.Pid)
}

// memory is what the measured processes have after some rest.
func (s *stand) memory(rest time.Duration) (float64, error) {
	if err := s.pause(rest); err != nil {
		return 0, err
	}
	n, err := pss(s.proxy())
	return float64(n), err
}

// spent is the CPU time that the measured processes and the generator use
// while f runs.
func (s *stand) spent(f func() error) (proxy, load time.Duration, err error) {
	pids, generator := s.proxy(), []int{s.load.cmd.Process.Pid}
	proxy0, err := cpu(pids)
	if err != nil {
		return 0, 0, err
	}
	load0, err := cpu(generator)
	if err != nil {
		return 0, 0, err
	}
	if err := f(); err != nil {
		return 0, 0, err
	}
	if err := s.pause(tailTime); err != nil {
		return 0, 0, err
	}
	proxy1, err := cpu(pids)
	if err != nil {
		return 0, 0, err
	}
	load1, err := cpu(generator)
	return proxy1 - proxy0, load1 - load0, err
}

// pause waits, unless the run is interrupted.
func (s *stand) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// arrived waits until the backend holds n sockets and polls.
func (s *stand) arrived(n int) error {
	for bound := time.Now().Add(jobTime); ; {
		r, err := s.backend.do(s.ctx, order{Do: "count", Within: jobTime})
		switch {
		case err != nil:
			return err
		case r.Done >= n:
			return nil
		case time.Now().After(bound):
			return fmt.Errorf("%d of %d reached the backend within %v", r.Done, n, jobTime)
		}
		if err := s.pause(10 * time.Millisecond); err != nil {
			return err
		}
	}
}

// each notes the CPU time of one of n in microseconds, and what it cost the
// generator.
func (s *stand) each(row string, n int, proxy, load time.Duration) {
	s.figures[row] = micros(proxy) / float64(n)
	s.costs[row] = micros(load) / float64(n)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// problem is a failure as the page of results tells it.
func problem(round int, p peer, g group, what string) string {
	return fmt.Sprintf("round %d, %s, %s: %s", round, p.name, g.name, strings.TrimSpace(what))
}

// room is the directory of one measurement.
func (r *runner) room(round int, p peer, g group) string {
	return filepath.Join(r.dir, fmt.Sprintf("%d-%s-%s", round, g.name, strings.ReplaceAll(p.name, " ", "-")))
}
