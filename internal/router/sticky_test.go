package router

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

func someAddress(rng *rand.Rand) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], rng.Uint32())
	return netip.AddrFrom4(b)
}

func manyNames(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("default-v1-%04x", i*7919))
	}
	return ids
}

func TestSettle(t *testing.T) {
	ids := manyNames(3)
	key := [sessionBytes]byte{7}
	first := rendezvous(key, ids, nil)
	second := rendezvous(key, ids, func(id string) bool { return id == ids[first] })
	third := 3 - first - second
	with := func(change func(all []carrier)) []carrier {
		all := make([]carrier, 3)
		change(all)
		return all
	}
	for _, c := range []struct {
		rule string
		all  []carrier
		want int
	}{
		{"nobody", nil, -1},
		{"empty ones: the first choice", with(func([]carrier) {}), first},
		{"a few more are none too many", with(func(all []carrier) { all[first].load = crowdSlack }), first},
		{"within a quarter", with(func(all []carrier) { all[first].load, all[second].load, all[third].load = 120, 100, 90 }), first},
		{"crowded: whoever has least", with(func(all []carrier) { all[first].load, all[second].load, all[third].load = 160, 100, 90 }), third},
		{"crowded: among equals by order", with(func(all []carrier) { all[first].load, all[second].load, all[third].load = 160, 90, 90 }), second},
		{"overloaded", with(func(all []carrier) { all[first].over = true }), second},
		{"all overloaded", with(func(all []carrier) { all[0].over, all[1].over, all[2].over = true, true, true }), first},
		{"refused", with(func(all []carrier) { all[first].out = true }), second},
		{"refused, the others overloaded", with(func(all []carrier) { all[first].out, all[second].over, all[third].over = true, true, true }), second},
		{"all refused", with(func(all []carrier) { all[0].out, all[1].out, all[2].out = true, true, true }), -1},
	} {
		if got := settle(key, ids[:len(c.all)], c.all); got != c.want {
			t.Errorf("%s: settle(%v) = %d, want %d (order %d %d %d)", c.rule, c.all, got, c.want, first, second, third)
		}
	}
}

// Random worlds: equal routers choose equally, whatever the order in which they
// know the instances; nobody gets more than the bound; the loss of an instance
// moves only its own sessions, evenly.
func TestSettleInRandomWorlds(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 17))
		n := 2 + rng.IntN(9)
		ids := manyNames(n)
		var salt [sessionBytes]byte
		binary.BigEndian.PutUint64(salt[:], rng.Uint64())
		all, mirrored := make([]carrier, n), make([]carrier, n)
		back := slices.Clone(ids)
		slices.Reverse(back)
		clients := 20 + rng.IntN(3000)
		near := rng.IntN(3) == 0 // all of them behind one address
		addr := someAddress(rng)
		strayed := 0
		for c := range clients {
			if !near {
				addr = someAddress(rng)
			}
			key := addressKey(salt, addr)
			for i := range all {
				mirrored[n-1-i] = all[i]
			}
			i := settle(key, ids, all)
			if j := settle(key, back, mirrored); back[j] != ids[i] {
				t.Fatalf("seed %d: one router chose %s, its equal %s", seed, ids[i], back[j])
			}
			if i != rendezvous(key, ids, nil) {
				strayed++
			}
			all[i].load++
			if most := math.Ceil(crowdFactor*float64(c+1)/float64(n)) + crowdSlack; float64(all[i].load) > most {
				t.Fatalf("seed %d: %d of %d on one of %d", seed, all[i].load, c+1, n)
			}
		}
		if !near && float64(strayed) > 0.01*float64(clients)+3 {
			t.Errorf("seed %d: %d of %d clients of many addresses, %d instances: placed elsewhere by chance", seed, strayed, clients, n)
		}
	}
}

