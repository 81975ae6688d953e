package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"holdfast/internal/app"
)

// long multiplies the work of simulations when somebody asks for more.
func long(n int) int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return n * 20
	}
	return n
}

// quickPlace is a place in memory where there is one: simulations that make their
// own power cuts need not wait for a disk.
func quickPlace(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-store-")
	if err != nil {
		return place(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "holdfast.db")
}

// someChange makes one of the changes that a busy server makes, at random.
func someChange(r *rand.Rand, w *Wishes) {
	for range 1 + r.IntN(3) {
		k := app.ServiceKey{App: fmt.Sprint("app", r.IntN(2)), Service: fmt.Sprint("s", r.IntN(12))}
		v := k.Version(fmt.Sprint("v", r.IntN(4)))
		switch r.IntN(8) {
		case 0:
			w.Apps[k.App] = app.Application{ID: k.App, Dispatch: make([]app.DispatchRule, r.IntN(3))}
		case 1:
			w.Services[k] = app.Service{App: k.App, Name: k.Service, Split: app.Split{By: app.ByIP, Shares: map[string]float64{v.Version: r.Float64()}}}
		case 2, 3:
			w.Versions[v] = app.Version{Key: v, Serving: r.IntN(2) == 0, Env: map[string]string{"X": string(bytes.Repeat([]byte("x"), r.IntN(3000)))}}
		case 4:
			delete(w.Versions, v)
		case 5:
			if ids := slices.Sorted(maps.Keys(w.Operations)); len(ids) > 0 {
				delete(w.Operations, ids[0])
			}
		case 6:
			if r.IntN(20) == 0 {
				clear(w.Versions)
			}
		default:
			id := fmt.Sprintf("%016x", r.Uint64())
			w.Operations[id] = app.Operation{ID: id, Verb: app.VerbDeploy, Target: v, Asked: time.Unix(r.Int64N(1e9), 0).UTC(), Failure: &app.Failure{Tail: []string{id}}}
		}
	}
}

// What a file is told over many changes and restarts is what a store in memory
// was told, and nothing else.
func TestFileAndMemoryAgree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(long(3)) {
		path := quickPlace(t)
		memory, s := Memory(), mustOpen(t, path)
		r := rand.New(rand.NewPCG(seed, 1))
		for step := range 150 {
			change := r.Uint64()
			for _, s := range []*Store{memory, s} {
				mustUpdate(t, s, func(w *Wishes) { someChange(rand.New(rand.NewPCG(change, 0)), w) })
			}
			if r.IntN(20) == 0 {
				s.Close()
				s = mustOpen(t, path)
			}
			if !reflect.DeepEqual(memory.Wishes(), s.Wishes()) {
				t.Fatalf("seed %d step %d: the file holds %+v, memory %+v", seed, step, s.Wishes(), memory.Wishes())
			}
		}
		s.Close()
	}
}

