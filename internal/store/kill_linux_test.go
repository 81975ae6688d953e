package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
)

// This program is also the process that the tests kill: with childOf set it opens
// the file that it names and does what childDoes says.
const (
	childOf   = "HOLDFAST_STORE_TEST_FILE"
	childDoes = "HOLDFAST_STORE_TEST_DOES"
)

func TestMain(m *testing.M) {
	path := os.Getenv(childOf)
	if path == "" {
		os.Exit(m.Run())
	}
	var err error
	switch os.Getenv(childDoes) {
	case "count":
		err = count(path)
	case "fill":
		err = fillTheDisk(path)
	case "limit":
		err = reachTheLimit(path)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is this program, to do something with the file at path.
func child(t *testing.T, does, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), childOf+"="+path, childDoes+"="+does)
	return cmd
}

// counted is the number that count's wishes say: as many versions, and a service
// that names the last of them. It is an error when they disagree.
func counted(w Wishes) (int, error) {
	n := len(w.Versions)
	past := w.Services[app.ServiceKey{App: "shop", Service: "default"}].Split.Versions()
	if n == 0 && len(past) == 0 {
		return 0, nil
	}
	if len(past) != 1 || past[0] != fmt.Sprintf("v%06d", n) {
		return 0, fmt.Errorf("%d versions and a split over %v", n, past)
	}
	for i := 1; i <= n; i++ {
		if _, has := w.Versions[version(fmt.Sprintf("v%06d", i)).Key]; !has {
			return 0, fmt.Errorf("%d versions without number %d", n, i)
		}
	}
	return n, nil
}

// count adds versions, each with a move of the split to it, says each number on
// stdout once it was acknowledged, and never ends.
func count(path string) error {
	s, err := Open(path, Config{})
	if err != nil {
		return err
	}
	n, err := counted(s.Wishes())
	if err != nil {
		return err
	}
	for {
		n++
		if err := s.Update(func(w *Wishes) error {
			v := version(fmt.Sprintf("v%06d", n))
			v.Env["X"] = strings.Repeat("x", n*37%2000)
			w.Versions[v.Key] = v
			w.Services[v.Key.ServiceKey()] = app.Service{App: "shop", Name: "default", Split: app.Split{Shares: map[string]float64{v.Version: 1}}}
			return nil
		}); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// What was acknowledged before a SIGKILL is there after it, and at most the one
// change that was under way besides; and the next may open the file.
func TestKilledInTheMiddleOfChanges(t *testing.T) {
	t.Parallel()
	path := quickPlace(t)
	r := rand.New(rand.NewPCG(4, 4))
	for run := range long(50) {
		cmd := child(t, "count", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged, until, last := 0, r.IntN(6), ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			last = lines.Text()
			if n, err := strconv.Atoi(last); err == nil {
				acknowledged = n
			}
			if until--; until < 0 {
				// A moment within one of the next changes: each takes about a millisecond.
				time.AfterFunc(time.Duration(r.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
				until = 1 << 30
			}
		}
		_ = cmd.Wait()
		if cmd.ProcessState.Exited() {
			t.Fatalf("run %d ended by itself: %s", run, last)
		}
		s, err := Open(path, Config{})
		if err != nil {
			t.Fatalf("run %d: %v", run, err)
		}
		n, err := counted(s.Wishes())
		if err != nil || n < acknowledged || n > acknowledged+1 {
			t.Fatalf("run %d: %d were acknowledged and %d are there (%v)", run, acknowledged, n, err)
		}
		s.Close()
	}
}

func TestTheSecondProcessIsToldOfTheFirst(t *testing.T) {
	t.Parallel()
	path := place(t)
	cmd := child(t, "count", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "1" {
		t.Fatalf("the first says %q", lines.Text())
	}
	_, err = Open(path, Config{})
	if !errors.Is(err, app.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprint("process ", cmd.Process.Pid, " ")) {
		t.Errorf("Open is %v; want app.ErrBusy and process %d", err, cmd.Process.Pid)
	}
	if _, err := Restore(path, nothing(), Config{}); !errors.Is(err, app.ErrBusy) {
		t.Errorf("Restore is %v, want app.ErrBusy", err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	_ = cmd.Wait()
	mustOpen(t, path)
}
