// Package tunnel carries upgraded connections: bytes between a client and an
// instance. It reads frame headers as they pass, never payloads, only to know
// where frames end, so that it can say goodbye between two of them.
//
// It must not know requests, routes, versions' settings or who decides: it is
// told which socket belongs to which instance, how old it may grow, and when an
// instance leaves and why. Start with Set; socket.go is how a life ends
// and does no I/O. Two carriers move the bytes and drive it: loop_linux.go and
// carry_linux.go with one goroutine a core (secure_linux.go where the client
// speaks TLS), copy.go with two a socket. frame.go
// finds the frames, policy.go judges them, goodbye.go lists what is said.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"holdfast/internal/app"
)

// Socket is what the set has to know of one upgraded connection.
type Socket struct {
	ID       string // of the request that opened it, for logs
	Key      app.Key
	Instance string   // id of the instance that answered 101
	Client   string   // the client's address
	Affinity Affinity // by what the client belongs to that instance
	Opened   time.Time
	MaxAge   time.Duration // it is said goodbye this long after Opened; 0 means never
	Done     func(Ending)  // called exactly once, after both connections are closed; may be nil; must not block for long

	// What the version asks for; zero values ask for nothing.
	PingInterval         time.Duration // the client is pinged this often; its answers to that go no further
	MaxMessageBytes      int64         // of a client's message, as sent (compressed, if it is); a bigger one ends the socket: app.TooBig
	MaxMessagesPerSecond int           // that a client may begin; more end the socket: app.TooMany
	StrictFrames         bool          // a frame that breaks RFC 6455 ends the socket: app.Broken
	Extended             bool          // the handshake agreed on an extension, so StrictFrames leaves the reserved bits alone
}

// Traffic is what came from one side: bytes as read, data messages (a
// fragmented one counts once, at its end) and control frames. Faults are the
// frames that break RFC 6455; unless StrictFrames is set they are carried all
// the same. Largest is the payload of the largest message, in bytes as sent.
type Traffic struct {
	Bytes, Text, Binary, Ping, Pong, Close, Faults int64
	Largest                                        int64
}

// By says who ended a socket.
type By string

// The three who can.
const (
	ByClient   By = "client"
	ByInstance By = "instance"
	ByHoldfast By = "holdfast"
)

// Close codes that are never sent (RFC 6455, 7.4.1), for an Ending's Code.
const (
	CodeNone     = 1005 // a Close frame without a code
	CodeAbnormal = 1006 // no Close frame at all
)

// Ending is how a socket's life went.
//
// By is who did the first thing that could not be taken back: sent a Close
// frame, ended its stream, or, for Holdfast, decided to say goodbye. The death
// of an instance is the instance's doing. Code and Reason are those of that
// first Close frame; where Holdfast spoke, what the client was told.
type Ending struct {
	By           By
	Cause        app.Cause     // one of why sockets end, or of the instance's
	Code         int           // CodeNone: the frame had none; CodeAbnormal: there was no frame
	Reason       string        // valid UTF-8
	Duration     time.Duration // since Opened
	FromClient   Traffic
	FromInstance Traffic
}

// Config is how sockets are carried; its zero value works.
type Config struct {
	// Portable carries every socket with goroutines of its own, as on systems
	// without loops.
	Portable bool
}

// ErrClosed is what Join returns once the set takes no more sockets.
var ErrClosed = errors.New("no more sockets are taken")

// carrier moves the bytes of sockets. Its methods may be called from any
// goroutine and do not block on a connection.
type carrier interface {
	// start begins to move the bytes of a socket that it admitted. When both
	// connections are closed it calls set.ended.
	start(s *socket)
	// refuse closes the connections of an admitted socket instead.
	refuse(s *socket)
	// order gives orders to a socket, perhaps before start, perhaps after its end.
	order(s *socket, o orders)
	// look shows each of the sockets to at, one by one, unless it has ended.
	look(all []*socket, at func(s *socket, now instant))
}

// Set carries all sockets of one router. Its methods may be called at any time
// from any goroutine.
type Set struct {
	log    *slog.Logger
	clock  clock
	copier copier
	loops  *loops
	wake   chan struct{} // the schedule may have a new head; of capacity one
	empty  chan struct{} // closed when no socket is left and none will come

	mu       sync.Mutex // guards the following; never held together with a carrier's lock
	closed   bool       // no more sockets are taken
	open     int        // sockets whose Done has not returned yet
	pools    map[string]*pool
	schedule agenda
	dead     []*socket // of loops, whose end is still to be told
	burying  bool      // buryAll runs
}

// New makes an empty set. It starts nothing.
func New(cfg Config, log *slog.Logger) *Set {
	s := &Set{
		log:      log,
		clock:    clock{born: time.Now()},
		wake:     make(chan struct{}, 1),
		empty:    make(chan struct{}),
		pools:    map[string]*pool{},
		schedule: agenda{entry: func(t *socket) *entry { return &t.due }},
	}
	if !cfg.Portable {
		s.loops = newLoops(s)
	}
	return s
}

