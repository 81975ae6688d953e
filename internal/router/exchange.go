package router

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/tunnel"
)

// triesMax is how many instances one request may be offered to. Each refused
// the connection, so nothing was sent; more than a few say that the trouble is
// not the instance's.
const triesMax = 5

// retryPause is how long a request rests when every ready instance has refused
// it; doubled each round. Mostly the next table comes first.
const retryPause = 250 * time.Millisecond

// pickTries is how often a pick that was overtaken by another is done again.
const pickTries = 8

// exchange is one request on its way through the router. It belongs to the
// handler's goroutine; what others touch is atomic or said so.
type exchange struct {
	r     *Router
	w     *answerWriter
	req   *http.Request
	id    string // the request's id in logs, on error pages, and as span in the app's trace header
	trace traced
	start time.Time

	client netip.Addr
	port   uint16 // of the client: together with its address, that is a connection of it
	proto  string // of HTTP, as the client spoke it
	secure bool   // the client came over TLS
	origin origin
	socket bool // a WebSocket's handshake

	// The way so far.
	table   *table
	place   place
	key     app.Key
	pool    *pool
	lot     lot
	drawn   app.SplitBy // how lot was drawn; "" before
	byLot   bool        // the split decided, not the host
	at      member      // the instance; counted while at.load is not nil
	last    string      // id of the last instance tried, for the log
	tried   []string    // instances that refused the connection
	tries   int
	cookie  session         // to be sealed into an affinity cookie
	reseal  bool            // the client needs that cookie
	pinned  tunnel.Affinity // what the client brought that decided
	lost    app.Cause       // why it came to another instance than it belonged to; "": it did not
	talk    talk            // what it says of a session of long polling; read where the pool has a table of them
	digest  digest          // of talk.sid
	learns  bool            // the answer tells of a session that is not in that table
	ticket  *ticket         // the client's claim to one more socket; nil where nobody counts
	inside  bool            // counted by Router.enter
	counted *atomic.Int64   // where it is counted as one of its app; nil: nowhere
	stream  *stream         // what an extended CONNECT opened; nil for every other request
	joined  *stream         // the same, once it is a socket

	body    *requestBody
	refused error     // why the last instance did not take the connection
	err     error     // why the answer is not the app's, or not all of it
	why     app.Cause // the same in a word
}

// refusal is an answer of ours instead of the app's.
type refusal struct {
	cause  app.Cause
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

var (
	errNoInstance = &refusal{NotReady, http.StatusServiceUnavailable, "No instance of this service is ready. Please try again in a moment."}
	errRefused    = &refusal{NoConnection, http.StatusServiceUnavailable, "No instance of this service accepts connections. Please try again in a moment."}
	errCrowd      = &refusal{Crowded, http.StatusServiceUnavailable, "Too many requests wait for this service to be ready. Please try again in a moment."}
	errClosing    = &refusal{app.ShuttingDown, http.StatusServiceUnavailable, "This server is shutting down."}
	errStopped    = &refusal{Stopped, http.StatusServiceUnavailable, "This version of the service is stopped."}
	errNowhere    = &refusal{UnknownHost, http.StatusNotFound, "This application is not served here any more."}
)

// dialError is a connection that an instance did not take: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dial connects to an instance.
func (r *Router) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	conn, err := r.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	return conn, nil
}

// begin reads from a request what everything later needs.
func (r *Router) begin(w http.ResponseWriter, req *http.Request) *exchange {
	x := &exchange{r: r, w: &answerWriter{ResponseWriter: w}, req: req, start: time.Now(), secure: req.TLS != nil}
	if req.ProtoMajor == 2 {
		x.w.watch = &watch{out: http.NewResponseController(w), stall: r.cfg.Stall}
	}
	var listener netip.Addr
	if a, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		listener = address(a.String())
	}
	client, _ := netip.ParseAddrPort(req.RemoteAddr)
	x.from(client, listener)
	return x
}

