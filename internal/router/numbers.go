package router

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tally"
	"holdfast/internal/tunnel"
)

// What happens here is counted for each version, for whoever shows it. A request
// costs two or three atomic additions; what is rarer, or costs much anyway, takes
// a lock. Nobody here knows who asks.

// Numbers is what has been counted of one version since it was first routed to,
// or since this process began. It only grows, but for Open.
type Numbers struct {
	// Requests are those that have ended, by the class of their status: 0 for those
	// that got none, 1 for a socket's handshake that succeeded, up to 5.
	Requests [statusClasses]tally.Spread

	// Unserved are requests whose answer was not the app's, or not all of it, and
	// Handshakes are those of sockets.
	Unserved   map[Unserved]int64
	Handshakes map[Outcome]int64

	Affinity Affinity

	Open      int              // sockets open now
	Endings   map[Ending]int64 // of sockets
	Lifetimes tally.Spread     // of sockets that ended

	// What came over sockets, those that are open now included. Largest is 0.
	FromClient, FromInstance tunnel.Traffic
}

const statusClasses = 6

// Unserved tells requests apart whose answer was not the app's.
type Unserved struct {
	Handshake bool // of a socket
	Cause     app.Cause
}

// Ending tells endings of sockets apart.
type Ending struct {
	By    tunnel.By
	Cause app.Cause
}

// Outcome is what became of a socket's handshake.
type Outcome string

// The outcomes.
const (
	Opened   Outcome = "opened"
	Declined Outcome = "declined" // by the app, with an answer of its own
	Refused  Outcome = "refused"  // by Holdfast, in the app's place
	Left     Outcome = "left"     // the client did not wait
)

// Outcomes lists them.
func Outcomes() []Outcome { return []Outcome{Opened, Declined, Refused, Left} }

// Affinity is how it went with clients that may belong to an instance: requests
// of versions with session affinity.
type Affinity struct {
	Cookie, Sid int64               // led to their instance, by what they brought
	New         int64               // brought nothing that was known: they were given a place
	Lost        map[app.Cause]int64 // belonged to an instance and came to another; why that was
}

// Why a client does not come to its instance, besides the causes for which an
// instance leaves.
const (
	lostUnready    app.Cause = "unready"    // it fails its readiness check
	lostRefused    app.Cause = "refused"    // it took no connection
	lostOverloaded app.Cause = "overloaded" // it carries half as much again as it is meant for, and a session begins
	lostDrill      app.Cause = "drill"      // a drill has it forgotten
	lostUnknown    app.Cause = "unknown"    // it left too long ago for anybody to know
)

// latencies and lifetimes are the buckets: from what a small answer takes to the
// hour that one may, and from a socket that failed at once to the day that a drain
// may last.
func latencies() tally.Bounds {
	return tally.Bounds{
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
		100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
		10 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute,
	}
}

func lifetimes() tally.Bounds {
	return tally.Bounds{
		time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		59 * time.Minute, 61 * time.Minute, 3 * time.Hour, 12 * time.Hour, 25 * time.Hour,
	}
}

// counts is Numbers as it is counted. It outlives the tables that lead to it.
type counts struct {
	requests           [statusClasses]*tally.Histogram
	lifetimes          *tally.Histogram
	cookie, sid, fresh atomic.Int64

	mu           sync.Mutex // guards the following
	unserved     map[Unserved]int64
	handshakes   map[Outcome]int64
	lost         map[app.Cause]int64
	endings      map[Ending]int64
	fromClient   tunnel.Traffic    // of sockets that ended
	fromInstance tunnel.Traffic    // likewise
	shown        [2]tunnel.Traffic // as last told, with those that are open

	gone time.Time // guarded by Router.mu: when it was routed no more; zero: it is
}

// countsKept is how long a version that is routed no more is still told of, so
// that its last sockets are seen by those who ask once a minute.
const countsKept = 10 * time.Minute

func newCounts() *counts {
	c := &counts{
		lifetimes:  tally.New(lifetimes()),
		unserved:   map[Unserved]int64{},
		handshakes: map[Outcome]int64{},
		lost:       map[app.Cause]int64{},
		endings:    map[Ending]int64{},
	}
	for i := range c.requests {
		c.requests[i] = tally.New(latencies())
	}
	return c
}

// countsLocked finds a version's counts again, or a service's where k.Version is
// "". next takes them over to the next table.
func (r *Router) countsLocked(k app.Key, next map[app.Key]*counts) *counts {
	c := r.counted[k]
	if c == nil {
		c = newCounts()
	}
	c.gone = time.Time{}
	next[k] = c
	return c
}

// retireLocked keeps those a while that are routed no more.
func (r *Router) retireLocked(now time.Time, next map[app.Key]*counts) {
	for k, c := range r.counted {
		if next[k] != nil {
			continue
		}
		if c.gone.IsZero() {
			c.gone = now
		}
		if now.Sub(c.gone) < countsKept {
			next[k] = c
		}
	}
}

