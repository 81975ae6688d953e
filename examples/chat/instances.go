package main

import (
	"maps"
	"slices"
	"time"
)

// What instances tell each other. An exchange brings two of them to the same
// messages: one tells what it heard lately and asks for the same. It happens
// when one begins, and when it was away from the bus.

// tell publishes something that may be missed: it is said again, or asked for.
// It returns how many instances heard it.
func (r *room) tell(e envelope) (heard int64) {
	if r.publish == nil {
		return 0
	}
	e.From = r.me.Instance
	heard, err := r.publish(e)
	if err != nil {
		r.log.Warn("not told to the other instances", "err", err)
	}
	return heard
}

// exchange tells what was heard here lately, and asks the others.
func (r *room) exchange() {
	r.mu.Lock()
	recent := slices.Clone(r.history)
	here := r.hereLocked()
	r.owing = false
	r.mu.Unlock()
	if r.tell(envelope{Ask: true, Recent: recent, People: &here}) == 1 {
		r.settle() // nobody else is there
	}
}

// settle says that this instance knows what the others know.
func (r *room) settle() { r.settling.Do(func() { close(r.settled) }) }

// heard takes what an instance told.
func (r *room) heard(e envelope) {
	r.mu.Lock()
	if e.Said != nil {
		r.hearLocked(*e.Said)
	}
	if e.From == r.me.Instance {
		r.mu.Unlock()
		return
	}
	for _, m := range e.Recent {
		r.hearLocked(m)
	}
	if e.Answer {
		r.settle()
	}
	if e.People != nil {
		e.People.at = time.Now()
		r.elsewhere[e.From] = *e.People
		r.showPeopleLocked()
	}
	answer := envelope{}
	if e.Ask {
		here := r.hereLocked()
		answer = envelope{Answer: true, Recent: slices.Clone(r.history), People: &here}
	}
	r.mu.Unlock()
	if e.Ask {
		r.tell(answer)
	}
}

// beat says that this instance is there, and forgets those that do not.
func (r *room) beat() {
	r.mu.Lock()
	before := len(r.elsewhere)
	maps.DeleteFunc(r.elsewhere, func(_ string, p presence) bool { return time.Since(p.at) > goneAfter })
	if len(r.elsewhere) < before {
		r.showPeopleLocked()
	}
	owing := r.owing
	here := r.hereLocked()
	r.mu.Unlock()
	if owing {
		r.exchange()
		return
	}
	r.tell(envelope{People: &here})
}
