package appyaml

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

// TestBounds: each documented range takes both its ends and nothing beyond.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		path       string // the section and key; "%s" is the value
		good, bad  string // values, separated by blanks
		otherLines string
	}{
		{path: "liveness_check: {timeout_sec: %s, check_interval_sec: 300}", good: "1 299", bad: "0 301 -1 1.5 x"},
		{path: "liveness_check: {timeout_sec: 1, check_interval_sec: %s}", good: "2 300", bad: "0 1 301"},
		{path: "liveness_check: {failure_threshold: %s}", good: "1 10", bad: "0 11"},
		{path: "liveness_check: {success_threshold: %s}", good: "1 10", bad: "0 11"},
		{path: "liveness_check: {initial_delay_sec: %s}", good: "0 3600", bad: "-1 3601"},
		{path: "readiness_check: {timeout_sec: %s, check_interval_sec: 300}", good: "1 299", bad: "0 301"},
		{path: "readiness_check: {timeout_sec: 1, check_interval_sec: %s}", good: "2 300", bad: "0 1 301"},
		{path: "readiness_check: {failure_threshold: %s}", good: "1 10", bad: "0 11"},
		{path: "readiness_check: {success_threshold: %s}", good: "1 10", bad: "0 11"},
		{path: "readiness_check: {app_start_timeout_sec: %s}", good: "1 1800", bad: "0 1801"},
		{path: "readiness_check: {path: %s}", good: "/ /_ah/health /a?b=c ''", bad: "x http://x/ /\u00e9 \"/a\\n\""},
		{path: "readiness_check: {host: %s}", good: "a.example localhost:8080", bad: "a/b 'a,b' -a"},
		{path: "resources: {cpu: %s}", good: "1 2 30 32 36 80 1.0 '2'", bad: "0 0.5 3 33 34 78 84 1e3 .inf -2"},
		{path: "resources: {memory_gb: %s}", good: "0.6 6.1", bad: "0.59 6.11 .nan"},
		{path: "resources: {cpu: 80, memory_gb: %s}", good: "79.6 519.6", bad: "79.5 519.7"},
		{path: "resources: {disk_size_gb: %s}", good: "10 10240 20.0", bad: "9 10241 20.5"},
		{path: "resources: {volumes: [{name: %s, volume_type: tmpfs, size_gb: 0.1}]}", good: "a a-1 " + strings.Repeat("a", 63), bad: "-a a- A 1a " + strings.Repeat("a", 64)},
		{path: "resources: {volumes: [{name: a, volume_type: tmpfs, size_gb: %s}]}", good: "0.001 0.6", bad: "0.0009 0"},
		{path: "automatic_scaling: {min_num_instances: %s, max_num_instances: 10000}", good: "1 10000", bad: "0 10001"},
		{path: "automatic_scaling: {min_num_instances: 1, max_num_instances: %s}", good: "1 10000", bad: "0 10001"},
		{path: "automatic_scaling: {cool_down_period_sec: %s}", good: "60 31536000", bad: "59 31536001"},
		{path: "automatic_scaling: {cpu_utilization: {target_utilization: %s}}", good: "0.000001 1 1.0 .5", bad: "0 1.01 0.0000001"},
		{path: "automatic_scaling: {cpu_utilization: {aggregation_window_length_sec: %s}}", good: "1", bad: "0"},
		{path: "automatic_scaling: {target_concurrent_requests: %s}", good: "1 4096", bad: "0 1.5"},
		{path: "automatic_scaling: {target_disk_read_ops_per_sec: %s}", good: "1", bad: "0"},
		{path: "manual_scaling: {instances: %s}", good: "1 10000 0x10 1_0 017", bad: "0 10001 -1 09 1:30 ''"},
		{path: "network: {forwarded_ports: ['%s']}", good: "1024 65535 2222:1 1024:65535 3000/tcp 3000:53/udp", bad: "1023 65536 22 8080 8090 8443 10000 10001 10400 10500 11211 24231 3000:22 3000:0 3000:10450 3000:65536 3000/sctp 3000: :1 a"},
		{path: "network: {instance_ip_mode: %s}", good: "internal INTERNAL external EXTERNAL", bad: "Internal none"},
		{path: "network: {instance_tag: %s}", good: "a a-b", bad: "-a a- 1 A"},
		{path: "session_affinity: %s", good: "true False YES no On off y N", bad: "'true' 1 tRue"},
		{path: "service: %s", good: "a default a-1 0 " + strings.Repeat("a", 63), bad: "-a a- A a-dot-b a_b " + strings.Repeat("a", 64)},
		{path: "service_account: %s", good: "a@b.example", bad: "a '@' a@"},
		{path: "beta_settings: {holdfast.websocket_timeout: %s}", good: "0 1 3600 3600s 1h30m 7d 1.5d 7d12h 1s '60'", bad: "-1 -1s d x 0.5 5000d '7 d' 1h-30m .inf 7d-1h 7d+1h"},
		{path: "beta_settings: {holdfast.drain: %s}", good: "0 1s 24h 1d 86400", bad: "25h 86401 0.1s -1"},
		{path: "beta_settings: {holdfast.max_age: %s}", good: "0 0s 1s 168h 7d", bad: "-1 weekly"},
		{path: "beta_settings: {holdfast.drain_signal: %s}", good: "SIGUSR1 'SIGUSR1'", bad: "SIGUSR2 sigusr1 USR1 10 true '' [SIGUSR1]"},
		{path: "beta_settings: {holdfast.rebalance: %s}", good: "gentle 'gentle'", bad: "Gentle hard true off '' {}"},
		{path: "beta_settings: {holdfast.bus: %s}", good: "redis 'redis'", bad: "Redis valkey true '' []"},
		{path: "beta_settings: {holdfast.bus: redis, holdfast.bus_env: %s}", good: "MESSAGES_URL a", bad: "GAE_URL a-b 1 '' []"},
		{path: "env_variables: {%s: x}", good: "A a_1 _ gae_x", bad: "GAE GAE_X GAEX 1 a-b a.b ''"},
		{path: "skip_files: %s", good: "^a$ '.*\\.py[co]' '[^a]'", bad: "(?=a) '(a)\\1' ( *a"},
		{path: "env_variables: {A: '%s'}", good: strings.Repeat("x", maxVariableBytes-2), bad: strings.Repeat("x", maxVariableBytes-1)},
	} {
		parse := func(value string) error {
			_, _, err := Parse("app.yaml", []byte("runtime: custom\nenv: flex\n"+fmt.Sprintf(b.path, value)+"\n"))
			return err
		}
		for _, value := range values(b.good) {
			if err := parse(value); err != nil {
				t.Errorf("%s with %.80s is refused: %.300v", b.path, value, err)
			}
		}
		for _, value := range values(b.bad) {
			var all Errors
			if err := parse(value); !errors.As(err, &all) {
				t.Errorf("%s with %.80s is taken", b.path, value)
			} else if len(all) != 1 || all[0].Line != 3 {
				t.Errorf("%s with %.80s: want one error in line 3, got %v", b.path, value, all)
			}
		}
	}
}

