package probe

import "holdfast/internal/app"

// Verdict is what so many answers in a row add up to.
type Verdict uint8

// The verdicts. An instance is Unknown until it has passed or failed a check
// for the first time.
const (
	Unknown Verdict = iota
	Pass
	Fail
)

func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	}
	return "unknown"
}

// Tally is what a judge remembers between two answers: the verdict so far, and
// how many answers in a row spoke one way. Its zero value has heard nothing.
type Tally struct {
	Verdict Verdict
	Passed  int // in a row, until now
	Failed  int // in a row, until now
}

// Judge counts one answer. It is pure: who asks, when and how is not its
// business. check.Successes passes in a row make the verdict Pass and
// check.Failures failures in a row make it Fail; anything less leaves it as
// it was. A threshold below one counts as one.
func (t Tally) Judge(check app.Check, passed bool) Tally {
	if passed {
		t.Passed, t.Failed = t.Passed+1, 0
	} else {
		t.Passed, t.Failed = 0, t.Failed+1
	}
	switch {
	case t.Passed >= max(1, check.Successes):
		t.Verdict = Pass
	case t.Failed >= max(1, check.Failures):
		t.Verdict = Fail
	}
	return t
}
