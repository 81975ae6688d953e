package build

import (
	"os"
	"path/filepath"
	"strconv"
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

func TestCollectKeepsWhatIsUsed(t *testing.T) {
	b := only(t, nil)
	other := in(t, b.Dir, b.Environ)
	var ids []string
	build := func(b *Builder, text string) string {
		a, err := b.Build(t.Context(), tree(t, map[string]string{"x": text}), app.Recipe{Runtime: "custom", Entrypoint: "./x"}, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	mine, theirs := build(b, "mine"), build(other, "theirs")
	for i := range keepBuilds + 5 {
		ids = append(ids, build(b, strconv.Itoa(i)))
	}
	// Uses within one tick of the clock are not ordered; say when each was.
	for i, id := range append([]string{mine, theirs}, ids...) {
		at := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(filepath.Join(b.builds(), id, completeFile), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Collect(mine); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, id := range left(t, b) {
		have[id] = true
	}
	if !have[mine] || !have[theirs] || len(have) != keepBuilds+2 || have[ids[0]] || !have[ids[len(ids)-1]] {
		t.Errorf("kept %d: ours in use %v, another's in use %v, the oldest %v, the newest %v",
			len(have), have[mine], have[theirs], have[ids[0]], have[ids[len(ids)-1]])
	}
	if _, err := os.Stat(b.lockFile(ids[0])); err == nil {
		t.Error("the lock file of a removed build is still there")
	}
	other.Close()
	if err := b.Collect(mine); err != nil {
		t.Fatal(err)
	}
	if n := left(t, b); len(n) != keepBuilds+1 {
		t.Errorf("after the other let go there are %d builds, want %d", len(n), keepBuilds+1)
	}
}