// values cuts at blanks that are not within quotes.
func values(s string) []string {
	var all []string
	quoted, from := false, 0
	for i := range len(s) + 1 {
		if i < len(s) && s[i] == '\'' {
			quoted = !quoted
		}
		if i == len(s) || s[i] == ' ' && !quoted {
			all = append(all, s[from:i])
			from = i + 1
		}
	}
	return all
}

func TestRuntimes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"python": "python", "nodejs": "nodejs", "go": "go", "java": "java", "ruby": "ruby",
		"dotnet": "dotnet", "aspnetcore": "dotnet", "custom": "custom",
	} {
		v, warnings, err := Parse("app.yaml", []byte("runtime: "+name+"\nenv: flex\n"))
		if err != nil || v.Recipe.Runtime != want || len(warnings) > 0 {
			t.Errorf("runtime %s = %q, %v, %v; want %q", name, v.Recipe.Runtime, warnings, err, want)
		}
	}
	v, _, err := Parse("app.yaml", []byte("env: flex\n"))
	if err != nil || v.Recipe.Runtime != "custom" {
		t.Errorf("no runtime = %q, %v; want custom", v.Recipe.Runtime, err)
	}
	for name, hint := range map[string]string{
		"python27": "Python 3", "python-compat": "use python", "python312": "runtime: python", "nodejs20": "runtime: nodejs", "go1.22": "runtime: go",
		"pyhton": `"python"`, "node": "known are", "gs://bucket/x.yaml": "known are", "Python": `"python"`, "": "known are",
	} {
		_, _, err := Parse("app.yaml", []byte("runtime: '"+name+"'\nenv: flex\n"))
		if err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("runtime %q: %v; want a hint with %s", name, err, hint)
		}
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"env: flex", "env: flexible", "env: 2", "env: '2'", "vm: true", "vm: yes"} {
		if _, _, err := Parse("app.yaml", []byte("runtime: go\n"+line+"\n")); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"env: standard", "env: 1", "env: '1'", "vm: false", "env: Flex", "env: []"} {
		if _, _, err := Parse("app.yaml", []byte("runtime: go\n"+line+"\n")); err == nil {
			t.Errorf("%s is taken", line)
		}
	}
}