// from notes where the request came from, and names it.
func (x *exchange) from(peer netip.AddrPort, listener netip.Addr) {
	client := plainAddress(peer)
	x.port, x.proto = peer.Port(), x.req.Proto
	// Names, not secrets; the runtime's generator (ChaCha8) is seeded by the system.
	var fresh [16]byte
	binary.BigEndian.PutUint64(fresh[:], randv2.Uint64())
	binary.BigEndian.PutUint64(fresh[8:], randv2.Uint64())
	span := randv2.Uint64() | 1 // 0 would mean no span
	x.id = strconv.FormatUint(span, 10)
	x.trace = trace(x.req.Header, fresh)
	if x.r.cfg.Traced {
		x.trace.sample(x.r.cfg.Sample)
		x.origin.parent, x.origin.stateless = x.trace.w3c(span), !x.trace.stated
	} else {
		x.trace.sampled = false // to nobody
	}
	x.origin.trace = x.trace.cloud(span)

	if lines := x.req.Header["Cookie"]; lines != nil {
		hideCookie(x.req.Header, lines, consoleCookie)
	}
	x.client = client
	x.believe()
	x.origin.client = x.req.RemoteAddr
	switch {
	case x.client.IsValid():
		x.origin.client = x.client.String()
	case x.origin.client == "" || x.origin.client == "@":
		x.origin.client = unknownClient
	}
	if listener.IsValid() {
		x.origin.listener = listener.String()
	}
	x.origin.proto = "http"
	if x.secure {
		x.origin.proto = "https"
	}
}

// address is the IP address of host:port, without zone; invalid if there is none.
func address(hostport string) netip.Addr {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddress(a)
}

func plainAddress(a netip.AddrPort) netip.Addr { return a.Addr().Unmap().WithZone("") }

// find says which service host and path mean, by the newest table.
func (x *exchange) find() (ok bool) {
	x.table = x.r.table.Load()
	x.place, ok = find(x.req.Host, x.req.URL.Path, x.r.names, &x.table.routes)
	return ok
}

// attempt finds an instance and has try connect to it, until one takes the
// connection, or none will. Only a *dialError, after which nothing was sent,
// leads to another instance.
func (x *exchange) attempt(ctx context.Context, try func(member) error) error {
	for {
		if err := x.seat(ctx); err != nil {
			return err
		}
		x.tries++
		err := try(x.at)
		if dial := (*dialError)(nil); !errors.As(err, &dial) || ctx.Err() != nil {
			return err
		}
		x.at.load.errors.Add(1)
		x.r.cfg.Log.Debug("instance refused", "instance", x.at.id, "err", err)
		x.refused = err
		x.tried = append(x.tried, x.at.id)
		x.release()
		if x.tries == triesMax {
			return errRefused
		}
	}
}

