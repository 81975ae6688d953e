package source

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be a process that uploads and is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SOURCE_UPLOAD_TO"); dir != "" {
		fmt.Println("error:", uploadForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// uploadForEver uploads trees, one file of which is new each time, and prints
// the id of each once it is kept.
func uploadForEver(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		files := map[string]string{"same": "same", "new": strings.Repeat(fmt.Sprint(i, "\n"), 40_000)}
		for _, text := range files {
			if err := s.PutBlob(hashOf(text), slow{strings.NewReader(text)}); err != nil {
				return err
			}
		}
		id, err := s.PutTree(treeOf(files))
		if err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// slow gives a little at a time, so that a kill meets a file half-written.
type slow struct{ r *strings.Reader }

func (s slow) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 1000)]) }

func TestKilledUploadsLeaveNothingThatCounts(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 5))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t)
	acknowledged := 0
	for round := range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "SOURCE_UPLOAD_TO="+s.dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var ids []string
		// The first tree shows that it has begun; then anywhere in the next ones.
		for first := true; lines.Scan(); first = false {
			if strings.HasPrefix(lines.Text(), "error:") {
				t.Fatal(lines.Text())
			}
			ids = append(ids, lines.Text())
			if first {
				time.AfterFunc(time.Duration(random.IntN(30_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		again, err := Open(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if len(id) != hashLen {
				continue // the kill cut the line
			}
			acknowledged++
			if err := again.Checkout(t.Context(), id, t.TempDir()); err != nil {
				t.Errorf("seed %d, round %d: what was acknowledged is lost: %v", seed, round, err)
			}
		}
		// Whatever has a name is whole, also what was not acknowledged.
		trees, err := os.ReadDir(filepath.Join(s.dir, "trees"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range trees {
			if err := again.Checkout(t.Context(), e.Name(), t.TempDir()); err != nil {
				t.Errorf("seed %d, round %d: %v", seed, round, err)
			}
		}
		blobs, err := filepath.Glob(filepath.Join(s.dir, "blobs", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range blobs {
			data, err := os.ReadFile(name)
			if err != nil || hashOf(string(data)) != filepath.Base(name) {
				t.Errorf("seed %d, round %d: %s is half-written (%v)", seed, round, name, err)
			}
		}
	}
	if acknowledged < 12 {
		t.Errorf("seed %d: only %d trees were uploaded", seed, acknowledged)
	}
	// What was cut off goes when it is old, with everything else.
	aged(t, s, 2*grace)
	if err := s.Collect(nil, 0); err != nil {
		t.Fatal(err)
	}
	if files := left(t, s); len(files) > 0 {
		t.Errorf("left after collecting: %v", files)
	}
}
