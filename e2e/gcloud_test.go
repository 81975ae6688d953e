//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The real gcloud deploys to a server and commands it, where no other machine
// can be reached: what it would send to Google fails.
func TestGcloud(t *testing.T) {
	if _, err := exec.LookPath("gcloud"); err != nil {
		t.Skip("the real gcloud is not installed: apt install google-cloud-cli")
	}
	if os.Getenv(madeProgram) != "" {
		testscript.Run(t, scripts("testdata/gcloud", "CLOUDSDK_CONFIG=", "PYTHONUNBUFFERED=1", "CLOUDSDK_CORE_DISABLE_PROMPTS=1"))
		return
	}
	t.Parallel()
	// A namespace of its own has nothing but loopback, which is down.
	cmd := exec.Command("sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run=^TestGcloud$", "-test.v", "-test.timeout=4m")
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
}
