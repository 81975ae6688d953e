package control_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
)

// A simulated week, less under the race detector, and with HOLDFAST_LONG a month: a shop that scales with its
// day, whose instances get old, crash and sicken, that is deployed, well and
// badly, whose operator restarts instances, and whose Holdfast is restarted. The
// promises are checked at every step.
//
//	go test ./internal/control -run Month -month 4711 -v    one of them, told
var oneMonth = flag.Uint64("month", 0, "the seed of the one simulated week or month to live through and tell")

const (
	monthStep = 5 * time.Second // between two steps of the people
	ageBound  = time.Hour       // how much older than its age an instance may be: others may be before it

	// calmAfter is how long after something bad all must be well again: a sick
	// instance is found out after four questions, and back-off is a minute.
	calmAfter = 10 * time.Minute
)

func TestMonth(t *testing.T) {
	t.Parallel()
	days := 7
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		days = 30
	case control.Race:
		days = 2
	}
	seed := rand.Uint64() >> 16
	if *oneMonth != 0 {
		seed = *oneMonth
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMonth(t, seed)
		m.live(time.Duration(days) * 24 * time.Hour)
		if t.Failed() {
			t.Logf("again with: go test ./internal/control -run Month -month %d -v", seed)
		}
	})
}

// month is one such life.
type month struct {
	*house
	crowd *crowd
	rand  *rand.Rand
	tell  bool
	began time.Time
	v     app.Version // what should serve
	n     int         // versions deployed

	bad      time.Time // when the latest bad thing happened
	due      map[string]time.Time
	deploys  map[string]bool // operations, and whether they should go well
	replaced map[string]time.Time
	moves    int // instances that scaling started or let go
	sum      map[string]int
	failures int
}

func newMonth(t *testing.T, seed uint64) *month {
	m := &month{
		house: newHouse(t), rand: rand.New(rand.NewPCG(seed, 30)), tell: *oneMonth != 0, began: time.Now(),
		due: map[string]time.Time{}, deploys: map[string]bool{}, replaced: map[string]time.Time{}, sum: map[string]int{},
	}
	m.crowd = newCrowd(m.d)
	m.router, m.see = m.crowd, m.event
	m.apps.boot = 3 * time.Second
	m.d.Linger(2 * time.Second)
	m.d.Doom(func(id string, v app.Version) string {
		if strings.HasPrefix(v.Key.Version, "broken") {
			return "exit status 1"
		}
		return ""
	})
	m.v = m.version("v0")
	return m
}

func (m *month) version(id string) app.Version {
	v := scaled(id, 2, 8)
	v.MaxAge = 24 * time.Hour // few would get to be a week old here
	v.Rebalance = true
	return v
}

// happens is what happens, how often, and how.
var happens = []struct {
	what  string
	every time.Duration
	do    func(m *month)
}{
	{"crash", 15 * time.Hour, func(m *month) {
		if all := m.running(); len(all) > 0 {
			m.d.Crash(all[m.rand.IntN(len(all))].ID)
			m.worse(0)
		}
	}},
	{"sickness", 30 * time.Hour, func(m *month) {
		if all := m.in(app.Ready); len(all) > 0 {
			m.apps.is(all[m.rand.IntN(len(all))].ID, "sick")
			m.worse(25 * time.Minute) // until it is found out
		}
	}},
	{"operator's restart", 25 * time.Hour, func(m *month) {
		if all := m.in(app.Ready); len(all) > 0 {
			m.c.RestartInstance(all[m.rand.IntN(len(all))].ID, "a test")
		}
	}},
	{"deploy", 90 * time.Hour, func(m *month) {
		m.n++
		id := fmt.Sprint("v", m.n)
		m.v = m.version(id)
		m.deploy(m.v, true)
	}},
	{"broken deploy", 50 * time.Hour, func(m *month) {
		m.n++
		m.deploy(m.version(fmt.Sprint("broken", m.n)), false)
	}},
	{"our restart", 19 * time.Hour, func(m *month) {
		if err := m.leave(); err != nil {
			m.t.Errorf("Run: %v", err)
		}
		m.checkEvents()
		m.forget()
		m.crowd.restart()
		time.Sleep(time.Duration(m.rand.IntN(20)) * time.Second)
		m.move(m.d, control.Config{})
		m.worse(0)
	}},
}

func (m *month) deploy(v app.Version, well bool) {
	op, err := m.c.Deploy(control.Deployment{Version: v, Promote: true, By: "a test"})
	if err != nil {
		m.fail("deploy of %s: %v", v.Key, err)
		return
	}
	m.deploys[op.ID] = well
	if !well {
		m.worse(0)
	}
}

func (m *month) live(long time.Duration) {
	m.move(m.d, control.Config{})
	m.deploy(m.v, true)
	m.worse(0)
	for i := range happens {
		m.due[happens[i].what] = m.next(happens[i].every)
	}
	for step := 0; time.Since(m.began) < long && m.failures < 10; step++ {
		time.Sleep(monthStep)
		m.crowd.come(m.people(), 0)
		m.crowd.step()
		// One deploy at a time, as they are refused beside each other.
		for _, h := range happens {
			if time.Now().Before(m.due[h.what]) || strings.Contains(h.what, "deploy") && m.deploying() {
				continue
			}
			m.say("%s", h.what)
			m.sum[h.what]++
			h.do(m)
			m.due[h.what] = m.next(h.every)
		}
		m.check(step)
	}
	m.finish(long)
}

