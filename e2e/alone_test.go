//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// alone says whether this process is one that runAlone began.
func alone() bool {
	return os.Getenv(madeProgram) != ""
}

// runAlone runs the test that calls it once more, in a process that has a
// network of its own with nothing but loopback, and fails as it does. It skips
// where none can be made.
func runAlone(t *testing.T) {
	t.Helper()
	name := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	// Loopback is down in a new namespace.
	cmd := exec.Command("sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run="+name, "-test.v", "-test.timeout=4m")
	cmd.Env = append(os.Environ(), madeProgram+"="+program)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "=== RUN") {
		t.Skipf("no network namespace can be made here: %v\n%s", err, out)
	}
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
}
