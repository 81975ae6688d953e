package drill

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// recorder notes what clients live through, and what is seen of the service. Its
// methods may be called from several goroutines. What happens before start and
// after stop counts for nothing but who is connected.
type recorder struct {
	spec Spec
	mark string

	mu       sync.Mutex // guards the following
	began    time.Time  // zero: not yet
	brokeAt  time.Duration
	mendedAt time.Duration
	ended    time.Duration // 0: not yet
	op       Operation
	lives    map[*client]*life
	failures map[failKey]*failure
	goodbyes map[string]*failure
	messages Messages
	counts   counts // since the last look
	served   map[string]int
	samples  []Sample
	moments  []Moment
	known    map[string]Instance
	real     map[string]int
	realHits int
}

// life is what is known of one client.
type life struct {
	ups     int
	is      bool // connected
	outages []Outage
	trouble string // the latest
	event   string // id of the last
	counted int    // how many events in a row had consecutive ids
}

type failKey struct{ probe, what string }

type failure struct {
	n       int
	clients map[int]bool
	first   time.Duration
}

type counts struct{ errors, goodbyes, returns int }

func newRecorder(s Spec, mark string) *recorder {
	return &recorder{
		spec: s, mark: mark, lives: map[*client]*life{}, failures: map[failKey]*failure{}, goodbyes: map[string]*failure{},
		served: map[string]int{}, known: map[string]Instance{}, real: map[string]int{},
	}
}

func (r *recorder) join(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives[c] = &life{}
}

// start begins to count.
func (r *recorder) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = time.Now()
}

func (r *recorder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = time.Since(r.began)
}

func (r *recorder) broke(op Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.op, r.brokeAt = op, time.Since(r.began)
}

func (r *recorder) mended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mendedAt = time.Since(r.began)
}

// since is how long the drill has lasted.
func (r *recorder) since() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atLocked()
}

func (r *recorder) atLocked() time.Duration {
	if r.began.IsZero() {
		return 0
	}
	return time.Since(r.began)
}

func (r *recorder) countsLocked() bool { return !r.began.IsZero() && r.ended == 0 }

// ups is how often a client was connected.
func (r *recorder) ups(c *client) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[c].ups
}

func (r *recorder) up(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lives[c]
	l.ups++
	if l.is {
		return
	}
	l.is = true
	if r.countsLocked() && len(l.outages) > 0 && !l.outages[len(l.outages)-1].Back {
		o := &l.outages[len(l.outages)-1]
		o.Back, o.Seconds = true, seconds(r.atLocked())-o.At
		r.counts.returns++
	}
}

// down notes that a client is connected no more; bye is how it was told, "" where
// it was not.
func (r *recorder) down(c *client, bye string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lives[c]
	if !r.countsLocked() {
		l.is = false
		return
	}
	if l.is {
		l.is = false
		l.outages = append(l.outages, Outage{Client: c.n, Probe: c.probe.String(), At: seconds(r.atLocked())})
	}
	if bye != "" {
		r.counts.goodbyes++
		add(r.goodbyes, bye, c.n, r.atLocked())
	}
}

// failed notes what a client met.
func (r *recorder) failed(c *client, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := plain(err).Error()
	l := r.lives[c]
	l.trouble = what
	if !r.countsLocked() {
		return
	}
	r.counts.errors++
	add(r.failures, failKey{c.probe.String(), what}, c.n, r.atLocked())
}

// hopes says whether a client is away that may still be back in time.
func (r *recorder) hopes(within time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lives {
		if n := len(l.outages); n > 0 && !l.outages[n-1].Back && seconds(r.atLocked())-l.outages[n-1].At <= within.Seconds() {
			return true
		}
	}
	return false
}

// kindsMost bounds how many different failures are told apart: an app may put a
// number into each of its answers.
const kindsMost = 50

func add[K comparable](all map[K]*failure, key K, client int, at time.Duration) {
	f := all[key]
	if f == nil {
		if len(all) >= kindsMost {
			var other K
			key = other
		}
		if f = all[key]; f == nil {
			f = &failure{clients: map[int]bool{}, first: at}
			all[key] = f
		}
	}
	f.n++
	f.clients[client] = true
}

func (r *recorder) lastTrouble(c *client) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[c].trouble
}

func (r *recorder) sent(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.countsLocked() {
		r.messages.Sent += n
	}
}

func (r *recorder) answered(n, doubled int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.countsLocked() {
		r.messages.Answered += n
		r.messages.Doubled += doubled
	}
}

func (r *recorder) lost(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.countsLocked() {
		r.messages.Lost += n
	}
}

// lastEvent is the id that a stream goes on after.
func (r *recorder) lastEvent(c *client) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[c].event
}

