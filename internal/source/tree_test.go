package source

import (
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

	"holdfast/internal/app"
)

func TestHostileTreesAreRefused(t *testing.T) {
	h := hashOf("x")
	file := func(paths ...string) (t Tree) {
		for _, p := range paths {
			t = append(t, File{Path: p, Hash: h, Size: 1})
		}
		return t
	}
	link := func(p, to string) Tree { return Tree{{Path: p, Link: to}} }
	many := func(n int, f func(i int) File) (t Tree) {
		for i := range n {
			t = append(t, f(i))
		}
		return t
	}
	for name, c := range map[string]struct {
		tree Tree
		say  string
	}{
		"above":                  {file("../x"), "clean path"},
		"above from within":      {file("a/../../x"), "clean path"},
		"absolute":               {file("/etc/passwd"), "clean path"},
		"empty":                  {file(""), "clean path"},
		"the directory itself":   {file("."), "clean path"},
		"not clean":              {file("a//b"), "clean path"},
		"a slash at the end":     {file("a/"), "clean path"},
		"a NUL":                  {file("a\x00b"), "clean path"},
		"not UTF-8":              {file("a\xffb"), "clean path"},
		"a long name":            {file(strings.Repeat("n", 256)), "more than 255 bytes"},
		"a long path":            {file(strings.Repeat("nnnnnnnnn/", 205) + "x"), "more than 2048 bytes"},
		"deep":                   {file(strings.Repeat("d/", 257) + "x"), "256 directories"},
		"twice":                  {file("a", "a"), "twice"},
		"not sorted":             {file("b", "a"), "sorted"},
		"below a file":           {file("a", "a/b"), "below a"},
		"far below a file":       {file("a", "a-b", "a/b/c/d"), "below a"},
		"below a link":           {Tree{{Path: "a", Link: "b"}, {Path: "a/x", Hash: h, Size: 1}, {Path: "b/y", Hash: h, Size: 1}}, "below a"},
		"no hash":                {Tree{{Path: "a", Size: 1}}, "SHA-256"},
		"a hash that is a path":  {Tree{{Path: "a", Hash: "../../../../../../../../../../../../../../../../../../etc/passwd0", Size: 1}}, "SHA-256"},
		"upper case":             {Tree{{Path: "a", Hash: strings.ToUpper(h), Size: 1}}, "SHA-256"},
		"negative":               {Tree{{Path: "a", Hash: h, Size: -1}}, "4 GiB"},
		"huge":                   {Tree{{Path: "a", Hash: h, Size: BytesMax + 1}}, "4 GiB"},
		"huge together":          {Tree{{Path: "a", Hash: h, Size: BytesMax}, {Path: "b", Hash: hashOf("y"), Size: 1}}, "4 GiB"},
		"overflowing":            {Tree{{Path: "a", Hash: h, Size: 1<<63 - 1}, {Path: "b", Hash: h, Size: 1<<63 - 1}}, "4 GiB"},
		"two sizes of one file":  {Tree{{Path: "a", Hash: h, Size: 1}, {Path: "b", Hash: h, Size: 2}}, "holds the same"},
		"a file and a link":      {Tree{{Path: "a", Hash: h, Link: "b"}}, "in one"},
		"an executable link":     {Tree{{Path: "a", Exec: true, Link: "b"}}, "in one"},
		"an absolute link":       {link("a", "/etc/passwd"), "absolute"},
		"a link out":             {link("a", ".."), "leads out"},
		"a link out from within": {link("x/a", "../../y"), "leads out"},
		"a link out of nothing":  {link("a", "nothing/../../y"), "leads out"},
		"a link to itself":       {link("a", "a"), "to itself"},
		"a link below itself":    {link("a", "a/b"), "to itself"},
		"a circle":               {Tree{{Path: "a", Link: "b"}, {Path: "b", Link: "a"}}, "to itself"},
		"a link by a link":       {Tree{{Path: "a/b/c", Link: "../.."}, {Path: "l", Link: "a/b/c/../x"}}, "leads out"},
		"a link with a NUL":      {link("a", "b\x00c"), "no path"},
		"a long link":            {link("a", strings.Repeat("b", 1025)), "no path"},
		"a link that multiplies": {Tree{{Path: "a", Link: "b/b/b/b/b/b/b/b"}, {Path: "b", Link: "c/c/c/c/c/c/c/c"}, {Path: "c", Link: "d/d/d/d/d/d/d/d"}, {Path: "d", Link: "."}}, "to itself"},
		"many files":             {many(FilesMax+1, func(i int) File { return File{Path: fmt.Sprintf("%06d", i), Hash: h} }), "100000 files"},
		"many links":             {many(linksMax+1, func(i int) File { return File{Path: fmt.Sprintf("%06d", i), Link: "x"} }), "10000 symlinks"},
		"long together": {many(30_000, func(i int) File {
			return File{Path: fmt.Sprintf("%s/%s/%s/%s/%s/%06d", long, long, long, long, long, i), Hash: h}
		}), "32 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			var refusal *Refusal
			_, err := s.Missing(c.tree)
			if !errors.As(err, &refusal) || !errors.Is(err, app.ErrInvalid) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("Missing = %v, want a refusal that says %q", err, c.say)
			}
			if _, err := s.PutTree(c.tree); !errors.Is(err, app.ErrInvalid) {
				t.Errorf("PutTree = %v, want %v", err, app.ErrInvalid)
			}
			if tree, err := decode(c.tree.encode()); err == nil && slices.Equal(tree, c.tree) {
				t.Errorf("decode accepts %v", tree)
			}
		})
	}
}