// A machine may stop at any moment of a write. The disk then holds what was synced
// before, and of what was not yet, any sectors. A restart must show what was
// acknowledged, or that and the change that was under way as a whole; and it must
// take further changes.
func TestPowerCutAtAnyMoment(t *testing.T) {
	t.Parallel()
	for seed := range uint64(long(2)) {
		r := rand.New(rand.NewPCG(seed, 2))
		path := quickPlace(t)
		s := mustOpen(t, path)
		for step := range 12 {
			before, was := read(t, path), s.Wishes()
			var between []byte
			s.disk.between = func() { between = read(t, path) }
			mustUpdate(t, s, func(w *Wishes) {
				for range r.IntN(6) {
					someChange(r, w)
				}
			})
			after, is := read(t, path), s.Wishes()
			if between == nil {
				continue // nothing changed
			}
			for _, c := range []struct {
				name     string
				old, new []byte
				atOnce   Wishes // what must be there while the pages are written
				then     Wishes // and once the meta page is half there: this, or the former
			}{
				{"transaction", before, between, was, is},
				{"confirmation", between, after, is, is},
			} {
				for cut := range 2 {
					what := fmt.Sprintf("seed %d step %d %s cut %d", seed, step, c.name, cut)
					image := tear(r, c.old, c.new, false)
					reopen(t, what+" (pages)", image, c.atOnce)
					image = tear(r, c.old, c.new, true)
					reopen(t, what+" (meta)", image, c.atOnce, c.then)
				}
			}
			reopen(t, fmt.Sprintf("seed %d step %d between", seed, step), between, is)
		}
		s.Close()
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tear is a disk on the way from old to new: some sectors are written. The meta
// pages are written last, of them a part.
func tear(r *rand.Rand, old, new []byte, meta bool) []byte {
	const sector = 512
	image := make([]byte, max(len(old), len(new))) // it grows first
	copy(image, old)
	metas := 2 * os.Getpagesize()
	for at := metas; at < len(new); at += sector {
		if meta || r.IntN(2) == 0 {
			copy(image[at:], new[at:min(at+sector, len(new))])
		}
	}
	if meta {
		// All of a meta page's content is in its first sector, which disks write whole;
		// be stricter and stop after any byte of it.
		for page := 0; page < metas; page += os.Getpagesize() {
			n := r.IntN(pageHeader + metaBytes + 1)
			copy(image[page:], new[page:page+n])
		}
	}
	return image
}

// reopen opens image, which must show one of want, and take a change.
func reopen(t *testing.T, what string, image []byte, want ...Wishes) {
	t.Helper()
	path := quickPlace(t)
	if err := os.WriteFile(path, image, permFile); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Config{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	ok := false
	for _, w := range want {
		ok = ok || reflect.DeepEqual(s.Wishes(), w)
	}
	if !ok {
		t.Fatalf("%s: wishes are\n%+v\nwant one of\n%+v", what, s.Wishes(), want)
	}
	useIt(t, what, s)
}

// useIt sees that s takes a change and gives it back.
func useIt(t *testing.T, what string, s *Store) {
	t.Helper()
	if err := s.Update(func(w *Wishes) error {
		w.Apps["another"] = app.Application{ID: "another"}
		clear(w.Operations)
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	now := s.Wishes()
	s.Close()
	c, err := readFile(s.disk.path, s.disk.format)
	if err != nil {
		t.Fatalf("%s, after a change: %v", what, err)
	}
	if w, err := c.records.wishes(); err != nil || !reflect.DeepEqual(w, now) {
		t.Fatalf("%s, after a change: the file holds %+v (%v), want %+v", what, w, err, now)
	}
}

// A disk that damages what it keeps: sizes, bytes, sectors and pages at random.
// The file is refused, or it shows exactly what was acknowledged; nothing panics,
// and a file that is not refused can be used.
func TestDamageIsRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	path := quickPlace(t)
	s := mustOpen(t, path)
	r := rand.New(rand.NewPCG(3, 3))
	var older []byte
	for i := range 60 {
		mustUpdate(t, s, func(w *Wishes) { someChange(r, w) })
		if i == 50 {
			older = read(t, path)
		}
	}
	want := s.Wishes()
	s.Close()
	good := read(t, path)
	told, err := readBytes(good, 1)
	if err != nil {
		t.Fatal(err)
	}
	refused, opened := 0, 0
	for n := range long(2000) {
		image, what := damage(r, good, older)
		c, err := readBytes(image, 1)
		if err != nil {
			refused++
		} else if !maps.EqualFunc(c.records, told.records, bytes.Equal) {
			t.Fatalf("%s: believed, with %s", what, c.records)
		} else {
			opened++
		}
		// By the whole way too, whenever bbolt gets to see it, and else now and then.
		if err == nil && opened <= long(40) {
			reopen(t, what, image, want)
		} else if err != nil && n%50 == 0 {
			path := quickPlace(t)
			if err := os.WriteFile(path, image, permFile); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, Config{}); err == nil || len(err.Error()) < len(path) {
				t.Fatalf("%s: Open is %v", what, err)
			}
			if !bytes.Equal(read(t, path), image) {
				t.Fatalf("%s: a file that was refused was written to", what)
			}
		}
	}
	t.Logf("%d refused, %d harmless", refused, opened)
	if refused == 0 || opened == 0 {
		t.Error("the damage is all of one kind")
	}
}

// A disk may say that it wrote a page and not do it; what is there then is an older
// page, right in itself. In a small file one page can be all of a former state.
func TestAWriteThatNeverArrived(t *testing.T) {
	t.Parallel()
	path := quickPlace(t)
	s := mustOpen(t, path)
	var states [][]byte
	for n := range 20 {
		mustUpdate(t, s, func(w *Wishes) {
			w.Apps["shop"] = app.Application{ID: "shop", Dispatch: make([]app.DispatchRule, 1+n%3)}
		})
		states = append(states, read(t, path))
	}
	s.Close()
	good := states[len(states)-1]
	told, err := readBytes(good, 1)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	refused := 0
	for i, older := range states {
		for at := 0; at < len(good); at += page {
			image := bytes.Clone(good)
			copy(image[at:at+page], older[at:])
			if c, err := readBytes(image, 1); err != nil {
				refused++
			} else if !maps.EqualFunc(c.records, told.records, bytes.Equal) {
				t.Errorf("page at %d of state %d: believed, with %s", at, i, c.records)
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// damage is a copy of good, damaged.
func damage(r *rand.Rand, good, older []byte) ([]byte, string) {
	page := os.Getpagesize()
	b := bytes.Clone(good)
	at := r.IntN(len(b))
	switch r.IntN(9) {
	case 0:
		return b[:at], fmt.Sprint("cut to ", at)
	case 1:
		n := r.IntN(page) + 1
		clear(b[at:min(at+n, len(b))])
		return b, fmt.Sprintf("%d bytes zero at %d", n, at)
	case 2: // in the meta pages
		at = r.IntN(2)*page + r.IntN(pageHeader+metaBytes)
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("meta byte %d flipped", at)
	case 3: // where a page describes itself
		at = r.IntN(len(b)/page)*page + r.IntN(64)
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("header byte %d flipped", at)
	case 4: // a page written to the wrong place
		to := r.IntN(len(b)/page) * page
		from := r.IntN(len(b)/page) * page
		copy(b[to:to+page], good[from:from+page])
		return b, fmt.Sprintf("page at %d copied to %d", from, to)
	case 5: // a write that never arrived
		at = at / page * page
		n := copy(b[at:min(at+page, len(b))], older[min(at, len(older)):])
		return b, fmt.Sprintf("%d bytes at %d are older", n, at)
	case 6: // in both meta pages
		other := page + r.IntN(pageHeader+metaBytes)
		at = r.IntN(pageHeader + metaBytes)
		b[at] ^= 1 << r.IntN(8)
		b[other] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("meta bytes %d and %d flipped", at, other)
	case 7:
		for range 1 + r.IntN(20) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		return b, "bytes all over"
	default:
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("byte %d flipped", at)
	}
}