// Join makes a tunnel of an upgraded client connection and the instance
// connection that answered 101, and returns at once. The set owns both from
// here on, also on error; deadlines that they carry are forgotten. What was
// already read from either comes before the rest by Unread. A client's tls.Conn
// stands on a TLSBase, else goroutines carry it.
//
// Sockets are carried before Run and without it, but only Run watches their
// deadlines and the pace of a drain. After CloseAll has begun or Run has ended
// the error is ErrClosed; Done is not called then.
func (s *Set) Join(sock Socket, client, instance net.Conn) error {
	t := newSocket(s, sock)
	if !s.loops.admit(t, client, instance) {
		s.copier.admit(t, client, instance)
	}
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		t.carrier.refuse(t)
		return ErrClosed
	}
	p := s.poolLocked(sock.Instance)
	p.addLocked(t, sock.Key)
	s.open++
	drain := p.drain
	paced := drain.on && now.Before(drain.until)
	if paced {
		s.planLocked(t, s.clock.instant(drain.slot(now)))
	} else {
		s.planLocked(t, 0)
	}
	first := s.schedule.Len() > 0 && s.schedule.list[0] == t
	s.mu.Unlock()

	if first {
		s.nudge()
	}
	if drain.on {
		t.carrier.order(t, drain.orders(paced))
	}
	t.carrier.start(t)
	return nil
}

// ended is called when both connections of a socket are closed.
func (s *Set) ended(t *socket) {
	e := t.story.Ending
	e.Duration = time.Duration(s.clock.now() - t.opened)
	e.FromClient = t.ends[client].scan.count.traffic()
	e.FromInstance = t.ends[instance].scan.count.traffic()

	s.mu.Lock()
	p := t.pool
	p.removeLocked(t)
	if len(p.sockets) == 0 && !p.drain.on {
		delete(s.pools, p.instance)
	}
	s.schedule.set(t, 0)
	s.mu.Unlock()

	s.log.Debug("socket over", "id", t.id, "instance", p.instance, "by", e.By, "cause", e.Cause, "dur", e.Duration)
	if t.gone != nil {
		t.gone(e)
	}
	s.mu.Lock()
	s.open--
	s.closeIfEmptyLocked()
	s.mu.Unlock()
}

// bury has ended called from another goroutine, which is there as long as there
// is something to do: Done writes logs, and a loop does not wait for that.
func (s *Set) bury(t *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = append(s.dead, t)
	if len(s.dead) == 1 && !s.burying {
		s.burying = true
		go s.buryAll()
	}
}

func (s *Set) buryAll() {
	for {
		s.mu.Lock()
		dead := s.dead
		s.dead = nil
		s.burying = len(dead) > 0
		s.mu.Unlock()
		if len(dead) == 0 {
			return
		}
		for _, t := range dead {
			s.ended(t)
		}
	}
}

// Count is how many sockets the instance has open: joined, and Done not called.
func (s *Set) Count(instance string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[instance]; p != nil {
		return len(p.sockets)
	}
	return 0
}

// CloseAll says goodbye to every socket at once and refuses later ones. It
// returns when all have ended, which takes some ten seconds at most where ends
// do not listen. When ctx ends before, it cuts those that are left and says in
// its error how many.
func (s *Set) CloseAll(ctx context.Context, cause app.Cause) error {
	for _, t := range s.refuse() {
		t.carrier.order(t, orders{say: because(cause)})
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		n := s.cutAll(cause)
		return fmt.Errorf("close all sockets: cut %d: %w", n, context.Cause(ctx))
	}
}

// Run says goodbye to sockets that are due, until ctx ends; then no more are
// taken and those that are still open are cut, so CloseAll comes first. It
// returns when the last one has ended, and never fails. It is called once.
func (s *Set) Run(ctx context.Context) error {
	timer := time.NewTimer(drainMemory)
	defer timer.Stop()
	for {
		now := time.Now()
		s.mu.Lock()
		due := s.dueLocked(s.clock.instant(now))
		s.forgetLocked(now)
		next := drainMemory // so that drains are forgotten while nothing else happens
		if at := s.schedule.next(); at != 0 {
			next = min(next, s.clock.time(at).Sub(now))
		}
		s.mu.Unlock()
		for _, p := range due {
			p.carrier.order(p.socket, orders{say: because(p.cause)})
		}
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			s.cutAll(app.ShuttingDown)
			s.loops.wait()
			return nil
		}
	}
}

// refuse takes no more sockets and returns those that are open.
func (s *Set) refuse() []*socket {
	defer s.loops.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closeIfEmptyLocked()
	var all []*socket
	for _, p := range s.pools {
		all = append(all, p.sockets...)
	}
	return all
}

// cutAll cuts what is open, waits for its end and returns how many there were.
func (s *Set) cutAll(cause app.Cause) int {
	all := s.refuse()
	for _, t := range all {
		t.carrier.order(t, orders{cut: cause})
	}
	<-s.empty
	return len(all)
}

func (s *Set) closeIfEmptyLocked() {
	if s.closed && s.open == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

func (s *Set) poolLocked(instance string) *pool {
	p := s.pools[instance]
	if p == nil {
		p = &pool{instance: instance}
		s.pools[instance] = p
	}
	return p
}

// nudge makes Run look at the schedule again.
func (s *Set) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
