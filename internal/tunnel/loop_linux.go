package tunnel

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
)

// The loops: one goroutine a core carries all sockets that have descriptors. A
// socket lives on one loop with both of its descriptors, and costs nothing
// there while it is idle: no goroutine, no timer, no buffer.
//
// Descriptors are registered once, edge-triggered: an event says that something
// may be read, or written again, and is remembered in the socket until a call
// said EAGAIN. Events are hints; a spurious one does no harm.
//
// Others never touch a socket that a loop carries. They leave orders in the
// loop's mail, where each socket is at most once, and ring a bell if it sleeps.

const (
	// batch is how many events are taken at once, and how much mail, looks and
	// alarms are dealt with before events are taken again.
	batch = 256

	// loopBuffer is what a loop reads at once, in bytes, and the most that it
	// keeps for a reader that stalls.
	loopBuffer = 64 << 10

	// A socket may move a share of roundBytes in one direction before others have
	// their turn: the more of them have something to say, the less of it, or
	// a hundred that flood would keep everybody else waiting for a hundred full
	// turns. shareMost and shareLeast bound it, in bytes.
	roundBytes = 1 << 20
	shareMost  = 4 * loopBuffer
	shareLeast = 8 << 10

	// spare is how many buffers for remainders a loop keeps, of loopBuffer each.
	spare = 8

	// stint is how long a loop that always finds events works before it lets
	// other goroutines run: a request should not wait for the scheduler's 10 ms.
	stint = time.Millisecond

	// linger is how long a loop without sockets waits for the next one before
	// it ends.
	linger = time.Second
)

// loop is one of a set's loops.
type loop struct {
	// Set at its making, then constant.
	set     *Set
	running *sync.WaitGroup

	count atomic.Int32 // sockets, for those who choose a loop

	// Owned by run.
	sockets []*socket // by slot
	freed   []int32   // slots that were given up since the mail was looked at
	again   []*socket // whose share was used up
	todo    []*socket // mail that was taken and not dealt with yet
	looks   []*look
	alarms  agenda
	spares  []*[loopBuffer]byte
	pipe    pipe
	gate    gate               // of TLS clients
	sealed  []byte             // what is read from them; nil: there was none
	input   []byte             // where a tls.Conn keeps a record while it is opened
	chunks  []*[recordMax]byte // for the beginnings of records
	events  []unix.EpollEvent
	polls   func(uintptr) bool // poll, for raw.Read
	polled  int                // what polls found
	limited bool               // epoll has a deadline
	share   int                // of each socket in this round, in bytes
	vacant  bool               // it is closing, and had no socket when the mail was last taken

	// Constant while it runs.
	epoll *os.File
	raw   syscall.RawConn // of epoll
	epfd  int             // its number
	bell  int             // an eventfd

	mail     atomic.Bool // there is something new under mu
	sleeping atomic.Bool // the bell has to be rung to be heard

	mu       sync.Mutex // guards the following
	alive    bool       // run runs
	closing  bool       // it ends with the last socket
	held     int        // sockets that were reserved for, and did not end
	slots    []int32    // free ones
	slotsEnd int32      // those from here on were never used
	arrivals []*socket
	letters  []*socket // with orders in socket.asked
	askers   []*look
}

// wired is the loop's part of a socket.
type wired struct {
	// Owned by the loop.
	alarmed entry      // in loop.alarms
	rest    [2]*rest   // what the other end could not take yet, at the index of the side it came from
	fd      [2]int32   // at the index of the side; constant
	slot    int32      // in loop.sockets; constant
	sign    [2]uint8   // what is known of a descriptor
	queued  bool       // in loop.again
	closed  bool       // both descriptors
	early   *[2][]byte // read before the socket was joined; nil: nothing
	tls     *secured   // of a client that speaks TLS; nil: it does not

	// Guarded by loop.mu.
	started bool
	asked   *orders // nil: it has no mail
}

// What is known of a descriptor.
const (
	signRead  = 1 << iota // there may be something to be read
	signHung              // the end of the stream has come, or an error: read on until it shows
	signAwait             // it is registered for being writable again
)

// rest is what could not be written.
type rest struct {
	data  []byte
	do    do // read, say, ask or shut: as it is to be told when all is written
	chunk *[loopBuffer]byte
}

// look is somebody's wish to see sockets.
type look struct {
	all  []*socket
	at   func(s *socket, now instant)
	done chan struct{}
}

// reserve counts a socket in, and starts the loop if it does not run.
func (l *loop) reserve() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false
	}
	if !l.alive {
		if !l.openLocked() {
			return false
		}
		l.alive = true
		l.running.Add(1)
		go l.run() // ends by itself, a while after its last socket
	}
	l.held++
	l.count.Add(1)
	return true
}

