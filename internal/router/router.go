// Package router is the data plane: it takes requests in, finds the version a
// host means and an instance of it, carries HTTP there and back, and hands
// upgraded WebSockets to the tunnel room.
//
// It must not know why instances come and go, what was asked for, or how an
// instance feels: Set gives it Routes, Load says what the instances carry, and
// with nobody calling either it goes on serving what it knows.
//
// Start reading with Router.ServeHTTP, then find.go (host to version), pick.go
// (version to instance), proxy.go (plain HTTP) and upgrade.go (WebSockets).
package router

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// Config is what a router has to be told. Its zero value answers for localhost
// and addresses.
type Config struct {
	Domains []string // base domains, such as "localhost"
	Region  string   // REGION_ID in hosts; "" accepts any

	// Secret seals affinity cookies and salts what clients are placed by; routers of one installation share it.
	// Without one a random one is made, and cookies end with the process.
	Secret []byte

	// Secure says at which authority, HOST or HOST:PORT, a host's clients are to
	// use TLS; ok is false where they need not. Plain requests are led there. nil:
	// none are.
	Secure func(host string) (authority string, ok bool)

	// HSTS is for how long clients are told over TLS to use nothing else; 0 tells
	// them nothing.
	HSTS time.Duration

	// Trusted are the addresses of proxies that are believed about who comes
	// through them; TrustedUnix says that whoever comes over a Unix socket is one.
	Trusted     []netip.Prefix
	TrustedUnix bool

	Access *slog.Logger // one record per request, and one per socket at its end; nil: none
	Log    *slog.Logger // nil: none

	// Bounds; zero means the default.
	Body     int64         // bytes of a request's body, where its version says nothing: BodyMax
	Stall    time.Duration // that a client may take nothing of an answer, or send nothing of a body, over HTTP/2: StallMax
	Response time.Duration // until an answer must have ended: ResponseMax
	Wait     time.Duration // for an instance to be ready: WaitMax

	// Sockets is how many may be open at once; one more gets 503 and those
	// inside go on. 0 means that the system's limits alone decide.
	Sockets int

	// App is how many requests and sockets of one app may be open at once; one
	// more gets 503. 0 means any.
	App int

	// Traced says that requests and sockets are told to a collector, by their
	// records: those of clients that want it, and Sample of the others, 0 to 1.
	Traced bool
	Sample float64

	// Sources are local addresses to dial instances on other machines from, when
	// the system's own choice has no port left. On loopback there are always more.
	Sources []netip.Addr

	// Dial connects to an instance at addr (host:port); nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// The documented limits of App Engine's front end, and how long a request
// waits for an instance.
const (
	BodyMax     = 32 << 20 // bytes
	ResponseMax = time.Hour
	StallMax    = time.Minute
	WaitMax     = 10 * time.Second // shorter than the patience of browsers and of load balancers in front of us
)

// waitersMax is how many requests of one service may wait for an instance to
// be ready: each costs a goroutine and buffers, some 20 kB.
const waitersMax = 1000

// Router carries requests to instances. Make one with New; it is an
// http.Handler. All methods may be called from several goroutines.
type Router struct {
	// Set by New, then constant.
	cfg       Config
	access    slog.Handler
	names     names
	hsts      string // value of Strict-Transport-Security; "" for none
	sealer    sealer
	salt      [sessionBytes]byte // for what clients are placed by
	tunnels   *tunnel.Set
	transport *http.Transport
	sources   *sources // nil: cfg.Dial is somebody else's
	buffers   buffers  // for copying bodies

	table  atomic.Pointer[table]
	closed atomic.Bool
	bye    chan struct{}   // closed by Close
	routed <-chan struct{} // closed by the first Set

	clients clients      // who has how many sockets open
	strays  *counts      // what was for no service
	open    atomic.Int64 // sockets, and handshakes that were let in

	mu      sync.Mutex                 // guards the following; Set and Load only, never the path of a request
	targets map[string]*target         // by instance id
	told    map[string]leave           // what the tunnels were told, by instance id
	queues  map[string]*atomic.Int64   // for service.waiting, by app/service
	apps    map[string]*atomic.Int64   // for service.open, by app
	turns   map[app.Key]*atomic.Uint64 // for pool.chosen
	sids    map[app.Key]*sids          // for pool.sids
	counted map[app.Key]*counts        // what was counted, by version; services' own have none
	left    map[app.Key][]departed     // for pool.departed
}

// target is what one instance carries, live. It outlives the tables that lead
// to it, so that open requests and sockets are counted across route changes.
type target struct {
	id                        string // constant
	requests, sockets, errors atomic.Int64
	sessions                  atomic.Int64  // of long polling, in tables of sids
	chosen                    atomic.Uint64 // see seat.chosen
	idle                      idle
}

// leave is what the tunnels were told of an instance that goes.
type leave struct {
	state app.State
	until time.Time
	cause app.Cause
}

// table is Routes made ready for look-ups. It never changes.
type table struct {
	routes   Routes
	services map[string]map[string]*service // by project, by name
	next     chan struct{}                  // closed when another table takes over
}

// service is one service in a table.
type service struct {
	by      app.SplitBy
	shares  []share
	pools   map[string]*pool
	waiting *atomic.Int64 // requests that wait for an instance; outlives the table
	counts  *counts       // of requests that found no version; outlives the table
	open    *atomic.Int64 // requests and sockets of the whole app; likewise
}

// pool is one version's instances in a table.
type pool struct {
	bodyMax  int64 // see Pool.BodyMax
	key      app.Key
	stopped  bool    // see Pool.Stopped
	cookie   bool    // a cookie pins clients
	sids     *sids   // so do sessions of long polling: which are where; outlives the table. nil: they do not
	target   int     // see Pool.Target
	forget   float64 // see Pool.Forget
	sockets  app.Sockets
	counts   *counts        // outlives the table
	departed []departed     // who left of late, and why
	chosen   *atomic.Uint64 // the highest of its instances' target.chosen; outlives the table
	ready    []member
	ids      []string // of ready, in the same order
}

// member is a ready instance.
type member struct {
	id, addr string
	since    time.Time
	load     *target
}

// New makes a router that knows no routes yet. It starts nothing. tunnels
// carries the sockets; whoever made it runs and closes it.
func New(cfg Config, tunnels *tunnel.Set) *Router {
	if len(cfg.Secret) == 0 {
		cfg.Secret = make([]byte, 32)
		rand.Read(cfg.Secret)
	}
	if cfg.Access == nil {
		cfg.Access = slog.New(slog.DiscardHandler)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Body == 0 {
		cfg.Body = BodyMax
	}
	if cfg.Response == 0 {
		cfg.Response = ResponseMax
	}
	if cfg.Stall == 0 {
		cfg.Stall = StallMax
	}
	if cfg.Wait == 0 {
		cfg.Wait = WaitMax
	}
	var own *sources
	if cfg.Dial == nil {
		own = newSources(cfg.Sources)
		cfg.Dial = own.dial
	}
	sealer, err := newSealer(cfg.Secret)
	if err != nil {
		panic(err) // a 32-byte key that we derived ourselves
	}
	r := &Router{
		cfg:     cfg,
		access:  cfg.Access.Handler(),
		names:   names{region: strings.ToLower(cfg.Region)},
		sealer:  sealer,
		tunnels: tunnels,
		sources: own,
		bye:     make(chan struct{}),
		targets: map[string]*target{},
		told:    map[string]leave{},
		queues:  map[string]*atomic.Int64{},
		apps:    map[string]*atomic.Int64{},
		turns:   map[app.Key]*atomic.Uint64{},
		sids:    map[app.Key]*sids{},
		counted: map[app.Key]*counts{},
		left:    map[app.Key][]departed{},
		strays:  newCounts(),
		salt:    newSalt(cfg.Secret),
	}
	if cfg.HSTS > 0 {
		r.hsts = fmt.Sprintf("max-age=%d", int64(cfg.HSTS/time.Second))
	}
	for _, d := range cfg.Domains {
		if d = strings.ToLower(strings.Trim(d, ".")); d != "" {
			r.names.domains = append(r.names.domains, d)
		}
	}
	slices.SortFunc(r.names.domains, func(a, b string) int { return len(b) - len(a) })
	r.transport = newTransport(r.dial)
	first := &table{next: make(chan struct{})}
	r.table.Store(first)
	r.routed = first.next
	return r
}

// Routed is closed once routes have been set. Until then no host is known, and
// who is let in is told so.
func (r *Router) Routed() <-chan struct{} { return r.routed }

// Set replaces all routes. Requests under way stay where they are; sockets of
// instances that now drain or are gone are said goodbye to.
func (r *Router) Set(routes Routes) {
	r.mu.Lock()
	defer r.mu.Unlock()

	now := time.Now()
	targets, told := map[string]*target{}, map[string]leave{}
	next := &table{
		routes:   routes,
		services: map[string]map[string]*service{},
		next:     make(chan struct{}),
	}
	apps := map[string]*atomic.Int64{}
	queues, turns, known := map[string]*atomic.Int64{}, map[app.Key]*atomic.Uint64{}, map[app.Key]*sids{}
	counted, left := map[app.Key]*counts{}, map[app.Key][]departed{}
	for project, a := range routes.Apps {
		open := r.apps[project]
		if open == nil {
			open = new(atomic.Int64)
		}
		apps[project] = open
		services := make(map[string]*service, len(a.Services))
		for name, s := range a.Services {
			id := project + "/" + name
			queue := r.queues[id]
			if queue == nil {
				queue = new(atomic.Int64)
			}
			queues[id] = queue
			made := &service{by: s.Split.By, shares: shares(s.Split), pools: map[string]*pool{}, waiting: queue, open: open}
			made.counts = r.countsLocked(app.Key{App: project, Service: name}, counted)
			for version, p := range s.Pools {
				key := app.Key{App: project, Service: name, Version: version}
				turn := r.turns[key]
				if turn == nil {
					turn = new(atomic.Uint64)
				}
				turns[key] = turn
				pool := r.pool(key, p, turn, known, targets, told)
				pool.counts = r.countsLocked(key, counted)
				if p.Affinity {
					left[key] = r.departedLocked(key, p.Instances)
					pool.departed = left[key]
				}
				made.pools[version] = pool
			}
			services[name] = made
		}
		next.services[project] = services
	}

	// An instance that is listed no more is gone. What it still has open is
	// counted until it has ended.
	for id, t := range r.targets {
		if targets[id] != nil {
			continue
		}
		if was := r.told[id]; was.state != app.Stopped {
			if was.cause == "" {
				was.cause = app.ScaledDown // the routes want it no more, and do not say why
			}
			r.told[id] = leave{app.Stopped, now, was.cause}
			r.tunnels.Drain(id, now, was.cause)
		}
		if t.requests.Load() > 0 || t.sockets.Load() > 0 {
			targets[id], told[id] = t, r.told[id]
		}
	}
	r.retireLocked(now, counted)
	r.targets, r.told, r.queues, r.turns, r.sids = targets, told, queues, turns, known
	r.counted, r.left = counted, left
	r.apps = apps

	close(r.table.Swap(next).next)
}

// pool makes one version's pool, finds its instances' counters again, and
// tells the tunnels who leaves. Called with mu held.
func (r *Router) pool(key app.Key, p Pool, turn *atomic.Uint64, known map[app.Key]*sids, targets map[string]*target, told map[string]leave) *pool {
	made := &pool{key: key, bodyMax: p.BodyMax, stopped: p.Stopped, target: p.Target, forget: p.Forget, sockets: p.Sockets, chosen: turn}
	if p.Affinity {
		made.cookie = p.Sticky != app.StickySid
		if p.Sticky != app.StickyCookie {
			if made.sids = r.sids[key]; made.sids == nil {
				made.sids = new(sids)
			}
			known[key] = made.sids
		}
	}
	for _, i := range p.Instances {
		t := r.targets[i.ID]
		if t == nil {
			t = &target{id: i.ID}
		}
		targets[i.ID] = t

		say := leave{i.State, time.Time{}, i.Cause}
		switch i.State {
		case app.Ready:
			made.ready = append(made.ready, member{i.ID, i.Addr, i.Since, t})
			made.ids = append(made.ids, i.ID)
		case app.Draining:
			if say.until = i.Until; r.told[i.ID] != say {
				r.tunnels.Drain(i.ID, i.Until, i.Cause)
			}
		case app.Stopped:
			if was := r.told[i.ID]; was.state != app.Stopped || was.cause != i.Cause {
				r.tunnels.Drain(i.ID, time.Now(), i.Cause)
			}
		}
		told[i.ID] = say
	}
	return made
}

// Load says what each routed instance carries, by instance id, and those that
// are routed no more but still carry something.
func (r *Router) Load() map[string]Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]Load, len(r.targets))
	for id, t := range r.targets {
		out[id] = Load{
			Requests: int(t.requests.Load()),
			Sockets:  int(t.sockets.Load()),
			Errors:   t.errors.Load(),
		}
	}
	return out
}

