package tunnel

import (
	"io"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
)

// The life of a socket, apart from how its bytes are moved.
//
// A carrier reads from both connections, writes to them and tells the socket
// what happened; the socket answers how much of it goes on to the other end,
// and, asked by next, what the carrier does then. Nothing here blocks, and all
// times come in as arguments. Two directions share one socket: a carrier sees
// to it that it is used by one goroutine at a time, that each direction is
// carried by one goroutine (so that each connection has one writer, and a Close
// frame cannot come between the halves of another frame), and that both look
// again when it has changed.
//
// An ending goes one of these ways:
//
//	an end sends a Close frame   it is passed on, and so are the answer and the ends of both streams
//	an end closes without one    the end of the stream is passed on, the other direction goes on
//	Holdfast says goodbye        each end is sent a Close frame as soon as the frame under way to it is
//	                             whole; from there on what the other end sends is read, not passed on
//	the instance dies            what it last said is passed on, then Holdfast says goodbye to the client

// The bounds of an ending.
const (
	// frameWait is how long a goodbye waits for the frame that is under way.
	// Who sends a longer one then is cut without a Close frame.
	frameWait = 5 * time.Second

	// closeWait is how long an end may take to answer a Close frame of ours.
	closeWait = 5 * time.Second

	// answerWait is how long one end may take to answer the other's Close
	// frame. It is longer than closeWait because an answer may rightly come
	// after a long message (RFC 6455, 5.5.1).
	answerWait = 30 * time.Second

	// lingerWait is how long the connections stay open after both ends have
	// said goodbye, so that the instance, being the server, closes first
	// (RFC 6455, 7.1.1).
	lingerWait = 2 * time.Second

	// deathNotice is how long the two signs of an instance's death wait for
	// each other: a stream that ended without a Close frame for the word that
	// the instance is gone, and that word for the last bytes of the stream.
	// Whoever watches the processes knows of an exit within milliseconds.
	deathNotice = 500 * time.Millisecond
)

// side names an end, and the direction that begins there.
type side uint8

const (
	client side = iota
	instance
)

func (s side) other() side { return 1 - s }

func (s side) by() By {
	if s == client {
		return ByClient
	}
	return ByInstance
}

// voice is what may still be written to an end:
//
//	open ──► due ──► mute
//	  └───────────────┘
type voice uint8

const (
	open voice = iota // what the other end sends
	due               // our Close frame, next
	mute              // nothing but the end of the stream
)

// end is one of the two connections.
type end struct {
	// What comes from it.
	scan    scanner
	ended   instant // when nothing more came; zero: it still may
	lastBy  instant // a write to it failed: its last words are read until then
	broke   bool    // it ended otherwise than by an orderly end of the stream
	waiting bool    // ended, and whether the instance is dead is not known yet

	// What goes to it.
	voice voice
	heard bool // a Close frame was written to it, the other end's or ours
	deaf  bool // a write to it failed
	shut  bool // the end of the stream was written to it, or cannot be
}

// parting is what Holdfast says when it ends one.
type parting struct {
	cause  app.Cause
	code   int
	reason string
}

// because is the parting for a cause, in the words of CloseCode's list.
func because(cause app.Cause) parting { return parting{cause, CloseCode(cause), string(cause)} }

// story is how a socket ends, from when that is known.
type story struct {
	Ending
	say parting // while Holdfast says goodbye
}

// socket is one tunnel. Ten thousand of them lie idle at a time, so it is small;
// and but for its carriers' parts it is a plain value, so that it could be given
// to another carrier or to another process.
type socket struct {
	set     *Set
	carrier carrier
	id      string
	client  string
	key     *app.Key // shared with the pool's other sockets
	pool    *pool
	opened  instant
	gone    func(Ending) // Socket.Done

	// Guarded by the carrier.
	ends    [2]end
	careful *careful  // nil: what passes is only counted
	story   *story    // nil until the ending begins
	notice  app.Cause // the instance is leaving; "" while it is not
	frameBy instant   // leaving: when a frame under way must be whole
	bound   instant   // when everything is cut; zero: never
	calm    bool      // nothing happened yet that settle could draw conclusions from
	leaving bool      // we say goodbye
	dead    bool      // leaving because the instance is gone
	over    bool      // the connections are to be closed
	changed bool      // both directions have to look again
	pinned  Affinity  // Socket.Affinity; constant

	// Guarded by set.mu.
	due      entry   // in set.schedule, at the time of the next goodbye
	deadline instant // zero: it may grow as old as it likes; constant
	place    int32   // in pool.sockets
	shed     bool    // it was one of those that Shed chose

	active atomic.Int64 // the instant when something last came from either end, to activeStep

	copying *copying // copy.go's part
	wired            // the loops' part
}

