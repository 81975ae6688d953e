package control_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver"
	"holdfast/internal/router"
	"holdfast/internal/store"
)

// A simulated world for the verbs: operators who ask for anything at any time,
// apps that fail, builds that do not, a disk that is full now and then, and a
// process of ours that dies in the middle of everything. The store, where all
// that is seen must be true, is checked at each transaction, the data plane at
// each of its routes, and when all is calm what runs must be what was asked for.
//
//	go test ./internal/control -run Verbs -verbs 500        a long run
//	go test ./internal/control -run Verbs -verbsseed 4711 -v  one world, told in full
var (
	verbsSeeds = flag.Int("verbs", 5, "worlds of verbs to live through")
	verbsSeed  = flag.Uint64("verbsseed", 0, "the seed of the one world of verbs to live through and tell")
)

// verbsSteps is how many times somebody does something in each world.
const verbsSteps = 60

func TestVerbsWorld(t *testing.T) {
	t.Parallel()
	first := rand.Uint64() >> 16
	if *verbsSeed != 0 {
		first, *verbsSeeds = *verbsSeed, 1
	}
	for n := range uint64(*verbsSeeds) {
		seed := first + n
		synctest.Test(t, func(t *testing.T) {
			(&realm{t: t, seed: seed}).live()
			if t.Failed() {
				t.Fatalf("again with: go test ./internal/control -run Verbs -v -verbsseed %d", seed)
			}
		})
	}
}

// realm is one such world.
type realm struct {
	t    *testing.T
	seed uint64
	rand *rand.Rand
	h    *house
	shed *workshop
	life *life // of the present process

	mu        sync.Mutex // guards the following
	asked     map[string]bool
	acked     map[string]bool // operations that were acknowledged
	ends      map[string]int
	routes    router.Routes
	instances map[string]app.Instance // as the present process has told of them
	busy      map[string]bool         // instances that an operator wants gone
}

// life is the store and the driver as one process of ours has them: when it is
// killed, they do nothing more for it.
type life struct {
	control.Store
	driver.Driver
	control.Router
	realm *realm

	mu     sync.Mutex // guards the following
	dead   bool
	full   bool
	before int // it is killed before so many more transactions; 0: not
	after  int // likewise after them
}

var errDead = errors.New("killed")

func (l *life) is() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errDead
	}
	return nil
}

func (l *life) Update(fn func(*store.Wishes) error) error {
	l.mu.Lock()
	if l.before > 0 {
		l.before--
		l.dead = l.dead || l.before == 0
	}
	dead, full := l.dead, l.full
	l.mu.Unlock()
	switch {
	case dead:
		return errDead
	case full:
		return errors.New("no space left on device")
	}
	var was, is store.Wishes
	err := l.Store.Update(func(w *store.Wishes) error {
		was, is = l.Store.Wishes(), *w
		return fn(w)
	})
	if err != nil {
		return err
	}
	l.realm.check(was, is)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.after > 0 {
		if l.after--; l.after == 0 {
			l.dead = true
			return errDead // and yet it is written
		}
	}
	return nil
}

func (l *life) Start(ctx context.Context, id string, v app.Version) error {
	if err := l.is(); err != nil {
		return err
	}
	return l.Driver.Start(ctx, id, v)
}

func (l *life) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := l.is(); err != nil {
		return err
	}
	return l.Driver.Stop(ctx, id, grace)
}

func (l *life) Set(r router.Routes) {
	if l.is() == nil {
		l.Router.Set(r)
	}
}

// start begins a process of ours.
func (m *realm) start() {
	m.life = &life{Store: m.h.s, Driver: m.h.d, Router: m.h.plane, realm: m}
	m.h.disk, m.h.router, m.h.hear = m.life, m.life, m.hear
	m.mu.Lock()
	m.routes, m.instances = router.Routes{}, map[string]app.Instance{}
	m.mu.Unlock()
	m.h.move(m.life, control.Config{Builder: m.shed})
}

// again kills the process if it is not dead yet, and starts the next.
func (m *realm) again() {
	m.say("killed, and started again")
	m.life.mu.Lock()
	m.life.dead = true
	m.life.mu.Unlock()
	if err := m.h.leave(); err != nil {
		m.t.Errorf("Run: %v", err)
	}
	if m.rand.IntN(2) == 0 {
		wait(time.Duration(m.rand.IntN(600)) * time.Second)
	}
	m.start()
}

