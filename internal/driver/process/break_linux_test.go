package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
)

// state is the letter by which the kernel tells what a process does.
func state(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := cutLast(data, ')')
	return string(bytes.Fields(rest)[0])
}

// A paused instance stands still with all its processes, whoever of us paused
// it, and goes on where it stood.
func TestPauseStopsTheWholeApp(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.start("a", script(t, "workers", `sleep 1000 & echo $! > worker; echo $$ > main; while :; do sleep 0.01; done`))
	both := []int{w.pid("a", "worker"), w.pid("a", "main")}
	if err := w.Pause(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, pid := range both {
		until(t, "stop", func() bool { return state(t, pid) == "T" })
	}
	w.restart()
	if !w.find("a").Paused {
		t.Error("the next driver does not know that the instance is paused")
	}
	if err := w.Resume(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, pid := range both {
		until(t, "going on", func() bool { return state(t, pid) != "T" })
	}
}