func TestManualScalingLeavesNothingOfAutomatic(t *testing.T) {
	t.Parallel()
	v, _, err := Parse("app.yaml", []byte("env: flex\nmanual_scaling: {instances: 5}\n"))
	if want := (app.Scaling{Manual: true, Min: 5, Max: 5}); err != nil || fmt.Sprint(v.Scaling) != fmt.Sprint(want) {
		t.Errorf("Scaling = %+v, %v; want %+v", v.Scaling, err, want)
	}
}

func TestErrorsOfOneFileAreBounded(t *testing.T) {
	t.Parallel()
	_, _, err := Parse("app.yaml", []byte("env: flex\n"+strings.Repeat("x", 1)+": 1\nnetwork: {"+func() string {
		var b strings.Builder
		for i := range 500 {
			fmt.Fprintf(&b, "k%d: 1, ", i)
		}
		return b.String()
	}()+"}\n"))
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors || !strings.Contains(all[len(all)-1].Message, "401 more errors") {
		t.Errorf("%d errors, the last %v; want %d, the last with the number of the others", len(all), all[len(all)-1], maxErrors)
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		app, service, version string
		ok                    bool
	}{
		{"shop", "default", "20260101t120000", true},
		{"shop", "default", strings.Repeat("v", 42), true},
		{"shop", "default", strings.Repeat("v", 43), false},
		{"shop", "default", "latest", false},
		{"shop", "default", "default", false},
		{"shop", "default", "ah-builtin-1", false},
		{"shop", "default", "a-dot-b", false},
		{"shop", "default", "", false},
		{"shop", "", "v1", false},
		{"", "default", "v1", false},
		{"Shop", "default", "v1", false},
		{"shop", "default", "v1-", false},
	} {
		k := app.Key{App: c.app, Service: c.service, Version: c.version}
		err := CheckKey(k)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, app.ErrInvalid) {
			t.Errorf("CheckKey(%v) = %v; want fine: %v", k, err, c.ok)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "1.5": 1500 * time.Millisecond, "7d": 7 * day, "0.5d": 12 * time.Hour, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute,
	} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "d", "-5", "-5s", "1d-1h", "1d+1h", "+1h", "5 s", "1e99", "999999d", "99999999h", "NaN", "Inf", "1w"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("parseDuration(%q) = %v, want none", text, got)
		}
	}
}
