package tunnel

import (
	"container/heap"
	"time"
)

// instant is a time of the monotonic clock in nanoseconds since the set was
// made; zero is never. It is a third of a time.Time, and a socket keeps many.
type instant int64

// past says that the instant is set and has come.
func (i instant) past(now instant) bool { return i != 0 && now >= i }

func (i instant) add(d time.Duration) instant { return i + instant(d) }

// sooner is the earlier one of two that may be never.
func sooner(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// clock is the beginning of all instants of a set.
type clock struct{ born time.Time }

// farthest is what instants are held within, so that adding to them never overflows.
const farthest = instant(1) << 61 // 73 years

func (c clock) now() instant { return c.instant(time.Now()) }

// instant is never zero, and t may be any time, also before the clock's birth.
func (c clock) instant(t time.Time) instant {
	i := min(max(instant(t.Sub(c.born)), -farthest), farthest) + 1
	if i == 0 {
		i = 1
	}
	return i
}

// time is the zero time for never.
func (c clock) time(i instant) time.Time {
	if i == 0 {
		return time.Time{}
	}
	return c.born.Add(time.Duration(i - 1))
}

// agenda is a heap of sockets by when something is due for them. A socket may
// be in several, in each with another entry of its own.
type agenda struct {
	list  []*socket
	entry func(*socket) *entry
}

// entry is a socket's place in an agenda.
type entry struct {
	at   instant // zero: it is not in it
	slot int32
}

// set notes that the socket is due at that time; zero takes it out.
func (a *agenda) set(s *socket, at instant) {
	e := a.entry(s)
	switch {
	case e.at == at:
	case at == 0:
		heap.Remove(a, int(e.slot))
	case e.at == 0:
		e.at = at
		heap.Push(a, s)
	default:
		e.at = at
		heap.Fix(a, int(e.slot))
	}
}

// next is when the first one is due.
func (a *agenda) next() instant {
	if len(a.list) == 0 {
		return 0
	}
	return a.entry(a.list[0]).at
}

// due takes the first one out, if its time has come; else it is nil.
func (a *agenda) due(now instant) *socket {
	if !a.next().past(now) {
		return nil
	}
	return heap.Pop(a).(*socket)
}

// Len, Less, Swap, Push and Pop are for container/heap.

func (a *agenda) Len() int { return len(a.list) }

func (a *agenda) Less(i, j int) bool { return a.entry(a.list[i]).at < a.entry(a.list[j]).at }

func (a *agenda) Swap(i, j int) {
	a.list[i], a.list[j] = a.list[j], a.list[i]
	a.entry(a.list[i]).slot, a.entry(a.list[j]).slot = int32(i), int32(j)
}

func (a *agenda) Push(x any) {
	s := x.(*socket)
	a.entry(s).slot = int32(len(a.list))
	a.list = append(a.list, s)
}

func (a *agenda) Pop() any {
	last := len(a.list) - 1
	s := a.list[last]
	a.list[last] = nil
	a.list = a.list[:last]
	a.entry(s).at = 0
	return s
}
