//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// runner takes all figures: round after round, row after row, and for each row
// every peer in turn, so that a machine that changes its pace changes it for
// all.
type runner struct {
	self     string // this program
	dir      string // for everything that is made on the way
	size     size
	rounds   int
	peers    []peer
	groups   []group
	certs    certs
	profiles string // directory for profiles of Holdfast; "" for none
	progress io.Writer
}

func (r *runner) run(ctx context.Context) (*results, error) {
	out := newResults(r.peers, r.groups)
	var err error
	if r.certs, err = makeCerts(r.dir); err != nil {
		return nil, err
	}
	for round := 1; round <= r.rounds; round++ {
		for _, g := range r.groups {
			for _, p := range r.peers {
				if !g.measures(p) {
					continue
				}
				started := time.Now()
				r.measure(ctx, round, g, p, out)
				if ctx.Err() != nil {
					return out, ctx.Err()
				}
				fmt.Fprintf(r.progress, "round %d: %s, %s (%.1f s)\n", round, g.name, p.name, time.Since(started).Seconds())
			}
		}
	}
	return out, nil
}

// measure takes one group's figures of one peer.
func (r *runner) measure(ctx context.Context, round int, g group, p peer, out *results) {
	dir := r.room(round, p, g)
	defer os.RemoveAll(dir)
	var env []string
	if r.profiles != "" && p.name == ours {
		env = append(env, profileVariable+"="+filepath.Join(r.profiles, g.name))
	}
	var s *stand
	var err error
	if g.bus {
		s, err = r.busStand(ctx, p, dir, env)
	} else {
		s, err = r.stand(ctx, p, g.tls, dir, env)
	}
	if err == nil {
		defer s.stop()
		if err = g.measure(s); err != nil {
			s.problems = append(s.problems, err.Error())
		}
	} else {
		s = &stand{problems: []string{err.Error()}}
	}
	for _, row := range g.rows {
		c := cell{row.id, p.name}
		if v, ok := s.figures[row.id]; ok {
			out.figures[c] = append(out.figures[c], v)
		}
		if v, ok := s.costs[row.id]; ok {
			out.costs[c] = append(out.costs[c], v)
		}
		out.broken[c] = out.broken[c] || len(s.problems) > 0
	}
	if ctx.Err() != nil {
		return
	}
	for _, what := range s.problems {
		text := problem(round, p, g, what)
		fmt.Fprintln(r.progress, "FAILED", text)
		out.failed = append(out.failed, text)
	}
}
