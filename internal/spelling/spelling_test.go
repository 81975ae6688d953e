package spelling_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"cpu", "path", "session_affinity", "check_interval_sec", "env"}
	for wrote, want := range map[string]string{
		"sesion_affinity": "session_affinity", "sessionAffinity": "session_affinity", "cpus": "cpu", "paht": "path",
		"check_intervall_secs": "check_interval_sec", "vne": "", "memory": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got, _ := spelling.Nearest(wrote, slices.Values(known)); got != want {
			t.Errorf("Nearest(%.30q) = %q, want %q", wrote, got, want)
		}
	}
	if got, want := spelling.DidYouMean("paht", slices.Values(known), ""), `did you mean "path"?`; got != want {
		t.Errorf("DidYouMean = %q, want %q", got, want)
	}
	if got := spelling.DidYouMean("memory", slices.Values(known), "see the list"); got != "see the list" {
		t.Errorf("DidYouMean of a word far from all = %q", got)
	}
}
