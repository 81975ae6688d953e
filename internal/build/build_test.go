package build

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/app"
)

// tree writes files into a new directory. A value "-> X" is a symlink to X; one
// that begins with "#!" is executable.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	switch to, link := strings.CutPrefix(text, "-> "); {
	case link:
		err = os.Symlink(to, path)
	case strings.HasPrefix(text, "#!"):
		err = os.WriteFile(path, []byte(text), 0o755)
	default:
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// only is a builder in a new directory whose machine has the given commands and
// no others, and no version managers.
func only(t *testing.T, commands map[string]string) *Builder {
	t.Helper()
	bin := t.TempDir()
	for name, script := range commands {
		put(t, filepath.Join(bin, name), "#!/bin/sh\n"+script+"\n")
	}
	return in(t, t.TempDir(), []string{"PATH=" + bin, "HOME=" + t.TempDir()})
}

// real is a builder whose machine is this one.
func real(t *testing.T) *Builder {
	t.Helper()
	return in(t, t.TempDir(), nil)
}

func in(t *testing.T, dir string, environ []string) *Builder {
	b := &Builder{Dir: dir, Environ: environ}
	t.Cleanup(func() { b.Close() })
	return b
}

// left lists what is in the builder's directory besides locks and logs.
func left(t *testing.T, b *Builder) (builds []string) {
	t.Helper()
	list, err := os.ReadDir(b.builds())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.IsDir() {
			builds = append(builds, e.Name())
		}
	}
	return builds
}

func need(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		t.Skipf("%s is not installed", command)
	}
}

// wantError builds and returns the *Error that must come, whose text has all of words.
func wantError(t *testing.T, b *Builder, src string, r app.Recipe, words ...string) *Error {
	t.Helper()
	a, err := b.Build(t.Context(), src, r, Options{}, nil)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Build(%+v) = %+v, %v; want an *Error", r, a, err)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("Build(%+v): %q does not say %q", r, e, w)
		}
	}
	return e
}