// Shed says goodbye to at most n of the instance's sockets, those that are idle
// for longest, for cause, and returns how many there were. Their clients come
// back by the ordinary way, to the instance with the fewest.
func (r *Router) Shed(instance string, n int, cause app.Cause) int {
	return r.tunnels.Shed(instance, n, cause)
}

// Expire lets the hour of a share of a version's sockets pass within so long, for
// a drill that began at since; see tunnel.Set. It is called again and again.
func (r *Router) Expire(k app.Key, share float64, since time.Time, within time.Duration) int {
	return r.tunnels.Expire(k, share, since, within)
}

// busyWithin is how lately something must have come over a socket for it to
// count as busy: shorter than the usual heartbeats, which would make all of them
// so.
const busyWithin = 10 * time.Second

// Busy is how many of the instance's sockets something came over lately. It
// looks at each of them, and is for rare questions.
func (r *Router) Busy(instance string) int { return r.tunnels.Busy(instance, busyWithin) }

// Close makes the router refuse: new requests, and those that wait for an
// instance, get 503 and a closed connection, as App Engine's lameduck state
// has it. Requests that reached an instance go on, and so do sockets, which
// are the tunnels' to close. It may be called again.
func (r *Router) Close() {
	if !r.closed.Swap(true) {
		close(r.bye)
	}
	r.transport.CloseIdleConnections()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.targets {
		t.idle.closeAll()
	}
}

