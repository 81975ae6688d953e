package source

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFullDiskIsToldAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := upload(t, s, someApp)
	before := left(t, s)

	told := func(what string, err error, dir string) {
		t.Helper()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk that holds "+dir+" is full") {
			t.Errorf("%s = %v, want that the disk of %s is full", what, err, dir)
		}
	}
	big := make([]byte, 4<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	told("PutBlob", s.PutBlob(hashOf(string(big)), bytes.NewReader(big)), dir)
	if after := left(t, s); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("left behind: %v, before %v", after, before)
	}
	told("Checkout of much", func() error {
		roomy := open(t)
		id, _ := upload(t, roomy, map[string]string{"big": string(big)})
		to := dir + "/out"
		if err := syscall.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		return roomy.Checkout(t.Context(), id, to)
	}(), dir+"/out")
	// What was there is still there.
	out := t.TempDir()
	if err := s.Checkout(t.Context(), id, out); err != nil {
		t.Fatal(err)
	}
	if got := written(t, out); !maps.Equal(got, someApp) {
		t.Errorf("checked out %q", got)
	}
}
