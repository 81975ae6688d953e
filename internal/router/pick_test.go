package router

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
)

func TestPick(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		rule  string
		seats []seat
		want  int
	}{
		{"nobody", nil, -1},
		{"the only one", []seat{{9, 9, day}}, 0},
		{"fewest open", []seat{{3, 1, day}, {2, 9, day}, {4, 2, day}}, 1},
		{"equal: least often chosen", []seat{{1, 5, day}, {1, 4, day}, {1, 6, day}}, 1},
		{"one never chosen goes first", []seat{{0, 5, day}, {0, 0, day}}, 1},
		{"all fresh: nobody is spared", []seat{{2, 0, 0}, {1, 0, 0}}, 1},
		{"a clock that went back", []seat{{2, 0, -day}, {1, 0, -day}}, 1},
	} {
		for dice := range uint64(50) {
			if got := pick(c.seats, mix(dice)); got != c.want {
				t.Errorf("%s: pick(%v) = %d, want %d", c.rule, c.seats, got, c.want)
				break
			}
		}
	}
}

// A fresh instance gets a share of the picks that grows with its age, while it
// is idle and the others are not.
func TestPickEasesIn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		age  time.Duration
		want float64
	}{{0, 0.1}, {500 * time.Millisecond, 0.1}, {3 * time.Second, 0.3}, {7 * time.Second, 0.7}, {easeIn, 1}, {-time.Second, 0.1}} {
		fresh := 0
		const n = 20_000
		for range n {
			if pick([]seat{{5, 1, time.Hour}, {0, 0, c.age}, {5, 2, time.Hour}}, rng.Uint64()) == 1 {
				fresh++
			}
		}
		if got := float64(fresh) / n; math.Abs(got-c.want) > 0.02 {
			t.Errorf("age %v: %.3f of the picks, want %.1f", c.age, got, c.want)
		}
	}
}

func TestPickBreaksTiesByChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var got [4]int
	for range 8000 {
		got[pick([]seat{{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}}, rng.Uint64())]++
	}
	for i, n := range got {
		if n < 1800 || n > 2200 {
			t.Errorf("seat %d was picked %d times of 8000 among 4 equals", i, n)
		}
	}
}

// When an instance goes only its own sessions move, evenly over the others;
// the order in which instances are listed does not matter.
func TestRendezvous(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	ids := []string{"default-v1-0a1b", "default-v1-0a1c", "default-v1-0a1d", "default-v1-0a1e", "default-v1-0a1f"}
	swapped := []string{ids[3], ids[1], ids[4], ids[0], ids[2]}
	const n = 10_000
	first, moved := map[string]int{}, map[string]int{}
	for range n {
		var s [sessionBytes]byte
		for i := range s {
			s[i] = byte(rng.Uint32())
		}
		home := ids[rendezvous(s, ids, nil)]
		first[home]++
		if other := swapped[rendezvous(s, swapped, nil)]; other != home {
			t.Fatalf("session %x: %s, or %s in another order", s, home, other)
		}
		then := ids[rendezvous(s, ids, func(id string) bool { return id == ids[2] })]
		if home != ids[2] && then != home {
			t.Fatalf("session %x moved from %s to %s though %s went", s, home, then, ids[2])
		}
		if home == ids[2] {
			moved[then]++
		}
	}
	for _, id := range ids {
		if got := first[id]; math.Abs(float64(got)-n/5) > n/5*0.1 {
			t.Errorf("%s is home to %d of %d", id, got, n)
		}
		if got := moved[id]; id != ids[2] && math.Abs(float64(got)-float64(first[ids[2]])/4) > 0.2*n/20 {
			t.Errorf("%s took %d of the %d sessions that moved", id, got, first[ids[2]])
		}
	}
	if got := rendezvous([sessionBytes]byte{}, nil, nil); got != -1 {
		t.Errorf("no instances: %d", got)
	}
}

