package build

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

var custom = app.Recipe{Runtime: "custom", Entrypoint: "./x"}

// copied builds src as a custom app and lists what was copied.
func copied(t *testing.T, src string, r app.Recipe) string {
	t.Helper()
	a, err := only(t, nil).Build(t.Context(), src, r, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = filepath.WalkDir(a.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(a.Dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestWhatIsLeftOut(t *testing.T) {
	type files = map[string]string
	for _, c := range []struct {
		name  string
		files files
		skip  []string
		want  string
	}{
		{"flex's default", files{"a": "", "b~": "", "#c#": "", "d.pyc": "", "x/RCS/e": "", ".git/f": "", ".gitignore": "", "node_modules/g/h": "", "x/node_modules/i": "", ".env": "", "x/.git": ""}, nil, ".env a"},
		{"skip_files instead of the default", files{"a.log": "", "x/b.log": "", "c~": "", ".git/d": ""}, []string{`^(.*/)?.*\.log$`}, ".git/d c~"},
		{"skip_files match from the start only", files{"abc": "", "cab": ""}, []string{`ab`}, "cab"},
		{"empty skip_files keep everything", files{"c~": "", "node_modules/x": ""}, []string{}, "c~ node_modules/x"},
		{".gcloudignore instead of the default", files{".gcloudignore": "*.log\n", "a.log": "", "x/b.log": "", "c~": ""}, nil, ".gcloudignore c~"},
		{"it includes .gitignore", files{".gcloudignore": ".*ignore\n#!include:.gitignore\n", ".gitignore": "tmp/\n#!include:more\n", "more": "keep", "keep": "", "tmp/x": ""}, nil, "keep more"},
		{"app.yaml stays", files{".gcloudignore": "*\n", "app.yaml": "", "a": ""}, nil, "app.yaml"},
		{"a virtual environment", files{"venv/pyvenv.cfg": "", "venv/bin/python": "-> /usr/bin/python3", "a": ""}, nil, "a"},
		{"symlinks that stay inside", files{"x/y/a": "", "x/b": "-> y/../y/a", "c": "-> x/y", "d": "-> nowhere/yet"}, nil, "c d x/b x/y/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := custom
			r.SkipFiles = c.skip
			if got := copied(t, tree(t, c.files), r); got != c.want {
				t.Errorf("copied %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	type files = map[string]string
	secret := tree(t, files{"secret": "s"})
	for _, c := range []struct {
		name  string
		files files
		skip  []string
		say   string
	}{
		{"an absolute symlink", files{"a": "-> " + secret + "/secret"}, nil, "symlink a leads to the absolute path"},
		{"a symlink out", files{"x/a": "-> ../../secret"}, nil, "symlink x/a leads out of the app"},
		{"a symlink that only looks as if it stayed", files{"a/b/c/d": "-> ../../..", "l": "-> a/b/c/d/../secret"}, nil, "symlink l leads out of the app"},
		{"a symlink to itself", files{"a": "-> b", "b": "-> a"}, nil, "leads to itself"},
		{"lookaround in skip_files", files{"a": ""}, []string{"(?!x)"}, "skip_files"},
		{"including from elsewhere", files{".gcloudignore": "#!include:../x\n"}, nil, "same directory"},
		{"including nothing", files{".gcloudignore": "#!include:x\n"}, nil, "#!include:x"},
		{"a .gcloudignore that leads out", files{".gcloudignore": "-> ../x"}, nil, ".gcloudignore"},
		{"too many patterns", files{".gcloudignore": strings.Repeat("x\n", ignoreLinesMax+2)}, nil, "more than 10000 patterns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := custom
			r.SkipFiles = c.skip
			b := only(t, nil)
			wantError(t, b, tree(t, c.files), r, c.say)
			if n := left(t, b); len(n) != 0 {
				t.Errorf("left behind: %v", n)
			}
		})
	}
}

func TestSpecialFilesAreLeftOut(t *testing.T) {
	src := tree(t, map[string]string{"a": ""})
	if err := syscall.Mkfifo(filepath.Join(src, "pipe"), 0o644); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	t.Chdir(src) // a socket's name may not be long
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Skipf("no sockets here: %v", err)
	}
	defer l.Close()
	if got := copied(t, src, custom); got != "a" {
		t.Errorf("copied %q, want only \"a\"", got)
	}
}

func TestBounds(t *testing.T) {
	src := tree(t, map[string]string{"a": ""})
	f, err := os.Create(filepath.Join(src, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	err = f.Truncate(source.BytesMax + 1) // without taking room
	f.Close()
	if err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	wantError(t, only(t, nil), src, custom, "more than 4 GiB", ".gcloudignore")

	root, err := os.OpenRoot(src)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c := &collector{root: root, perTop: map[string]int{}}
	for err == nil {
		err = c.add(source.File{Path: "data/x"})
	}
	if len(c.files) != source.FilesMax+1 || !strings.Contains(err.Error(), "100000 files") || !strings.Contains(err.Error(), "most files are in data") {
		t.Errorf("after %d files: %v", len(c.files), err)
	}
	wantError(t, only(t, nil), filepath.Join(src, "nowhere"), custom, "app.yaml")
}