func TestLossMovesOnlyItsOwnEvenly(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 23))
		n := 3 + rng.IntN(6)
		ids := manyNames(n)
		lost := ids[rng.IntN(n)]
		moved := map[string]int{}
		const sessions = 12_000
		own := 0
		for s := range sessions {
			d := digestOf([sessionBytes]byte{byte(seed)}, app.Key{App: "a"}, fmt.Sprint("session-", s))
			was := rendezvous(d, ids, nil)
			now := rendezvous(d, ids, func(id string) bool { return id == lost })
			switch {
			case ids[was] == lost:
				own++
				moved[ids[now]]++
			case was != now:
				t.Fatalf("seed %d: a session of %s moved though %s was lost", seed, ids[was], lost)
			}
		}
		even := float64(own) / float64(n-1)
		for _, id := range ids {
			if got := float64(moved[id]); id != lost && math.Abs(got-even) > even/4 {
				t.Errorf("seed %d: %s got %v of %d, even is %.0f", seed, id, got, own, even)
			}
		}
	}
}

// engine is an app that speaks as much of engine.io as matters: it names sessions
// in the beginning of an answer, and knows its own alone.
type engine struct {
	name string
	mu   sync.Mutex // guards the following
	own  map[string]bool
	next int
}

func (e *engine) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	sid := q.Get("sid")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.own == nil {
		e.own = map[string]bool{}
	}
	if parts := strings.Split(req.URL.Path, "/"); len(parts) == 5 && parts[1] == "sock" {
		switch verb := parts[4]; {
		case verb == "xhr" && !e.own[parts[3]]:
			e.own[parts[3]] = true
			io.WriteString(w, "o\n")
		case !e.own[parts[3]]:
			http.NotFound(w, req)
		case verb == "xhr_send":
			w.WriteHeader(http.StatusNoContent)
		default:
			io.WriteString(w, "h\n")
		}
		return
	}
	switch {
	case q.Get("EIO") == "":
		io.WriteString(w, e.name)
	case sid == "":
		e.next++
		sid = fmt.Sprintf("%s-%d", e.name, e.next)
		e.own[sid] = true
		body := fmt.Sprintf(`0{"sid":%q,"upgrades":["websocket"],"pingInterval":25000}`, sid)
		if q.Get("EIO") == "3" {
			body = fmt.Sprintf("%d:%s2:40", len(body), body)
		}
		io.WriteString(w, body[:9])
		http.NewResponseController(w).Flush() // in pieces, as chunks
		io.WriteString(w, body[9:])
	case !e.own[sid]:
		http.Error(w, `{"code":1,"message":"Session ID unknown"}`, http.StatusBadRequest)
	case req.Header.Get("Upgrade") != "":
		e.mu.Unlock()
		defer e.mu.Lock()
		socketApp(e.name)(w, req)
	default:
		io.WriteString(w, "2")
	}
}

func engines(names ...string) (all []http.HandlerFunc) {
	for _, n := range names {
		all = append(all, (&engine{name: n}).ServeHTTP)
	}
	return all
}

const polling = "/socket.io/?transport=polling&EIO="

