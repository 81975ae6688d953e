package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

func TestSockets(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		a := realJoin(t, set, Socket{ID: "a", Instance: "i1", Client: "192.0.2.1", MaxAge: time.Hour, Affinity: BySid})
		b := realJoin(t, set, Socket{ID: "b", Instance: "i2", Client: "192.0.2.2"})
		hello := frame(true, opText, true, []byte("hello"))
		a.client.write(hello, hello[:8])
		a.instance.want(append(hello, hello[:8]...))
		reply := frame(true, opBinary, false, make([]byte, 1000))
		b.instance.write(reply, frame(true, opPing, false, nil))
		b.client.want(reply)
		readFrame(b.client)
		time.Sleep(3 * activeStep) // of idleness

		table := set.Sockets(Filter{})
		if len(table) != 2 || table[0].ID != "a" || table[1].ID != "b" {
			t.Fatalf("Sockets = %+v", table)
		}
		s := table[0]
		if s.Affinity.String() != "sid" || table[1].Affinity.String() != "" {
			t.Errorf("Affinity = %q and %q", s.Affinity, table[1].Affinity)
		}
		if s.Key != testKey || s.Instance != "i1" || s.Client != "192.0.2.1" || s.Leaving != "" ||
			time.Since(s.Opened) > patience || s.Deadline.Sub(s.Opened) != time.Hour {
			t.Errorf("status = %+v", s)
		}
		if s.Idle < 2*activeStep || s.Idle > patience {
			t.Errorf("Idle = %v", s.Idle)
		}
		if want := (Traffic{Bytes: 19, Text: 1, Largest: 5}); s.FromClient != want {
			t.Errorf("FromClient = %+v, want %+v", s.FromClient, want)
		}
		if want := (Traffic{Bytes: 1006, Binary: 1, Ping: 1, Largest: 1000}); table[1].FromInstance != want || !table[1].Deadline.IsZero() {
			t.Errorf("status = %+v", table[1])
		}
		for _, f := range []Filter{{ID: "b"}, {Instance: "i2"}, {Client: "192.0.2.2", Key: testKey}, {Key: app.Key{Version: "v1"}, ID: "b"}} {
			if got := set.Sockets(f); len(got) != 1 || got[0].ID != "b" {
				t.Errorf("Sockets(%+v) = %+v", f, got)
			}
		}
		for _, f := range []Filter{{ID: "c"}, {Instance: "i2", ID: "a"}, {Key: app.Key{Version: "v2"}}, {Key: app.Key{App: "x"}}} {
			if got := set.Sockets(f); len(got) != 0 {
				t.Errorf("Sockets(%+v) = %+v", f, got)
			}
		}

		if n, err := set.CloseMatching(Filter{ID: "b"}, app.Requested, 4321, "no more of this"); n != 1 || err != nil {
			t.Errorf("CloseMatching = %d, %v", n, err)
		}
		b.client.wantClose(false, 4321, "no more of this")
		b.instance.wantClose(true, 4321, "no more of this")
		if got := set.Sockets(Filter{ID: "b"}); len(got) != 1 || got[0].Leaving != app.Requested {
			t.Errorf("while it ends: %+v", got)
		}
		b.client.write(closing(true, 4321, ""))
		b.instance.Close()
		b.wantEnd(ByHoldfast, app.Requested, 4321, "no more of this")
		if n, err := set.CloseMatching(Filter{Key: testKey}, app.Requested, 0, ""); n != 1 || err != nil {
			t.Errorf("CloseMatching = %d, %v", n, err)
		}
		rest := hello[8:]
		a.client.write(rest)
		a.instance.want(rest)
		a.bye(1012, "requested")
		a.wantEnd(ByHoldfast, app.Requested, 1012, "requested")
		if got := set.Sockets(Filter{}); len(got) != 0 {
			t.Errorf("after their ends: %+v", got)
		}
	})
}

func TestCloseMatchingRefuses(t *testing.T) {
	set := newSet()
	for _, code := range []int{-1, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000} {
		if n, err := set.CloseMatching(Filter{}, app.Requested, code, ""); n != 0 || !errors.Is(err, app.ErrInvalid) {
			t.Errorf("code %d: %d, %v", code, n, err)
		}
	}
	if _, err := set.CloseMatching(Filter{}, app.Requested, 4000, "\xff"); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("reason that is not UTF-8: %v", err)
	}
	if _, err := set.CloseMatching(Filter{}, app.Requested, 1000, strings.Repeat("r", 200)); err != nil {
		t.Error(err)
	}
}

