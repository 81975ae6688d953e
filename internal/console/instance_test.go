package console

import (
	"net/http"
	"testing"
)

// The drivers' instances of these tests listen nowhere.
func TestAnInstanceTellsHowItIs(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	w.deploy("v1", 1)
	eventually(t, "an instance was asked", func() bool {
		all := w.control.Instances()
		return len(all) == 1 && len(w.control.Checks(all[0].ID)) > 0
	})
	id := w.control.Instances()[0].ID
	status, page := w.get("instances/" + id)
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	has(t, page, "readiness", `<span class="tag bad">fails</span>`, `<span id="instance-memory">300</span> of`)
	w.memory = 0
	_, page = w.get("instances/" + id)
	has(t, page, "not known")
	if w.control.Checks("nobody") != nil {
		t.Error("nobody was asked")
	}
}
