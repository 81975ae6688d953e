package control_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
)

func TestWhatHappensIsCounted(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		h.apps.boot = 3 * time.Second
		h.deploy(shop("v1", 2))
		wait(time.Hour)
		h.d.Exit(h.in(app.Ready)[0].ID, "killed by SIGKILL")
		wait(time.Minute)
		if _, err := h.c.RestartInstance(h.in(app.Ready)[0].ID, "me"); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		op, err := h.c.Rollback(front, "")
		if !errors.Is(err, app.ErrNotFound) {
			t.Fatalf("%+v, %v", op, err)
		}

		n := h.c.Numbers()
		v := n.Versions[shop("v1", 2).Key]
		if got := fmt.Sprint(v.Started, v.Left); got != "map[crashed:1 deployed:2 requested:1] map[crashed:1 requested:1]" {
			t.Errorf("started and left: %s", got)
		}
		if v.Want != 2 || v.Ups+v.Downs != 0 {
			t.Errorf("scaling: %+v", v)
		}
		if got := fmt.Sprint(n.Operations, n.UnderWay); got != "map[{deploy }:1 {restart }:1] map[]" {
			t.Errorf("operations: %s", got)
		}
		if s := n.Phases[control.Phase{Verb: app.VerbDeploy, Stage: app.StageStarting}]; s.Count != 1 || s.Sum < 3*time.Second || s.Sum > 10*time.Second {
			t.Errorf("the deploy's start took %+v, want some 3 s", s)
		}
	})
}
