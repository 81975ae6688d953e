package tally

import (
	"slices"
	"sync"
	"testing"
	"time"
)

func TestWhatIsCountedIsInItsBucket(t *testing.T) {
	h := New(Bounds{time.Millisecond, time.Second})
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, time.Minute} {
		h.Add(d)
	}
	s := h.Spread()
	if want := []int64{2, 2, 1}; !slices.Equal(s.Buckets, want) || s.Count != 5 {
		t.Errorf("buckets %v, count %d; want %v, 5", s.Buckets, s.Count, want)
	}
	if want := 61*time.Second + 2*time.Millisecond + 1; s.Sum != want {
		t.Errorf("sum %v, want %v", s.Sum, want)
	}
}

func TestManyMayCountAtOnce(t *testing.T) {
	h := New(Bounds{time.Second})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				h.Add(time.Millisecond)
			}
		})
	}
	all.Wait()
	if s := h.Spread(); s.Count != 8000 || s.Sum != 8*time.Second {
		t.Errorf("count %d, sum %v; want 8000, 8s", s.Count, s.Sum)
	}
}

func TestCountingTakesNoMemory(t *testing.T) {
	h := New(Bounds{time.Millisecond, time.Second})
	if n := testing.AllocsPerRun(100, func() { h.Add(time.Minute) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	h := New(Bounds{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	b.ReportAllocs()
	for b.Loop() {
		h.Add(9)
	}
}