func (m *realm) live() {
	m.rand = rand.New(rand.NewPCG(m.seed, 16))
	m.h, m.shed = newHouse(m.t), newWorkshop()
	m.asked, m.acked, m.ends, m.busy = map[string]bool{}, map[string]bool{}, map[string]int{}, map[string]bool{}
	m.h.apps.boot = time.Second
	m.h.plane.see(m.see)
	m.start()
	for range verbsSteps {
		m.step()
		if m.rand.IntN(3) > 0 {
			wait(time.Duration(m.rand.IntN(20_000)) * time.Millisecond)
		}
		synctest.Wait()
		if m.life.is() != nil {
			m.again()
		}
		m.life.mu.Lock()
		m.life.full = m.life.full && m.rand.IntN(2) == 0
		m.life.mu.Unlock()
		if m.t.Failed() {
			break
		}
	}
	m.rest()
}

// version is one of the shop's, of one of two services: often one that there
// is.
func (m *realm) version() app.Version {
	known := slices.SortedFunc(maps.Keys(m.h.s.Wishes().Versions), func(a, b app.Key) int { return strings.Compare(a.String(), b.String()) })
	if len(known) > 1 && m.rand.IntN(2) == 0 {
		v := m.h.s.Wishes().Versions[known[m.rand.IntN(len(known))]]
		v.Artifact = app.Artifact{}
		return v
	}
	v := shop(fmt.Sprint("v", m.rand.IntN(6)), 1+m.rand.IntN(3))
	if m.rand.IntN(3) == 0 {
		v.Service = "jobs"
	}
	v.Ready.Within = time.Minute
	v.Artifact, v.Source = app.Artifact{}, "sources of "+v.Version
	if m.rand.IntN(4) == 0 {
		v.Source += fmt.Sprint(", changed ", m.rand.IntN(3))
	}
	return v
}

// step has somebody do something.
func (m *realm) step() {
	r, c := m.rand, m.h.c
	v := m.version()
	k, service := v.Key, v.ServiceKey()
	pick := ""
	if all := m.h.c.Instances(); len(all) > 0 {
		pick = all[r.IntN(len(all))].ID
	}
	switch r.IntN(22) {
	case 0, 1, 2, 3:
		d := control.Deployment{Version: v, Promote: r.IntN(3) > 0, KeepOthers: r.IntN(2) == 0}
		m.mu.Lock()
		m.asked[service.String()+text(app.Split{By: app.ByIP, Shares: map[string]float64{k.Version: 1}})] = true
		m.mu.Unlock()
		m.answer(c.Deploy(d))
	case 4, 5, 6:
		s := app.Split{By: app.ByIP, Shares: map[string]float64{}}
		part := float64(r.IntN(5)) / 4
		s.Shares[k.Version] = part
		for other := range m.h.s.Wishes().Versions {
			if other.ServiceKey() == service && other.Version >= k.Version {
				k = other // the greatest, so that a seed says which
			}
		}
		s.Shares[k.Version] += 1 - part
		m.mu.Lock()
		m.asked[service.String()+text(s)] = true
		m.mu.Unlock()
		m.answer(c.SetTraffic(service, s, ""))
	case 7:
		m.answer(c.Rollback(service, ""))
	case 8:
		m.answer(c.StartVersion(k, ""))
	case 9:
		m.answer(c.StopVersion(k, ""))
	case 10:
		m.answer(c.DeleteVersion(k, ""))
	case 11:
		if r.IntN(3) == 0 {
			m.answer(c.DeleteService(service, ""))
		}
	case 12:
		n := 1 + r.IntN(4)
		m.answer(c.SetScaling(k, app.Scaling{Manual: true, Min: n, Max: n}, ""))
	case 13:
		m.answer(c.RestartInstance(pick, ""))
	case 14:
		m.mu.Lock()
		m.busy[pick] = true
		m.mu.Unlock()
		m.answer(c.DeleteInstance(pick, ""))
	case 15:
		for id, op := range m.h.s.Wishes().Operations {
			if op.Stage != app.StageDone {
				m.answer(c.Cancel(id, ""))
				break
			}
		}
	case 16:
		m.say("%s crashes", pick)
		m.h.d.Crash(pick)
	case 17:
		feeling := []string{"", "", "sick", "unready", "deaf"}[r.IntN(5)]
		name := []string{pick, k.Version}[r.IntN(2)]
		m.say("%s is %q", name, feeling)
		m.h.apps.is(name, feeling)
	case 18:
		m.shed.mu.Lock()
		m.shed.broken[v.Source] = r.IntN(2) == 0
		m.shed.takes = time.Duration(r.IntN(30)) * time.Second
		m.shed.mu.Unlock()
		m.h.plane.carry(pick, r.IntN(50))
		m.h.d.Linger(time.Duration(r.IntN(40)) * time.Second)
	case 19:
		m.again()
	case 20:
		m.life.mu.Lock()
		m.life.before, m.life.after = r.IntN(4), r.IntN(4)
		m.life.mu.Unlock()
	case 21:
		m.life.mu.Lock()
		m.life.full = true
		m.life.mu.Unlock()
	}
}

