package certs

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Who may have us obtain a certificate: strangers, by asking for a name. So it
// is bounded how many are obtained at once and within an hour, and after a
// failure how soon it is tried again. Authorities bound the same, by the week,
// and lock out whoever does not heed that.

const (
	obtainedAtOnce = 4

	// jobsMax bounds how many names wait for theirs at once, and namesMax of how
	// many is remembered that they failed.
	jobsMax  = 100
	namesMax = 10_000

	// newMax is how many names, beside the base domains, get their first
	// certificate within newWithin. Let's Encrypt gives 50 a week for one
	// registered domain, so whoever needs more should use the hook.
	newMax    = 20
	newWithin = time.Hour

	// After a failure comes a pause, which doubles with each up to the longest.
	pauseFirst   = time.Minute
	pauseLongest = 12 * time.Hour
)

// wish is a name that a certificate was asked for.
type wish struct {
	done    chan struct{} // closed when the attempt under way has ended; nil: none is
	fails   int
	problem string    // why there is none; "" if nothing is known to be wrong
	next    time.Time // not again before
}

// want has the certificate of a subject obtained, or read from the disk, unless
// it lately failed, which is the error. The channel is closed when it is there, or
// has failed too.
func (p *public) want(subject string) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.names[subject]
	now := time.Now()
	switch {
	case w != nil && w.done != nil:
		return w.done, nil
	case w != nil && now.Before(w.next):
		return nil, fmt.Errorf("the certificate of %s could not be obtained: %s; tried again in %v", subject, w.problem, w.next.Sub(now).Round(time.Second))
	case p.underWayLocked() >= jobsMax:
		return nil, fmt.Errorf("%d certificates are being obtained already", jobsMax)
	case p.ctx.Err() != nil:
		return nil, p.ctx.Err()
	case w == nil:
		if len(p.names) >= namesMax && !p.forgetLocked(now) {
			return nil, fmt.Errorf("too many names have failed lately")
		}
		w = &wish{}
		p.names[subject] = w
	}
	done := make(chan struct{})
	w.done = done
	p.jobs.Add(1)
	go p.obtain(subject, done) // ends within obtainTime, or with run
	return done, nil
}

func (p *public) underWayLocked() (n int) {
	for _, w := range p.names {
		if w.done != nil {
			n++
		}
	}
	return n
}

// forgetLocked makes room by forgetting names whose pause is over.
func (p *public) forgetLocked(now time.Time) bool {
	for name, w := range p.names {
		if w.done == nil && now.After(w.next) {
			delete(p.names, name)
		}
	}
	return len(p.names) < namesMax
}

func (p *public) obtain(subject string, done chan struct{}) {
	defer p.jobs.Done()
	ctx, cancel := context.WithTimeout(p.ctx, obtainTime)
	defer cancel()
	slots, issuer := p.slots, p.issuer(subject)
	if issuer == p.written {
		slots = p.hook
	}
	var err error
	select {
	case slots <- struct{}{}:
		err = issuer.config.ManageSync(ctx, []string{subject})
		<-slots
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(done)
	w := p.names[subject]
	w.done = nil
	switch {
	case err == nil:
		delete(p.names, subject)
	case p.ctx.Err() != nil:
	default:
		w.problem = explain(err)
		if w.next.Before(time.Now()) { // else admit has said when
			w.fails++
			w.next = time.Now().Add(pause(w.fails))
		}
		p.log.Warn("certificate not obtained", "names", subject, "err", w.problem, "again", w.next)
	}
}

// pause is how long to wait after so many failures.
func pause(fails int) time.Duration {
	return min(pauseFirst<<min(fails-1, 20), pauseLongest)
}

// admit says whether a certificate for a name that had none may be asked for
// now, and counts it.
func (p *public) admit(subject string, now time.Time) error {
	if slices.Contains(p.base(), subject) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = slices.DeleteFunc(p.recent, func(t time.Time) bool { return now.Sub(t) >= newWithin })
	if len(p.recent) >= newMax {
		next := p.recent[0].Add(newWithin)
		if w := p.names[subject]; w != nil {
			w.next = next
		}
		return fmt.Errorf("%d names got their first certificate within %v, which is the most", newMax, newWithin)
	}
	p.recent = append(p.recent, now)
	return nil
}

// note remembers what is wrong with a name's certificate.
func (p *public) note(subject, problem string, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.names[subject]
	if w == nil {
		if len(p.names) >= namesMax {
			return // it is in the log
		}
		w = &wish{}
		p.names[subject] = w
	}
	w.problem, w.next = problem, next
}

// forgive forgets what was wrong.
func (p *public) forgive(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.names[subject]; w != nil && w.done == nil {
		delete(p.names, subject)
	}
}
