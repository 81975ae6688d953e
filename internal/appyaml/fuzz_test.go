package appyaml

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast/internal/app"
)

// FuzzParse: whatever the bytes, Parse ends soon and does not panic; its errors
// are places in the file, in order, and safe to print; what it accepts keeps
// every bound; and how lines end changes nothing.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("testdata/*.yaml: %d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "\r", "a: 'x\r\n\r\ny'", "a: |+\r\n x\r\n\r\n", "? a\n: b", "a: &x b", "- - - a", "[[[{a: b", "a: \"\\0\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		v, warnings, err := Parse("app.yaml", data)
		if took := time.Since(start); took > quick {
			t.Fatalf("Parse took %v for %d bytes", took, len(data))
		}
		checkPrintable(t, string(data), err, warnings)
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(data), "\ufeff")), "\n")
		inside := func(line, column int) bool {
			return line >= 1 && line <= len(lines) && column >= 1 && column <= utf8.RuneCountInString(lines[line-1])+1
		}
		for _, w := range warnings {
			if !inside(w.Line, w.Column) {
				t.Errorf("the warning %v is outside the file", w)
			}
		}
		if err != nil {
			if !reflect.DeepEqual(v, app.Version{}) {
				t.Errorf("a version beside errors: %+v", v)
			}
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 || !errors.Is(err, app.ErrInvalid) {
				t.Fatalf("the error %v (%T) is no Errors", err, err)
			}
			for i, e := range all {
				if !inside(e.Line, e.Column) {
					t.Errorf("the error %v is outside the file", e)
				}
				if i > 0 && (e.Line < all[i-1].Line || e.Line == all[i-1].Line && e.Column < all[i-1].Column) {
					t.Errorf("the errors are not in order: %v", all)
				}
			}
		} else if why := invalid(v); why != "" {
			t.Errorf("Parse accepted a version that is not valid: %s: %+v", why, v)
		}
		for _, ending := range []string{"\n", "\r\n", "\r"} {
			other := strings.Join(lines, ending)
			if len(data) > maxBytes || len(other) > maxBytes {
				continue // the size is that of the file as it is
			}
			w, again, otherErr := Parse("app.yaml", []byte(other))
			if !reflect.DeepEqual(v, w) || !reflect.DeepEqual(warnings, again) || !reflect.DeepEqual(err, otherErr) {
				t.Errorf("lines ended by %q change what is read: %+v, %v, %v; were %+v, %v, %v", ending, w, again, otherErr, v, warnings, err)
			}
		}
	})
}

func checkPrintable(t *testing.T, file string, err error, warnings []Warning) {
	t.Helper()
	var texts []string
	if err != nil {
		texts = append(texts, err.Error())
	}
	for _, w := range warnings {
		texts = append(texts, w.String())
	}
	for _, s := range texts {
		if i := strings.IndexFunc(s, func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }); i >= 0 {
			t.Errorf("for the file %q the message %q has something unprintable at byte %d", file, s, i)
		}
	}
}