// activeStep is how exactly it is known since when a socket is idle: a write
// to memory that others read, for each message, would be felt.
const activeStep = 100 * time.Millisecond

func newSocket(set *Set, sock Socket) *socket {
	now := set.clock.now()
	s := &socket{
		set: set, id: sock.ID, client: sock.Client, gone: sock.Done,
		opened: set.clock.instant(sock.Opened),
		calm:   true, pinned: sock.Affinity,
	}
	s.ends[client].scan.fromClient = true
	if sock.MaxAge > 0 {
		s.deadline = set.clock.instant(sock.Opened.Add(sock.MaxAge))
	}
	s.careful = newCareful(sock, now)
	s.active.Store(int64(now))
	return s
}

// do is what a carrier does next for one direction.
type do uint8

const (
	read do = iota // from this end; what comes is given to took
	say            // write the frame of that name to the other end, then call wrote
	ask            // write a ping to the other end, then call wrote
	shut           // end the stream to the other end, then call wrote
	hold           // nothing until the time or a change
	quit           // this direction is over
)

// next is what comes next for the direction that begins at from. What blocks
// must look again at until, if that is not zero.
func (s *socket) next(from side, now instant) (d do, until instant) {
	if s.calm && s.careful == nil {
		return read, 0
	}
	s.settle(now)
	a, b := &s.ends[from], &s.ends[from.other()]
	switch {
	case s.over:
		return quit, 0
	case b.voice == due:
		return say, 0
	case s.shutDue(from):
		return shut, 0
	case from == instance && s.pingDue().past(now):
		return ask, 0
	case a.ended != 0, b.deaf && !a.awaited() && !s.leaving:
		return hold, s.wakeUp(from)
	default:
		return read, s.wakeUp(from)
	}
}

// wakeUp is when a direction has to look again.
func (s *socket) wakeUp(from side) instant {
	if from == instance {
		return sooner(s.alarm(), s.pingDue())
	}
	return s.alarm()
}

// frame is what next wants to be written when it says say or ask.
func (s *socket) frame(from side, d do, now instant) []byte {
	to := from.other()
	if d == ask {
		return s.careful.ping(now)
	}
	return closeFrame(s.story.say.code, s.story.say.reason, to == instance)
}

// awaited says that the end has yet to answer a Close frame that it was sent.
func (e *end) awaited() bool { return e.heard && !e.scan.closed && e.ended == 0 }

// took gives what was read from an end: what buf holds behind its headroom. It
// returns the part of buf that is to be written to the other end, completely; of
// a failure wrote is told.
func (s *socket) took(from side, buf []byte, now instant) []byte {
	s.stir(now)
	a, b := &s.ends[from], &s.ends[from.other()]
	p := buf[headroom:]
	if s.careful != nil {
		p = s.careful.unhold(from, buf)
	}
	closed := a.scan.closed
	var out []byte
	if b.voice == open {
		switch {
		case s.leaving && !s.dead:
			n := a.scan.advance(p) // not beyond the frame that was under way
			out, p = p[:n], p[n:]
			if a.scan.between() {
				b.voice = due
				if b.heard || a.scan.closed {
					b.voice = mute
				}
				s.changed = true
			}
		case s.careful != nil:
			out, p = s.sift(from, p, now)
		default:
			a.scan.scan(p)
			out, p = p, nil
		}
		if a.scan.closed {
			b.heard = true
		}
	}
	a.scan.scan(p)
	if a.scan.closed && !closed {
		s.said(from, now)
	}
	return out
}

// stir notes that something came.
func (s *socket) stir(now instant) {
	if now-instant(s.active.Load()) >= instant(activeStep) {
		s.active.Store(int64(now))
	}
}

