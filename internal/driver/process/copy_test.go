package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCopyKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	must(os.MkdirAll(filepath.Join(from, "sub", "readonly"), 0o755))
	must(os.WriteFile(filepath.Join(from, "sub", "readonly", "file"), []byte("text"), 0o440))
	must(os.WriteFile(filepath.Join(from, "program"), []byte("#!/bin/sh\n"), 0o755))
	must(os.Chmod(filepath.Join(from, "program"), 0o755|os.ModeSetuid))
	must(os.Chtimes(filepath.Join(from, "program"), old, old))
	must(os.Symlink("sub/readonly/file", filepath.Join(from, "inside")))
	must(os.Symlink("../program", filepath.Join(from, "sub", "up")))
	must(os.Symlink(filepath.Join(from, "program"), filepath.Join(from, "sub", "absolute")))
	must(os.Symlink("/bin/sh", filepath.Join(from, "interpreter")))
	must(os.Symlink("no/where", filepath.Join(from, "dangling")))
	must(os.Chmod(filepath.Join(from, "sub", "readonly"), 0o555))
	t.Cleanup(func() {
		os.Chmod(filepath.Join(from, "sub", "readonly"), 0o755)
		os.Chmod(filepath.Join(to, "sub", "readonly"), 0o755)
	})

	must(copyTree(context.Background(), from, to, identity{}))

	for path, want := range map[string]os.FileMode{
		"program": 0o755, "sub/readonly/file": 0o440, "sub/readonly": os.ModeDir | 0o555,
	} {
		info, err := os.Lstat(filepath.Join(to, path))
		must(err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "program")); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("program is of %v, want %v (%v)", info.ModTime(), old, err)
	}
	for link, want := range map[string]string{
		"inside": "sub/readonly/file", "sub/up": "../program", "sub/absolute": "../program",
		"interpreter": "/bin/sh", "dangling": "no/where",
	} {
		if got, err := os.Readlink(filepath.Join(to, link)); got != want {
			t.Errorf("%s leads to %q, want %q (%v)", link, got, want, err)
		}
	}
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"a link up and out", func(p string) error { return os.Symlink("../../etc", p) }},
		{"a link out and back", func(p string) error { return os.Symlink("../"+filepath.Base(filepath.Dir(p))+"x", p) }},
		{"an absolute link to a file", func(p string) error { return os.Symlink("/etc/passwd", p) }},
		{"an absolute link to a directory", func(p string) error { return os.Symlink("/etc", p) }},
		{"a pipe", func(p string) error { return unix.Mkfifo(p, 0o600) }},
	} {
		from := t.TempDir()
		if err := c.make(filepath.Join(from, "culprit")); err != nil {
			t.Fatal(err)
		}
		err := copyTree(context.Background(), from, filepath.Join(t.TempDir(), "copy"), identity{})
		if err == nil || !strings.Contains(err.Error(), "culprit") {
			t.Errorf("%s: copyTree = %v, want an error that names it", c.name, err)
		}
	}
}

func TestAStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	w := open(t)
	v := script(t, "v1", polite)
	os.Symlink("/etc/passwd", filepath.Join(v.Artifact.Dir, "culprit"))
	if err := w.Start(context.Background(), "a", v); err == nil || !strings.Contains(err.Error(), "culprit") {
		t.Errorf("Start = %v, want an error that names the link", err)
	}
	v.Artifact.Dir = filepath.Join(t.TempDir(), "absent")
	if err := w.Start(context.Background(), "a", v); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start of an absent build = %v, want %v", err, os.ErrNotExist)
	}
	w.cfg.Keeper = []string{"/bin/true"}
	w.restart()
	if err := w.Start(context.Background(), "a", script(t, "v2", polite)); err == nil || !strings.Contains(err.Error(), "/bin/true") {
		t.Errorf("Start with a keeper that is none = %v, want an error that names it", err)
	}
	if list, _ := w.List(context.Background()); len(list) != 0 {
		t.Errorf("listed %+v, want nothing", list)
	}
	if entries, _ := os.ReadDir(w.cfg.Dir); len(entries) != 1 { // the lock
		t.Errorf("left over: %v", entries)
	}
}

// Directories that are not of ours survive our tidying.
func TestForeignDirectoriesStay(t *testing.T) {
	t.Parallel()
	w := open(t)
	foreign := filepath.Join(w.cfg.Dir, "photos", "2020")
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("New removed it: %v", err)
	}
}