// answer notes what was acknowledged. What was not must be one of the kinds
// that callers know, or come from the disk.
func (m *realm) answer(op app.Operation, err error) {
	m.say("%s %s: %v %v", op.Verb, op.Target, op.ID, err)
	if err != nil {
		for _, kind := range []error{app.ErrBusy, app.ErrExists, app.ErrInvalid, app.ErrNotFound, errDead} {
			if errors.Is(err, kind) {
				return
			}
		}
		if !strings.Contains(err.Error(), "no space left") {
			m.t.Errorf("refused for %v", err)
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked[op.ID] = true
	if kept, ok := m.h.s.Wishes().Operations[op.ID]; !ok {
		m.t.Errorf("operation %s is acknowledged, and not kept", op.ID)
	} else if op.Stage == app.StageDone && kept.Stage != app.StageDone {
		m.t.Errorf("operation %s is told to be done, and is not", op.ID)
	}
}

// text is a split, whole.
func text(s app.Split) string {
	words := []string{string(s.By)}
	for _, v := range s.Versions() {
		if s.Shares[v] > 0 {
			words = append(words, fmt.Sprintf("%s=%g", v, s.Shares[v]))
		}
	}
	return strings.Join(words, " ")
}

// check looks at one transaction of the store.
func (m *realm) check(was, is store.Wishes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ended []app.Operation
	for id, op := range is.Operations {
		old, ok := was.Operations[id]
		switch {
		case ok && old.Stage == app.StageDone && !reflect.DeepEqual(old, op):
			m.t.Errorf("operation %s was changed after its end: %+v, then %+v", id, old, op)
		case op.Stage == app.StageDone && (!ok || old.Stage != app.StageDone):
			ended = append(ended, op)
			m.ends[id]++
			m.say("%s %s %s ends, failure %v", id, op.Verb, op.Target, op.Failure)
		}
		if op.Stage == app.StageDone == op.Ended.IsZero() {
			m.t.Errorf("operation %s is %s, its end is %s", id, op.Stage, op.Ended)
		}
	}
	for id, op := range was.Operations {
		if _, ok := is.Operations[id]; !ok && op.Stage != app.StageDone {
			m.t.Errorf("operation %s, which was under way, is forgotten", id)
		}
	}
	under := map[app.ServiceKey]string{}
	for id, op := range is.Operations {
		if op.Stage != app.StageDone && op.Instance == "" {
			if other := under[op.Target.ServiceKey()]; other != "" {
				m.t.Errorf("two operations of one service are under way: %s, %s", id, other)
			}
			under[op.Target.ServiceKey()] = id
		}
	}
	for k, s := range is.Services {
		if len(s.Split.Shares) > 0 && !m.asked[k.String()+text(s.Split)] {
			m.t.Errorf("nobody asked for the split %q of %s", text(s.Split), k)
		}
		for v := range s.Split.Shares {
			if is.Versions[k.Version(v)].Serving || was.Services[k].Split.Shares[v] > 0 && !was.Versions[k.Version(v)].Serving {
				continue
			}
			if !slices.ContainsFunc(ended, func(op app.Operation) bool { return op.Verb == app.VerbStop && op.Target == k.Version(v) }) {
				m.t.Errorf("traffic of %s goes to %s, which does not serve, and nobody asked for that", k, v)
			}
		}
		if old, ok := was.Services[k]; ok && text(old.Split) != text(s.Split) {
			if !slices.ContainsFunc(ended, func(op app.Operation) bool {
				return op.Failure == nil && op.Split != nil && op.Target.ServiceKey() == k && text(*op.Split) == text(s.Split)
			}) {
				m.t.Errorf("the split of %s became %q, and no operation for that ended", k, text(s.Split))
			}
		}
	}
	for _, op := range ended {
		k := op.Target.ServiceKey()
		if op.Failure == nil && op.Split != nil && text(is.Services[k].Split) != text(*op.Split) {
			m.t.Errorf("operation %s ended well, and the split of %s is %q", op.ID, k, text(is.Services[k].Split))
		}
		for _, v := range op.Begun {
			if kept := is.Versions[k.Version(v)]; op.Failure != nil && kept.Serving && is.Services[k].Split.Shares[v] == 0 {
				m.t.Errorf("operation %s failed, and %s, which it began, serves", op.ID, v)
			}
		}
	}
}

// see looks at what the data plane is told.
func (m *realm) see(now router.Routes) {
	w := m.h.s.Wishes()
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.routes
	m.routes = now
	for name, s := range now.Apps["shop"].Services {
		k := app.ServiceKey{App: "shop", Service: name}
		for v := range s.Split.Shares {
			if _, ok := s.Pools[v]; !ok {
				m.t.Errorf("traffic of %s leads to %s, which has no pool", k, v)
			}
		}
		was, ok := before.Apps["shop"].Services[name]
		if !ok {
			continue // our own start
		}
		for v, share := range s.Split.Shares {
			if was.Split.Shares[v] == 0 && share > 0 && len(was.Split.Shares) > 0 {
				if n, least := ready(s.Pools[v]), w.Versions[k.Version(v)].Scaling.Min; n < least {
					m.t.Errorf("traffic of %s moved to %s with %d of %d ready", k, v, n, least)
				}
			}
		}
	}
}

// hear checks that of control's own will never fewer are ready than wanted.
func (m *realm) hear(e control.Event) {
	i := e.Instance
	v := m.h.s.Wishes().Versions[i.Key]
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.instances[i.ID]
	m.instances[i.ID] = i
	if was.State != app.Ready || i.State != app.Draining || i.Cause == app.Unhealthy || !v.Serving || m.busy[i.ID] {
		return
	}
	n := 0
	for _, other := range m.instances {
		if other.Key == i.Key && other.State == app.Ready {
			n++
		}
	}
	if n < v.Scaling.Min {
		m.t.Errorf("%s drains (%s), and %d of %d are ready", i.ID, i.Cause, n, v.Scaling.Min)
	}
}

func ready(p router.Pool) (n int) {
	for _, i := range p.Instances {
		if i.State == app.Ready {
			n++
		}
	}
	return n
}

// rest lets the world calm down. Then every operation has ended, once, and what
// runs is what was asked for, no more and no less.
func (m *realm) rest() {
	m.say("calm")
	m.again()
	m.h.apps.mu.Lock()
	clear(m.h.apps.feel)
	m.h.apps.mu.Unlock()
	m.shed.mu.Lock()
	clear(m.shed.broken)
	m.shed.mu.Unlock()
	m.h.d.Linger(0)
	wait(15 * time.Minute)
	w := m.h.s.Wishes()
	for id, op := range w.Operations {
		if op.Stage != app.StageDone {
			m.t.Errorf("operation %s (%s of %s) never ends", id, op.Verb, op.Target)
		}
	}
	m.mu.Lock()
	for id, n := range m.ends {
		if n != 1 {
			m.t.Errorf("operation %s ended %d times", id, n)
		}
	}
	for id := range m.acked {
		if _, ok := w.Operations[id]; !ok {
			m.t.Errorf("operation %s was acknowledged, and is not known", id)
		}
	}
	m.mu.Unlock()
	want, have := map[app.Key]int{}, map[app.Key]int{}
	for k, v := range w.Versions {
		if v.Serving {
			want[k] = v.Scaling.Min
		}
	}
	for _, r := range m.h.running() {
		have[r.Key]++
	}
	if !maps.Equal(want, have) {
		m.t.Errorf("what runs is %v, what was asked for is %v", have, want)
	}
	for k, s := range w.Services {
		if got := m.h.routes().Apps[k.App].Services[k.Service].Split; len(s.Split.Shares) > 0 && text(got) != text(s.Split) {
			m.t.Errorf("the routes of %s say %q, asked for is %q", k, text(got), text(s.Split))
		}
	}
	if err := m.h.leave(); err != nil {
		m.t.Errorf("Run: %v", err)
	}
}

func (m *realm) say(format string, args ...any) {
	if *verbsSeed != 0 {
		m.t.Logf("%s  "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...)
	}
}