// crowdTCP is n sockets over TCP whose ends answer a goodbye. The function it
// returns waits for all of them to have ended, and gives the times of their
// clients' goodbyes since start in the order of the sockets.
func crowdTCP(t *testing.T, set world, n int) func(start time.Time) []time.Duration {
	t.Helper()
	rigs := make([]*realRig, n)
	at := make([]chan time.Time, n)
	for k := range rigs {
		r := realJoin(t, set, Socket{ID: fmt.Sprint(k)})
		r.client.SetDeadline(time.Now().Add(5 * time.Minute))
		r.instance.SetDeadline(time.Now().Add(5 * time.Minute))
		rigs[k], at[k] = r, make(chan time.Time, 1)
		go func() { // ends with the connections
			defer r.client.Close()
			for {
				g, err := readFrame(r.client)
				if err != nil {
					at[k] <- time.Time{}
					return
				}
				if g.op == opClose {
					at[k] <- time.Now()
					r.client.Write(closing(true, 1012, ""))
					return
				}
			}
		}()
		go func() {
			defer r.instance.Close()
			for {
				g, err := readFrame(r.instance)
				if err != nil {
					return
				}
				if g.op == opClose {
					r.instance.Write(closing(false, 1012, ""))
					return
				}
				r.instance.Write(frame(true, g.op, false, []byte(g.payload)))
			}
		}()
	}
	return func(start time.Time) []time.Duration {
		ds := make([]time.Duration, n)
		for k, r := range rigs {
			ds[k] = (<-at[k]).Sub(start)
			r.wantEnd(ByHoldfast, app.Deployed, 1012, "deployed")
		}
		return ds
	}
}

// The pace of a drain holds, the idlest go first, and a socket that talks
// meanwhile is answered at once.
func TestRealDrainPace(t *testing.T) {
	n, window := 400, 2*time.Second
	if long() {
		n, window = 4500, 30*time.Second // within 20,000 descriptors, at four a socket
	}
	set := liveSet(t, Config{})
	times := crowdTCP(t, set, n)
	talk := realJoin(t, set, Socket{Instance: "i2"})
	start := time.Now()
	set.Drain("i1", start.Add(window), app.Deployed)
	var slowest time.Duration
	for m := frame(true, opText, true, make([]byte, 100)); time.Since(start) < window; time.Sleep(5 * time.Millisecond) {
		sent := time.Now()
		talk.client.SetDeadline(sent.Add(patience))
		talk.instance.SetDeadline(sent.Add(patience))
		talk.client.write(m)
		talk.instance.want(m)
		slowest = max(slowest, time.Since(sent))
	}
	ds := times(start)
	if !slices.IsSorted(ds[:n/10]) && !nearlySorted(ds, window/10) {
		t.Error("the oldest of equally idle sockets did not go first")
	}
	slices.Sort(ds)
	for part := 1; part <= 10; part++ {
		by := window * time.Duration(part) / 10
		have, _ := slices.BinarySearch(ds, by)
		if want := n * part / 10; have < want-n/10 || have > want+n/10 {
			t.Errorf("after %v %d goodbyes were said, want %d within 10 %%", by, have, want)
		}
	}
	if last := ds[n-1]; last < window*9/10 || last > window*11/10 {
		t.Errorf("the last goodbye came after %v, want %v", last, window)
	}
	if slowest > 500*time.Millisecond {
		t.Errorf("meanwhile a message took %v", slowest)
	}
	t.Logf("a message took %v at most", slowest)
	talk.client.reset()
	talk.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
}

func nearlySorted(ds []time.Duration, slack time.Duration) bool {
	high := time.Duration(0)
	for _, d := range ds {
		if d < high-slack {
			return false
		}
		high = max(high, d)
	}
	return true
}

func TestDrainIdlestFirst(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		rigs := []*rig{join(t, set, "0", 0), join(t, set, "1", 0), join(t, set, "2", 0)}
		m := frame(true, opText, true, nil)
		for _, k := range []int{1, 2, 0} { // so 1 is idle for longest
			time.Sleep(time.Second)
			write(t, rigs[k].client, m)
			wantFrame(t, "instance", rigs[k].instance, m)
		}
		start := time.Now()
		set.Drain("i1", start.Add(3*time.Second), app.Deployed)
		at := make(chan time.Duration, 1)
		for n, k := range []int{1, 2, 0} {
			rigs[k].told(start, at)
			if d, want := <-at, time.Duration(n+1)*time.Second; d != want {
				t.Errorf("goodbye to %d after %v, want %v", k, d, want)
			}
		}
	})
}

// Reading the table does not hold up what passes.
func TestSocketsWhileTheyTalk(t *testing.T) {
	t.Parallel()
	set := liveSet(t, Config{})
	n := 300
	times := crowdTCP(t, set, n)
	talk := realJoin(t, set, Socket{Instance: "i2"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			if got := len(set.Sockets(Filter{Instance: "i1"})); got != n {
				t.Errorf("a table of %d sockets has %d rows", n, got)
			}
		}
	}()
	m := frame(true, opText, true, nil)
	for k := 0; ; k++ {
		select {
		case <-done:
			start := time.Now()
			set.Drain("i1", start, app.Deployed)
			times(start)
			return
		default:
		}
		talk.client.write(m)
		talk.instance.want(m)
	}
}
