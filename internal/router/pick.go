package router

import "time"

// easeIn is how long a freshly ready instance is spared: long enough for a
// runtime to warm up, short beside an instance's start.
const easeIn = 10 * time.Second

// easeFloor is the least share of picks a fresh instance is eligible for, so
// that even the first second warms it up.
const easeFloor = 0.1

// catchUp is how many choices an instance can be behind the others and still be
// preferred among equals until it is level. Enough that 1,000 requests, many at
// once, come out even; few enough that one that was long out of traffic, or is
// new, gets no flood.
const catchUp = 32

// seat is one ready instance as pick sees it.
type seat struct {
	open   int64         // requests and sockets it has open
	chosen uint64        // how often it was chosen, no more than catchUp behind the most often chosen
	age    time.Duration // since it became ready
}

// pick chooses among ready instances: the one with the fewest open requests
// and sockets. Among equals the least often chosen of late goes first, and only
// where that is equal too does chance decide. Chance alone would not spread
// evenly: of 1,000 requests that come one after the other, two instances would
// get 500 give or take 32, not within 5 % of even.
//
// Fresh instances are eased in: beside older ones they take part in a pick
// only with a probability that grows with their age. Where all are fresh, as
// after a start, nobody is spared.
//
// dice is random. The result is an index, -1 for no seats.
func pick(seats []seat, dice uint64) int {
	old := false
	for _, s := range seats {
		old = old || s.age >= easeIn
	}
	draw := unit(dice)
	spared := func(s seat) bool {
		return old && s.age < easeIn && draw >= max(easeFloor, float64(s.age)/float64(easeIn))
	}
	best, ties := -1, uint64(0)
	for i, s := range seats {
		if spared(s) {
			continue
		}
		switch {
		case best < 0 || s.open < seats[best].open ||
			s.open == seats[best].open && s.chosen < seats[best].chosen:
			best, ties = i, 1
		case s.open == seats[best].open && s.chosen == seats[best].chosen:
			ties++
		}
	}
	if ties < 2 {
		return best
	}
	first := seats[best]
	nth := mix(dice) % ties // mixed: the same bits must not decide easing and ties
	for i, s := range seats {
		if s.open != first.open || s.chosen != first.chosen || spared(s) {
			continue
		}
		if nth == 0 {
			return i
		}
		nth--
	}
	return best
}

// rendezvous chooses for a session among instance ids by highest random
// weight: every router that knows the same instances chooses the same one, and
// when one instance goes only its own sessions move, evenly over the others.
// skip leaves ids out. The result is an index, -1 for none.
func rendezvous(session [sessionBytes]byte, ids []string, skip func(id string) bool) int {
	best, top := -1, uint64(0)
	for i, id := range ids {
		if skip != nil && skip(id) {
			continue
		}
		// FNV-1a, then mixed: FNV's high bits hardly move with the last
		// characters, and those are what tells two instance ids apart.
		h := uint64(14695981039346656037)
		for _, b := range session {
			h = (h ^ uint64(b)) * 1099511628211
		}
		for j := range len(id) {
			h = (h ^ uint64(id[j])) * 1099511628211
		}
		h = mix(h)
		if best < 0 || h > top || h == top && id < ids[best] {
			best, top = i, h
		}
	}
	return best
}