// invalid says which bound a version breaks; "" if none. It knows nothing of
// how Parse is made, and repeats App Engine's reference on purpose.
func invalid(v app.Version) string {
	seconds := func(d time.Duration, least, most int) bool {
		return d%time.Second == 0 && d >= time.Duration(least)*time.Second && d <= time.Duration(most)*time.Second
	}
	between := func(i, least, most int) bool { return i >= least && i <= most }
	cpu, memory := v.Resources.CPU, v.Resources.MemoryGB
	rules := []struct {
		what string
		ok   bool
	}{
		{"key", v.App == "" && v.Key.Version == "" && regexp.MustCompile(`^[a-z0-9-]{1,63}$`).MatchString(v.Service) && v.Service[0] != '-' && !strings.Contains(v.Service, "-dot-")},
		{"runtime", slices.Contains([]string{"python", "nodejs", "go", "java", "ruby", "php", "dotnet", "custom"}, v.Recipe.Runtime)},
		{"cpu", cpu == 1 || cpu >= 2 && cpu <= 32 && math.Mod(cpu, 2) == 0 || cpu > 32 && cpu <= 80 && math.Mod(cpu, 4) == 0},
		{"memory", memory >= cpu-0.4-1e-6 && memory <= cpu*6.5-0.4+1e-6},
		{"disk", between(v.Resources.DiskGB, 10, 10240)},
		{"volumes", len(v.Resources.Volumes) <= 8},
		{"instances", between(v.Scaling.Min, 1, v.Scaling.Max) && v.Scaling.Max <= 10_000},
		{"manual", !v.Scaling.Manual || v.Scaling.Min == v.Scaling.Max},
		{"cpu target", v.Scaling.Manual || v.Scaling.CPU >= 1e-6 && v.Scaling.CPU <= 1},
		{"cool down", v.Scaling.Manual || v.Scaling.CoolDown >= time.Minute},
		{"connections", v.Scaling.Connections >= 0},
		{"liveness timeout", seconds(v.Live.Timeout, 1, 300)},
		{"liveness interval", seconds(v.Live.Interval, 1, 300) && v.Live.Interval > v.Live.Timeout},
		{"liveness thresholds", between(v.Live.Failures, 1, 10) || v.Live.Path == "/_ah/health" && between(v.Live.Failures, 1, 1000)},
		{"liveness successes", between(v.Live.Successes, 1, 10)},
		{"liveness delay", seconds(v.Live.InitialDelay, 0, 3600) && v.Live.Within == 0},
		{"readiness timeout", seconds(v.Ready.Timeout, 1, 300)},
		{"readiness interval", seconds(v.Ready.Interval, 1, 300) && v.Ready.Interval > v.Ready.Timeout},
		{"readiness thresholds", between(v.Ready.Failures, 1, 10) && between(v.Ready.Successes, 1, 10)},
		{"readiness bound", seconds(v.Ready.Within, 1, 1800) && v.Ready.InitialDelay == 0},
		{"paths", (v.Live.Path == "" || v.Live.Path[0] == '/') && (v.Ready.Path == "" || v.Ready.Path[0] == '/') && !strings.ContainsAny(v.Live.Path+v.Ready.Path+v.Live.Host+v.Ready.Host, " \t\r\n\x00")},
		{"socket age", v.Sockets.MaxAge == 0 || v.Sockets.MaxAge >= time.Second},
		{"drain", v.Drain == 0 || v.Drain >= time.Second && v.Drain <= 24*time.Hour},
		{"maximum age", v.MaxAge == 0 || v.MaxAge >= time.Second},
		{"endpoints", (v.Endpoints == app.Endpoints{}) || v.Endpoints.Name != "" && (v.Endpoints.Rollout == "managed") == (v.Endpoints.ConfigID == "")},
	}
	for _, r := range rules {
		if !r.ok {
			return r.what
		}
	}
	name := regexp.MustCompile(`^[a-zA-Z_]\w*$`)
	for _, m := range []map[string]string{v.Env, v.Recipe.Env, v.Recipe.RuntimeConfig} {
		for k, s := range m {
			if !name.MatchString(k) || strings.Contains(s, "\x00") {
				return "variable " + k
			}
		}
	}
	for k := range v.Env {
		if strings.HasPrefix(k, "GAE") {
			return "reserved variable " + k
		}
	}
	for k := range v.Beta {
		if strings.HasPrefix(k, "holdfast.") {
			return "setting " + k
		}
	}
	for _, p := range v.Recipe.SkipFiles {
		if _, err := regexp.Compile(p); err != nil {
			return "pattern " + p
		}
	}
	taken := map[string]bool{}
	for _, p := range v.Network.ForwardedPorts {
		for _, protocol := range []string{"tcp", "udp"} {
			if p.Protocol != "" && p.Protocol != protocol {
				continue
			}
			k := protocol + string(rune(p.Host))
			if taken[k] {
				return "port forwarded twice"
			}
			taken[k] = true
		}
		reserved := []int{22, 10001, 11211}
		if !between(p.Instance, 1, 65535) || slices.Contains(reserved, p.Instance) || between(p.Instance, 10400, 10500) {
			return "port of the instance"
		}
		if !between(p.Host, 1024, 65535) || slices.Contains(append(reserved, 8080, 8090, 8443, 10000, 24231), p.Host) || between(p.Host, 10400, 10500) {
			return "port of the machine"
		}
	}
	for _, w := range v.Resources.Volumes {
		if w.Name == "" || w.SizeGB < 0.001 {
			return "volume " + w.Name
		}
	}
	for _, m := range v.Scaling.Metrics {
		if m.Name == "" || m.Type == "" || (m.Utilization > 0) == (m.PerInstance > 0) {
			return "metric " + m.Name
		}
	}
	return ""
}
