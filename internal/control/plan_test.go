package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// in makes a fact: "a ready", "b draining idle:300ms load:3", born an hour ago.
func in(t *testing.T, text string) fact {
	t.Helper()
	words := strings.Fields(text)
	f := fact{ID: words[0], Born: noon.Add(-time.Hour), Cause: app.Deployed, Until: noon.Add(time.Minute)}
	for s := range app.Stopped + 1 {
		if s.String() == words[1] {
			f.State = s
		}
	}
	for _, w := range words[2:] {
		name, value, _ := strings.Cut(w, ":")
		d, _ := time.ParseDuration(value)
		switch name {
		case "born": // so long ago
			f.Born = noon.Add(-d)
		case "idle": // for so long
			f.Idle = noon.Add(-d)
		case "until": // from now
			f.Until = noon.Add(d)
		case "expires": // from now
			f.Expires = noon.Add(d)
		case "load":
			fmt.Sscan(value, &f.Load)
		case "exited":
			f.Exited, f.State = true, app.Stopped
		case "stopping":
			f.Stopping = true
		case "sick":
			f.Sick = true
		case "asked":
			f.Asked = true
		case "debugged":
			f.Debugged = true
		case "former":
			f.Former = true
		default:
			t.Fatalf("%q: what is %s?", text, name)
		}
	}
	return f
}

func TestPlan(t *testing.T) {
	t.Parallel()
	young := " born:10s"
	tests := []struct {
		name string
		w    wish
		have []string
		want string // steps, in order
	}{
		{"nothing wanted, nothing there: nothing to do", wish{}, nil, ""},
		{"first start: all that are wanted at once", wish{Want: 3}, nil, "start deployed, start deployed, start deployed"},
		{"as wanted: nothing to do", wish{Want: 2}, []string{"a ready", "b ready"}, ""},
		{"starting ones are waited for", wish{Want: 2}, []string{"a ready", "b starting" + young}, ""},
		{"unready ones are waited for", wish{Want: 2}, []string{"a ready", "b unready"}, ""},
		{"one is missing: one is started", wish{Want: 2}, []string{"a ready"}, "start deployed"},

		{"exited: forgotten, and another started", wish{Want: 1}, []string{"a ready exited"}, "stop a crashed, start deployed"},
		{"exited while it drained: forgotten", wish{Want: 1}, []string{"a ready", "b draining exited"}, "stop b crashed"},
		{"back-off: nothing is started before the pause is over", wish{Want: 2, Pause: noon.Add(time.Millisecond)}, []string{"a ready exited"}, "stop a crashed"},
		{"back-off: when it is over, what is missing is started", wish{Want: 2, Pause: noon}, nil, "start deployed, start deployed"},
		{"back-off holds nothing else up", wish{Want: 1, Pause: noon.Add(time.Minute)}, []string{"a ready", "b ready", "c draining until:-2s"}, "stop c deployed, drain a scaled-down"},
		{"a stop under way is not repeated", wish{Want: 1}, []string{"a ready", "b draining until:0s stopping", "c draining exited stopping"}, ""},

		{"draining: the last ones are told goodbye before the app is", wish{Want: 1}, []string{"a ready", "b draining until:-1s load:9"}, ""},
		{"draining: stopped when out of time", wish{Want: 1}, []string{"a ready", "b draining until:-2s load:9"}, "stop b deployed"},
		{"draining: kept while it carries something", wish{Want: 1}, []string{"a ready", "b draining load:1"}, ""},
		{"draining: stopped when empty for a moment", wish{Want: 1}, []string{"a ready", "b draining idle:250ms"}, "stop b deployed"},
		{"draining: empty just now may still be given a request", wish{Want: 1}, []string{"a ready", "b draining idle:249ms"}, ""},
		{"draining ones do not count: a successor is started", wish{Want: 1}, []string{"a draining load:1"}, "start deployed"},

		{"slow start: stopped without a drain, and replaced", wish{Want: 1}, []string{"a starting born:300s"}, "stop a slow-start, start deployed"},
		{"slow start: not a moment early", wish{Want: 1}, []string{"a starting born:299s"}, ""},
		{"unready for long is not a slow start", wish{Want: 1}, []string{"a unready born:9000s"}, ""},

		{"sick: leaves at once, and a successor is started", wish{Want: 1}, []string{"a ready sick load:7"}, "drain a unhealthy, start unhealthy"},
		{"sick and unready: the same", wish{Want: 2}, []string{"a unready sick", "b ready"}, "drain a unhealthy, start unhealthy"},
		{"sick while it starts: stopped", wish{Want: 1}, []string{"a starting sick" + young}, "stop a unhealthy, start unhealthy"},

		{"aged: a successor first", wish{Want: 1}, []string{"a ready expires:0s"}, "start aged"},
		{"aged: kept while the successor starts", wish{Want: 1}, []string{"a ready expires:0s", "b starting" + young}, ""},
		{"aged: kept while the successor is unready", wish{Want: 1}, []string{"a ready expires:0s", "b unready" + young}, ""},
		{"aged: drained when the successor is ready", wish{Want: 1}, []string{"a ready expires:0s", "b ready" + young}, "drain a aged"},
		{"aged: not before its time", wish{Want: 1}, []string{"a ready expires:1ms"}, ""},
		{"aged: one at a time, the longest overdue first", wish{Want: 2, Surge: 5}, []string{"a ready expires:-1h", "b ready expires:-2h", "c ready"}, "drain b aged"},
		{"aged: kept when another is missed more", wish{Want: 2}, []string{"a ready expires:0s", "b unready", "c starting" + young}, ""},
		{"aged and unready: nobody is lost by letting it go", wish{Want: 2}, []string{"a unready expires:0s", "b ready"}, "drain a aged, start aged"},
		{"asked for: a successor first", wish{Want: 2}, []string{"a ready asked", "b ready"}, "start requested"},
		{"asked for comes before aged", wish{Want: 2}, []string{"a ready expires:-9h", "b ready asked", "c ready"}, "drain b requested"},

		{"too many: the idlest leaves", wish{Want: 2}, []string{"a ready load:5", "b ready load:2", "c ready load:9"}, "drain b scaled-down"},
		{"too many: of equals the oldest leaves", wish{Want: 1}, []string{"a ready", "b ready born:2h"}, "drain b scaled-down"},
		{"too many: what still starts leaves first, undrained", wish{Want: 2}, []string{"a ready", "b starting" + young, "c ready"}, "stop b scaled-down"},
		{"too many: the unready leaves before the ready", wish{Want: 2}, []string{"a ready", "b unready load:99", "c ready"}, "drain b scaled-down"},
		{"too many: not below the wanted number ready", wish{Want: 2}, []string{"a ready", "b ready", "c ready", "d ready"}, "drain a scaled-down, drain b scaled-down"},
		{"not wanted any more: all leave", wish{Down: app.Deployed}, []string{"a ready", "b starting" + young, "c unready", "d draining load:1"}, "stop b deployed, drain c deployed, drain a deployed"},
		{"not wanted any more: age does not matter", wish{Down: app.Deployed}, []string{"a ready expires:0s", "b ready asked"}, "drain a deployed, drain b deployed"},

		{"looked into: it stays, sick or old", wish{Want: 2}, []string{"a ready sick debugged", "b ready expires:-1h debugged"}, ""},
		{"looked into: it stays, slow to start", wish{Want: 1}, []string{"a starting born:300s debugged"}, ""},
		{"looked into: others leave in its place", wish{Want: 1}, []string{"a ready debugged", "b ready load:9"}, "drain b scaled-down"},
		{"looked into: more than are wanted stay", wish{Want: 1}, []string{"a ready debugged", "b ready debugged"}, ""},
		{"looked into: it goes with its former contents, and when it is asked for", wish{Want: 2, Surge: 2}, []string{"a ready asked debugged", "b ready former debugged"}, "start requested"},
		{"looked into: it goes with its version", wish{Down: app.Requested}, []string{"a ready debugged"}, "drain a requested"},

		{"never beyond wanted plus surge", wish{Want: 2, Surge: 1}, []string{"a ready asked", "b ready", "c starting" + young}, ""},
		{"hurry: everything is stopped at once", wish{Hurry: true, Down: app.ShuttingDown},
			[]string{"a ready load:5", "b starting" + young, "c unready", "d draining load:1", "e ready exited", "f draining stopping"},
			"stop a shutting-down, stop b shutting-down, stop c shutting-down, stop d shutting-down, stop e crashed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []fact
			for _, h := range tt.have {
				all = append(all, in(t, h))
			}
			w := tt.w
			w.Surge = max(1, w.Surge)
			if w.Up == "" {
				w.Up = app.Deployed
			}
			if w.Down == "" {
				w.Down = app.ScaledDown
			}
			if got := said(plan(noon, app.Version{}, w, all)); got != tt.want {
				t.Errorf("plan of %q\n got %s\nwant %s", tt.have, got, tt.want)
			}
			before := slices.Clone(all)
			plan(noon, app.Version{}, w, all)
			if !slices.Equal(before, all) {
				t.Error("plan changed its arguments")
			}
		})
	}
}

