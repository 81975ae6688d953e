package router

import (
	"encoding/binary"
	"testing"
	"time"

	"holdfast/internal/app"
)

func numbered(n int) (d digest) {
	binary.BigEndian.PutUint64(d[:], mix(uint64(n)))
	return d
}

func TestSidsExpireWithUse(t *testing.T) {
	var s sids
	at, now := new(target), time.Unix(1_800_000_000, 0)
	is := func(what string, n int, want *target) {
		t.Helper()
		if got := s.find(numbered(n), now); got != want {
			t.Errorf("%s: %p, want %p", what, got, want)
		}
	}
	is("never learnt", 1, nil)
	s.learn(numbered(1), at, now)
	s.learn(numbered(2), at, now)
	s.learn(numbered(3), at, now)
	now = now.Add(sidsFreshFor - time.Second)
	is("fresh", 1, at)
	for range 20 {
		now = now.Add(sidsFor - time.Second)
		is("in use", 1, at)
	}
	is("begun and never used", 2, nil)
	if n := at.sessions.Load(); n != 1 {
		t.Errorf("the instance counts %d sessions, want 1", n)
	}
	now = now.Add(2 * sidsFor)
	is("out of use", 1, nil)
	if n := at.sessions.Load(); n != 0 || s.used.len()+s.fresh.len() != 0 {
		t.Errorf("%d sessions, %d entries are left", n, s.used.len()+s.fresh.len())
	}
}

// A stranger who begins sessions as fast as he can takes bounded room, and from
// none of those who use theirs.
func TestSidsAreBounded(t *testing.T) {
	var s sids
	home, away := new(target), new(target)
	now := time.Unix(1_800_000_000, 0)
	const good = 1000
	for n := range good {
		s.learn(numbered(n), home, now)
		s.find(numbered(n), now)
	}
	next := good
	for range 40 { // minutes
		for range sidsFreshMax {
			s.learn(numbered(next), away, now)
			next++
		}
		for n := range good {
			if s.find(numbered(n), now) != home {
				t.Fatalf("session %d was lost to a flood", n)
			}
		}
		if fresh, used := s.fresh.len(), s.used.len(); fresh > sidsFreshMax || used != good {
			t.Fatalf("%d fresh and %d used entries", fresh, used)
		}
		now = now.Add(time.Minute)
	}
	// And who also uses them fills the other part, no further.
	for s.used.len() < sidsMax {
		s.learn(numbered(next), away, now)
		s.find(numbered(next), now)
		next++
	}
	for range 2 * sidsFreshMax {
		s.learn(numbered(next), away, now)
		s.find(numbered(next), now)
		next++
	}
	if fresh, used := s.fresh.len(), s.used.len(); fresh > sidsFreshMax || used > sidsMax {
		t.Errorf("%d fresh and %d used entries", fresh, used)
	}
	if got := int(home.sessions.Load() + away.sessions.Load()); got != s.fresh.len()+s.used.len() {
		t.Errorf("instances count %d sessions, the table has %d", got, s.fresh.len()+s.used.len())
	}
}

func TestDigestTellsVersionsApart(t *testing.T) {
	seen := map[digest]string{}
	for _, salt := range [][sessionBytes]byte{{1}, {2}} {
		for _, k := range []app.Key{{App: "a", Service: "b", Version: "c"}, {App: "a", Service: "b", Version: "d"}, {App: "ab", Service: "", Version: "c"}, {App: "a", Service: "bc"}} {
			for _, sid := range []string{"x", "y", "cx"} {
				d := digestOf(salt, k, sid)
				if was := seen[d]; was != "" {
					t.Errorf("%v %s is as %s", k, sid, was)
				}
				seen[d] = k.String() + " " + sid
				if d != digestOf(salt, k, sid) {
					t.Error("not the same twice")
				}
			}
		}
	}
}