func TestUnchangedAppIsNotBuiltAgain(t *testing.T) {
	b := only(t, nil)
	src := tree(t, map[string]string{"server": "#!/bin/sh", "static/a.txt": "a", "static/b": "-> a.txt", ".git/HEAD": "x"})
	r := app.Recipe{Runtime: "custom", Entrypoint: "./server $PORT"}
	first, err := b.Build(t.Context(), src, r, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Command != r.Entrypoint || len(first.ID) != idLength || !filepath.IsAbs(first.Dir) {
		t.Errorf("artifact %+v", first)
	}
	if data, _ := os.ReadFile(filepath.Join(first.Dir, "static", "b")); string(data) != "a" {
		t.Errorf("the symlink in the copy leads to %q, want \"a\"", data)
	}
	if _, err := os.Stat(filepath.Join(first.Dir, ".git")); err == nil {
		t.Error(".git was copied")
	}
	if info, err := os.Stat(filepath.Join(first.Dir, "server")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("server in the copy: %v, %v; want it executable", info, err)
	}
	var out bytes.Buffer
	again, err := in(t, b.Dir, b.Environ).Build(t.Context(), src, r, Options{}, &out)
	if err != nil || again.ID != first.ID || again.Dir != first.Dir || out.Len() > 0 {
		t.Errorf("the second build: %+v, %v, output %q; want the first one's", again, err, &out)
	}
}

func TestOwnDirectoryIsNoPartOfTheApp(t *testing.T) {
	src := tree(t, map[string]string{"a": ""})
	b := in(t, filepath.Join(src, "tmp", "cache"), []string{"PATH="})
	first, err := b.Build(t.Context(), src, custom, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Build(t.Context(), src, custom, Options{}, nil)
	if err != nil || again.ID != first.ID {
		t.Errorf("the second build is %s, %v; want %s", again.ID, err, first.ID)
	}
	wantError(t, b, b.Dir, custom, "not an app")
}

func TestGo(t *testing.T) {
	need(t, "go")
	b := real(t)
	src := tree(t, map[string]string{
		"go.mod":     "module example.com/app\n\ngo 1.20\n",
		"main.go":    "package main\n\nfunc main() { println(\"hello\") }\n",
		"index.html": "<p>",
	})
	a, err := b.Build(t.Context(), src, app.Recipe{Runtime: "go"}, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", "-c", "exec "+a.Command).CombinedOutput()
	if err != nil || string(out) != "hello\n" {
		t.Errorf("%s: %q, %v", a.Command, out, err)
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "index.html")); err != nil {
		t.Errorf("the static file is not in the copy: %v", err)
	}

	put(t, filepath.Join(src, "main.go"), "package main\n\nfunc main() { oops }\n")
	var seen bytes.Buffer
	_, err = b.Build(t.Context(), src, app.Recipe{Runtime: "go"}, Options{}, &seen)
	var e *Error
	if !errors.As(err, &e) || e.Phase != Compile || !strings.Contains(strings.Join(e.Tail, "\n"), "undefined: oops") {
		t.Fatalf("a compile error: %#v", err)
	}
	kept, err := os.ReadFile(e.Output)
	if err != nil || string(kept) != seen.String() {
		t.Errorf("kept %q, %v; out saw %q", kept, err, seen.String())
	}
	if n := left(t, b); len(n) != 1 {
		t.Errorf("a failed build left %v", n)
	}
}

func TestGoFindsItsMainPackage(t *testing.T) {
	need(t, "go")
	b := real(t)
	files := map[string]string{
		"go.mod":            "module example.com/app\n\ngo 1.20\n",
		"lib.go":            "package lib\n",
		"cmd/server/m.go":   "package main\n\nfunc main() {}\n",
		"internal/x/x.go":   "package x\n",
		"testdata/a/bad.go": "not go",
	}
	if _, err := b.Build(t.Context(), tree(t, files), app.Recipe{Runtime: "go"}, Options{}, nil); err != nil {
		t.Errorf("one main package in a subdirectory: %v", err)
	}
	files["cmd/other/m.go"] = files["cmd/server/m.go"]
	wantError(t, b, tree(t, files), app.Recipe{Runtime: "go"}, "2 in the module", buildableVar+": example.com/app/cmd/other")
	_, err := b.Build(t.Context(), tree(t, files), app.Recipe{Runtime: "go", Env: map[string]string{buildableVar: "./cmd/other"}}, Options{}, nil)
	if err != nil {
		t.Errorf("%s: %v", buildableVar, err)
	}
}

func TestPythonEnvironment(t *testing.T) {
	need(t, "python3")
	b := real(t)
	src := tree(t, map[string]string{"main.py": "import sys; print(sys.prefix)", "requirements.txt": "nothing-there\n"})
	r := app.Recipe{Runtime: "python", Entrypoint: "python main.py", Env: map[string]string{skipInstallVar: "1"}}
	a, err := b.Build(t.Context(), src, r, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := start(t, a, a.Command).Output()
	if err != nil || strings.TrimSpace(string(out)) != a.Env["VIRTUAL_ENV"] {
		t.Errorf("%s runs in %q, %v; want %q", a.Command, out, err, a.Env["VIRTUAL_ENV"])
	}
	if rel, err := filepath.Rel(a.Dir, a.Env["VIRTUAL_ENV"]); err != nil || !strings.HasPrefix(rel, "..") {
		t.Errorf("the environment %s is inside the app's copy", a.Env["VIRTUAL_ENV"])
	}
}

// start is a command line of an artifact, as an instance runs it.
func start(t *testing.T, a app.Artifact, line string, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "exec "+line)
	cmd.Dir = a.Dir
	for k, v := range a.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, more...)
	return cmd
}

func TestNode(t *testing.T) {
	need(t, "node")
	need(t, "npm")
	b := real(t)
	src := tree(t, map[string]string{
		"package.json": `{"name":"x","version":"1.0.0","engines":{"node":">=1"},
			"scripts":{"start":"node -p 1+1","gcp-build":"node -e \"require('fs').writeFileSync('made','')\""}}`,
		"node_modules/x/index.js": "",
	})
	a, err := b.Build(t.Context(), src, app.Recipe{Runtime: "nodejs"}, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Command != "npm start" || a.Env["NODE_ENV"] != "production" {
		t.Errorf("artifact %+v", a)
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "made")); err != nil {
		t.Errorf("gcp-build did not run: %v", err)
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "node_modules")); err == nil {
		t.Error("node_modules was copied")
	}
}

func TestSourcesThatChangeAreReadAgain(t *testing.T) {
	b := only(t, nil)
	src := tree(t, map[string]string{"x": "old"})
	var once sync.Once
	opt := Options{Progress: func(p Phase, what string) {
		if strings.HasPrefix(what, "copying") {
			once.Do(func() { put(t, filepath.Join(src, "x"), "newer") })
		}
	}}
	a, err := b.Build(t.Context(), src, app.Recipe{Runtime: "custom", Entrypoint: "./x"}, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(a.Dir, "x")); string(data) != "newer" {
		t.Errorf("copied %q", data)
	}
	if again, err := b.Build(t.Context(), src, app.Recipe{Runtime: "custom", Entrypoint: "./x"}, Options{}, nil); err != nil || again.ID != a.ID {
		t.Errorf("found again as %s, %v; want %s", again.ID, err, a.ID)
	}
	opt.Progress = func(_ Phase, what string) {
		if strings.HasPrefix(what, "copying") {
			put(t, filepath.Join(src, "x"), strconv.Itoa(rand.Int()))
		}
	}
	put(t, filepath.Join(src, "x"), "again")
	if _, err := b.Build(t.Context(), src, app.Recipe{Runtime: "custom", Entrypoint: "./x"}, opt, nil); err == nil || !strings.Contains(err.Error(), "changed 5 times") {
		t.Errorf("sources that never rest: %v", err)
	}
}
