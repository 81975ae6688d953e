package build

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
)

// counted is a toolchain that counts its installs and takes a moment for each.
func counted(t *testing.T) (environ []string, count string) {
	count = filepath.Join(t.TempDir(), "count")
	b := only(t, map[string]string{
		"node": "echo v20.1.0",
		"npm":  "/bin/sleep 0.2\necho x >>" + count + "\n/bin/mkdir node_modules; echo done >node_modules/done",
	})
	return b.Environ, count
}

func TestOneBuildForManyWhoAsk(t *testing.T) {
	environ, count := counted(t)
	dir := t.TempDir()
	src := tree(t, map[string]string{"package.json": `{"dependencies":{"x":"1"},"scripts":{"start":"x"}}`})
	var wg sync.WaitGroup
	for i := range 12 {
		b := in(t, dir, environ) // as if it were another process
		wg.Go(func() {
			for range 2 {
				a, err := b.Build(t.Context(), src, app.Recipe{Runtime: "nodejs"}, Options{}, nil)
				if err != nil {
					t.Errorf("builder %d: %v", i, err)
					return
				}
				if data, err := os.ReadFile(filepath.Join(a.Dir, "node_modules", "done")); err != nil || string(data) != "done\n" {
					t.Errorf("builder %d got an unfinished build: %q, %v", i, data, err)
				}
			}
		})
	}
	wg.Wait()
	if data, err := os.ReadFile(count); err != nil || string(data) != "x\n" {
		t.Errorf("installed %q times, %v; want once", data, err)
	}
}

// Every build of this test takes so much: its file and its mark are small.
const testBuild = 100_000

func TestCollectKeepsWhatIsUsed(t *testing.T) {
	const unused = 15
	b := only(t, nil)
	other := in(t, b.Dir, b.Environ)
	var ids []string
	build := func(b *Builder, text string) string {
		text = strings.Repeat(text+" ", testBuild)[:testBuild]
		a, err := b.Build(t.Context(), tree(t, map[string]string{"x": text}), app.Recipe{Runtime: "custom", Entrypoint: "./x"}, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !b.Has(a) {
			t.Fatalf("Has(%s) = false after the build", a.ID)
		}
		return a.ID
	}
	mine, theirs := build(b, "mine"), build(other, "theirs")
	for i := range unused {
		ids = append(ids, build(b, strconv.Itoa(i)))
	}
	// Uses within one tick of the clock are not ordered; say when each was.
	for i, id := range append([]string{mine, theirs}, ids...) {
		at := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(filepath.Join(b.builds(), id, completeFile), at, at); err != nil {
			t.Fatal(err)
		}
	}
	collect := func(most int64, inUse ...string) (have []string) {
		t.Helper()
		b.BytesMax = most
		if err := b.Collect(inUse...); err != nil {
			t.Fatal(err)
		}
		return left(t, b)
	}
	if have := collect(0, mine); len(have) != unused+2 {
		t.Errorf("within the default bound %d builds are left, want %d", len(have), unused+2)
	}
	// Room for seven: the two in use, which are oldest, and the newest five.
	have := collect(7*testBuild+testBuild/2, mine)
	want := append([]string{mine, theirs}, ids[unused-5:]...)
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("kept %v, want %v: the two in use and the newest five", have, want)
	}
	if _, err := os.Stat(b.lockFile(ids[0])); err == nil {
		t.Error("the lock file of a removed build is still there")
	}
	// What is in use stays whatever the bound; what was in use goes last.
	if have := collect(1, mine, ids[unused-1]); len(have) != 3 {
		t.Errorf("beyond the bound %v are left, want what is in use", have)
	}
	other.Close()
	if have := collect(testBuild+testBuild/2, ids[unused-1]); len(have) != 1 || have[0] != ids[unused-1] {
		t.Errorf("after the other let go %v are left, want only %s", have, ids[unused-1])
	}
}

// A build that was moved with its directory does not count: it may have its old
// path within.
func TestMovedBuildsAreBuiltAnew(t *testing.T) {
	b := only(t, nil)
	src := tree(t, map[string]string{"x": "y"})
	a, err := b.Build(t.Context(), src, custom, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	moved := in(t, filepath.Join(t.TempDir(), "moved"), b.Environ)
	if err := os.Rename(b.Dir, moved.Dir); err != nil {
		t.Fatal(err)
	}
	if b.Has(a) || moved.Has(a) {
		t.Error("Has says yes after a move")
	}
	copied := false
	again, err := moved.Build(t.Context(), src, custom, Options{Progress: func(_ Phase, what string) {
		copied = copied || strings.HasPrefix(what, "copying")
	}}, nil)
	if err != nil || !copied || !moved.Has(again) {
		t.Errorf("Build after a move = %+v, %v; built anew: %v", again, err, copied)
	}
}
