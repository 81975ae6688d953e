package build

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/internal/app"
)

// idOf is the name that the builder gives to an app's build.
func idOf(t *testing.T, src string, r app.Recipe, tools ...tool) string {
	t.Helper()
	root, err := os.OpenRoot(src)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	from := &folder{root: root, dir: src}
	j := &job{b: &Builder{}, src: from, recipe: r, out: &output{to: t.Output()}, tools: tools}
	files, err := from.list(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return j.id(files)
}

// TestIDTellsEverythingApart makes random apps, and changes of them that matter
// or do not.
func TestIDTellsEverythingApart(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 3))
	for range 20 {
		files := map[string]string{}
		for range 1 + random.IntN(12) {
			text := make([]byte, random.IntN(200))
			for i := range text {
				text[i] = byte(random.IntN(256))
			}
			files[fmt.Sprintf("d%d/f%d", random.IntN(3), random.IntN(20))] = "x" + string(text)
		}
		r := app.Recipe{Runtime: "custom", Entrypoint: "e", Env: map[string]string{"A": "b"}, RuntimeConfig: map[string]string{"C": "d"}}
		tl := tool{"Python", "/p", "3.1"}
		src := tree(t, files)
		id := idOf(t, src, r, tl)
		if again := idOf(t, tree(t, files), r, tl); again != id {
			t.Fatalf("seed %d: the same app elsewhere is %s, not %s", seed, again, id)
		}
		if err := os.MkdirAll(filepath.Join(src, "empty", "er"), 0o700); err != nil {
			t.Fatal(err)
		}
		one := filepath.Join(src, slices.Sorted(maps.Keys(files))[0])
		if err := os.Chmod(one, 0o600); err != nil {
			t.Fatal(err)
		}
		if again := idOf(t, src, r, tl); again != id {
			t.Fatalf("seed %d: an empty directory and a mode that does not matter make it %s, not %s", seed, again, id)
		}

		seen := map[string]string{id: "the app itself"}
		differs := func(what, id string) {
			t.Helper()
			if seen[id] != "" {
				t.Errorf("seed %d: %s is the same as %s", seed, what, seen[id])
			}
			seen[id] = what
		}
		text, err := os.ReadFile(one)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, change func()) {
			t.Helper()
			change()
			differs(what, idOf(t, src, r, tl))
		}
		try("one bit flipped", func() {
			changed := slices.Clone(text)
			changed[random.IntN(len(changed))] ^= 1 << random.IntN(8)
			put(t, one, "")
			if err := os.WriteFile(one, changed, 0o600); err != nil {
				t.Fatal(err)
			}
		})
		try("executable", func() { _ = os.WriteFile(one, text, 0o600); _ = os.Chmod(one, 0o700) })
		try("gone", func() { _ = os.Remove(one) })
		try("a symlink", func() { put(t, one, "-> x") })
		try("another symlink", func() { _ = os.Remove(one); put(t, one, "-> y") })
		try("a file that holds where the symlink led", func() { _ = os.Remove(one); _ = os.WriteFile(one, []byte("y"), 0o600) })
		try("another name", func() { _ = os.Remove(one); _ = os.WriteFile(one+"z", text, 0o600) })

		src = tree(t, files)
		other := r
		other.Entrypoint = "f"
		differs("another entrypoint", idOf(t, src, other, tl))
		other = r
		other.Env = map[string]string{"A": "c"}
		differs("another environment", idOf(t, src, other, tl))
		other.Env = map[string]string{"Ab": ""}
		differs("a name in place of a value", idOf(t, src, other, tl))
		other.Env, other.RuntimeConfig = r.RuntimeConfig, r.Env
		differs("the tables swapped", idOf(t, src, other, tl))
		differs("another version of the tool", idOf(t, src, r, tool{"Python", "/p", "3.2"}))
		differs("another tool", idOf(t, src, r, tool{"Python", "/q", "3.1"}))
		differs("no tool", idOf(t, src, r))
	}
}

func BenchmarkUnchanged5000Files(b *testing.B) {
	src := b.TempDir()
	for i := range 5000 {
		name := filepath.Join(src, fmt.Sprintf("d%d/e%d/f%d", i%20, i%200, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "%05000d", i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	builder := &Builder{Dir: b.TempDir()}
	defer builder.Close()
	if _, err := builder.Build(b.Context(), src, custom, Options{}, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := builder.Build(b.Context(), src, custom, Options{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