// unseen is how many of the bytes that come next from an end are passed on
// whatever they are: what is left of a payload that nobody has to look at. They
// may be moved without being read; skipped has to be told.
func (s *socket) unseen(from side) uint64 {
	scan := &s.ends[from].scan
	if s.careful != nil || s.leaving || s.ends[from.other()].voice != open || scan.opcode() == opClose {
		return 0
	}
	return scan.left
}

// skipped tells that n of the bytes that are unseen came, and are passed on.
func (s *socket) skipped(from side, n int, now instant) {
	s.stir(now)
	s.ends[from].scan.skip(n)
}

// said is called when an end's Close frame has come.
func (s *socket) said(from side, now instant) {
	s.changed = true
	if s.leaving {
		return
	}
	if s.story == nil {
		s.tell(from.by(), app.Closed)
		s.story.Code, s.story.Reason = s.ends[from].scan.said()
	}
	if s.ends[from.other()].scan.closed {
		s.within(lingerWait, now)
	} else {
		s.within(answerWait, now)
	}
}

// finished tells that nothing more comes from an end: err is io.EOF at an
// orderly end of its stream.
func (s *socket) finished(from side, err error, now instant) {
	e := &s.ends[from]
	if e.ended != 0 {
		return
	}
	s.changed = true
	e.ended, e.broke = now, err != io.EOF
	s.calm = false
	if s.story == nil {
		s.tell(from.by(), app.Lost)
		e.waiting = from == instance
	}
}

// wrote tells how what next wanted, or took gave, was written.
func (s *socket) wrote(from side, d do, err error, now instant) {
	b := &s.ends[from.other()]
	switch {
	case err != nil:
		s.changed, s.calm = true, false
		b.deaf, b.voice, b.shut = true, mute, true
		b.lastBy = now.add(deathNotice)
	case d == say:
		s.changed = true
		b.voice, b.heard = mute, true
		if from == instance {
			s.story.Code, s.story.Reason = s.story.say.code, s.story.say.reason
		}
	case d == shut:
		s.changed = true
		b.shut = true
	}
}

// cannotShut tells that the connection to the other end knows no half-close.
// Where the end of a stream has to be passed on it is closed whole then.
func (s *socket) cannotShut(from side) {
	s.changed = true
	s.ends[from.other()].shut = true
	s.over = s.over || !s.leaving
}

// goodbye begins to end the socket, with a parting. The first one counts.
func (s *socket) goodbye(p parting, now instant) {
	if s.over || s.leaving {
		return
	}
	s.changed = true
	c, i := &s.ends[client], &s.ends[instance]
	dead := p.cause == app.Crashed || p.cause == app.Lost
	by := ByHoldfast
	if dead || i.waiting && p.cause == s.notice {
		by = ByInstance
	}
	if c.heard || i.heard {
		if by == ByInstance && s.story != nil && s.story.By == by && s.story.Cause == app.Lost {
			s.story.Cause = p.cause // now it is known why
		}
		s.within(closeWait, now) // they say goodbye already: let them, but not for long
		return
	}
	s.dead = dead
	s.tell(by, p.cause)
	s.story.say = p
	s.leaving = true
	s.frameBy = now.add(frameWait)
	s.within(frameWait+closeWait, now)
	if s.dead {
		i.voice = mute // nobody is there to be told
		i.lastBy = now.add(deathNotice)
	}
	i.waiting = false
	s.settle(now)
}

// abort cuts both connections at once.
func (s *socket) abort(cause app.Cause) {
	if s.over {
		return
	}
	if s.story == nil {
		s.tell(ByHoldfast, cause)
	}
	s.over, s.changed, s.calm = true, true, false
}

// orders are what others want of a socket: those that came together. The zero
// value wants nothing.
type orders struct {
	notice app.Cause // the instance is leaving: it ends nothing by itself, but explains an end of its stream
	say    parting   // goodbye, if it has a cause
	cut    app.Cause // both connections, at once
}

// and adds later orders.
func (o orders) and(later orders) orders {
	if later.notice != "" {
		o.notice = later.notice
	}
	if o.say.cause == "" {
		o.say = later.say
	}
	if o.cut == "" {
		o.cut = later.cut
	}
	return o
}

// obey does what is wanted.
func (s *socket) obey(o orders, now instant) {
	if o.notice != "" {
		s.notice = o.notice
	}
	if o.say.cause != "" {
		s.goodbye(o.say, now)
	}
	if o.cut != "" {
		s.abort(o.cut)
	}
}

