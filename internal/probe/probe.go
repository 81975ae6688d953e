// Package probe asks one instance how it is, again and again, and turns the
// answers into a verdict. What a verdict leads to is for others to decide: it
// knows no version, no traffic and no other instance. Start at Watch; ask.go
// asks once, judge.go counts.
package probe

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"holdfast/internal/app"
)

const (
	// quickest is the wait between two questions to an instance that starts.
	quickest = 100 * time.Millisecond

	// presumedSpread is the time over which the first questions to instances
	// that were found running are spread: after our own restart there may be
	// hundreds, and all are asked for the first time.
	presumedSpread = time.Second

	// jitter is by how much of it an interval is shortened, at most, so that
	// instances are not asked in step. Never lengthened: a failure is noticed no
	// later than the documented threshold times interval.
	jitter = 0.1
)

// Target is an instance to watch.
type Target struct {
	Addr     string // host:port
	Born     time.Time
	Ready    app.Check
	Live     app.Check
	Presumed bool // begin with the verdict that it is ready

	// Answered is called after each question, from two goroutines, and must not
	// block; nil: nobody wants to know.
	Answered func(Answer)
}

// Kind is which of the two checks spoke.
type Kind uint8

// The two checks.
const (
	Readiness Kind = iota
	Liveness
)

func (k Kind) String() string {
	if k == Liveness {
		return "liveness"
	}
	return "readiness"
}

// Answer is what came of one question.
type Answer struct {
	Kind   Kind
	Asked  time.Time
	Took   time.Duration
	Status int    // of HTTP; 0: none came, or only a connection was asked for
	Body   string // its beginning
	Err    error  // why it does not pass; nil: it does
}

// Report is what Watch has to say about an instance.
type Report struct {
	Kind    Kind
	Verdict Verdict
	Err     error // what the last question failed with; nil when it passed
}

// Watch asks t until ctx ends, and returns when nobody asks any more. It calls
// report, from two goroutines, whenever a verdict or the kind of failure may
// have changed, and not for each answer; report must not block. A nil dial is
// net.Dialer's.
//
// Readiness is asked every Interval. But before the first pass App Engine's
// own pace (twice 5 s by default) would have a developer wait ten seconds for
// an app that listens after one. So an instance that starts is asked every
// 100 ms, and later after a tenth of the time that its start has taken so far,
// up to the interval: a start is noticed at most a tenth late. Its Successes
// are counted as documented, at the same quick pace.
//
// Liveness is not asked before InitialDelay has passed since Born. App Engine
// asks and ignores the answers, which leads to the same verdicts.
func Watch(ctx context.Context, dial Dial, t Target, report func(Report)) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		spread := interval(t.Live) - early(interval(t.Live))
		if pause(ctx, time.Until(t.Born.Add(t.Live.InitialDelay))+spread) {
			watch(ctx, dial, t, Liveness, Tally{}, report)
		}
	})
	var tally Tally
	if t.Presumed {
		tally.Verdict = Pass
		pause(ctx, rand.N(presumedSpread))
	}
	watch(ctx, dial, t, Readiness, tally, report)
	wg.Wait()
}

// watch asks one of the two checks until ctx ends.
func watch(ctx context.Context, dial Dial, t Target, kind Kind, tally Tally, report func(Report)) {
	check := t.Ready
	if kind == Liveness {
		check = t.Live
	}
	said := tally.Verdict
	var saidErr string
	passed := tally.Verdict == Pass // ever
	for ctx.Err() == nil {
		asked := time.Now()
		got, err := ask(ctx, dial, t.Addr, check)
		if ctx.Err() != nil {
			return // the answer was cut short by us
		}
		if t.Answered != nil {
			t.Answered(Answer{Kind: kind, Asked: asked, Took: time.Since(asked), Status: got.status, Body: got.body, Err: err})
		}
		tally = tally.Judge(check, err == nil)
		passed = passed || tally.Verdict == Pass
		var errText string
		if err != nil {
			errText = err.Error()
		}
		if tally.Verdict != said || errText != saidErr {
			said, saidErr = tally.Verdict, errText
			report(Report{Kind: kind, Verdict: tally.Verdict, Err: err})
		}

		wait := early(interval(check))
		if kind == Readiness && !passed {
			wait = min(wait, max(quickest, time.Since(t.Born)/10))
		}
		// From question to question; an answer that took longer than the
		// interval still leaves the instance a moment to itself.
		pause(ctx, max(quickest, wait-time.Since(asked)))
	}
}

func interval(check app.Check) time.Duration {
	if check.Interval <= 0 {
		return defaultInterval
	}
	return check.Interval
}

// early shortens d by up to jitter of it, at random.
func early(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*jitter*float64(d))
}

// pause waits for d and says whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