func TestDecisionsAllocateNothing(t *testing.T) {
	seats := []seat{{1, 2, 0}, {0, 0, time.Hour}, {0, 0, time.Hour}}
	ids := []string{"a", "b", "c"}
	split := shares(app.Split{Shares: map[string]float64{"v1": 0.5, "v2": 0.5}})
	client := netip.MustParseAddr("10.1.2.3")
	dice := uint64(0)
	if got := testing.AllocsPerRun(100, func() {
		dice++
		pick(seats, mix(dice))
		rendezvous([sessionBytes]byte{1}, ids, nil)
		divide(split, draw(app.ByIP, client, "", dice).at)
		divide(split, draw(app.ByCookie, client, "123", dice).at)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestSplitShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	split := shares(app.Split{Shares: map[string]float64{"v3": 0.2, "v1": 0.5, "v2": 0.3, "v0": 0, "bad": math.NaN(), "worse": -1, "worst": math.Inf(1)}})
	for _, by := range []app.SplitBy{app.ByIP, app.ByCookie, app.ByRandom} {
		got := map[string]float64{}
		const n = 50_000
		for range n {
			var a [4]byte
			for i := range a {
				a[i] = byte(rng.Uint32())
			}
			got[divide(split, draw(by, netip.AddrFrom4(a), "", rng.Uint64()).at)]++
		}
		for v, want := range map[string]float64{"v1": 0.5, "v2": 0.3, "v3": 0.2} {
			if math.Abs(got[v]/n-want) > 0.01 {
				t.Errorf("by %s: %s got %.3f, want %.1f", by, v, got[v]/n, want)
			}
		}
		if len(got) != 3 {
			t.Errorf("by %s: %v", by, got)
		}
	}
	if got := divide(nil, 0.5); got != "" {
		t.Errorf("no shares: %q", got)
	}
	if got := divide(shares(app.Split{Shares: map[string]float64{"a": 0.3, "b": 0.3}}), 0.9999999); got != "b" {
		t.Errorf("shares that do not sum to 1: %q", got)
	}
}

func TestSplitIsStable(t *testing.T) {
	for _, c := range []struct {
		rule         string
		by           app.SplitBy
		a, b         string // addresses
		cookie       string
		same         bool
		wantedCookie bool
	}{
		{"an address keeps its side", app.ByIP, "10.1.2.3", "10.1.2.3", "", true, false},
		{"IPv4 in IPv6 is IPv4", app.ByIP, "10.1.2.3", "::ffff:10.1.2.3", "", true, false},
		{"a privacy address keeps its side", app.ByIP, "2001:db8:1:2::3", "2001:db8:1:2:ffff:1:2:3", "", true, false},
		{"another network", app.ByIP, "2001:db8:1:2::3", "2001:db8:1:3::3", "", false, false},
		{"a cookie decides", app.ByCookie, "10.1.2.3", "10.9.9.9", "417", true, false},
		{"no cookie: one is given", app.ByCookie, "10.1.2.3", "10.1.2.3", "", false, true},
		{"a number too large is none", app.ByCookie, "10.1.2.3", "10.1.2.3", "1000", false, true},
		{"garbage is none", app.ByCookie, "10.1.2.3", "10.1.2.3", "-1", false, true},
	} {
		l := draw(c.by, netip.MustParseAddr(c.a), c.cookie, 1)
		m := draw(c.by, netip.MustParseAddr(c.b), c.cookie, 2)
		if (l.at == m.at) != c.same || (l.cookie >= 0) != c.wantedCookie {
			t.Errorf("%s: %v and %v", c.rule, l, m)
		}
		if l.cookie >= 0 && draw(c.by, netip.Addr{}, fmt.Sprint(l.cookie), 9).at != l.at {
			t.Errorf("%s: the cookie given, %d, leads elsewhere", c.rule, l.cookie)
		}
	}
}

// 1,000 requests, one after the other and many at once, are within 5 % of even.
func TestSpread(t *testing.T) {
	f := newFront(t, Config{})
	const many = 20
	var mu sync.Mutex // guards the following
	got, here, gate := map[string]int{}, 0, make(chan struct{})
	wave := 1 // so many requests are answered together
	naming := func(name string) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			got[name]++
			here++
			mine := gate
			if here == wave {
				here, gate = 0, make(chan struct{})
				close(mine)
			}
			mu.Unlock()
			<-mine
		}
	}
	f.serve(Pool{}, naming("a"), naming("b"), naming("c"), naming("d"))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: many}}
	defer client.CloseIdleConnections()
	for _, at := range []int{1, many} {
		mu.Lock()
		got, wave = map[string]int{}, at
		mu.Unlock()
		for range 1000 / at {
			var all sync.WaitGroup
			for range at {
				all.Go(func() { fetch(t, client, f.url) })
			}
			all.Wait()
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			if n := got[name]; n < 238 || n > 262 {
				t.Errorf("%d at once: %v, want 250 each, give or take 5 %%", at, got)
				break
			}
		}
	}
}

// Sockets and requests count alike: whoever holds sockets gets fewer requests.
func TestSpreadCountsWhatIsOpen(t *testing.T) {
	f := newFront(t, Config{})
	hold := make(chan struct{})
	slow := func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/hold" {
			<-hold
		}
	}
	f.serve(Pool{}, slow, slow, slow)
	var all sync.WaitGroup
	for range 9 {
		all.Go(func() { f.get("/hold") })
	}
	eventually(t, "9 open", func() bool {
		l := f.Load()
		return l["a"].Requests+l["b"].Requests+l["c"].Requests == 9
	})
	for id, l := range f.Load() {
		if l.Requests != 3 {
			t.Errorf("%s holds %d of 9", id, l.Requests)
		}
	}
	close(hold)
	all.Wait()
}

func BenchmarkPick(b *testing.B) {
	seats := make([]seat, 8)
	for i := range seats {
		seats[i] = seat{int64(i % 3), uint64(i), time.Hour}
	}
	b.ReportAllocs()
	dice := uint64(0)
	for b.Loop() {
		dice++
		pick(seats, mix(dice))
	}
}
