package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"flag"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "pack internal/cli/templates anew")

// packed is where `holdfast init` finds the examples: those in Go are modules
// of their own, which go:embed does not enter. See decisions/0029.
const packed = "internal/cli/templates"

// templateNames are those that differ from their folder's.
var templateNames = map[string]string{"chat": "chat-go"}

// What `holdfast init` writes is what stands in examples/, all of it.
func TestTemplatesAreTheExamples(t *testing.T) {
	apps, err := filepath.Glob("examples/*/app.yaml")
	if err != nil || len(apps) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	wanted := map[string]bool{}
	for _, file := range apps {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		if other, ok := templateNames[name]; ok {
			name = other
		}
		name += ".zip"
		wanted[name] = true
		want := sources(t, dir)
		got, err := unpack(filepath.Join(packed, name))
		if err == nil && maps.EqualFunc(got, want, bytes.Equal) {
			continue
		}
		if !*update {
			t.Errorf("%s/%s is not what %s holds (%v): go test . -update", packed, name, dir, err)
			continue
		}
		pack(t, filepath.Join(packed, name), want)
	}
	have, err := os.ReadDir(packed)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range have {
		if wanted[f.Name()] {
			continue
		}
		if !*update {
			t.Errorf("%s/%s has no example any more: go test . -update", packed, f.Name())
		} else if err := os.Remove(filepath.Join(packed, f.Name())); err != nil {
			t.Error(err)
		}
	}
}

// sources are the files of an example, but for what its tools leave there.
func sources(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(name); base == "node_modules" || base == "__pycache__" || base != "." && strings.HasPrefix(base, ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		files[name], err = os.ReadFile(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func unpack(file string) (map[string][]byte, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		files[f.Name] = b
	}
	return files, nil
}

// pack writes no times and nobody's names, so that the same files make the same
// archive.
func pack(t *testing.T, file string, files map[string][]byte) {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// An example's README begins with its folder's name and says in one sentence
// what it is: `holdfast init` lists that.
func TestExamplesSayWhatTheyAre(t *testing.T) {
	apps, _ := filepath.Glob("examples/*/app.yaml")
	for _, file := range apps {
		dir := filepath.Dir(file)
		b, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil {
			t.Error(err)
			continue
		}
		head := regexp.MustCompile(`^# ` + regexp.QuoteMeta(filepath.Base(dir)) + `\n\n[A-Z][^\n]+\.`)
		if !head.Match(b) {
			t.Errorf("%s/README.md does not begin with %q, an empty line and a sentence", dir, "# "+filepath.Base(dir))
		}
	}
}

// Some examples share files. Each stands alone, so that it can be copied and
// deployed as it is; this keeps the copies alike.
func TestCopiesAreAlike(t *testing.T) {
	whole := func(s string) string { return s }
	link := func(s string) string { // what is the same for every transport
		before, _, _ := strings.Cut(s, "// ---- The connection")
		return before
	}
	for _, c := range []struct {
		one, other string
		part       func(string) string
	}{
		{"chat/static/style.css", "chat-python/static/style.css", whole},
		{"chat/static/style.css", "chat-node/public/style.css", whole},
		{"chat/static/chat.js", "chat-python/static/chat.js", whole},
		{"chat/static/chat.js", "chat-node/public/chat.js", link},
		{"chat-python/bus.py", "ticker/bus.py", whole},
	} {
		one, err := os.ReadFile("examples/" + c.one)
		other, err2 := os.ReadFile("examples/" + c.other)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if c.part(string(one)) != c.part(string(other)) {
			t.Errorf("%s differs from %s", c.other, c.one)
		}
	}
}