// begin does a handshake without cookies, and returns the sid.
func (f *front) begin(version string) string {
	f.t.Helper()
	res, body := f.get(polling + version)
	_, rest, ok := strings.Cut(body, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	if res.StatusCode != 200 || !ok || !strings.Contains(body, `"pingInterval":25000}`) {
		f.t.Fatalf("handshake: %d %q", res.StatusCode, body)
	}
	return sid
}

// Sessions of clients without cookies stay together, through other routes, polls
// of both methods, and the upgrade.
func TestSessionsOfLongPolling(t *testing.T) {
	for _, version := range []string{"3", "4"} {
		f := newFront(t, Config{Secret: secret})
		pool := Pool{Affinity: true, Sticky: app.StickySid}
		pool.Instances = f.serve(pool, engines("a", "b", "c")...)
		homes := map[string]int{}
		var all []string
		for range 90 {
			sid := f.begin(version)
			all = append(all, sid)
			homes[sid[:1]]++
		}
		// One address, so the bound decides: 1.25 of even and 8.
		for name, n := range homes {
			if n > 46 {
				t.Errorf("%s has %d of 90 sessions: %v", name, n, homes)
			}
		}
		late := instance("d", serving(t, (&engine{name: "d"}).ServeHTTP))
		for turn := range 3 {
			for _, sid := range all {
				res, body := f.get(polling + version + "&sid=" + sid)
				if res.StatusCode != 200 || given(res, affinityCookie) != nil {
					t.Fatalf("poll of %s: %d %q", sid, res.StatusCode, body)
				}
				req, _ := http.NewRequest("POST", f.url+polling+version+"&sid="+sid, strings.NewReader("40"))
				if res, body := f.do(req); res.StatusCode != 200 {
					t.Fatalf("post of %s: %d %q", sid, res.StatusCode, body)
				}
			}
			p := pool
			if turn == 0 { // others come, and the order changes
				p.Instances = append([]app.Instance{late}, pool.Instances...)
				slices.Reverse(p.Instances[1:2])
			}
			f.Set(routesTo(p))
		}
		for _, sid := range all[:20] {
			name, end, err := openSocket(f.url+"/ws?transport=websocket&EIO="+version+"&sid="+sid+"&t=", plain)
			if err != nil || name != sid[:1] {
				t.Fatalf("upgrade of %s is on %q, %v", sid, name, err)
			}
			end()
		}
	}
}

// Off, the same clients fare as they do elsewhere.
func TestSessionsWithoutAffinity(t *testing.T) {
	f := newFront(t, Config{})
	f.serve(Pool{}, engines("a", "b", "c")...)
	failed := 0
	for range 30 {
		sid := f.begin("4")
		if res, body := f.get(polling + "4&sid=" + sid); res.StatusCode == 400 && strings.Contains(body, "Session ID unknown") {
			failed++
		}
	}
	if failed < 10 {
		t.Errorf("%d of 30 sessions failed, want about 20: else the test proves nothing", failed)
	}
}

func TestSockJS(t *testing.T) {
	var fronts []*front
	pool := Pool{Affinity: true, Sticky: app.StickySid}
	f := newFront(t, Config{Secret: secret})
	pool.Instances = f.serve(pool, engines("a", "b", "c")...)
	other := newFront(t, Config{Secret: secret})
	other.Set(routesTo(pool))
	fronts = append(fronts, f, other)
	post := func(f *front, path string) int {
		req, _ := http.NewRequest("POST", f.url+path, strings.NewReader("[]"))
		res, _ := f.do(req)
		return res.StatusCode
	}
	for n := range 60 {
		path := fmt.Sprintf("/sock/%03d/session%02d/", n, n)
		if got := post(fronts[n%2], path+"xhr"); got != 200 {
			t.Fatalf("%s: %d", path, got)
		}
		for i, f := range fronts { // also at the router that did not see it begin
			if got := post(f, path+"xhr_send"); got != 204 {
				t.Fatalf("%s at router %d: %d", path, i, got)
			}
		}
	}
	// A fresh instance takes none of those that are open.
	more := pool
	more.Instances = append(slices.Clone(pool.Instances), instance("d", serving(t, (&engine{name: "d"}).ServeHTTP)))
	f.Set(routesTo(more))
	for n := 0; n < 60; n += 2 {
		if got := post(f, fmt.Sprintf("/sock/%03d/session%02d/xhr_send", n, n)); got != 204 {
			t.Errorf("session %d after a scale-out: %d", n, got)
		}
	}
}

// A session that another router saw begin is found by its client's address.
func TestSessionAnotherRouterLearnt(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	pool := Pool{Affinity: true}
	pool.Instances = f.serve(pool, engines("a", "b", "c", "d")...)
	other := newFront(t, Config{Secret: secret})
	slices.Reverse(pool.Instances)
	other.Set(routesTo(pool))
	for range crowdSlack - 1 { // all from one address
		sid := f.begin("4")
		if res, body := other.get(polling + "4&sid=" + sid); res.StatusCode != 200 {
			t.Fatalf("%s at the other router: %d %q", sid, res.StatusCode, body)
		}
	}
}

// Nobody steers: a sid of one version says nothing in another, and one that
// nobody learnt leaves nothing behind.
func TestSidsSteerNowhere(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	routes := routesTo(Pool{})
	pools := map[string]Pool{}
	for _, v := range []string{"v1", "v2"} {
		i := instance(v, serving(t, (&engine{name: v}).ServeHTTP))
		i.Key.Version = v
		pools[v] = Pool{Affinity: true, Instances: []app.Instance{i}}
	}
	routes.Apps["shop"].Services["default"] = Service{Split: app.Split{By: app.ByRandom, Shares: map[string]float64{"v1": 1}}, Pools: pools}
	f.Set(routes)
	host := func(v string) func(*http.Request) {
		return func(req *http.Request) { req.Host = v + "-dot-shop.localhost" }
	}
	_, body := f.get(polling+"4", host("v2"))
	_, rest, _ := strings.Cut(body, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	if res, _ := f.get(polling+"4&sid="+sid, host("v2")); res.StatusCode != 200 {
		t.Fatalf("the session in its version: %d", res.StatusCode)
	}
	if res, body := f.get(polling + "4&sid=" + sid); res.StatusCode != 400 {
		t.Errorf("a session of v2 by the split, which gives v1: %d %q", res.StatusCode, body)
	}
	for n := range 50 {
		f.get(polling + "4&sid=" + fmt.Sprint("made-up-", n))
	}
	for key, s := range f.sids {
		if n := s.used.len() + s.fresh.len(); n != map[string]int{"v1": 0, "v2": 1}[key.Version] {
			t.Errorf("%v: %d sessions are known", key, n)
		}
	}
}

// Overload gives up stickiness for new sessions, and only for them; a lost
// instance's sessions spread.
func TestOverloadAndLoss(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	pool := Pool{Affinity: true, Target: 4}
	pool.Instances = f.serve(pool, engines("a", "b", "c", "d")...)
	res, home := f.get("/")
	c := given(res, affinityCookie)
	sid := f.begin("4")
	load := func(name string) *target { return f.targets[name] }

	load(home).requests.Add(7) // over 4 by half
	if res, got := f.get("/", withCookie(affinityCookie, c.Value)); got != home || given(res, affinityCookie) != nil {
		t.Errorf("a page for its cookie is on %s, home is %s", got, home)
	}
	res, body := f.get(polling+"4", withCookie(affinityCookie, c.Value))
	moved := given(res, affinityCookie)
	if strings.Contains(body, `"sid":"`+home) || moved == nil {
		t.Errorf("a new session with the cookie of the overloaded %s: %q %v", home, body, res.Header)
	} else if _, got := f.get("/", withCookie(affinityCookie, moved.Value)); !strings.Contains(body, `"sid":"`+got) {
		t.Errorf("the new cookie leads to %s, the session is %q", got, body)
	}
	name, end, err := openSocket(f.url+"/ws?transport=websocket&EIO=4&sid="+sid+"&t=", plain)
	if err != nil {
		t.Fatal(err)
	}
	end()
	load(home).requests.Add(-7)
	load(sid[:1]).requests.Add(7)
	if res, body := f.get(polling + "4&sid=" + sid); res.StatusCode != 200 || name != sid[:1] {
		t.Errorf("a session of the overloaded %s: %d %q", sid[:1], res.StatusCode, body)
	}
	for range 10 {
		if got := f.begin("4"); got[:1] == sid[:1] {
			t.Errorf("a new session on the overloaded %s", sid[:1])
		}
	}
	load(sid[:1]).requests.Add(-7)

	// 300 sessions of one instance; it goes.
	s := f.sids[pool.Instances[0].Key]
	for n := range 300 {
		s.learn(digestOf(f.salt, pool.Instances[0].Key, fmt.Sprint("old-", n)), load("a"), time.Now())
	}
	rest := pool
	rest.Instances = pool.Instances[1:]
	var mu sync.Mutex
	count := map[string]int{}
	for i := range rest.Instances {
		rest.Instances[i].Addr = serving(t, func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			count[rest.Instances[i].ID]++
		})
	}
	f.Set(routesTo(rest))
	for n := range 300 {
		f.get(polling + "4&sid=" + fmt.Sprint("old-", n))
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range count {
		if n < 75 || n > 125 {
			t.Errorf("%s got %d of a's 300 sessions: %v", id, n, count)
		}
	}
	if len(count) != 3 {
		t.Errorf("a's sessions went to %v", count)
	}
}

func TestStickyByOneWayAlone(t *testing.T) {
	for _, sticky := range []app.Sticky{app.StickyBoth, app.StickyCookie, app.StickySid} {
		f := newFront(t, Config{Secret: secret})
		f.serve(Pool{Affinity: true, Sticky: sticky}, engines("a", "b")...)
		res, _ := f.get("/")
		if set := given(res, affinityCookie) != nil; set != (sticky != app.StickySid) {
			t.Errorf("%q: cookie set: %v", sticky, set)
		}
		f.begin("4")
		learnt := 0
		for _, s := range f.sids {
			learnt += s.fresh.len()
		}
		if want := map[bool]int{true: 0, false: 1}[sticky == app.StickyCookie]; learnt != want {
			t.Errorf("%q: %d sessions are known, want %d", sticky, learnt, want)
		}
	}
}

// What affinity costs a request that is not of any session, beside none.
func BenchmarkChoose(b *testing.B) {
	for _, c := range []struct {
		name string
		pool Pool
		url  string
	}{
		{"off", Pool{}, "/a/page?x=1&y=2"},
		{"cookie", Pool{Affinity: true, Sticky: app.StickyCookie}, "/a/page?x=1&y=2"},
		{"cookie,sid", Pool{Affinity: true}, "/a/page?x=1&y=2"},
		{"sid", Pool{Affinity: true, Sticky: app.StickySid}, "/a/page?x=1&y=2"},
		{"sid, poll", Pool{Affinity: true, Sticky: app.StickySid}, "/socket.io/?EIO=4&transport=polling&sid=lv_VI97HAXpY6yYWAAAC"},
		{"sid, handshake", Pool{Affinity: true, Sticky: app.StickySid}, "/socket.io/?EIO=4&transport=polling"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := New(Config{Secret: secret}, nil)
			for _, id := range manyNames(4) {
				c.pool.Instances = append(c.pool.Instances, instance(id, "127.0.0.1:1"))
			}
			r.Set(routesTo(c.pool))
			req, _ := http.NewRequest("GET", "http://localhost"+c.url, nil)
			if s := r.sids[c.pool.Instances[0].Key]; s != nil {
				s.learn(digestOf(r.salt, c.pool.Instances[0].Key, "lv_VI97HAXpY6yYWAAAC"), r.targets[manyNames(1)[0]], time.Now())
			}
			b.ReportAllocs()
			for b.Loop() {
				x := exchange{r: r, req: req, client: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
				if !x.find() || !x.choose() {
					b.Fatal("no instance")
				}
				x.release()
			}
		})
	}
}

// Random worlds: instances come, go, refuse and are overloaded; clients of all
// kinds ask two equal routers. A request goes to the instance of its session, or
// of its cookie, unless one of the documented causes holds, and whatever is not
// left to chance is chosen equally by both.
func TestStickInRandomWorlds(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 31))
		ids := manyNames(2 + rng.IntN(7))
		pool := Pool{Affinity: true, Sticky: []app.Sticky{app.StickyBoth, app.StickyCookie, app.StickySid}[rng.IntN(3)], Target: rng.IntN(2) * 10}
		routers := []*Router{New(Config{Secret: secret}, nil), New(Config{Secret: secret}, nil)}
		for _, id := range ids {
			pool.Instances = append(pool.Instances, instance(id, "127.0.0.1:1"))
		}
		key := pool.Instances[0].Key
		byCookie, bySid := pool.Sticky != app.StickySid, pool.Sticky != app.StickyCookie
		cookies, homes := map[int]session{}, map[string]string{} // by client; the instance of each session that routers[0] learnt
		for step := range 400 {
			open := map[string]int64{}
			for i := range pool.Instances {
				if step%20 == 0 {
					pool.Instances[i].State = app.Ready
					if i > 0 && rng.IntN(4) == 0 {
						pool.Instances[i].State = app.Unready
					}
				}
				open[ids[i]] = rng.Int64N(20)
			}
			rng.Shuffle(len(pool.Instances), func(i, j int) {
				pool.Instances[i], pool.Instances[j] = pool.Instances[j], pool.Instances[i]
				ids[i], ids[j] = ids[j], ids[i]
			})
			both := make([]*exchange, 2)
			who, kind, refused := rng.IntN(30), rng.IntN(5), ids[rng.IntN(len(ids))]
			url, sid, ours := "http://localhost/", "", false
			switch kind {
			case 1:
				url += "socket.io/?EIO=4&transport=polling"
			case 2:
				sid = fmt.Sprint("session-", rng.IntN(60))
				url += "socket.io/?EIO=4&transport=polling&sid=" + sid
				ours = bySid && homes[sid] != ""
			case 3:
				url += fmt.Sprintf("echo/000/stranger%d/xhr_streaming", rng.IntN(60))
			}
			ses, known := cookies[who]
			known = known && byCookie
			for i, r := range routers {
				p := pool
				if p.Instances = slices.Clone(pool.Instances); i == 1 {
					slices.Reverse(p.Instances)
				}
				r.Set(routesTo(p))
				for id, n := range open {
					r.targets[id].requests.Store(n)
					r.targets[id].sessions.Store(0) // the routers may know different ones
				}
				req, _ := http.NewRequest("GET", url, nil)
				if kind == 3 {
					req.Method = "POST"
				}
				if known {
					req.Header.Set("Cookie", affinityCookie+"="+r.sealer.seal(key, ses))
				}
				x := &exchange{r: r, req: req, socket: kind == 4, client: netip.AddrFrom4([4]byte{10, 0, 0, byte(who)})}
				if step%3 == 0 {
					x.tried = []string{refused}
				}
				if !x.find() || !x.choose() {
					x = nil
				}
				both[i] = x
			}
			x := both[0]
			if (x == nil) != (both[1] == nil) {
				t.Fatalf("seed %d, step %d: one router has an instance, its equal none", seed, step)
			}
			if x == nil {
				continue // the only ready one refused
			}
			can := func(id string) bool { return slices.Contains(x.pool.ids, id) && !x.refusedBy(id) }
			over := func(id string) bool { return pool.Target > 0 && open[id] > 15 }
			calm := slices.ContainsFunc(x.pool.ids, func(id string) bool { return can(id) && !over(id) })
			begins := kind == 4 || bySid && (kind == 1 || kind == 3)
			switch {
			case ours && can(homes[sid]):
				if x.at.id != homes[sid] {
					t.Fatalf("seed %d, step %d: %s of %s is on %s", seed, step, sid, homes[sid], x.at.id)
				}
			case !ours && known && can(ses.instance) && !(begins && over(ses.instance) && calm) && kind != 3:
				if x.at.id != ses.instance || x.pinned != tunnel.ByCookie {
					t.Fatalf("seed %d, step %d: the cookie says %s, the request is on %s", seed, step, ses.instance, x.at.id)
				}
			}
			if begins && calm && over(x.at.id) {
				t.Fatalf("seed %d, step %d: a new session on the overloaded %s", seed, step, x.at.id)
			}
			if !ours && (known || bySid && kind > 0 && kind < 4) && both[1].at.id != x.at.id {
				t.Fatalf("seed %d, step %d, kind %d: one router chose %s, its equal %s", seed, step, kind, x.at.id, both[1].at.id)
			}
			if ours && !slices.Contains(x.pool.ids, homes[sid]) {
				homes[sid] = x.at.id // its one successor
			}
			if kind != 2 && byCookie {
				cookies[who] = x.cookie
			}
			if bySid && kind == 1 {
				sid = fmt.Sprint("session-", rng.IntN(60))
				x.pool.sids.learn(digestOf(x.r.salt, key, sid), x.at.load, time.Now())
				homes[sid] = x.at.id
			}
			for _, x := range both {
				x.release()
			}
		}
	}
}

// While a drill has sessions forgotten they are nobody's, and afterwards they are
// where they were.
func TestForgottenSessions(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	pool := Pool{Affinity: true}
	all := f.serve(pool, engines("a", "b", "c")...)
	pool.Instances = all
	forget := func(share float64) {
		pool.Forget = share
		f.Set(routesTo(pool))
	}
	sids, cookies := map[string]bool{}, map[string]string{}
	for range 30 {
		sids[f.begin("4")] = true
		res, home := f.get("/")
		cookies[given(res, affinityCookie).Value] = home
	}
	lost := func() (n int) {
		for sid := range sids {
			if res, _ := f.get("/socket.io/?EIO=4&transport=polling&sid=" + sid); res.StatusCode != http.StatusOK {
				n++
			}
		}
		for c, home := range cookies {
			if _, got := f.get("/", withCookie(affinityCookie, c)); got != home {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		share       float64
		least, most int
	}{{0, 0, 0}, {1, 20, 60}, {0.5, 5, 35}, {0, 0, 0}} {
		forget(c.share)
		if n := lost(); n < c.least || n > c.most {
			t.Errorf("with %v forgotten %d of 60 sessions were elsewhere, want %d to %d", c.share, n, c.least, c.most)
		}
	}
}
