package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"holdfast/internal/app"
)

func place(t testing.TB) string { return filepath.Join(t.TempDir(), "holdfast.db") }

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustUpdate(t testing.TB, s *Store, fn func(w *Wishes)) {
	t.Helper()
	if err := s.Update(func(w *Wishes) error { fn(w); return nil }); err != nil {
		t.Fatal(err)
	}
}

// check says what of got is not as in want.
func check(t testing.TB, what string, got, want Wishes) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: wishes are\n%+v\nwant\n%+v", what, got, want)
	}
}

func version(id string) app.Version {
	return app.Version{
		Key:       app.Key{App: "shop", Service: "default", Version: id},
		Env:       map[string]string{"GREETING": "hello"},
		Serving:   true,
		CreatedAt: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
	}
}

func TestWhatWasToldIsThereAgain(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := mustOpen(t, path)
	v := version("v1")
	changed := s.Changed()
	mustUpdate(t, s, func(w *Wishes) {
		w.Apps["shop"] = app.Application{ID: "shop"}
		w.Versions[v.Key] = v
	})
	select {
	case <-changed:
	default:
		t.Error("Changed is not closed after a change")
	}
	want := s.Wishes()
	if len(want.Versions) != 1 || want.Versions[v.Key].Env["GREETING"] != "hello" {
		t.Fatalf("wishes are %+v", want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(w *Wishes) error { w.Apps["x"] = app.Application{ID: "x"}; return nil }); err == nil {
		t.Error("a closed store takes changes")
	}
	s = mustOpen(t, path)
	check(t, "opened again", s.Wishes(), want)

	mustUpdate(t, s, func(w *Wishes) { delete(w.Versions, v.Key) })
	want = s.Wishes()
	s.Close()
	check(t, "opened a third time", mustOpen(t, path).Wishes(), want)
}

func TestAnUpdateThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*Store{"file": mustOpen(t, place(t)), "memory": Memory()} {
		changed, before := s.Changed(), s.Wishes()
		no := errors.New("no")
		if err := s.Update(func(w *Wishes) error { w.Versions[version("v1").Key] = version("v1"); return no }); err != no {
			t.Errorf("%s: Update is %v, want what its function said", name, err)
		}
		odd := version("v1")
		if err := s.Update(func(w *Wishes) error { w.Versions[app.Key{App: "a", Service: "b", Version: "c"}] = odd; return nil }); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: a version under another's key: %v, want app.ErrInvalid", name, err)
		}
		odd.Key.Version = ""
		if err := s.Update(func(w *Wishes) error { w.Versions[odd.Key] = odd; return nil }); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: a version without a name: %v, want app.ErrInvalid", name, err)
		}
		check(t, name, s.Wishes(), before)
		select {
		case <-changed:
			t.Errorf("%s: Changed is closed and nothing has changed", name)
		default:
		}
	}
}

func TestASnapshotIsReadAndPutBack(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*Store{"file": mustOpen(t, place(t)), "memory": Memory()} {
		mustUpdate(t, s, func(w *Wishes) {
			for i := range 50 {
				v := version(fmt.Sprint("v", i))
				w.Versions[v.Key] = v
			}
		})
		want := s.Wishes()
		var b bytes.Buffer
		if err := s.Snapshot(&b); err != nil {
			t.Fatal(err)
		}
		mustUpdate(t, s, func(w *Wishes) { clear(w.Versions); w.Apps["other"] = app.Application{ID: "other"} })
		got, err := ReadSnapshot(&b)
		if err != nil {
			t.Fatal(err)
		}
		check(t, name+": snapshot", got, want)
		if err := s.Replace(got); err != nil {
			t.Fatal(err)
		}
		check(t, name+": replaced", s.Wishes(), want)
	}
}

func TestTheSecondOnOneFileIsRefused(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := mustOpen(t, path)
	began := time.Now()
	_, err := Open(path, Config{})
	if !errors.Is(err, app.ErrBusy) {
		t.Fatalf("the second Open is %v, want app.ErrBusy", err)
	}
	t.Log(err, time.Since(began))
	s.Close()
	mustOpen(t, path)
}

// thousands are 1,000 services of 3 versions.
func thousands() Wishes {
	w := nothing()
	for i := range 1000 {
		k := app.ServiceKey{App: "shop", Service: fmt.Sprint("s", i)}
		w.Services[k] = app.Service{App: k.App, Name: k.Service, Split: app.Split{By: app.ByIP, Shares: map[string]float64{"v1": 1}}}
		for j := range 3 {
			v := version(fmt.Sprint("v", j))
			v.Key.Service = k.Service
			w.Versions[v.Key] = v
		}
	}
	return w
}

// One version of 3,000 changes: on the disk of the temporary folder, on one that
// need not sync, and without any.
func BenchmarkUpdate(b *testing.B) {
	for name, s := range map[string]*Store{"disk": mustOpen(b, place(b)), "quick": mustOpen(b, quickPlace(b)), "memory": Memory()} {
		b.Run(name, func(b *testing.B) {
			if err := s.Replace(thousands()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				mustUpdate(b, s, func(w *Wishes) {
					k := app.ServiceKey{App: "shop", Service: fmt.Sprint("s", n%1000)}.Version("v1")
					v := w.Versions[k]
					v.Serving = !v.Serving
					w.Versions[k] = v
				})
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	path := place(b)
	s := mustOpen(b, path)
	if err := s.Replace(thousands()); err != nil {
		b.Fatal(err)
	}
	s.Close()
	for b.Loop() {
		s, err := Open(path, Config{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := Memory()
	if err := s.Replace(thousands()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Snapshot(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
