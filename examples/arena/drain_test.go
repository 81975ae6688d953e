package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestDrainIsToldByFileAndBySignal(t *testing.T) { // not parallel: the signal goes to the process
	file := filepath.Join(t.TempDir(), "drain")
	told := drain(t.Context(), file)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, told, "HOLDFAST_DRAIN_FILE")
	told = drain(t.Context(), "")
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	wait(t, told, "SIGUSR1")
}

func wait(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Errorf("told by %s, want %s", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("never told by %s", want)
	}
}