// tell begins the story of the ending, or corrects it.
func (s *socket) tell(by By, cause app.Cause) {
	s.calm = false
	if s.story == nil {
		s.story = new(story)
	}
	s.story.By, s.story.Cause = by, cause
	s.story.Code, s.story.Reason = CodeAbnormal, ""
}

// within moves the time when everything is cut to d from now, but never back.
func (s *socket) within(d time.Duration, now instant) {
	if t := now.add(d); s.bound == 0 || t < s.bound {
		s.bound = t
		s.changed, s.calm = true, false
	}
}

// settle draws the conclusions from what happened and from the time.
func (s *socket) settle(now instant) {
	if s.over || s.calm {
		return
	}
	for from := range s.ends {
		if e := &s.ends[from]; e.lastBy.past(now) && e.ended == 0 {
			s.finished(side(from), io.ErrUnexpectedEOF, now)
		}
	}
	if i := &s.ends[instance]; i.waiting && i.ended.add(deathNotice).past(now) {
		switch {
		case s.notice != "":
			s.goodbye(because(s.notice), now)
		case i.broke:
			s.goodbye(because(app.Lost), now)
		}
		i.waiting = false // else, and when the client was faster with its own goodbye, it is a half-close
		s.changed = true
	}
	if s.leaving {
		s.settleVoice(client, now)
		s.settleVoice(instance, now)
		if s.ends[client].voice == mute && s.ends[instance].voice == mute {
			s.within(closeWait, now)
			if s.ends[client].scan.closed && s.ends[instance].scan.closed {
				s.within(lingerWait, now)
			}
		}
	}
	if s.bound.past(now) || s.done() {
		s.over, s.changed = true, true
	}
}

// settleVoice decides, while we say goodbye, what may still be written to an
// end.
func (s *socket) settleVoice(to side, now instant) {
	a, b := &s.ends[to.other()], &s.ends[to]
	if b.voice != open {
		return
	}
	ended := a.ended != 0
	switch {
	case b.shut, b.heard, b.broke:
		b.voice = mute
	case s.dead && !ended:
		return // its last words first
	case a.scan.between():
		b.voice = due
	case ended, s.frameBy.past(now):
		b.voice = mute // it stands within a frame that nobody will end
	default:
		return
	}
	s.changed = true
}

// shutDue says that the end of the stream is to be written to the end that
// from leads to.
func (s *socket) shutDue(from side) bool {
	a, b := &s.ends[from], &s.ends[from.other()]
	if b.shut {
		return false
	}
	if s.leaving {
		// A client waits for the server to close first, and tells its page
		// nothing until then.
		return from == instance && b.voice == mute && b.heard && b.scan.closed
	}
	return a.ended != 0 && !a.waiting
}

// done says that nothing is left to be done for the socket.
func (s *socket) done() bool {
	c, i := &s.ends[client], &s.ends[instance]
	if s.leaving {
		told := c.voice == mute && i.voice == mute
		return told &&
			(!c.heard || c.ended != 0 || c.scan.closed && c.shut) &&
			(!i.heard || i.ended != 0)
	}
	return c.broke || s.carried(client) && s.carried(instance)
}

// carried says that a direction has nothing left to carry, while nobody says
// goodbye.
func (s *socket) carried(from side) bool {
	a, b := &s.ends[from], &s.ends[from.other()]
	if a.ended != 0 {
		return b.shut
	}
	return b.deaf && !a.awaited()
}

// alarm is when settle has to be called at the latest; zero is never.
func (s *socket) alarm() instant {
	if s.calm {
		return 0
	}
	at := s.bound
	for i := range s.ends {
		e := &s.ends[i]
		if e.lastBy != 0 && e.ended == 0 {
			at = sooner(at, e.lastBy)
		}
		if e.waiting {
			at = sooner(at, e.ended.add(deathNotice))
		}
		if s.leaving && e.voice == open {
			at = sooner(at, s.frameBy)
		}
	}
	return at
}

// writeBy is when a write that is under way has to end; zero is never.
func (s *socket) writeBy() instant {
	if s.leaving {
		return s.frameBy
	}
	return s.bound
}
