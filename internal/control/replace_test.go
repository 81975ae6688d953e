package control_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver"
	"holdfast/internal/router"
)

func ids(all []driver.Running) (ids []string) {
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// A version that serves gets other contents under its name: never fewer ready
// ones than wanted, and in the end only new ones.
func TestDeployReplacesContentsUnderOneName(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 2)
		h.deploy(v)
		before := ids(h.running())
		least := 2
		h.plane.see(func(r router.Routes) { least = min(least, served(r.Apps["shop"].Services["default"])) })
		for _, text := range []string{"one", "two", "two"} {
			h.forget()
			v.Env = map[string]string{"A": text}
			op, err := h.c.Deploy(control.Deployment{Version: v, Replace: true})
			if op = h.ended(op, err); op.Failure != nil {
				t.Fatalf("%s: %+v", text, op.Failure)
			}
			if got := h.s.Wishes().Versions[v.Key]; got.Env["A"] != text || !got.Serving {
				t.Fatalf("%s: the wish is %+v", text, got)
			}
		}
		wait(2 * time.Minute)
		after := ids(h.running())
		if len(after) != 2 || slices.ContainsFunc(after, func(id string) bool { return slices.Contains(before, id) }) || least != 2 {
			t.Errorf("running before %v, after %v; least ready %d", before, after, least)
		}
		wait(time.Hour)
		if last := ids(h.running()); !slices.Equal(last, after) {
			t.Errorf("running %v, and an hour later %v", after, last)
		}
	})
}

// When the new contents do not get ready, the old ones serve on under the name.
func TestDeployGivesReplacedContentsBack(t *testing.T) {
	inHouse(t, func(t *testing.T, h *house) {
		v := shop("v1", 1)
		h.deploy(v)
		before := ids(h.running())
		h.d.Doom(func(_ string, v app.Version) string {
			if v.Env["A"] != "" {
				return "exit status 3"
			}
			return ""
		})
		v.Env = map[string]string{"A": "broken"}
		op, err := h.c.Deploy(control.Deployment{Version: v, Replace: true})
		if op = h.ended(op, err); op.Failure == nil || op.Failure.Cause != app.Crashed {
			t.Fatalf("it ended as %+v", op.Failure)
		}
		wait(time.Hour)
		if after := ids(h.running()); !slices.Equal(before, after) {
			t.Errorf("running before %v, after %v", before, after)
		}
		if got := h.s.Wishes().Versions[v.Key]; got.Env["A"] != "" || !got.Serving {
			t.Errorf("the wish is %+v", got)
		}
		if s := h.plane.service(); s.Split.Shares["v1"] != 1 || served(s) != 1 {
			t.Errorf("the split is %v, with %d ready", s.Split, served(s))
		}
	})
}
