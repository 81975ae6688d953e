package tunnel

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// loops are those of one set. They start with their first socket, and end some
// time after their last one, so nobody has to run them.
type loops struct {
	set     *Set
	all     []*loop
	next    atomic.Uint32
	running sync.WaitGroup
}

func newLoops(set *Set) *loops {
	ls := &loops{set: set}
	for range runtime.GOMAXPROCS(0) {
		l := &loop{set: set, running: &ls.running}
		l.alarms.entry = func(s *socket) *entry { return &s.alarmed }
		ls.all = append(ls.all, l)
	}
	return ls
}

// admit makes a socket of two descriptors one of a loop's. It is false, and
// nothing has happened, if the connections have none to be taken, no more
// descriptors are to be had, or the loops are closed.
func (ls *loops) admit(s *socket, c, i net.Conn) bool {
	if ls == nil {
		return false
	}
	rawC, earlyC, tlsC, okC := descriptor(c)
	rawI, earlyI, tlsI, okI := descriptor(i)
	if !okC || !okI || tlsI != nil {
		return false
	}
	fdC, ok := own(rawC)
	if !ok {
		return false
	}
	fdI, ok := own(rawI)
	if !ok {
		disown(rawC, fdC)
		return false
	}
	l := ls.emptiest()
	if !l.reserve() {
		disown(rawC, fdC)
		disown(rawI, fdI)
		return false
	}
	s.carrier = l
	s.fd = [2]int32{fdC, fdI}
	if tlsC == nil {
		leave(c, rawC)
	} else {
		cut(tlsC.base.Conn)
		opened, out := tlsC.takeOver(l)
		earlyC = append(earlyC, opened...)
		if len(out) > 0 {
			s.rest[instance] = &rest{data: out, do: read}
		}
		s.tls = tlsC
	}
	leave(i, rawI)
	if len(earlyC)+len(earlyI) > 0 {
		s.early = &[2][]byte{earlyC, earlyI}
	}
	return true
}

// emptiest is the loop with the fewest sockets, the next one of equals.
func (ls *loops) emptiest() *loop {
	n := uint32(len(ls.all))
	start := ls.next.Add(1)
	best := ls.all[start%n]
	for k := range n - 1 {
		if l := ls.all[(start+1+k)%n]; l.count.Load() < best.count.Load() {
			best = l
		}
	}
	return best
}

// close lets the loops end with their last socket.
func (ls *loops) close() {
	if ls == nil {
		return
	}
	for _, l := range ls.all {
		l.mu.Lock()
		l.closing = true
		l.ringLocked()
		l.mu.Unlock()
	}
}

// wait returns when all loops have ended, after close and the last socket.
func (ls *loops) wait() {
	if ls != nil {
		ls.running.Wait()
	}
}
