package source

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

// aged makes everything in the store older by d.
func aged(t *testing.T, s *Store, d time.Duration) {
	t.Helper()
	for _, name := range left(t, s) {
		name = filepath.Join(s.dir, name)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		at := info.ModTime().Add(-d)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCollectKeepsPromises uploads, uses, ages and collects at random.
func TestCollectKeepsPromises(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 3))
	s := open(t)
	type put struct {
		files map[string]string
		age   time.Duration // since it was uploaded or in use
		used  bool
	}
	all := map[string]*put{}
	whole := func(id string) bool {
		tree, err := s.Tree(id)
		return err == nil && !slices.ContainsFunc(tree, func(f File) bool {
			_, err := os.Stat(s.blob(f.Hash))
			return err != nil
		})
	}
	for step := range 80 {
		if random.IntN(3) > 0 {
			files := map[string]string{}
			for range 1 + random.IntN(4) {
				n := random.IntN(30)
				files[fmt.Sprint(n)] = strings.Repeat(fmt.Sprint(n), 1000)
			}
			id, _ := upload(t, s, files)
			all[id] = &put{files: files}
		}
		passed := time.Duration(random.IntN(50)) * time.Minute
		aged(t, s, passed)
		for _, p := range all {
			p.age += passed
		}
		if random.IntN(3) > 0 {
			continue
		}
		var inUse []string
		for _, id := range slices.Sorted(maps.Keys(all)) {
			p := all[id]
			if !whole(id) {
				delete(all, id) // collected earlier
				continue
			}
			if p.used = random.IntN(4) == 0; p.used {
				inUse = append(inUse, id)
				p.age = 0
			}
		}
		most := int64(random.IntN(40_000))
		if err := s.Collect(inUse, most); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, step, err)
		}
		var oldestKept, youngestGone time.Duration = 0, 1 << 62
		for id, p := range all {
			if whole(id) {
				if !p.used {
					oldestKept = max(oldestKept, p.age)
				}
				continue
			}
			if p.used || p.age < grace-touchAfter {
				t.Errorf("seed %d, step %d: what was in use (%v) or relied on %v ago was removed", seed, step, p.used, p.age)
			}
			if _, err := s.Tree(id); err == nil {
				t.Errorf("seed %d, step %d: a tree is there without all its files", seed, step)
			}
			youngestGone = min(youngestGone, p.age)
		}
		if oldestKept > youngestGone {
			t.Errorf("seed %d, step %d: kept what was used %v ago, removed what was used %v ago", seed, step, oldestKept, youngestGone)
		}
		// What is beyond the bound is in use or fresh.
		stays := map[string]bool{}
		for id, p := range all {
			if p.used || p.age < grace {
				stays[id] = true
				for _, f := range treeOf(p.files) {
					stays[f.Hash] = true
				}
			}
		}
		bytes, removable := int64(0), 0
		for _, name := range left(t, s) {
			info, err := os.Stat(filepath.Join(s.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			bytes += info.Size()
			if !stays[filepath.Base(name)] && time.Since(info.ModTime()) > grace {
				removable++
			}
		}
		if bytes > most && removable > 0 {
			t.Errorf("seed %d, step %d: %d bytes are left, want at most %d, and %d files may go", seed, step, bytes, most, removable)
		}
	}
}

func TestCollectTellsWhatIsLost(t *testing.T) {
	s := open(t)
	id, _ := upload(t, s, someApp)
	other, _ := upload(t, s, map[string]string{"x": "y"})
	aged(t, s, 2*grace)
	if err := os.WriteFile(s.tree(id), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect([]string{id}, 0); !errors.Is(err, app.ErrNotFound) || !strings.Contains(err.Error(), id) {
		t.Errorf("Collect = %v, want that %s is damaged", err, id)
	}
	if _, err := s.Tree(other); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("what is not in use is still there: %v", err)
	}
}

func TestBackupAndRestore(t *testing.T) {
	s := open(t)
	id, _ := upload(t, s, someApp)
	second := maps.Clone(someApp)
	second["main.go"] = "package other\n"
	id2, _ := upload(t, s, second)
	third, _ := upload(t, s, map[string]string{"x": "y"})
	backup := export(t, s, []string{id, id2, id})
	if n := bytes.Count(backup, []byte("runtime: go\n")); n != 1 {
		t.Errorf("a file is %d times in the backup, want once", n)
	}

	fresh := open(t)
	if err := fresh.Import(t.Context(), tar.NewReader(bytes.NewReader(backup))); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]map[string]string{id: someApp, id2: second} {
		dir := t.TempDir()
		if err := fresh.Checkout(t.Context(), id, dir); err != nil {
			t.Fatal(err)
		}
		if got := written(t, dir); !maps.Equal(got, want) {
			t.Errorf("restored %q, want %q", got, want)
		}
	}
	if _, err := fresh.Tree(third); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("what was not asked for was restored: %v", err)
	}

	// A damaged file costs the trees that have it, and no others.
	if err := os.WriteFile(s.blob(hashOf("package other\n")), []byte("package othes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := s.Export(t.Context(), w, []string{id2, id})
	if !errors.Is(err, app.ErrNotFound) || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("Export = %v, want that main.go is damaged", err)
	}
	w.Close()
	fresh = open(t)
	if err := fresh.Import(t.Context(), tar.NewReader(&out)); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Checkout(t.Context(), id, t.TempDir()); err != nil {
		t.Error(err)
	}
	if _, err := fresh.Tree(id2); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("the tree with the damaged file: %v", err)
	}
}

func export(t *testing.T, s *Store, ids []string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := errors.Join(s.Export(t.Context(), w, ids), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A backup that was cut or changed anywhere restores nothing that is not as it
// was, and breaks nothing.
func TestDamagedBackups(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 4))
	s := open(t)
	id, _ := upload(t, s, someApp)
	backup := export(t, s, []string{id})
	failed := 0
	for i := range 40 {
		bad := slices.Clone(backup)
		if i%2 == 0 {
			bad = bad[:random.IntN(len(bad))]
		} else {
			bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		}
		fresh := open(t)
		if err := fresh.Import(t.Context(), tar.NewReader(bytes.NewReader(bad))); err != nil {
			failed++
		}
		if tree, err := fresh.Tree(id); err == nil && !slices.Equal(tree, treeOf(someApp)) {
			t.Errorf("seed %d: another tree by the same name", seed)
		} else if err == nil {
			dir := t.TempDir()
			if err := fresh.Checkout(t.Context(), id, dir); err != nil {
				t.Errorf("seed %d: the tree is there and its files are not: %v", seed, err)
			} else if got := written(t, dir); !maps.Equal(got, someApp) {
				t.Errorf("seed %d: restored %q", seed, got)
			}
		}
	}
	if failed == 0 {
		t.Errorf("seed %d: not one damage was noticed", seed)
	}
}

func TestForeignBackups(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"a path out": {Name: "source/blobs/../../x", Size: 1, Mode: 0o600},
		"a link":     {Name: tarBlobs + hashOf("x"), Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"other":      {Name: "holdfast.db", Size: 1, Mode: 0o600},
		"no tree":    {Name: tarTrees + hashOf("x"), Size: 1, Mode: 0o600},
		"a lie":      {Name: tarBlobs + hashOf("y"), Size: 1, Mode: 0o600},
	} {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(w, "x")
		}
		w.Close()
		s := open(t)
		if err := s.Import(t.Context(), tar.NewReader(&out)); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: Import = %v, want %v", name, err, app.ErrInvalid)
		}
		if files := left(t, s); len(files) > 0 {
			t.Errorf("%s: left %v", name, files)
		}
	}
}
