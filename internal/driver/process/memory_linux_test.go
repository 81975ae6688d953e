package process

import (
	"os"
	"path/filepath"
	"testing"
)

// What an app holds is seen, by its cgroup where there is one, and by the table
// of processes.
func TestMemoryOfAnInstance(t *testing.T) {
	t.Parallel()
	w := open(t)
	// 64 MiB in a child of the app.
	w.start("a", script(t, "v1", `bash -c 'x=$(head -c 67108864 /dev/zero | tr "\0" a); touch ready; read' < <(sleep 1000) & wait`))
	w.file("a", "ready")
	w.start("b", script(t, "v2", polite))
	w.file("b", "ready")
	for _, by := range []struct {
		how  string
		hold func(id string) (int64, bool)
	}{
		{"as it is", w.Memory},
		{"by the table", func(id string) (int64, bool) { return treeMemory(w.keeper(id).PID) }},
	} {
		a, known := by.hold("a")
		b, alsoKnown := by.hold("b")
		if !known || !alsoKnown || a < 64<<20 || a > 400<<20 || b <= 0 || b > 32<<20 {
			t.Errorf("%s: a holds %d (%v), b %d (%v)", by.how, a, known, b, alsoKnown)
		}
	}
	if _, known := w.Memory("nobody"); known {
		t.Error("somebody who does not exist holds memory")
	}
}

func TestGroupMemory(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"v1": {"memory.usage_in_bytes": "1000\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 300\n"},
		"v2": {"memory.current": "1000\n", "memory.stat": "anon 5\ninactive_file 300\n"},
	} {
		dir := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if used, known := groupMemory([]string{t.TempDir(), dir}); used != 700 || !known {
			t.Errorf("%s: %d, %v", name, used, known)
		}
	}
	if _, known := groupMemory([]string{t.TempDir()}); known {
		t.Error("a group without the controller counts")
	}
}