var long = strings.Repeat("x", 240)

// TestLinksAsTheKernelSeesThem checks random trees out and asks the kernel where
// their links lead: never out, and to the file that Find says.
func TestLinksAsTheKernelSeesThem(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	names := []string{"a", "b", "c", "a/x", "b/x", "c/x", "a/x/y", "b/x/y", "a/x/y/z", "d/e/f"}
	parts := []string{"a", "b", "c", "x", "y", "..", "..", ".", "e/f", "x/y"}
	kept, led := 0, 0
	for range 250 {
		files := map[string]string{}
		for range 2 + random.IntN(5) {
			name := pick(random, names)
			if slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(n string) bool {
				return strings.HasPrefix(n, name+"/") || strings.HasPrefix(name, n+"/")
			}) {
				continue
			}
			files[name] = name
			if random.IntN(3) > 0 {
				var to []string
				for range 1 + random.IntN(4) {
					to = append(to, pick(random, parts))
				}
				files[name] = "-> " + strings.Join(to, "/")
			}
		}
		tree := treeOf(files)
		if tree.Check() != nil {
			continue
		}
		kept++
		base, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(base, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err = write(t.Context(), tree, dir, func(f File) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(files[f.Path])), nil
		}, func(f File) error { return fmt.Errorf("%s differs", f.Path) })
		if err != nil {
			t.Fatalf("seed %d: write(%q) = %v", seed, files, err)
		}
		for name := range files {
			real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil {
				continue // it leads to nothing
			}
			rel, err := filepath.Rel(dir, real)
			if err != nil || !filepath.IsLocal(rel) {
				t.Errorf("seed %d: %s of %q leads to %s", seed, name, files, real)
				continue
			}
			info, err := os.Stat(real)
			if err != nil {
				t.Fatal(err)
			}
			f, ok := tree.Find(name)
			if info.Mode().IsRegular() != ok || ok && f.Path != rel {
				t.Errorf("seed %d: Find(%s) of %q = %v, %v; the kernel says %s", seed, name, files, f, ok, rel)
			}
			led++
		}
	}
	if kept < 10 || led < 20 {
		t.Errorf("seed %d: only %d trees and %d names were tried", seed, kept, led)
	}
}

// Whatever is decoded is a tree that may be kept, in the one form that it has.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(formHead))
	f.Add(treeOf(someApp).encode())
	f.Add([]byte(formHead + "l a\x00\x00"))
	f.Add([]byte(formHead + "l a\x00b/../..\x00"))
	f.Add([]byte(formHead + "f " + hashOf("") + " +0 a\x00"))
	f.Add([]byte(formHead + "x " + hashOf("") + " 0 ../a\x00"))
	f.Add([]byte(formHead + "f " + hashOf("") + " 0 a\x00f " + hashOf("") + " 0 a/b\x00"))
	f.Fuzz(func(t *testing.T, form []byte) {
		tree, err := decode(form)
		if err != nil {
			if !errors.Is(err, app.ErrInvalid) {
				t.Errorf("decode = %v, want %v", err, app.ErrInvalid)
			}
			return
		}
		if err := tree.Check(); err != nil {
			t.Errorf("decoded a tree that is refused: %v", err)
		}
		if again := tree.encode(); string(again) != string(form) {
			t.Errorf("%q is written as %q", form, again)
		}
		for _, file := range tree {
			if !filepath.IsLocal(file.Path) {
				t.Errorf("the path %q", file.Path)
			}
			_, _ = tree.Find(file.Path)
		}
	})
}