// seat chooses an instance and counts the request on it. While none can be
// had it waits for other routes: no longer than Config.Wait, the client's
// patience, and Close allow, and not behind more than waitersMax others.
func (x *exchange) seat(ctx context.Context) error {
	if x.choose() {
		return nil
	}
	if x.halted() {
		return errStopped
	}
	queue := x.table.services[x.place.App][x.place.Service].waiting
	defer queue.Add(-1)
	if queue.Add(1) > waitersMax {
		return errCrowd
	}
	ctx, cancel := context.WithDeadlineCause(ctx, x.start.Add(x.r.cfg.Response), errResponse)
	defer cancel()
	over := time.NewTimer(x.r.cfg.Wait - time.Since(x.start))
	defer over.Stop()
	pause := retryPause
	for {
		var again <-chan time.Time
		if len(x.tried) > 0 {
			again = time.After(pause)
			pause *= 2
		}
		select {
		case <-x.table.next:
			if !x.find() {
				return errNowhere
			}
		case <-again:
		case <-over.C:
			if x.tries > 0 {
				return errRefused
			}
			return errNoInstance
		case <-x.r.bye:
			return errClosing
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		x.tried = x.tried[:0]
		if x.choose() {
			return nil
		}
		if x.halted() {
			return errStopped
		}
	}
}

// halted says, after choose, that there is nothing to wait for.
func (x *exchange) halted() bool { return x.pool != nil && x.pool.stopped }

// choose picks version and instance from x.table, and counts the request.
func (x *exchange) choose() bool {
	s := x.table.services[x.place.App][x.place.Service]
	version := x.place.Version
	if x.byLot = version == ""; x.byLot {
		if x.drawn == "" || x.drawn != s.by {
			x.lot, x.drawn = draw(s.by, x.client, x.splitCookie(), randv2.Uint64()), s.by
		}
		version = divide(s.shares, x.lot.at)
	}
	x.key = app.Key{App: x.place.App, Service: x.place.Service, Version: version}
	x.pool = s.pools[version]
	if x.pool == nil || len(x.pool.ready) == 0 {
		return false
	}
	if !x.pool.cookie && x.pool.sids == nil {
		return x.pick()
	}
	return x.stick()
}

// pick takes the instance that pick.go chooses. Two requests that see the same
// counters would choose the same: whoever comes second notices by chosen, and
// looks again.
func (x *exchange) pick() bool {
	var room [32]seat
	now := time.Now()
	for try := 1; ; try++ {
		floor := x.pool.chosen.Load()
		floor -= min(floor, catchUp)
		seats := room[:0]
		for _, m := range x.pool.ready {
			st := seat{m.load.requests.Load() + m.load.sockets.Load(), max(m.load.chosen.Load(), floor), now.Sub(m.since)}
			if len(x.tried) > 0 && x.refusedBy(m.id) {
				st = seat{open: math.MaxInt64} // last resort, and then not taken
			}
			seats = append(seats, st)
		}
		i := pick(seats, randv2.Uint64())
		if seats[i].open == math.MaxInt64 {
			return false
		}
		m, turn := x.pool.ready[i], seats[i].chosen
		was := m.load.chosen.Load()
		if max(was, floor) == turn && m.load.chosen.CompareAndSwap(was, turn+1) || try == pickTries {
			if turn+1 > x.pool.chosen.Load() {
				x.pool.chosen.Store(turn + 1) // one behind in a race: no harm
			}
			x.hold(m)
			return true
		}
	}
}

func (x *exchange) refusedBy(id string) bool { return slices.Contains(x.tried, id) }

// hold counts the request on an instance until release.
func (x *exchange) hold(m member) {
	x.at, x.last = m, m.id
	if x.socket {
		m.load.sockets.Add(1)
	} else {
		m.load.requests.Add(1)
	}
}

// release ends what hold began. It may be called again.
func (x *exchange) release() {
	if x.at.load == nil {
		return
	}
	if x.socket {
		x.at.load.sockets.Add(-1)
	} else {
		x.at.load.requests.Add(-1)
	}
	x.at = member{}
}

// affinity opens the client's affinity cookie.
func (x *exchange) affinity(now time.Time) (ses session, ok bool) {
	eachCookie(x.req.Header["Cookie"], affinityCookie, func(value string) bool {
		ses, ok = x.r.sealer.open(x.pool.key, value, now)
		return ok
	})
	return ses, ok
}

// splitCookie is the client's first well-formed split cookie, "" for none.
func (x *exchange) splitCookie() (value string) {
	eachCookie(x.req.Header["Cookie"], splitCookie, func(v string) bool {
		if _, ok := slot(v); ok {
			value = v
		}
		return value != ""
	})
	return value
}

// platform adds to an app's answer what the platform has to say, its cookies,
// and takes out what only the platform may say.
func (x *exchange) platform(status int, h http.Header) {
	if x.secure && x.r.hsts != "" && h[strictTransport] == nil {
		h[strictTransport] = []string{x.r.hsts} // an app may say more, or less
	}
	split := x.byLot && x.drawn == app.ByCookie
	dropPlatformCookies(h)
	split = split && x.lot.cookie >= 0
	reseal := x.pool.cookie && x.reseal
	if !split && !reseal {
		return
	}
	// A 101 is nothing that a cache could keep.
	if status != http.StatusSwitchingProtocols {
		keep, open := shareable(status, h)
		if keep {
			return
		}
		if open && (x.req.Method == http.MethodGet || x.req.Method == http.MethodHead) {
			h.Add("Cache-Control", "private")
		}
	}
	now := time.Now()
	if reseal {
		h.Add("Set-Cookie", cookieLine(affinityCookie, x.r.sealer.seal(x.pool.key, x.cookie), now, x.secure))
	}
	if split {
		h.Add("Set-Cookie", cookieLine(splitCookie, strconv.Itoa(x.lot.cookie), now, x.secure))
	}
}
