package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
	"holdfast/internal/driver/drivertest"
)

func version(id string) app.Version {
	return app.Version{
		Key:      app.Key{App: "shop", Service: app.DefaultService, Version: id},
		Artifact: app.Artifact{ID: "abc", Dir: "/nowhere", Command: "serve"},
	}
}

func TestContract(t *testing.T) {
	drivertest.Test(t, func(t *testing.T) drivertest.Subject {
		d := New()
		d.Doom(func(id string, v app.Version) string {
			if v.Key.Version == "brief" {
				return "exit status 3"
			}
			return ""
		})
		stubborn, heeding := version("stubborn"), version("heeding")
		heeding.DrainSignal = true
		return drivertest.Subject{
			Driver:   d,
			Polite:   version("polite"),
			Stubborn: stubborn,
			Brief:    version("brief"),
			Heeding:  heeding,
			Busy:     version("busy"),
			Settle: func(t *testing.T, id string) {
				if v, _ := d.Version(id); v.Key == stubborn.Key {
					d.Linger(time.Hour)
				}
			},
			Crash: func(t *testing.T, id string) {
				if !d.Crash(id) {
					t.Errorf("instance %s has no app to crash", id)
				}
			},
			Heard:   func(t *testing.T, id string) []string { return d.Heard(id) },
			Work:    func(t *testing.T, id string) { d.Burn(id, 30*time.Millisecond) },
			Restart: func(t *testing.T) driver.Driver { return d },
		}
	})
}

func TestLingerTakesFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		d.Linger(20 * time.Second)
		for _, c := range []struct {
			name        string
			grace, want time.Duration
		}{
			{"within the grace", 30 * time.Second, 20 * time.Second},
			{"longer than the grace", 5 * time.Second, 5 * time.Second},
			{"no grace", 0, 0},
		} {
			if err := d.Start(t.Context(), "a", version("v1")); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := d.Stop(t.Context(), "a", c.grace); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: Stop took %v, want %v", c.name, took, c.want)
			}
		}
	})
}

func TestRefuse(t *testing.T) {
	d := New()
	full := errors.New("machine is full")
	d.Refuse(func(id string, v app.Version) error { return full })
	if err := d.Start(context.Background(), "a", version("v1")); !errors.Is(err, full) {
		t.Errorf("Start = %v, want %v", err, full)
	}
	d.Refuse(nil)
	if err := d.Start(context.Background(), "a", version("v1")); err != nil {
		t.Errorf("Start = %v", err)
	}
}
