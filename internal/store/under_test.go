package store

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/app"
)

// What somebody does to the file while it is in use costs nothing that was
// acknowledged: it is written afresh from memory, at the latest by the change
// after the one that noticed.
func TestTheFileIsHarmedUnderUs(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"removed":      os.Remove,
		"emptied":      func(path string) error { return os.Truncate(path, 0) },
		"cut":          func(path string) error { return os.Truncate(path, 3*int64(os.Getpagesize())) },
		"copied over":  func(path string) error { return os.WriteFile(path, otherFile(t), permFile) },
		"written over": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("no "), 20000), permFile) },
	} {
		for _, when := range []string{"before", "within"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				path := quickPlace(t)
				s := mustOpen(t, path)
				for n := range 20 {
					mustUpdate(t, s, func(w *Wishes) {
						v := version(fmt.Sprint("v", n))
						v.Env["X"] = strings.Repeat("x", 2000)
						w.Versions[v.Key] = v
					})
				}
				want := s.Wishes()
				if when == "before" {
					if err := harm(path); err != nil {
						t.Fatal(err)
					}
				} else {
					s.disk.between = func() {
						if err := harm(path); err != nil {
							t.Error(err)
						}
						s.disk.between = nil
					}
				}
				if err := s.Update(func(w *Wishes) error { w.Apps["shop"] = app.Application{ID: "shop"}; return nil }); err != nil {
					t.Log(err)
					check(t, "after a change that was refused", s.Wishes(), want)
				}
				mustUpdate(t, s, func(w *Wishes) { w.Apps["shop"] = app.Application{ID: "shop"} })
				mustUpdate(t, s, func(w *Wishes) { w.Apps["other"] = app.Application{ID: "other"} })
				if len(s.Wishes().Versions) != 20 || len(s.Wishes().Apps) != 2 {
					t.Fatalf("wishes are %+v", s.Wishes())
				}
				want = s.Wishes()
				s.Close()
				check(t, "opened again", mustOpen(t, path).Wishes(), want)
			})
		}
	}
}

// otherFile is a good file that holds something else.
func otherFile(t *testing.T) []byte {
	path := quickPlace(t)
	s := mustOpen(t, path)
	mustUpdate(t, s, func(w *Wishes) {
		for n := range 30 {
			v := version(fmt.Sprint("other", n))
			w.Versions[v.Key] = v
		}
	})
	s.Close()
	return read(t, path)
}

// A file that was put in the place of ours may be one that somebody cares for: it
// is not written to, and nothing is acknowledged that would be lost with ours.
func TestAnotherFileInItsPlaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	path, other := quickPlace(t), quickPlace(t)
	s := mustOpen(t, path)
	mustUpdate(t, s, func(w *Wishes) { w.Apps["shop"] = app.Application{ID: "shop"} })
	want := s.Wishes()
	content := otherFile(t)
	if err := os.WriteFile(other, content, permFile); err != nil {
		t.Fatal(err)
	}
	aside := path + ".aside"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := s.Update(func(w *Wishes) error { w.Apps["other"] = app.Application{ID: "other"}; return nil })
		if err == nil || !strings.Contains(err.Error(), "restart") {
			t.Fatalf("Update is %v; want a refusal with what to do", err)
		}
	}
	check(t, "refused", s.Wishes(), want)
	if !bytes.Equal(read(t, path), content) {
		t.Error("the other file was written to")
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, s, func(w *Wishes) { w.Apps["other"] = app.Application{ID: "other"} })
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	path := quickPlace(t)
	s := mustOpen(t, path)
	const writers, each = 4, 15
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() {
			for i := range each {
				if err := s.Update(func(w *Wishes) error {
					v := version(fmt.Sprintf("v%d-%d", n, i))
					w.Versions[v.Key] = v
					a := w.Apps["shop"]
					a.ID = "shop"
					a.Dispatch = append(a.Dispatch[:len(a.Dispatch):len(a.Dispatch)], app.DispatchRule{Service: v.Version})
					w.Apps["shop"] = a
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			seen := 0
			for seen < writers*each {
				changed := s.Changed()
				w := s.Wishes()
				if len(w.Versions) < seen || len(w.Apps["shop"].Dispatch) != len(w.Versions) {
					t.Errorf("%d versions after %d, %d rules", len(w.Versions), seen, len(w.Apps["shop"].Dispatch))
					return
				}
				var b bytes.Buffer
				if err := s.Snapshot(&b); err != nil {
					t.Error(err)
					return
				}
				if seen = len(w.Versions); seen < writers*each {
					<-changed
				}
			}
		})
	}
	all.Wait()
	want := s.Wishes()
	s.Close()
	if got := mustOpen(t, path).Wishes(); !reflect.DeepEqual(got, want) || len(got.Versions) != writers*each {
		t.Errorf("opened again: %d versions, want %d", len(got.Versions), writers*each)
	}
}