// countedLeast is how many consecutive ids show that a stream counts its events.
const countedLeast = 3

// event takes in the id of an event. Where they count, a gap is a loss and a
// repetition a doubling.
func (r *recorder) event(c *client, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lives[c]
	now, ok := number(id)
	before, had := number(l.event)
	l.event = id
	switch {
	case !ok:
		l.counted = 0
		return
	case !had:
		return
	case now == before+1:
		l.counted++
	case l.counted >= countedLeast && now > before && r.countsLocked():
		r.messages.Lost += int(min(now-before-1, 1<<20))
	case l.counted >= countedLeast && now <= before && r.countsLocked():
		r.messages.Doubled++
		l.event = fmt.Sprint(before)
	default:
		l.counted = 0
	}
	if r.countsLocked() {
		r.messages.Sent++
		r.messages.Answered++
	}
}

// momentsMost bounds what is told of the instances.
const momentsMost = 400

// look takes in what there is of the service; nil: it could not be asked.
func (r *recorder) look(all []Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.countsLocked() {
		return
	}
	at := seconds(r.atLocked())
	s := Sample{At: at, Errors: r.counts.errors, Goodbyes: r.counts.goodbyes, Returns: r.counts.returns, Served: r.served}
	r.counts, r.served = counts{}, map[string]int{}
	if all != nil {
		s.Sockets, s.States = map[string]int{}, map[string]string{}
		seen := map[string]Instance{}
		for _, i := range all {
			s.Sockets[i.ID], s.States[i.ID] = i.Sockets, i.State
			seen[i.ID] = i
			was, had := r.known[i.ID]
			first := len(r.samples) == 0
			if len(r.moments) < momentsMost && !first && (!had || was.State != i.State) {
				r.moments = append(r.moments, Moment{At: at, Instance: i.ID, State: i.State, Cause: i.Cause, Detail: i.Detail})
			}
		}
		r.known = seen
	}
	r.samples = append(r.samples, s)
}

// record takes in a line of the access log.
func (r *recorder) record(line []byte) {
	var x struct {
		Msg      string
		Trace    string
		Instance string
		Status   int
		Cause    string
		Code     int
	}
	if json.Unmarshal(line, &x) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.countsLocked() {
		return
	}
	if x.Msg == "request" && x.Instance != "" {
		r.served[x.Instance]++
	}
	if Ours(x.Trace) {
		return
	}
	r.realHits++
	switch {
	case x.Msg == "socket":
		r.real[fmt.Sprintf("sockets ended with %d %s", x.Code, x.Cause)]++
	case x.Status >= 500:
		r.real[fmt.Sprintf("requests answered with %d", x.Status)]++
	}
}

// result is what all that amounts to.
func (r *recorder) result(op Operation) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, _ := phases(r.spec.For)
	res := Result{
		Drill: string(r.spec.Fault), What: r.spec.Fault.Says(), Operation: op.ID, Instances: r.op.Instances, Share: r.spec.Share,
		Began: r.began.UTC(), Seconds: seconds(r.ended), Broke: seconds(cmp.Or(r.brokeAt, before)), Mended: seconds(cmp.Or(r.mendedAt, r.ended)),
		Clients: len(r.lives), Samples: r.samples, Moments: r.moments, Messages: r.messages, CutShort: op.Failure,
	}
	for _, p := range r.spec.Probes {
		res.Probes = append(res.Probes, p.String())
	}
	for k, f := range r.failures {
		res.Failures = append(res.Failures, Failure{Probe: k.probe, What: cmp.Or(k.what, "other errors"), N: f.n, Clients: slices.Sorted(maps.Keys(f.clients)), First: seconds(f.first)})
		res.Errors += f.n
	}
	slices.SortFunc(res.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.First, b.First), cmp.Compare(a.What, b.What))
	})
	for what, f := range r.goodbyes {
		res.Goodbyes = append(res.Goodbyes, Count{cmp.Or(what, "others"), f.n})
	}
	for what, n := range r.real {
		res.Real.Met = append(res.Real.Met, Count{what, n})
	}
	res.Real.Records = r.realHits
	for _, all := range [][]Count{res.Goodbyes, res.Real.Met} {
		slices.SortFunc(all, func(a, b Count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.What, b.What)) })
	}
	for _, l := range r.lives {
		for _, o := range l.outages {
			if !o.Back {
				o.Seconds = seconds(r.ended) - o.At
			}
			res.Outages = append(res.Outages, o)
		}
	}
	slices.SortFunc(res.Outages, func(a, b Outage) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Client, b.Client))
	})
	res.finish(r.spec.Expect)
	return res
}

// seconds is a duration as reports have it, to the millisecond.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
