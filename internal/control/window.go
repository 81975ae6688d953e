package control

import "time"

// Window is a time of day, on some days of the week, in the machine's time. It
// may go over midnight; the day is the one on which it begins. The zero value
// is always.
type Window struct {
	Days     [7]bool       // by time.Weekday; none means every day
	From, To time.Duration // since midnight, at most 24 hours; equal means the whole day
}

// Next says whether now is inside the window, and if not, when it begins. The
// clock on the wall counts, in now's time zone: on the day when it is put
// forward a window may be shorter or left out, and when it is put back there
// may be two.
func (w Window) Next(now time.Time) (inside bool, begins time.Time) {
	if w.inside(now) {
		return true, now
	}
	y, m, d := now.Date()
	midnight := func(day int) time.Time { return time.Date(y, m, d+day, 0, 0, 0, 0, now.Location()) }
	for day := range 9 { // today, and a week of days that may not count
		from, to := midnight(day), midnight(day+1)
		if to.Sub(from) == 24*time.Hour {
			begins := from
			if w.From != w.To {
				begins = from.Add(w.From)
			}
			if begins.After(now) && w.inside(begins) {
				return false, begins
			}
			continue
		}
		// The clock is changed on this day: look at it every minute.
		for t := from; t.Before(to); t = t.Add(time.Minute) {
			if t.After(now) && w.inside(t) {
				return false, t
			}
		}
	}
	return false, midnight(9) // a window that no clock has shown so far
}

func (w Window) inside(t time.Time) bool {
	today := t.Weekday()
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	switch {
	case w.From == w.To:
		return w.on(today)
	case w.From < w.To:
		return w.on(today) && clock >= w.From && clock < w.To
	}
	return w.on(today) && clock >= w.From || w.on((today+6)%7) && clock < w.To
}

func (w Window) on(day time.Weekday) bool { return w.Days[day] || w.Days == [7]bool{} }

// due is when an instance that is old from expires on may be replaced: then, if
// that is still to come; now, inside the window; else when the window begins.
// Zero, for never, stays so.
func (w Window) due(expires, now time.Time) time.Time {
	if w == (Window{}) || expires.IsZero() || expires.After(now) {
		return expires
	}
	inside, begins := w.Next(now)
	if inside {
		return expires
	}
	return begins
}
