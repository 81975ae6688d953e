package control

import "time"

// Window is a time of day, on some days of the week, in the machine's time. It
// may go over midnight; the day is the one on which it begins. The zero value
// is always.
type Window struct {
	Days     [7]bool       // by time.Weekday; none means every day
	From, To time.Duration // since midnight, at most 24 hours; equal means the whole day
}