// ServeHTTP carries one request: find the place, pick an instance, then proxy
// or upgrade. It returns when the answer has ended, or the socket was handed
// over.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.resumes(w, req) {
		return
	}
	if s := r.serve(w, req); s != nil {
		s.pump() // the request is over, its record written; its stream lives as long as the socket
	}
}

// serve carries one request. What it returns is the stream that has become a
// socket, which has to be pumped; nil where none has.
func (r *Router) serve(w http.ResponseWriter, req *http.Request) *stream {
	x := r.begin(w, req)
	defer x.end() // also when the answer is cut by a panic, which passes through
	x.serve()
	return x.joined
}

func (x *exchange) serve() {
	r := x.r
	switch {
	case r.closed.Load():
		x.refuse(app.ShuttingDown, http.StatusServiceUnavailable, "This server is shutting down.")
		return
	case x.req.Method == http.MethodConnect && x.req.Header[protocolField] == nil:
		x.refuse(BadRequest, http.StatusMethodNotAllowed, "CONNECT is not served here.")
		return
	case x.req.Method == http.MethodConnect && !x.translate():
		x.refuse(BadRequest, http.StatusNotImplemented, "No protocol but websocket is spoken over CONNECT here.") // RFC 9220, 3
		return
	}
	req := x.req
	if req.RequestURI == "*" {
		x.asterisk()
		return
	}
	if to := x.elsewhere(); to != "" {
		x.redirect(to)
		return
	}
	if !x.find() {
		x.refuse(UnknownHost, http.StatusNotFound, r.hostsServed())
		return
	}
	if x.barred() {
		x.refuse(errBarred.cause, errBarred.status, errBarred.text)
		return
	}
	if !x.admit() {
		x.failed(req.Context(), errAppFull)
		return
	}
	switch status, problem := handshake(req); {
	case status == 0:
		x.proxy()
	case status == http.StatusSwitchingProtocols:
		x.upgrade()
	default:
		if status == http.StatusUpgradeRequired && x.stream != nil {
			status = http.StatusBadRequest // HTTP/2 has no Upgrade
		} else if status == http.StatusUpgradeRequired {
			x.w.Header()["Upgrade"] = []string{"websocket"}
			x.w.Header()["Sec-WebSocket-Version"] = []string{socketVersion}
		}
		x.refuse(BadHandshake, status, problem)
	}
}

// hostsServed is what a stranger to our hosts is told. It names the shape of
// the hosts, not the applications: who asks for a host that is not here need
// not learn which are.
func (r *Router) hostsServed() string {
	text := "No application answers to this host. Served here: "
	for _, d := range r.names.domains {
		text += "[VERSION-dot-][SERVICE-dot-]PROJECT." + d + ", "
	}
	return text + "and localhost."
}
