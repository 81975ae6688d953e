package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/control"
)

func TestDrills(t *testing.T) {
	w := reachable(t)
	ctx := t.Context()
	k := app.ServiceKey{App: "shop", Service: "chat"}
	kinds := must(w.Drills(ctx))(t)
	if len(kinds) != len(app.Faults()) {
		t.Errorf("%d drills, want %d", len(kinds), len(app.Faults()))
	}
	for _, d := range kinds {
		if d.Drill == "" || d.What == "" {
			t.Errorf("a drill that says nothing: %+v", d)
		}
	}

	op := must(w.Drill(ctx, k, DrillRequest{Drill: "hang", Seconds: 20, Share: 0.5}))(t)
	if op.Verb != "drill" || op.Drill == nil || op.Drill.Drill != "hang" || op.Drill.Seconds != 20 || op.Drill.Share != 0.5 {
		t.Errorf("accepted as %+v, %+v", op, op.Drill)
	}
	if got := must(w.Operation(ctx, op.ID))(t); got.Drill == nil || got.Drill.Drill != "hang" {
		t.Errorf("kept as %+v", got)
	}
	if _, err := w.Drill(ctx, k, DrillRequest{Drill: "earthquake", Seconds: 1}); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("an unknown drill: %v", err)
	}
	if _, err := w.Drill(ctx, k, DrillRequest{Drill: "hang", Seconds: -1}); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("for less than nothing: %v", err)
	}

	if _, err := w.Report(ctx, op.ID); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("a report before there is one: %v", err)
	}
	for _, said := range []string{"first", "second"} {
		if err := w.KeepReport(ctx, op.ID, map[string]string{"said": said}); err != nil {
			t.Fatal(err)
		}
		var got struct{ Said string }
		if err := json.Unmarshal(must(w.Report(ctx, op.ID))(t), &got); err != nil || got.Said != said {
			t.Errorf("the report says %q (%v), want %q", got.Said, err, said)
		}
	}
	for _, bad := range []any{[]int{1}, "text", strings.Repeat("a", reportMax+1)} {
		if err := w.KeepReport(ctx, op.ID, bad); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("a report that is none: %v", err)
		}
	}
	if err := w.KeepReport(ctx, "op-none", map[string]string{}); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("of an operation that is not there: %v", err)
	}
	w.clerk.running = []control.Instance{{Instance: app.Instance{ID: "a", Key: k.Version("v1")}}}
	stop := must(w.RestartInstance(ctx, "a"))(t)
	if err := w.KeepReport(ctx, stop.ID, map[string]string{}); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("of an operation that is no drill: %v", err)
	}
}

// Reports are kept in number.
func TestReportsAreBounded(t *testing.T) {
	w := reachable(t)
	ctx := t.Context()
	last := ""
	for n := range reportsKept + 5 {
		op := must(w.Drill(ctx, app.ServiceKey{App: "shop", Service: fmt.Sprint("s", n)}, DrillRequest{Drill: "hang", Seconds: 1}))(t)
		if err := w.KeepReport(ctx, op.ID, map[string]int{"n": n}); err != nil {
			t.Fatal(err)
		}
		last = op.ID
	}
	entries, err := os.ReadDir(w.house.OperationLogDir())
	if err != nil || len(entries) != reportsKept {
		t.Errorf("%d reports are kept (%v), want %d", len(entries), err, reportsKept)
	}
	must(w.Report(ctx, last))(t)
}
