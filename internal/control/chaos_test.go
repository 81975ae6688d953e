package control_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/router"
)

// How many evil hours the whole controller lives through; plan alone lives
// through many more, in TestWorld.
//
//	go test ./internal/control -run Chaos -chaos 500       a long run
//	go test ./internal/control -run Chaos -chaosseed 4711  those of one seed
var (
	chaosSeeds = flag.Int("chaos", 5, "evil hours to live through")
	chaosSeed  = flag.Uint64("chaosseed", 0, "the seed of the one evil hour to live through")
)

// TestChaos has crashes, sickness, deploys of good and bad versions, restarts,
// other numbers of instances and restarts of our own come in any order. Then
// the world calms down, and what runs must be exactly what was asked for.
func TestChaos(t *testing.T) {
	t.Parallel()
	first := rand.Uint64() >> 16
	if *chaosSeed != 0 {
		first, *chaosSeeds = *chaosSeed, 1
	}
	for n := range uint64(*chaosSeeds) {
		seed := first + n
		synctest.Test(t, func(t *testing.T) {
			chaos(t, seed)
			if t.Failed() {
				t.Fatalf("again with: go test ./internal/control -run Chaos -chaosseed %d", seed)
			}
		})
	}
}

// given deploys v, and takes it back when it is not done in the time given. It
// says whether it was.
func (h *house) given(v app.Version, long time.Duration) bool {
	op, err := h.c.Deploy(control.Deployment{Version: v, Promote: true})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), long)
	defer cancel()
	if _, err := h.c.Wait(ctx, op.ID); err != nil {
		h.c.Cancel(op.ID, "") // unless it has just ended
	}
	op = h.ended(op, nil)
	return op.Failure == nil
}

func chaos(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 6))
	h := newHouse(t)
	h.apps.boot = time.Second
	see := func(routes router.Routes) {
		s := routes.Apps["shop"].Services["default"]
		sum := 0.0
		for v, share := range s.Split.Shares {
			sum += share
			if _, ok := s.Pools[v]; !ok {
				t.Errorf("traffic leads to %s, which has no pool", v)
			}
		}
		if len(s.Split.Shares) > 0 && math.Abs(sum-1) > 1e-9 {
			t.Errorf("the shares sum to %v", sum)
		}
	}
	h.plane.see(see)
	h.move(h.d, control.Config{})
	serving := shop("v0", 2)
	h.deploy(serving)

	for n := 1; n < 60; n++ {
		all := h.running()
		pick := ""
		if len(all) > 0 {
			pick = all[r.IntN(len(all))].ID
		}
		switch r.IntN(10) {
		case 0, 1:
			h.d.Crash(pick)
		case 2:
			h.apps.is(pick, []string{"", "sick", "unready", "hung"}[r.IntN(4)])
		case 3:
			h.c.RestartInstance(pick, "")
		case 4:
			h.plane.carry(pick, r.IntN(100))
		case 5:
			h.d.Linger(time.Duration(r.IntN(40)) * time.Second)
		case 6: // a version, good or bad, given time or not
			v := shop(fmt.Sprint("v", n), 1+r.IntN(3))
			h.apps.is(v.Version, []string{"", "", "deaf", "unready"}[r.IntN(4)])
			if h.given(v, time.Duration(r.IntN(600))*time.Second) {
				serving = v
			}
		case 7: // another number
			v := serving
			v.Scaling.Min = 1 + r.IntN(4)
			h.given(v, time.Minute) // it may not get ready in time, but it is what is wanted
			serving = v
		case 8: // our own restart
			if err := h.leave(); err != nil {
				t.Fatal(err)
			}
			h.checkEvents()
			h.events = nil
			h.move(h.d, control.Config{})
		case 9:
			wait(time.Duration(r.IntN(1200)) * time.Second)
		}
		wait(time.Duration(r.IntN(20_000)) * time.Millisecond)
	}

	h.apps.mu.Lock()
	clear(h.apps.feel)
	h.apps.mu.Unlock()
	h.d.Linger(0)
	wait(10 * time.Minute)
	h.plane.see(nil)
	if s := h.plane.service(); s.Split.Shares[serving.Version] != 1 || served(s) != serving.Scaling.Min {
		t.Errorf("traffic goes to %v, %d ready; want %s with %d", s.Split.Shares, served(s), serving.Version, serving.Scaling.Min)
	}
	if got := h.running(); len(got) != serving.Scaling.Min {
		t.Errorf("running %v, want %d", got, serving.Scaling.Min)
	}
	if err := h.c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := h.running(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if err := h.leave(); err != nil {
		t.Error(err)
	}
	h.checkEvents()
}