func said(steps []Step) string {
	var words []string
	for _, s := range steps {
		words = append(words, strings.Join(strings.Fields(fmt.Sprint(s.Do, " ", s.Instance, " ", s.Cause)), " "))
	}
	return strings.Join(words, ", ")
}

func TestBackoffGrowsAndResets(t *testing.T) {
	t.Parallel()
	var p past
	if !p.pause().IsZero() {
		t.Error("a version without failures pauses")
	}
	now := noon
	want := []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
		8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute, time.Minute}
	for n, w := range want {
		born := now
		now = now.Add(time.Second)
		p = p.fail(born, now)
		if got := p.pause().Sub(now); got != w {
			t.Errorf("after failure %d the pause is %v, want %v", n+1, got, w)
		}
		now = p.pause()
	}
	last := now
	if got := p.fail(last.Add(-time.Hour), now.Add(time.Hour)); got != p {
		t.Errorf("one that was born before the last failure counts: %v, then %v", p, got)
	}
	if got := p.stable(last.Add(-time.Hour)); got != p {
		t.Errorf("one that was born before the last failure resets: %v, then %v", p, got)
	}
	if got := p.stable(last); got != (past{}) {
		t.Errorf("one that was born after and stayed ready leaves %v", got)
	}
	for range 1000 {
		now = now.Add(time.Hour)
		p = p.fail(now.Add(-time.Minute), now)
	}
	if got := p.pause().Sub(now); got != backoffMost {
		t.Errorf("after very many failures the pause is %v", got)
	}
}

func TestAgeIsEarlyNeverLate(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	first, last := time.Duration(1<<62), time.Duration(0)
	for n := range 1000 {
		id := fmt.Sprintf("aef-default-v1-%04d", n)
		age := expires(id, noon, week).Sub(noon)
		if age > week || age < week-week/10 {
			t.Errorf("%s leaves after %v", id, age)
		}
		if again := expires(id, noon, week).Sub(noon); again != age {
			t.Errorf("%s leaves after %v, then after %v", id, age, again)
		}
		first, last = min(first, age), max(last, age)
	}
	if last-first < week/12 {
		t.Errorf("1000 instances leave between %v and %v", first, last)
	}
	if !expires("a", noon, 0).IsZero() {
		t.Error("a maximal age of 0 is not never")
	}
}
