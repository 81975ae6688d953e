package console

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/store"
)

// A drill is asked for twice, is told of while it is under way, is ended, and
// what clients have met is there to be read.
func TestDrills(t *testing.T) {
	reports := t.TempDir()
	w := newWorld(t, func(e *Engine) { e.Reports = reports })
	k := w.deploy("v1", 2)
	w.signIn(w.token)
	if status, page := w.get("drills"); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	} else {
		has(t, page, "shop/default", string(app.Sickness), "None.")
	}

	form := url.Values{"from": {"/console/drills"}, "service": {"shop/default"}, "fault": {string(app.Sickness)}}
	_, page := w.post("do/drill", form, nil)
	has(t, page, "Nobody has a socket open there.", "Begin the drill", `name="seconds"`)
	for name, bad := range map[string]url.Values{
		"no service": {"service": {"shop/nope"}, "fault": {string(app.Sickness)}},
		"no fault":   {"service": {"shop/default"}, "fault": {"flood"}},
	} {
		if status, _ := w.post("do/drill", bad, nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", name, status)
		}
	}
	form.Set("sure", "yes")
	form.Set("seconds", "many")
	if status, page := w.post("do/drill", form, nil); status != http.StatusBadRequest || !strings.Contains(page, "want a number") {
		t.Errorf("a number that is none: %d\n%s", status, page)
	}

	// One that is under way; what control makes of it is tested there.
	const id = "op-zzz"
	keep := func(change func(op *app.Operation)) {
		t.Helper()
		err := w.store.Update(func(all *store.Wishes) error {
			op := all.Operations[id]
			change(&op)
			all.Operations[id] = op
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(func(op *app.Operation) {
		*op = app.Operation{ID: id, Verb: app.VerbDrill, Target: k.ServiceKey().Version(""), By: "anna", Stage: app.StageDone, Asked: time.Now(), Ended: time.Now().Add(time.Minute), Drill: &app.Drill{Fault: app.Sickness, Share: 0.5, Long: time.Minute}}
	})
	w.ended(k, "s-1", "i-1", app.Requested, 1012)
	w.log.Info("socket", "id", "s-2", "trace", "d9111fa57d9111fa0000000000000001", "app", k.App, "service", k.Service, "cause", string(app.Crashed)) // a drill's own client's
	_, page = w.get("drills/" + id)
	has(t, page, "done", "50 %", "anna", `class="ended">1 <span class="tag">requested</span> 1<`, "/console/timeline?operation="+id)
	if status, _ := w.get("drills/" + id + "/report"); status != http.StatusNotFound {
		t.Errorf("a report that nobody left: %d", status)
	}
	keep(func(op *app.Operation) { op.Asked = op.Asked.Add(-time.Hour) }) // before we started
	if _, page = w.get("drills/" + id); !strings.Contains(page, "not known any more") || strings.Contains(page, "requested</span>") {
		t.Errorf("endings that nobody remembers are told:\n%s", page)
	}
	if err := os.WriteFile(filepath.Join(reports, id+".report.json"), []byte(`{"drills": 5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	status, page := w.get("drills/" + id)
	if status != http.StatusOK {
		t.Errorf("a report of others' takes the page with it: %d", status)
	}
	has(t, page, "is none of")
	text, err := json.Marshal(drill.Report{Service: "shop/default", Began: time.Now(), Drills: []drill.Result{{
		Drill: string(app.Sickness), What: "<script>", Clients: 20, Errors: 3, Judged: true, Missed: []string{"errors are 3, which is more than 0"}, Probes: []string{"ws:/ws"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(reports, id+".report.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, page = w.get("drills/" + id)
	has(t, page, "What clients of the drill met", "failed", "Errors are 3, which is more than 0", "The whole report")
	_, page = w.get("drills")
	has(t, page, "/console/drills/"+id+"/report", "Those that were")
	resp, err := w.browser.Get(w.url + Prefix + "drills/" + id + "/report")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Security-Policy") != reportPolicy || strings.Contains(string(body), "<script>") || !strings.Contains(string(body), "shop/default") {
		t.Errorf("the report: %s %v\n%.300s", resp.Status, resp.Header, body)
	}
	if status, _ := w.get("drills/" + url.PathEscape("../token")); status != http.StatusNotFound {
		t.Errorf("a drill that is a path: %d", status)
	}
}
