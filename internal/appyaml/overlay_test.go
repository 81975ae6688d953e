package appyaml

import (
	"errors"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

func TestAnOverlayWinsOverTheFile(t *testing.T) {
	v, _, err := Parse("app.yaml", []byte("env: flex\nruntime: go\nservice: chat\nenv_variables: {A: file, B: file}\n"))
	if err != nil {
		t.Fatal(err)
	}
	file := maps.Clone(v.Env)
	shared := v.Env
	o := Overlay{Service: "front", Env: map[string]string{"B": "flag", "C": ""}, Instances: 3}
	if err := o.Apply(&v); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"A": "file", "B": "flag", "C": ""}; !maps.Equal(v.Env, want) {
		t.Errorf("env %v, want %v", v.Env, want)
	}
	if !maps.Equal(shared, file) {
		t.Errorf("the map of before was written to: %v", shared)
	}
	if v.Service != "front" {
		t.Errorf("service %q", v.Service)
	}
	if s := v.Scaling; !s.Manual || s.Min != 3 || s.Max != 3 || s.CoolDown != 0 || s.CPU != 0 {
		t.Errorf("scaling %+v", s)
	}

	before := v
	if err := (Overlay{}).Apply(&v); err != nil || v.Service != before.Service || v.Scaling.Min != 3 || !maps.Equal(v.Env, before.Env) {
		t.Errorf("an empty overlay changed something, or failed: %v", err)
	}
	var empty app.Version
	if err := (Overlay{Env: map[string]string{"A": "1"}}).Apply(&empty); err != nil || empty.Env["A"] != "1" {
		t.Errorf("over a version without variables: %v, %v", empty.Env, err)
	}
}

func TestAnOverlayIsHeldToTheRulesOfTheFile(t *testing.T) {
	for name, o := range map[string]Overlay{
		"service":                 {Service: "Chat"},
		"service with separator":  {Service: "a-dot-b"},
		"too many":                {Instances: InstancesMax + 1},
		"fewer than none":         {Instances: -1},
		"no variable":             {Env: map[string]string{"A-B": ""}},
		"no name":                 {Env: map[string]string{"": "x"}},
		"reserved":                {Env: map[string]string{"GAE_X": "x"}},
		"long":                    {Env: map[string]string{"A": strings.Repeat("x", maxVariableBytes)}},
		"not for an environment":  {Env: map[string]string{"A": "x\x00y"}},
		"one good, one bad is no": {Env: map[string]string{"A": "x", "GAE": "y"}},
	} {
		v := app.Version{Key: app.Key{Service: "chat"}}
		err := o.Apply(&v)
		if !errors.Is(err, app.ErrInvalid) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.200v", name, err)
		}
		if v.Service != "chat" || v.Env != nil || v.Scaling.Manual {
			t.Errorf("%s: it was laid over in part: %v", name, v)
		}
	}
}

func TestScalingIsCheckedAsInTheFile(t *testing.T) {
	good := defaults().Scaling
	if err := CheckScaling(good); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := CheckScaling(app.Scaling{Manual: true, Min: 5, Max: 5}); err != nil {
		t.Errorf("manual: %v", err)
	}
	for name, change := range map[string]func(*app.Scaling){
		"no instances":      func(s *app.Scaling) { s.Min = 0 },
		"more than at most": func(s *app.Scaling) { s.Min = s.Max + 1 },
		"too many":          func(s *app.Scaling) { s.Max = maxInstances + 1 },
		"restless":          func(s *app.Scaling) { s.CoolDown = 59 * time.Second },
		"asleep":            func(s *app.Scaling) { s.CoolDown = math.MaxInt64 },
		"no CPU":            func(s *app.Scaling) { s.CPU = 0 },
		"above all CPU":     func(s *app.Scaling) { s.CPU = 1.01 },
		"no number":         func(s *app.Scaling) { s.CPU = math.NaN() },
		"negative":          func(s *app.Scaling) { s.Connections = -1 },
		"manual, none":      func(s *app.Scaling) { *s = app.Scaling{Manual: true} },
		"manual, many":      func(s *app.Scaling) { *s = app.Scaling{Manual: true, Min: maxInstances + 1, Max: maxInstances + 1} },
	} {
		s := good
		change(&s)
		if err := CheckScaling(s); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: %+v: %v", name, s, err)
		}
	}
}
