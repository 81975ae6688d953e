package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// monitoring is what contrib/ offers for Prometheus.
const monitoring = "../contrib/prometheus"

func debianTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not here: apt-get install prometheus")
	}
	return path
}

// A real Prometheus reads a real server, with the configuration that contrib/
// offers, and evaluates its alerts.
func TestPrometheusReadsTheNumbers(t *testing.T) {
	t.Parallel()
	prometheus := debianTool(t, "prometheus")
	h := newHospice(t)
	h.deploy("default", "")
	h.open("default", "/ws/open")

	dir := t.TempDir()
	config, err := os.ReadFile(filepath.Join(monitoring, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := filepath.Abs(filepath.Join(monitoring, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := "global: {evaluation_interval: 1s}\n" + string(config)
	for old, with := range map[string]string{
		"scrape_interval: 15s":                  "scrape_interval: 1s",
		"/etc/prometheus/holdfast.token\n    s": filepath.Join(h.server.data, "token") + "\n    s",
		"127.0.0.1:8079":                        strings.TrimPrefix(h.admin, "http://"),
		"- alerts.yml":                          "- " + alerts,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("prometheus.yml says nothing of %q", old)
		}
		text = strings.Replace(text, old, with, 1)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := newOutput()
	cmd := exec.Command(prometheus, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus wrote:\n%s", log)
		}
	})
	addr, ok := log.await(0, regexp.MustCompile(`msg="Listening on" address=(\S+)`))
	if !ok {
		t.Fatal("prometheus does not listen")
	}
	eventually(t, "prometheus is ready", func() bool {
		code, _ := h.tell("GET", "http://"+addr[strings.LastIndexByte(addr, '=')+1:]+"/-/ready", "")
		return code == http.StatusOK
	})
	addr = addr[strings.LastIndexByte(addr, '=')+1:]
	ask := func(path string, into any) {
		t.Helper()
		code, answer := h.tell("GET", "http://"+addr+"/api/v1/"+path, "")
		if err := json.Unmarshal(answer, into); code != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s, %v", path, code, answer, err)
		}
	}
	query := func(q string) string {
		var res struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		ask("query?query="+url.QueryEscape(q), &res)
		if len(res.Data.Result) == 0 {
			return ""
		}
		return fmt.Sprint(res.Data.Result[0].Value[1])
	}
	for q, want := range map[string]string{
		`up{job="holdfast"}`:                               "1",
		`sum(holdfast_sockets_open{app="ends"})`:           "1",
		`sum(holdfast_instances{state="ready"})`:           "1",
		`sum(holdfast_handshakes_total{outcome="opened"})`: "1",
	} {
		eventually(t, q+" is "+want, func() bool { return query(q) == want })
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	eventually(t, "all alerts were evaluated", func() bool {
		ask("rules", &rules)
		n := 0
		for _, g := range rules.Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					t.Fatalf("alert %s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					n++
				}
			}
		}
		return n == 10
	})
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := debianTool(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", filepath.Join(monitoring, "alerts.yml")},
		{"test", "rules", "testdata/alerts.yml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Whatever alerts and the dashboard ask for is in the table of metrics.
func TestWhatIsAskedForIsCounted(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../internal/metrics/table.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bholdfast_[a-z_]+`)
	for _, file := range []string{"prometheus/alerts.yml", "grafana/holdfast.json"} {
		text, err := os.ReadFile(filepath.Join("../contrib", file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(text) {
			t.Errorf("%s is no JSON", file)
		}
		names := name.FindAll(text, -1)
		if len(names) < 10 {
			t.Errorf("%s asks for %d numbers, want more", file, len(names))
		}
		for _, n := range names {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				n = bytes.TrimSuffix(n, []byte(suffix))
			}
			if !bytes.Contains(table, append([]byte{'"'}, append(n, '"')...)) {
				t.Errorf("%s asks for %s, which nobody counts", file, n)
			}
		}
	}
}
