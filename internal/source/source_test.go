package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/app"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "source"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// treeOf makes a tree of texts. "-> X" is a symlink to X; what begins with "#!"
// is executable.
func treeOf(files map[string]string) Tree {
	var t Tree
	for _, p := range slices.Sorted(maps.Keys(files)) {
		text := files[p]
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			t = append(t, File{Path: p, Link: to})
			continue
		}
		t = append(t, File{Path: p, Hash: hashOf(text), Size: int64(len(text)), Exec: strings.HasPrefix(text, "#!")})
	}
	return t
}

// upload does what a client does, and returns how many files it sent.
func upload(t *testing.T, s *Store, files map[string]string) (id string, sent int) {
	t.Helper()
	tree := treeOf(files)
	missing, err := s.Missing(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range files {
		if h := hashOf(text); slices.Contains(missing, h) {
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == h })
			sent++
			if err := s.PutBlob(h, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(missing) > 0 {
		t.Fatalf("missing is what nobody has: %v", missing)
	}
	if id, err = s.PutTree(tree); err != nil {
		t.Fatal(err)
	}
	return id, sent
}

// written reads a directory back as texts, in the notation of treeOf.
func written(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if d.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(p)
			all[rel] = "-> " + to
			return err
		}
		data, err := os.ReadFile(p)
		all[rel] = string(data)
		if info, err2 := d.Info(); err2 == nil && (info.Mode().Perm() == 0o755) != strings.HasPrefix(all[rel], "#!") {
			t.Errorf("%s has the mode %v", rel, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var someApp = map[string]string{
	"app.yaml": "runtime: go\n", "main.go": "package main\n", "run.sh": "#!/bin/sh\n", "empty": "",
	"a/b/c/deep": "d", "a/b.txt": "package main\n", "new\nline \\ and blank": "x", "latest": "-> a/b/c", "a/up": "-> ../main.go", "later": "-> made/by/build",
}

func TestWhatWasUploadedIsCheckedOut(t *testing.T) {
	s := open(t)
	id, sent := upload(t, s, someApp)
	if sent != 6 { // main.go and a/b.txt hold the same
		t.Errorf("%d files were sent, want 6", sent)
	}
	dir := t.TempDir()
	if err := s.Checkout(t.Context(), id, dir); err != nil {
		t.Fatal(err)
	}
	if got := written(t, dir); !maps.Equal(got, someApp) {
		t.Errorf("checked out %q, want %q", got, someApp)
	}
	if tree, err := s.Tree(id); err != nil || !slices.Equal(tree, treeOf(someApp)) {
		t.Errorf("Tree = %v, %v", tree, err)
	}

	// A change sends what changed.
	changed := maps.Clone(someApp)
	changed["main.go"] = "package main // better\n"
	if again, sent := upload(t, s, someApp); again != id || sent != 0 {
		t.Errorf("the same again is %s (was %s) and sent %d files", again, id, sent)
	}
	if other, sent := upload(t, s, changed); other == id || sent != 1 {
		t.Errorf("the change is %s (was %s) and sent %d files, want 1", other, id, sent)
	}
	for name, want := range map[string]string{"main.go": "package main\n", "a/up": "package main\n", "latest/deep": "d"} {
		if data, err := s.ReadFile(treeOf(someApp), name, 100); err != nil || string(data) != want {
			t.Errorf("ReadFile(%s) = %q, %v; want %q", name, data, err, want)
		}
	}
	if _, err := s.ReadFile(treeOf(someApp), "main.go", 3); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("ReadFile beyond its bound = %v", err)
	}
	for _, name := range []string{"later", "a", "nothing", "../x"} {
		if _, err := s.ReadFile(treeOf(someApp), name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%s) = %v, want that it does not exist", name, err)
		}
	}
}

// A folder listed, put, checked out and listed again is one tree.
func TestOfAndCheckoutAreInverse(t *testing.T) {
	s := open(t)
	id, _ := upload(t, s, someApp)
	dir := t.TempDir()
	if err := s.Checkout(t.Context(), id, dir); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var files []File
	for _, f := range slices.Backward(treeOf(someApp)) {
		f.Hash = ""
		files = append(files, f)
	}
	tree, err := Of(t.Context(), root, files)
	if err != nil || tree.ID() != id {
		t.Errorf("Of = %v, %v; want the tree %s", tree, err, id)
	}
	to := t.TempDir()
	if err := Copy(t.Context(), root, tree, to); err != nil {
		t.Fatal(err)
	}
	if got := written(t, to); !maps.Equal(got, someApp) {
		t.Errorf("copied %q, want %q", got, someApp)
	}
	for name, change := range map[string]func(path func(string) string) error{
		"other bytes": func(path func(string) string) error {
			return os.WriteFile(path("main.go"), []byte("package naim\n"), 0o644)
		},
		"another mode": func(path func(string) string) error { return os.Chmod(path("app.yaml"), 0o755) },
		"another link": func(path func(string) string) error {
			return errors.Join(os.Remove(path("latest")), os.Symlink("a", path("latest")))
		},
		"longer": func(path func(string) string) error { return os.WriteFile(path("empty"), []byte("x"), 0o644) },
		"gone":   func(path func(string) string) error { return os.Remove(path("empty")) },
	} {
		dir := t.TempDir()
		if err := s.Checkout(t.Context(), id, dir); err != nil {
			t.Fatal(err)
		}
		if err := change(func(name string) string { return filepath.Join(dir, name) }); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Copy(t.Context(), root, tree, t.TempDir()); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: Copy = %v, want %v", name, err, ErrChanged)
		}
		root.Close()
	}
}

func TestWrongContentIsRefused(t *testing.T) {
	s := open(t)
	for name, r := range map[string]io.Reader{
		"other bytes": strings.NewReader("other"),
		"too short":   strings.NewReader("righ"),
		"too long":    strings.NewReader("right!"),
	} {
		if err := s.PutBlob(hashOf("right"), r); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: PutBlob = %v, want %v", name, err, app.ErrInvalid)
		}
	}
	cut := errors.New("the line was cut")
	if err := s.PutBlob(hashOf("right"), io.MultiReader(strings.NewReader("righ"), broken{cut})); !errors.Is(err, cut) {
		t.Errorf("PutBlob = %v, want %v", err, cut)
	}
	for _, hash := range []string{"", "x", "../../../etc/passwd", strings.Repeat("A", 64), strings.Repeat("g", 64)} {
		if err := s.PutBlob(hash, strings.NewReader("")); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("PutBlob(%q) = %v, want %v", hash, err, app.ErrInvalid)
		}
		if _, err := s.Tree(hash); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("Tree(%q) = %v, want %v", hash, err, app.ErrNotFound)
		}
	}
	tree := treeOf(map[string]string{"a": "right"})
	if _, err := s.PutTree(tree); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("PutTree without its file = %v, want %v", err, app.ErrNotFound)
	}
	if missing, err := s.Missing(tree); err != nil || !slices.Equal(missing, []string{hashOf("right")}) {
		t.Errorf("Missing = %v, %v", missing, err)
	}
	if files := left(t, s); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	if err := s.PutBlob(hashOf("right"), strings.NewReader("right")); err != nil {
		t.Fatal(err)
	}
	tree[0].Size++ // a size that is not the file's
	if _, err := s.PutTree(tree); err == nil {
		t.Error("a tree with a wrong size was kept")
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// left lists every file of the store.
func left(t *testing.T, s *Store) (all []string) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.dir, p)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestManyUploadTheSame(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			id, _ := upload(t, s, someApp)
			dir := t.TempDir()
			if err := s.Checkout(t.Context(), id, dir); err != nil {
				t.Error(err)
			}
			if got := written(t, dir); !maps.Equal(got, someApp) {
				t.Errorf("checked out %q", got)
			}
		})
	}
	wg.Wait()
	if files := left(t, s); len(files) != 7 { // 6 files and the tree
		t.Errorf("kept %v", files)
	}
}

