// Package tally counts how long things took, cheaply enough for the path of a
// request: two atomic additions, no lock, no memory. It knows nothing of what is
// counted, nor of who shows it: a Spread is a plain value.
package tally

import (
	"sync/atomic"
	"time"
)

// boundsMax bounds how many bounds there may be: a histogram of them is 200 bytes,
// and there are several for each version.
const boundsMax = 20

// Bounds are the upper ends of a histogram's buckets, rising, each included; what
// is longer than the last one has a bucket of its own. There are at most 20.
type Bounds []time.Duration

// Histogram counts durations by the bucket that they fall into. Its zero value
// counts nothing: make one with New. Its methods may be called from several
// goroutines.
type Histogram struct {
	bounds  Bounds
	buckets [boundsMax + 1]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

// New makes an empty one. bounds must not change.
func New(bounds Bounds) *Histogram {
	if len(bounds) > boundsMax {
		panic("tally: too many bounds")
	}
	return &Histogram{bounds: bounds}
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Spread is what was counted so far.
func (h *Histogram) Spread() Spread {
	s := Spread{Bounds: h.bounds, Buckets: make([]int64, len(h.bounds)+1), Sum: time.Duration(h.sum.Load())}
	for i := range s.Buckets {
		s.Buckets[i] = h.buckets[i].Load()
		s.Count += s.Buckets[i]
	}
	return s
}

// Spread is a histogram's content.
type Spread struct {
	Bounds  Bounds
	Buckets []int64 // how many fell into each; one more than there are bounds
	Count   int64   // of all buckets
	Sum     time.Duration
}
