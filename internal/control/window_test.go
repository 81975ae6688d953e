package control_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/internal/control"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("this machine knows no time zones: ", err)
	}
	night := control.Window{From: 2 * time.Hour, To: 5 * time.Hour}
	late := control.Window{From: 22 * time.Hour, To: 4 * time.Hour}
	weekend := late
	weekend.Days[time.Saturday], weekend.Days[time.Sunday] = true, true
	sunday := control.Window{}
	sunday.Days[time.Sunday] = true
	at := func(text string) time.Time {
		moment, err := time.ParseInLocation("2006-01-02 15:04:05", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	for _, c := range []struct {
		name   string
		w      control.Window
		now    string
		begins string // "": it is inside
	}{
		{"no window is always", control.Window{}, "2026-11-22 13:00:00", ""},
		{"before", night, "2026-11-22 01:59:59", "2026-11-22 02:00:00"},
		{"its first moment", night, "2026-11-22 02:00:00", ""},
		{"its last moment", night, "2026-11-22 04:59:59", ""},
		{"its end is outside", night, "2026-11-22 05:00:00", "2026-11-23 02:00:00"},
		{"over midnight: before", late, "2026-11-22 21:00:00", "2026-11-22 22:00:00"},
		{"over midnight: late", late, "2026-11-22 23:00:00", ""},
		{"over midnight: early", late, "2026-11-22 03:59:00", ""},
		{"over midnight: after", late, "2026-11-22 04:00:00", "2026-11-22 22:00:00"},
		{"until the end of the year", late, "2026-12-31 23:59:59", ""},
		{"the day is the one on which it begins", weekend, "2026-11-23 03:00:00", ""}, // a Monday
		{"the night before does not count", weekend, "2026-11-21 03:00:00", "2026-11-21 22:00:00"},
		{"far away", weekend, "2026-11-23 04:00:00", "2026-11-28 22:00:00"},
		{"a whole day", sunday, "2026-11-22 23:59:00", ""},
		{"a whole day, next week", sunday, "2026-11-23 00:00:00", "2026-11-29 00:00:00"},
		{"put forward: 2 to 3 is left out", control.Window{From: 2 * time.Hour, To: 3 * time.Hour}, "2027-03-28 01:30:00", "2027-03-29 02:00:00"},
		{"put forward: half of it is left", control.Window{From: 150 * time.Minute, To: 210 * time.Minute}, "2027-03-28 01:30:00", "2027-03-28 03:00:00"},
		{"put forward: the next day", night, "2027-03-28 12:00:00", "2027-03-29 02:00:00"},
		{"put back: the next day", night, "2026-10-25 12:00:00", "2026-10-26 02:00:00"},
	} {
		now := at(c.now)
		inside, begins := c.w.Next(now)
		if want := c.begins == ""; inside != want || !want && !begins.Equal(at(c.begins)) {
			t.Errorf("%s: at %s inside %v, begins %s; want %q", c.name, c.now, inside, begins, c.begins)
		}
	}
}

// When a window is closed, it is so at every minute until Next, and not then.
func TestWindowAtRandom(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for _, name := range []string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago", "Pacific/Apia"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Skip("this machine knows no time zones: ", err)
		}
		for range 8 {
			w := control.Window{From: time.Duration(r.IntN(1440)) * time.Minute, To: time.Duration(1+r.IntN(1440)) * time.Minute}
			if r.IntN(2) == 0 {
				w.Days[r.IntN(7)] = true
			}
			now := time.Date(2026, 1, 1, 0, r.IntN(365*1440), 0, 0, zone)
			inside, begins := w.Next(now)
			if inside {
				continue
			}
			if then, _ := w.Next(begins); !then {
				t.Fatalf("seed %d: %+v at %s: begins %s, which is outside", seed, w, now, begins)
			}
			for m := now; m.Before(begins); m = m.Add(time.Minute) {
				if early, _ := w.Next(m); early {
					t.Fatalf("seed %d: %+v at %s: begins %s, but is open at %s", seed, w, now, begins, m)
				}
			}
		}
	}
}