// One bit of one file on the disk flips, or its end is gone: whatever it is, it
// is told, and uploading the same again mends it.
func TestDamageIsToldAndMended(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	s := open(t)
	id, _ := upload(t, s, someApp)
	for range 30 {
		name := filepath.Join(s.dir, pick(random, left(t, s)))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case len(data) == 0:
			data = []byte{0}
		case random.IntN(3) == 0:
			data = data[:random.IntN(len(data))]
		default:
			data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err = s.Checkout(t.Context(), id, t.TempDir())
		if !errors.Is(err, app.ErrNotFound) || !strings.Contains(err.Error(), filepath.Base(name)) || !strings.Contains(err.Error(), "deploy the sources again") {
			t.Fatalf("seed %d: Checkout with %s damaged = %v", seed, name, err)
		}
		if again, sent := upload(t, s, someApp); again != id || sent > 1 {
			t.Fatalf("seed %d: uploading again sent %d files and made %s, want %s", seed, sent, again, id)
		}
		dir := t.TempDir()
		if err := s.Checkout(t.Context(), id, dir); err != nil {
			t.Fatalf("seed %d: after uploading again: %v", seed, err)
		}
		if got := written(t, dir); !maps.Equal(got, someApp) {
			t.Fatalf("seed %d: checked out %q", seed, got)
		}
	}
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func TestCheckoutWritesOverNothing(t *testing.T) {
	s := open(t)
	id, _ := upload(t, s, someApp)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkout(t.Context(), id, dir); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("Checkout over a file = %v", err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "main.go")); string(data) != "mine" {
		t.Errorf("the file is now %q", data)
	}
	// A link that is there already leads nothing out.
	dir, out := t.TempDir(), t.TempDir()
	if err := os.Symlink(out, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkout(t.Context(), id, dir); err == nil {
		t.Error("Checkout wrote through a link")
	}
	if list, _ := os.ReadDir(out); len(list) > 0 {
		t.Errorf("Checkout wrote %v outside", list)
	}
}

func BenchmarkMissing5000Files(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var tree Tree
	for i := range 5000 {
		text := fmt.Sprint(i)
		tree = append(tree, File{Path: fmt.Sprintf("d%02d/f%04d", i/100, i), Hash: hashOf(text), Size: int64(len(text))})
		name := s.blob(hashOf(text))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if missing, err := s.Missing(tree); err != nil || len(missing) > 0 {
			b.Fatal(missing, err)
		}
	}
}