// worse notes that something bad happens, for so long.
func (m *month) worse(long time.Duration) {
	if until := time.Now().Add(long); until.After(m.bad) {
		m.bad = until
	}
}

// next is when something happens next that happens that often.
func (m *month) next(every time.Duration) time.Time {
	return time.Now().Add(time.Duration(m.rand.ExpFloat64() * float64(every)))
}

// people follows the day, and there are fewer at the weekend.
func (m *month) people() float64 {
	at := time.Since(m.began)
	most := 650.0
	if int(at/(24*time.Hour))%7 >= 5 {
		most = 250
	}
	return 60 + most*(1-math.Cos(2*math.Pi*at.Hours()/24))/2
}

func (m *month) deploying() bool {
	w := m.s.Wishes()
	for id := range m.deploys {
		if op, ok := w.Operations[id]; ok && op.Stage != app.StageDone {
			return true
		}
	}
	return false
}

// event sees each change of an instance, when the controller has done all that
// it decided with it.
func (m *month) event(e control.Event) {
	i := e.Instance
	m.say("%s %s %s %s", i.ID, i.State, i.Cause, e.Detail)
	m.sum[i.State.String()+" "+string(i.Cause)]++
	if i.Cause == app.ScaledUp && i.State == app.Starting || i.Cause == app.ScaledDown && i.State == app.Draining {
		m.moves++
	}
	if i.State != app.Draining || i.Cause != app.Aged && i.Cause != app.Requested && i.Cause != app.ScaledDown {
		return
	}
	ready := 0
	for _, other := range m.in(app.Ready) {
		if other.Key == i.Key {
			ready++
		}
	}
	if wanted := m.c.Wanted(i.Key); ready < wanted {
		m.fail("%s drains, %s, and leaves %d ready of %d wanted", i.ID, i.Cause, ready, wanted)
	}
	if i.Cause != app.ScaledDown {
		if m.replaced[i.Key.String()].Equal(e.Time) {
			m.fail("%s is replaced together with another one", i.ID)
		}
		m.replaced[i.Key.String()] = e.Time
	}
}

// check sees that all is as it was promised.
func (m *month) check(step int) {
	if time.Since(m.bad) >= calmAfter {
		k := m.v.Key
		if m.deploying() {
			return
		}
		ready, wanted := 0, m.c.Wanted(k)
		carried := m.crowd.carried()
		ready = len(carried)
		if ready < wanted && wanted <= 2 {
			m.fail("%d ready, the least is 2", ready)
		}
		total := 0.0
		for _, n := range carried {
			total += n
		}
		if out := m.crowd.out(); out > 0.05*m.people() {
			m.fail("%.0f of %.0f people cannot connect", out, m.people())
		}
		// Two looks and three samples late, and an instance's start.
		if least := min(8, int(total/100/1.1)); ready < least-1 {
			m.fail("%d ready for %.0f sockets, want %d", ready, total, least)
		}
	}
	if step%60 > 0 {
		return
	}
	for _, i := range m.c.Instances() {
		if age := time.Since(i.Born); i.State < app.Draining && age > m.v.MaxAge+ageBound {
			m.fail("%s is %s and %v old", i.ID, i.State, age)
		}
		if late := time.Since(i.Until); i.State == app.Draining && late > time.Minute {
			m.fail("%s drains, and should have been gone for %v", i.ID, late)
		}
	}
}

// finish sees how it all ended.
func (m *month) finish(long time.Duration) {
	w := m.s.Wishes()
	for id, well := range m.deploys {
		op, ok := w.Operations[id]
		switch {
		case !ok: // only the latest 200 are kept
		case op.Stage != app.StageDone && !m.deploying():
			m.fail("operation %s has not ended", id)
		case op.Stage == app.StageDone && well != (op.Failure == nil):
			m.fail("%s of %s: %+v, want it to go well: %v", op.Verb, op.Target, op.Failure, well)
		}
	}
	if most := 24 * int(long/(24*time.Hour)); m.moves > most {
		m.fail("scaling moved %d instances in %v, want at most %d", m.moves, long, most)
	}
	if m.sum["draining aged"] == 0 && long > 5*24*time.Hour {
		m.fail("nobody was replaced for its age")
	}
	if err := m.c.Shutdown(m.t.Context()); err != nil {
		m.t.Error(err)
	}
	if err := m.leave(); err != nil {
		m.t.Errorf("Run: %v", err)
	}
	m.checkEvents()
	if left := m.running(); len(left) > 0 {
		m.fail("left running: %v", left)
	}
	for _, wrong := range m.crowd.wrong {
		m.fail("%s", wrong)
	}
	closed := map[app.Cause]int{}
	for cause, n := range m.crowd.ended {
		closed[cause] = int(n)
	}
	m.t.Logf("%v: %v; closed sockets %v", long, m.sum, closed)
}

func (m *month) say(format string, args ...any) {
	if m.tell {
		m.t.Logf("%10s  "+format, append([]any{time.Since(m.began).Round(time.Second)}, args...)...)
	}
}

func (m *month) fail(format string, args ...any) {
	m.failures++
	m.t.Errorf("after %v: "+format, append([]any{time.Since(m.began).Round(time.Second)}, args...)...)
}