func (l *loop) openLocked() bool {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	unix.SetNonblock(epfd, true) // says to os.NewFile that it can be polled
	epoll := os.NewFile(uintptr(epfd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil || epoll.SetReadDeadline(time.Time{}) != nil {
		epoll.Close()
		return false
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		epoll.Close()
		return false
	}
	// Edge-triggered, so that nobody has to read from it.
	if unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN | epollET, Fd: -1}) != nil {
		unix.Close(bell)
		epoll.Close()
		return false
	}
	l.epoll, l.raw, l.epfd, l.bell = epoll, raw, epfd, bell
	return true
}

const (
	epollET = 1 << 31

	// interest is what a descriptor is registered for. That it can be written
	// to is asked for only once it could not: most never come to that.
	interest = unix.EPOLLIN | unix.EPOLLRDHUP | epollET
)

// watch registers a descriptor, or changes what it is registered for.
func (l *loop) watch(op int, s *socket, of side, events uint32) error {
	return unix.EpollCtl(l.epfd, op, int(s.fd[of]), &unix.EpollEvent{Events: events, Fd: s.slot<<1 | int32(of)})
}

// start gives an admitted socket to the loop. An idle one does not wake it.
func (l *loop) start(s *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.slots); n > 0 {
		s.slot, l.slots = l.slots[n-1], l.slots[:n-1]
	} else {
		s.slot = l.slotsEnd
		l.slotsEnd++
	}
	l.arrivals = append(l.arrivals, s)
	l.mail.Store(true)
	err := l.watch(unix.EPOLL_CTL_ADD, s, client, interest)
	if err == nil {
		err = l.watch(unix.EPOLL_CTL_ADD, s, instance, interest)
	}
	s.started = true
	if err != nil { // the kernel has no memory for it, or max_user_watches is reached
		l.postLocked(s, orders{cut: app.Lost})
	} else if s.asked != nil {
		l.deliverLocked(s)
	} else if s.early != nil || s.pingDue() != 0 || s.rest[instance] != nil || s.tls != nil && s.tls.err != nil {
		l.postLocked(s, orders{}) // so that it is looked at
	}
}

// refuse closes an admitted socket that was not started.
func (l *loop) refuse(s *socket) {
	unix.Close(int(s.fd[client]))
	unix.Close(int(s.fd[instance]))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held--
	l.count.Add(-1)
	l.ringLocked() // it may have been the last one
}

func (l *loop) order(s *socket, o orders) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.alive {
		return // and so it has ended
	}
	l.postLocked(s, o)
}

// postLocked puts a socket into the mail, with orders.
func (l *loop) postLocked(s *socket, o orders) {
	if s.asked != nil {
		*s.asked = s.asked.and(o)
		return
	}
	s.asked = &o
	if s.started { // else start looks for it
		l.deliverLocked(s)
	}
}

func (l *loop) deliverLocked(s *socket) {
	l.letters = append(l.letters, s)
	l.ringLocked()
}

// look asks the loop, which deals with a batch of them at a time, and waits.
func (l *loop) look(all []*socket, at func(s *socket, now instant)) {
	q := &look{all: all, at: at, done: make(chan struct{})}
	l.mu.Lock()
	if !l.alive {
		l.mu.Unlock()
		return
	}
	l.askers = append(l.askers, q)
	l.ringLocked()
	l.mu.Unlock()
	<-q.done
}

// ringLocked makes the loop look at its mail soon.
func (l *loop) ringLocked() {
	l.mail.Store(true)
	if l.alive && l.sleeping.CompareAndSwap(true, false) {
		one := [8]byte{0: 1}
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.bell), uintptr(unsafe.Pointer(&one[0])), uintptr(len(one)))
	}
}

// run carries until there has been no socket for a while.
func (l *loop) run() {
	defer l.running.Done()
	l.events = make([]unix.EpollEvent, batch)
	l.polls = func(uintptr) bool {
		l.polled = l.poll()
		return l.polled > 0
	}
	buf := make([]byte, headroom+loopBuffer)
	breakAt := l.set.clock.now().add(stint)
	quiet := false // it waited for a socket, and none came
	for {
		if l.mail.Load() {
			l.collect()
		}
		if (l.vacant || quiet) && l.over(quiet) {
			return
		}
		timeout := l.patience()
		n := l.wait(timeout)
		now := l.set.clock.now()
		quiet = n == 0 && timeout > 0
		if l.mail.Load() {
			l.collect() // a socket's arrival, before its events
		}
		l.share = min(max(roundBytes/max(1, n+len(l.again)), shareLeast), shareMost)
		for _, ev := range l.events[:n] {
			if ev.Fd >= 0 {
				l.event(ev, buf, now)
			}
		}
		l.turn(buf, now)
		if now >= breakAt {
			runtime.Gosched()
			breakAt = l.set.clock.now().add(stint)
		}
	}
}

