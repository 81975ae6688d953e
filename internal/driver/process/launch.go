package process

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// failureFD is where the launching stage says what went wrong. Executing
	// the app closes it.
	failureFD = 3

	// umask of apps: what shells and containers have.
	umask = 0o022

	// filesMax is how many open files an app may have, where the machine
	// allows that many: a chat needs one for each of its sockets, and the
	// usual 1,024 is meant for programs that use select.
	filesMax = 1 << 16
)

// launch is the stage between the keeper and the app. It gives away what the
// app must not have, as the process that becomes the app, and executes it.
func launch(dir, parent string) error {
	unix.CloseOnExec(failureFD)
	err := becomeApp(dir, parent)
	fmt.Fprint(os.NewFile(failureFD, "failure"), err)
	return err
}

// becomeApp returns only with an error.
func becomeApp(dir, parent string) error {
	// What the kernel keeps per thread must be set on the one that executes.
	runtime.LockOSThread()
	keeper, err := strconv.Atoi(parent)
	if err != nil {
		return err
	}
	var s spec
	if err := readJSON(filepath.Join(dir, specFile), &s); err != nil {
		return err
	}
	if err := joinGroups(s.Groups); err != nil {
		return fmt.Errorf("enter its cgroups: %w", err)
	}
	preferForKilling()
	unix.Umask(umask)
	raiseFiles()
	// Before the change of user: it lists folders that the user may not, and what
	// is forbidden to us is to whom we become.
	if err := confine(s.Hidden, s.Reads, s.Writes); err != nil {
		return fmt.Errorf("keep files from it: %w", err)
	}
	if s.User.other() {
		if err := s.User.become(); err != nil {
			return fmt.Errorf("become user %s: %w", s.User.Name, err)
		}
	}
	if err := os.Chdir(s.Dir); err != nil {
		return err
	}
	// After the change of user, which clears it.
	if err := dieWith(keeper); err != nil {
		return err
	}
	err = syscall.Exec(s.Shell, []string{filepath.Base(s.Shell), "-c", "exec " + s.Command}, s.Env)
	return fmt.Errorf("execute %s: %w", s.Shell, err)
}

func raiseFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	// Go has raised its own soft limit and would put the old one back when it
	// executes something else, unless we set it ourselves.
	l.Cur = min(l.Max, filesMax)
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
