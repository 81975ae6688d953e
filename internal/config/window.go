package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Window is a time of day, on some days of the week, in the machine's time. It
// may go over midnight; the day is the one on which it begins. The zero value
// is always.
type Window struct {
	Days     [7]bool       // by time.Weekday; none means every day
	From, To time.Duration // since midnight, at most 24 hours; equal means the whole day
}

// String is the window as people write it.
func (w Window) String() string {
	if w == (Window{}) {
		return "always"
	}
	var days []string
	for day, on := range w.Days {
		if on {
			days = append(days, time.Weekday(day).String()[:3])
		}
	}
	text := clock(w.From) + "-" + clock(w.To)
	if len(days) > 0 {
		text = strings.Join(days, ",") + " " + text
	}
	return text
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
}

// ParseWindow reads "02:00-05:00", "Sat,Sun 22:00-04:00" or "always".
func ParseWindow(text string) (Window, error) {
	var w Window
	if strings.EqualFold(strings.TrimSpace(text), "always") {
		return w, nil
	}
	fields := strings.Fields(text)
	if len(fields) == 2 {
		for name := range strings.SplitSeq(fields[0], ",") {
			day, ok := weekday(name)
			if !ok {
				return Window{}, fmt.Errorf("%q is not a day such as Mon", name)
			}
			w.Days[day] = true
		}
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return Window{}, errors.New("it is not a window")
	}
	from, to, ok := strings.Cut(fields[0], "-")
	if !ok {
		return Window{}, errors.New("it has no end")
	}
	var err error
	if w.From, err = timeOfDay(from); err != nil {
		return Window{}, err
	}
	if w.To, err = timeOfDay(to); err != nil {
		return Window{}, err
	}
	if w.From == w.To {
		return Window{}, errors.New("it ends when it begins")
	}
	return w, nil
}

func weekday(name string) (time.Weekday, bool) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if long := day.String(); strings.EqualFold(name, long) || strings.EqualFold(name, long[:3]) {
			return day, true
		}
	}
	return 0, false
}

// timeOfDay reads 05:30; 24:00 is the end of the day.
func timeOfDay(text string) (time.Duration, error) {
	if text == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time such as 02:00", text)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}
