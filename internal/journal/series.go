package journal

import (
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
)

const (
	// Step is how long one point of a series is, and Points how many there are:
	// an hour.
	Step   = 10 * time.Second
	Points = 360

	// servicesMax bounds how many services have series: each is some 15 kB.
	servicesMax = 1000
)

// Point is what a service carried in one step.
type Point struct {
	Time     time.Time // its beginning
	Requests int       // that ended, with handshakes of sockets
	Errors   int       // of these, with a status of 500 or more
	Opened   int       // sockets
	Ended    int
	Sockets  int // open, at the step's last count
}

// Totals are what a service carried since we started.
type Totals struct{ Requests, Errors, Lost, Opened, Ended int64 }

// series is an hour of one service. Requests are counted without a lock.
type series struct {
	steps [Points + 1]step // one more than is shown: the present one is under way

	requests, errors, lost, opened, ended atomic.Int64

	mu sync.Mutex // held while a step is begun anew
}

type step struct {
	number                                   atomic.Int64 // since 1970; of another hour: nothing was counted
	requests, errors, opened, ended, sockets atomic.Int32
}

func stepNumber(t time.Time) int64 { return t.UnixNano() / int64(Step) }

// at is the step of a moment, begun anew if it still has an earlier hour's counts.
func (s *series) at(t time.Time) *step {
	n := stepNumber(t)
	p := &s.steps[n%int64(len(s.steps))]
	if p.number.Load() == n {
		return p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.number.Load() < n {
		for _, c := range []*atomic.Int32{&p.requests, &p.errors, &p.opened, &p.ended, &p.sockets} {
			c.Store(0)
		}
		p.number.Store(n)
	}
	return p
}

func (s *series) request(t time.Time, status int, lost, opened bool) {
	p := s.at(t)
	p.requests.Add(1)
	s.requests.Add(1)
	if status >= 500 {
		p.errors.Add(1)
		s.errors.Add(1)
	}
	if lost {
		s.lost.Add(1)
	}
	if opened {
		p.opened.Add(1)
		s.opened.Add(1)
	}
}

func (s *series) sample(t time.Time, sockets int) { s.at(t).sockets.Store(int32(sockets)) }

// seriesOf is a service's series, made where there is none. Once there are too
// many, those that are left out share one that nobody reads.
func (j *Journal) seriesOf(k app.ServiceKey) *series {
	if s, ok := j.series.Load(k); ok {
		return s.(*series)
	}
	n := 0
	j.series.Range(func(any, any) bool { n++; return n < servicesMax })
	if n >= servicesMax {
		k = app.ServiceKey{}
	}
	s, _ := j.series.LoadOrStore(k, new(series))
	return s.(*series)
}

// Series is the last hour of a service up to now, Points long, the oldest first.
// The last one is under way.
func (j *Journal) Series(k app.ServiceKey, now time.Time) []Point {
	s := &series{} // where nothing was told
	if known, ok := j.series.Load(k); ok {
		s = known.(*series)
	}
	last := stepNumber(now)
	all := make([]Point, Points)
	for i := range all {
		n := last - int64(Points-1-i)
		all[i].Time = time.Unix(0, n*int64(Step))
		p := &s.steps[n%int64(len(s.steps))]
		if p.number.Load() != n {
			continue
		}
		all[i].Requests, all[i].Errors = int(p.requests.Load()), int(p.errors.Load())
		all[i].Opened, all[i].Ended, all[i].Sockets = int(p.opened.Load()), int(p.ended.Load()), int(p.sockets.Load())
	}
	return all
}

// Totals is what a service carried since we started.
func (j *Journal) Totals(k app.ServiceKey) Totals {
	s := &series{}
	if known, ok := j.series.Load(k); ok {
		s = known.(*series)
	}
	return Totals{s.requests.Load(), s.errors.Load(), s.lost.Load(), s.opened.Load(), s.ended.Load()}
}