// count counts a request that ended.
func (x *exchange) count(status int, now time.Time) {
	c := x.counts()
	class := status / 100
	if class >= statusClasses {
		class = 0
	}
	c.requests[class].Add(now.Sub(x.start))
	switch {
	case x.lost != "":
	case x.pool == nil || !x.pool.cookie && x.pool.sids == nil || x.last == "":
	case x.pinned == tunnel.ByCookie:
		c.cookie.Add(1)
	case x.pinned == tunnel.BySid:
		c.sid.Add(1)
	default:
		c.fresh.Add(1)
	}
	if x.why == "" && x.lost == "" && !x.socket {
		return // as nearly all
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.why != "" {
		c.unserved[Unserved{x.socket, x.why}]++
	}
	if x.lost != "" {
		c.lost[x.lost]++
	}
	if x.socket {
		c.handshakes[x.outcome(status)]++
	}
}

// counts is where a request is counted: with the version that it was for, as far
// as it was known.
func (x *exchange) counts() *counts {
	if x.pool != nil {
		return x.pool.counts
	}
	if x.table != nil {
		if s := x.table.services[x.place.App][x.place.Service]; s != nil {
			return s.counts
		}
	}
	return x.r.strays
}

func (x *exchange) outcome(status int) Outcome {
	switch {
	case status == http.StatusSwitchingProtocols, x.joined != nil: // over HTTP/2 a socket begins with 200 (RFC 8441, 5)
		return Opened
	case errors.Is(x.err, errLeft):
		return Left
	case x.why != "":
		return Refused
	default:
		return Declined
	}
}

// ended counts the end of a socket.
func (c *counts) ended(e tunnel.Ending) {
	c.lifetimes.Add(e.Duration)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endings[Ending{e.By, e.Cause}]++
	c.fromClient = c.fromClient.Plus(e.FromClient)
	c.fromInstance = c.fromInstance.Plus(e.FromInstance)
}

// Numbers is what was counted, by version. What could not be told to be for a
// version is under its service, with no version, and what was for no service
// under the zero key. It looks at every open socket, as tunnel.Set.Carried does.
func (r *Router) Numbers() map[app.Key]Numbers {
	r.mu.Lock()
	all := make(map[app.Key]*counts, len(r.counted)+1)
	for k, c := range r.counted {
		all[k] = c
	}
	r.mu.Unlock()
	all[app.Key{}] = r.strays

	// Those that ended first: a socket that ends now is then missing until the
	// next time, and not counted twice.
	out := make(map[app.Key]Numbers, len(all))
	for k, c := range all {
		out[k] = c.numbers()
	}
	open := r.tunnels.Carried()
	for k, n := range out {
		now := open[k]
		n.Open = now.Sockets
		n.FromClient, n.FromInstance = all[k].show(n.FromClient.Plus(now.FromClient), n.FromInstance.Plus(now.FromInstance))
		out[k] = n
	}
	return out
}

func (c *counts) numbers() Numbers {
	n := Numbers{
		Affinity:  Affinity{Cookie: c.cookie.Load(), Sid: c.sid.Load(), New: c.fresh.Load()},
		Lifetimes: c.lifetimes.Spread(),
	}
	for i, h := range c.requests {
		n.Requests[i] = h.Spread()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.Unserved, n.Handshakes, n.Endings = cloned(c.unserved), cloned(c.handshakes), cloned(c.endings)
	n.Affinity.Lost = cloned(c.lost)
	n.FromClient, n.FromInstance = c.fromClient, c.fromInstance
	return n
}

// show has what is told never shrink, though a socket may be missing that ended
// while we looked.
func (c *counts) show(fromClient, fromInstance tunnel.Traffic) (tunnel.Traffic, tunnel.Traffic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown[0], c.shown[1] = c.shown[0].AtLeast(fromClient), c.shown[1].AtLeast(fromInstance)
	return c.shown[0], c.shown[1]
}

func cloned[K comparable](m map[K]int64) map[K]int64 {
	out := make(map[K]int64, len(m))
	for k, n := range m {
		out[k] = n
	}
	return out
}

// departed is an instance that serves a version's clients no more, and why.
type departed struct {
	id    string
	cause app.Cause
}

// departedMax is how many are remembered for each version: a client may come back
// a day later, but then hardly anybody asks why it lost its place.
const departedMax = 64

// departedLocked brings to date who has left a version, the latest last.
func (r *Router) departedLocked(k app.Key, instances []app.Instance) []departed {
	all := slices.Clone(r.left[k])
	note := func(id string, cause app.Cause) {
		all = slices.DeleteFunc(all, func(d departed) bool { return d.id == id })
		if cause != "" {
			all = append(all, departed{id, cause})
		}
	}
	for _, i := range instances {
		switch i.State {
		case app.Draining, app.Stopped:
			note(i.ID, i.Cause)
		case app.Unready:
			note(i.ID, lostUnready)
		default:
			note(i.ID, "")
		}
	}
	return all[max(0, len(all)-departedMax):]
}

// why says why a client of that instance is led to another.
func (p *pool) why(instance string) app.Cause {
	for _, d := range p.departed {
		if d.id == instance {
			return d.cause
		}
	}
	return lostUnknown
}
