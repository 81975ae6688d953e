package router

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"holdfast/internal/app"
)

// A version's table of sessions: which instance knows which. A name is in it as
// a digest under the installation's secret, so that an entry is small whatever
// its name was, and nobody can make up two names that meet. Each version has a
// table of its own: an entry counts only where a split, or a host, led a request
// to that version anyway.
//
// Whoever may ask for handshakes may fill a table. So there are two parts, each
// bounded: a session that was only begun is among the fresh ones until its client
// has used it, which a real one does within seconds, and those who just knock
// crowd out nobody who is inside. What finds no room is not learnt, and its
// client is placed by its address.

const (
	// sidsMax is how many used sessions a version's table holds. Each that is
	// alive keeps a poll open here, which costs a connection and some 20 kB, so
	// a machine is full before its table is. An entry takes some 40 bytes, a full
	// table 2 to 5 MB.
	sidsMax = 1 << 16

	// sidsFreshMax is how many that are not used yet: 273 handshakes a second for
	// the longest time that an entry stays there. 0.5 to 1 MB.
	sidsFreshMax = 1 << 14

	// sidsFor is how long an unused entry counts at least; twice as long at most.
	// The libraries' clients ask again when a poll has ended, after at most the
	// server's ping interval: 25 s, in some apps minutes.
	sidsFor = 5 * time.Minute

	// sidsFreshFor is the same for one that was never used.
	sidsFreshFor = 30 * time.Second
)

// digest is a session's name, in one version.
type digest [sessionBytes]byte

// digestOf makes it. salt is the installation's; equal routers make equal ones.
func digestOf(salt [sessionBytes]byte, k app.Key, sid string) (d digest) {
	b := make([]byte, 0, 256)
	b = append(b, salt[:]...)
	for _, s := range [...]string{k.App, k.Service, k.Version} {
		b = append(append(b, s...), 0)
	}
	sum := sha256.Sum256(append(b, sid...))
	copy(d[:], sum[:])
	return d
}

// sids is a version's table. Its zero value is ready and empty.
type sids struct {
	mu    sync.Mutex // guards the following; only requests of sessions come here
	used  ages
	fresh ages
}

// find is the session's instance, nil for one that is not known. Asking is use.
func (s *sids) find(d digest, now time.Time) *target {
	key := binary.BigEndian.Uint64(d[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if t := s.used.take(key); t != nil {
		s.used.put(key, t)
		return t
	}
	t := s.fresh.take(key)
	switch {
	case t == nil:
		return nil
	case s.used.len() < sidsMax:
		s.used.put(key, t)
	default:
		s.fresh.put(key, t) // stays as long as it is used often
	}
	return t
}

// learn notes where a session is. One that is known moves.
func (s *sids) learn(d digest, t *target, now time.Time) {
	key := binary.BigEndian.Uint64(d[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if s.used.take(key) != nil {
		s.used.put(key, t)
		return
	}
	if s.fresh.take(key) != nil || s.fresh.len() < sidsFreshMax {
		s.fresh.put(key, t)
	}
}

// tidy lets go of what is over, so that the counts of instances are right.
func (s *sids) tidy(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
}

func (s *sids) turn(now time.Time) {
	s.used.turn(now, sidsFor)
	s.fresh.turn(now, sidsFreshFor)
}

// ages keeps entries by when they were used last, in two ages: nothing has to be
// sorted, and what is over goes at once. It counts the sessions of instances.
type ages struct {
	now, before map[uint64]*target
	since       time.Time // when now began
}

func (a *ages) len() int { return len(a.now) + len(a.before) }

// turn begins another age when this one has lasted that long.
func (a *ages) turn(at time.Time, length time.Duration) {
	switch age := at.Sub(a.since); {
	case age < length:
		return
	case age < 2*length:
		uncount(a.before)
		a.before, a.now = a.now, nil
	default:
		a.clear()
	}
	a.since = at
}

func (a *ages) clear() {
	uncount(a.now)
	uncount(a.before)
	a.now, a.before = nil, nil
}

func uncount(m map[uint64]*target) {
	for _, t := range m {
		t.sessions.Add(-1)
	}
}

func (a *ages) put(key uint64, t *target) {
	if a.now == nil {
		a.now = map[uint64]*target{}
	}
	a.now[key] = t
	t.sessions.Add(1)
}

// take takes an entry out.
func (a *ages) take(key uint64) *target {
	for _, m := range [...]map[uint64]*target{a.now, a.before} {
		if t := m[key]; t != nil {
			delete(m, key)
			t.sessions.Add(-1)
			return t
		}
	}
	return nil
}
