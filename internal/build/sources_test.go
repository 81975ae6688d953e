package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

// uploaded lists src and puts it into a store.
func uploaded(t *testing.T, src string, r app.Recipe) (s *source.Store, id, dir string) {
	t.Helper()
	tree, err := List(t.Context(), src, r, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "source")
	if s, err = source.Open(dir); err != nil {
		t.Fatal(err)
	}
	for _, f := range tree {
		if f.Link != "" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(src, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutBlob(f.Hash, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if id, err = s.PutTree(tree); err != nil {
		t.Fatal(err)
	}
	return s, id, dir
}

// What was listed, uploaded and built from there is what building in place
// makes, also when the files say what to leave out: that was done once.
func TestUploadedTreesBuildToTheSame(t *testing.T) {
	type files = map[string]string
	for _, c := range []struct {
		name   string
		files  files
		recipe app.Recipe
	}{
		{"a plain app", files{"app.yaml": "", "a/b": "#!x", "l": "-> a/b"}, custom},
		{"a start command in a file", files{"Procfile": "web: ./serve"}, app.Recipe{Runtime: "custom"}},
		{"through a link", files{"Procfile": "-> etc/procfile", "etc/procfile": "web: ./serve"}, app.Recipe{Runtime: "custom"}},
		{".gcloudignore", files{".gcloudignore": "*.log\nx/\n", "a.log": "1", "x/y": "2", "a": "3"}, custom},
		{".gcloudignore leaves itself out", files{".gcloudignore": ".gcloudignore\n*~\n", "a~": "1", "a": "2"}, custom},
		{"what the default would leave out", files{".gcloudignore": ".gcloudignore\n", "a~": "1", "node_modules/x": "2"}, custom},
		{"skip_files", files{"a.log": "1", "b~": "2"}, app.Recipe{Runtime: "custom", Entrypoint: "./x", SkipFiles: []string{`.*\.log$`}}},
		{"a venv and a server's data", files{"venv/pyvenv.cfg": "1", "data/holdfast.db": "2", "data/secret": "3", "a": "4"}, custom},
		{"nodejs", files{"package.json": `{"scripts":{"start":"node ."},"engines":{"node":">=18"}}`, "index.js": "1"}, app.Recipe{Runtime: "nodejs"}},
		{"nothing", files{}, custom},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := tree(t, c.files)
			commands := map[string]string{"node": "echo v20.1.0", "npm": "exit 0"}
			b := only(t, commands)
			here, err := b.Build(t.Context(), src, c.recipe, Options{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s, id, _ := uploaded(t, src, c.recipe)

			// Found again without a build.
			var phases []Phase
			opt := Options{Progress: func(p Phase, what string) {
				if strings.HasPrefix(what, "copying") {
					phases = append(phases, p)
				}
			}}
			found, err := b.BuildTree(t.Context(), s, id, c.recipe, opt, nil)
			if err != nil || found.ID != here.ID || found.Dir != here.Dir || found.Command != here.Command || len(phases) > 0 {
				t.Errorf("BuildTree beside Build = %+v, %v (phases %v), want %+v", found, err, phases, here)
			}

			// Built anew on what could be another machine.
			other := in(t, t.TempDir(), b.Environ)
			there, err := other.BuildTree(t.Context(), s, id, c.recipe, opt, nil)
			if err != nil {
				t.Fatal(err)
			}
			if there.ID != here.ID || there.Command != here.Command || len(phases) != 1 {
				t.Errorf("BuildTree = %+v (phases %v), want as %+v", there, phases, here)
			}
			if x, y := texts(t, here.Dir), texts(t, there.Dir); !maps.Equal(x, y) {
				t.Errorf("the artifacts differ: %q in place, %q uploaded", x, y)
			}
		})
	}
}

// texts reads a directory.
func texts(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		text := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			text, err = os.Readlink(p)
		} else {
			var data []byte
			data, err = os.ReadFile(p)
			text = string(data)
		}
		all[rel] = info.Mode().String() + " " + text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestListNamesTheFolder(t *testing.T) {
	_, err := List(t.Context(), filepath.Join(t.TempDir(), "nowhere"), custom, nil)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "nowhere") || !strings.Contains(e.Next, "app.yaml") {
		t.Errorf("List = %v, want what to do", err)
	}
}

// Damaged sources fail the build, which says what to do and leaves nothing.
func TestDamagedSourcesFailTheBuild(t *testing.T) {
	src := tree(t, map[string]string{"a": "1"})
	s, id, dir := uploaded(t, src, custom)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(blobs) != 1 {
		t.Fatal(blobs, err)
	}
	put(t, blobs[0], "2")
	b := only(t, nil)
	var e *Error
	_, err = b.BuildTree(t.Context(), s, id, custom, Options{}, nil)
	if !errors.As(err, &e) || !errors.Is(err, app.ErrNotFound) || !strings.Contains(err.Error(), "a ("+filepath.Base(blobs[0])) || !strings.Contains(err.Error(), "deploy the sources again") {
		t.Errorf("BuildTree of damaged sources = %v", err)
	}
	if n := left(t, b); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
	if _, err := b.BuildTree(t.Context(), s, strings.Repeat("0", 64), custom, Options{}, nil); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("BuildTree of nothing = %v, want %v", err, app.ErrNotFound)
	}
}

// BenchmarkOneLineOfGo is the build of a small Go app of which one line was
// changed, as a deploy does it.
func BenchmarkOneLineOfGo(b *testing.B) {
	if _, err := exec.LookPath("go"); err != nil {
		b.Skip("no Go here")
	}
	src := b.TempDir()
	if err := os.CopyFS(src, os.DirFS("../../examples/chat")); err != nil {
		b.Fatal(err)
	}
	main := filepath.Join(src, "main.go")
	text, err := os.ReadFile(main)
	if err != nil {
		b.Fatal(err)
	}
	builder := &Builder{Dir: b.TempDir()}
	defer builder.Close()
	n := 0
	build := func() {
		n++
		changed := fmt.Appendf(bytes.Clone(text), "\nconst changed = %d\n", n+os.Getpid()*1000)
		if err := os.WriteFile(main, changed, 0o644); err != nil {
			b.Fatal(err)
		}
		if _, err := builder.Build(b.Context(), src, app.Recipe{Runtime: "go"}, Options{}, nil); err != nil {
			b.Fatal(err)
		}
	}
	build()
	for b.Loop() {
		build()
	}
}
