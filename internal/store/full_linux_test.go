package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/app"
)

// noMount is what a child says that may not mount.
const noMount = "cannot mount a small disk here:"

// A full disk refuses changes, loses nothing, and takes changes again when there
// is room. The disk is a tmpfs of a child in its own mount namespace.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	cmd := child(t, "fill", filepath.Join(t.TempDir(), "disk", "holdfast.db"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case bytes.Contains(out, []byte(noMount)):
		t.Skipf("%s", out)
	case errors.As(err, &exit):
		t.Fatalf("%s", out)
	default:
		t.Skipf("no user namespaces here: %v", err)
	}
}

// The same where the limit is one of the process (RLIMIT_FSIZE), as service
// managers set it.
func TestAFileThatMayNotGrow(t *testing.T) {
	t.Parallel()
	if out, err := child(t, "limit", place(t)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func fillTheDisk(path string) error {
	disk := filepath.Dir(path)
	if err := os.Mkdir(disk, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		return fmt.Errorf("%s %w", noMount, err)
	}
	filler := filepath.Join(disk, "filler")
	return outOfRoom(path, syscall.ENOSPC, func() error {
		f, err := os.Create(filler)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, neverEnds{}); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("the disk did not fill: %w", err)
		}
		return f.Close()
	}, func() error { return os.Remove(filler) })
}

func reachTheLimit(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var former syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &former); err != nil {
		return err
	}
	limit := func(n uint64) error {
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: former.Max})
	}
	if err := openedWithoutRoom(path+".first", func() error { return limit(0) }, func() error { return limit(former.Cur) }); err != nil {
		return fmt.Errorf("opened without room: %w", err)
	}
	return outOfRoom(path, syscall.EFBIG, func() error { return limit(64 << 10) }, func() error { return limit(former.Cur) })
}

// openedWithoutRoom begins after a crash between the two transactions of a change,
// which cannot be made good on a full disk. What is there is served.
func openedWithoutRoom(path string, full, room func() error) error {
	s, err := Open(path, Config{})
	if err != nil {
		return err
	}
	var crashed []byte
	s.disk.between = func() { crashed, err = os.ReadFile(path) }
	if err := s.Update(func(w *Wishes) error { w.Apps["shop"] = app.Application{ID: "shop"}; return nil }); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	want := s.Wishes()
	if err := s.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(path, crashed, permFile); err != nil {
		return err
	}
	if err := full(); err != nil {
		return err
	}
	if s, err = Open(path, Config{}); err != nil {
		return err
	}
	other := func(w *Wishes) error { w.Apps["other"] = app.Application{ID: "other"}; return nil }
	if !reflect.DeepEqual(s.Wishes(), want) {
		return fmt.Errorf("wishes are %+v, want %+v", s.Wishes(), want)
	}
	if err := s.Update(other); err == nil || !strings.Contains(err.Error(), "make room") {
		return fmt.Errorf("Update is %w, want a refusal", err)
	}
	if err := room(); err != nil {
		return err
	}
	if err := s.Update(other); err != nil {
		return err
	}
	want = s.Wishes()
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(path, Config{}); err != nil {
		return err
	}
	if len(want.Apps) != 2 || !reflect.DeepEqual(s.Wishes(), want) {
		return fmt.Errorf("opened again: %+v, want %+v", s.Wishes(), want)
	}
	return s.Close()
}

type neverEnds struct{}

func (neverEnds) Read(b []byte) (int, error) { return len(b), nil }

// outOfRoom goes through a disk that has room, has none, and has some again.
func outOfRoom(path string, kind error, full, room func() error) error {
	s, err := Open(path, Config{})
	if err != nil {
		return err
	}
	add := func(n int) error {
		return s.Update(func(w *Wishes) error {
			v := version(fmt.Sprint("v", n))
			v.Env["X"] = strings.Repeat("x", 30<<10)
			w.Versions[v.Key] = v
			return nil
		})
	}
	if err := add(0); err != nil {
		return err
	}
	for round := 1; round <= 3; round++ {
		if err := full(); err != nil {
			return err
		}
		refused := false
		for n := range 8 {
			before, changed := s.Wishes(), s.Changed()
			err := add(round*100 + n)
			if err == nil {
				continue // in pages that were free
			}
			refused = true
			if !errors.Is(err, kind) && !strings.Contains(err.Error(), kind.Error()) || !strings.Contains(err.Error(), "make room") {
				return fmt.Errorf("round %d: Update is %w, want %w", round, err, kind)
			}
			select {
			case <-changed:
				return fmt.Errorf("round %d: Changed is closed by a change that was refused", round)
			default:
			}
			if !reflect.DeepEqual(before, s.Wishes()) {
				return fmt.Errorf("round %d: an Update failed and the wishes have changed", round)
			}
			c, err := readFile(path, 1)
			if err != nil {
				return fmt.Errorf("round %d: while the disk is full: %w", round, err)
			}
			if w, err := c.records.wishes(); err != nil || !reflect.DeepEqual(before, w) {
				return fmt.Errorf("round %d: an Update failed and the file has changed (%w)", round, err)
			}
			var b bytes.Buffer
			if err := s.Snapshot(&b); err != nil {
				return fmt.Errorf("round %d: no snapshot while the disk is full: %w", round, err)
			}
		}
		if !refused {
			return fmt.Errorf("round %d: nothing was refused", round)
		}
		if err := room(); err != nil {
			return err
		}
		if err := s.Update(func(w *Wishes) error {
			w.Apps["shop"] = app.Application{ID: "shop", Dispatch: make([]app.DispatchRule, round)}
			for k := range w.Versions {
				if k.Version != "v0" {
					delete(w.Versions, k)
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("round %d: there is room again: %w", round, err)
		}
	}
	want := s.Wishes()
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(path, Config{}); err != nil {
		return err
	}
	if !reflect.DeepEqual(s.Wishes(), want) {
		return fmt.Errorf("opened again: %+v, want %+v", s.Wishes(), want)
	}
	return s.Close()
}