// patience is how long the loop may sleep; negative is for ever.
func (l *loop) patience() time.Duration {
	if len(l.again)+len(l.todo)+len(l.looks) > 0 {
		return 0
	}
	at := l.alarms.next()
	if at == 0 {
		if l.count.Load() == 0 {
			return linger
		}
		return -1
	}
	return max(0, time.Duration(at-l.set.clock.now()))
}

// wait takes events, or sleeps until there are some.
func (l *loop) wait(timeout time.Duration) int {
	n := l.poll()
	if n > 0 || timeout == 0 {
		return n
	}
	// Sleeping and being woken is what costs most. Who lets others run first
	// finds more events at once, and most often needs no sleep.
	runtime.Gosched()
	l.sleeping.Store(true)
	defer l.sleeping.Store(false)
	if l.mail.Load() {
		return 0
	}
	// To sleep in epoll_wait would keep a thread and, until the scheduler takes
	// it away, a processor from all other goroutines. An epoll descriptor can be
	// polled itself: so the loop sleeps as any goroutine that waits for input.
	if timeout > 0 || l.limited {
		l.limited = timeout > 0
		var until time.Time
		if l.limited {
			until = time.Now().Add(timeout)
		}
		l.epoll.SetReadDeadline(until)
	}
	l.polled = 0
	l.raw.Read(l.polls) // an error is that the time is over
	return l.polled
}

// poll takes events that are there already.
func (l *loop) poll() int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno != 0 { // EINTR
		return 0
	}
	return int(n)
}

// collect takes in the mail.
func (l *loop) collect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mail.Store(false)
	for _, s := range l.arrivals {
		for int(s.slot) >= len(l.sockets) {
			l.sockets = append(l.sockets, nil)
		}
		l.sockets[s.slot] = s
	}
	clear(l.arrivals)
	l.arrivals = l.arrivals[:0]
	l.todo = append(l.todo, l.letters...)
	clear(l.letters)
	l.letters = l.letters[:0]
	l.looks = append(l.looks, l.askers...)
	clear(l.askers)
	l.askers = l.askers[:0]
	l.held -= len(l.freed)
	l.slots = append(l.slots, l.freed...)
	l.freed = l.freed[:0]
	l.vacant = l.closing && l.held == 0
}

// over ends the loop if it has nothing left to live for: no socket, while it is
// closing or has been idle for long.
func (l *loop) over(idle bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := len(l.todo) + len(l.looks) + len(l.letters) + len(l.askers)
	if l.held > 0 || busy > 0 || !l.closing && !idle {
		return false
	}
	unix.Close(l.bell)
	l.epoll.Close()
	l.pipe.close()
	l.alive, l.limited = false, false
	l.sockets, l.spares, l.slots, l.slotsEnd, l.events = nil, nil, nil, 0, nil
	l.gate, l.sealed, l.input, l.chunks = gate{}, nil, nil, nil
	return true
}

// turn deals with a batch of what is not events.
func (l *loop) turn(buf []byte, now instant) {
	for range batch {
		s := l.alarms.due(now)
		if s == nil {
			break
		}
		l.work(s, buf, now)
	}
	// Those that are added meanwhile have their turn after the next events.
	n := min(len(l.again), batch)
	for _, s := range l.again[:n] {
		s.queued = false
		if !s.closed {
			l.work(s, buf, now)
		}
	}
	l.again = drop(l.again, n)

	n = min(len(l.todo), batch/4) // each may be two writes
	for _, s := range l.todo[:n] {
		l.mu.Lock()
		o := s.asked
		s.asked = nil
		l.mu.Unlock()
		if o != nil && !s.closed {
			s.obey(*o, now)
			l.work(s, buf, now)
		}
	}
	l.todo = drop(l.todo, n)

	if len(l.looks) > 0 {
		q := l.looks[0]
		n := min(len(q.all), batch)
		for _, s := range q.all[:n] {
			if !s.closed {
				q.at(s, now)
			}
		}
		if q.all = q.all[n:]; len(q.all) == 0 {
			close(q.done)
			l.looks = drop(l.looks, 1)
		}
	}
	if len(l.freed) > 0 {
		l.mail.Store(true)
	}
}

// drop takes the first n out of a queue, and keeps its memory while it is small.
func drop[T any](q []T, n int) []T {
	rest := copy(q, q[n:])
	clear(q[rest:])
	if rest == 0 && cap(q) > 4*batch {
		return nil
	}
	return q[:rest]
}
