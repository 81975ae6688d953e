//go:build linux

package e2e

import (
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The real gcloud deploys to a server and commands it, where no other machine
// can be reached: what it would send to Google fails.
func TestGcloud(t *testing.T) {
	if _, err := exec.LookPath("gcloud"); err != nil {
		t.Skip("the real gcloud is not installed: apt install google-cloud-cli")
	}
	if alone() {
		testscript.Run(t, scripts("testdata/gcloud", "CLOUDSDK_CONFIG=", "PYTHONUNBUFFERED=1", "CLOUDSDK_CORE_DISABLE_PROMPTS=1"))
		return
	}
	t.Parallel()
	runAlone(t)
}
