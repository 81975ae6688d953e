package drill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	bad := Result{
		Errors: 3, Failures: []Failure{{Probe: "ws:/ws", What: "403 Forbidden: who are you", N: 3, Clients: []int{2, 5}}},
		Outages:  []Outage{{Client: 1, At: 1, Seconds: 0.5, Back: true}, {Client: 2, At: 1, Seconds: 4}, {Client: 5, At: 1, Seconds: 4}},
		Messages: Messages{Sent: 10, Answered: 8, Lost: 2, Doubled: 1},
		Broke:    1, Samples: []Sample{
			{At: 0.5, Sockets: map[string]int{"a": 5, "b": 5}, States: map[string]string{"a": "ready", "b": "ready"}},
			{At: 3, Sockets: map[string]int{"a": 9, "b": 1, "c": 7}, States: map[string]string{"a": "ready", "b": "ready", "c": "draining"}},
			{At: 4},
		},
	}
	slow := Result{Outages: []Outage{{Client: 1, At: 1, Seconds: 0.5, Back: true}, {Client: 2, At: 1, Seconds: 6, Back: true}}}
	for _, c := range []struct {
		expect string
		res    Result
		missed string // of what was missed; "": nothing
	}{
		{"", bad, ""},
		{"errors=3", bad, ""},
		{"errors=2", bad, "errors=2: clients met 3: 3× 403 Forbidden: who are you on ws:/ws (clients 2 and 5)"},
		{"reconnect=1m", bad, "reconnect=1m0s: clients 2 and 5 never came back: 403 Forbidden: who are you"},
		{"reconnect=6s", slow, ""},
		{"reconnect=5s", slow, "reconnect=5s: the slowest client needed 6.0s"},
		{"p50=1s", slow, ""},
		{"p50=100ms", slow, "p50=100ms: half of the clients needed more than 500ms"},
		{"lost=2,doubled=1", bad, ""},
		{"lost=1", bad, "lost=1: 2 of 10 messages had no answer"},
		{"doubled=0", bad, "doubled=0: 1 messages were answered twice"},
		{"uneven=80%", bad, ""},
		{"uneven=50%", bad, "uneven=50%: the fullest instance has 80% more than its share"},
	} {
		e, err := ParseExpect(c.expect)
		if err != nil {
			t.Fatal(err)
		}
		res := c.res
		res.finish(e)
		if got := strings.Join(res.Missed, "; "); got != c.missed || res.Passed != (c.missed == "") || res.Judged != (c.expect != "") {
			t.Errorf("%q: passed %v, missed %q, want %q", c.expect, res.Passed, got, c.missed)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		q    float64
		want float64
	}{{nil, 0.5, 0}, {[]float64{7}, 0.99, 7}, {[]float64{1, 2, 3, 4}, 0.5, 2}, {[]float64{1, 2, 3}, 0.5, 2}, {[]float64{1, 2, 3}, 1, 3}, {[]float64{1, 2}, 0.99, 2}} {
		if got := quantile(c.of, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.of, c.q, got, c.want)
		}
	}
}

// hostile is a result whose words want to be markup.
func hostile() Report {
	evil := `<script>alert(1)</script>`
	res := Result{
		Drill: "hang", What: evil, Instances: []string{evil}, Seconds: 10, Broke: 2, Mended: 6, Clients: 3, Probes: []string{evil},
		Failures: []Failure{{Probe: evil, What: evil, N: 1, Clients: []int{1}}}, Goodbyes: []Count{{evil, 1}},
		Outages: []Outage{{Client: 1, Probe: evil, At: 3, Seconds: 1, Back: true}, {Client: 2, At: 3, Seconds: 7}},
		Moments: []Moment{{At: 1, Instance: evil, State: evil, Cause: evil, Detail: evil}},
		Real:    Real{Records: 1, Met: []Count{{evil, 1}}}, Missed: []string{evil},
	}
	for i := range 10 {
		res.Samples = append(res.Samples, Sample{At: float64(i), Sockets: map[string]int{evil: i}, States: map[string]string{evil: evil}, Served: map[string]int{evil: 1}})
	}
	return Report{Service: evil, Server: evil, By: evil, Expect: evil, Drills: []Result{res, {Drill: "deploy", Skipped: evil}, {Drill: "empty"}}}
}

func TestPageStandsAlone(t *testing.T) {
	var page bytes.Buffer
	if err := hostile().WritePage(&page); err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"<script", "src=", "url(", "@import", "http://", "https://", "NaN", "Inf", "%!"} {
		if strings.Contains(page.String(), no) {
			t.Errorf("the page contains %q", no)
		}
	}
	if n := strings.Count(page.String(), "<svg"); n != 2 {
		t.Errorf("%d drawings, want a chart and a strip", n)
	}
}

func TestTextIsOneLineEach(t *testing.T) {
	r := hostile()
	var text bytes.Buffer
	if err := r.WriteText(&text, func(_ bool, text string) string { return text }); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(text.String(), "\n"); !strings.HasPrefix(lines[0], "DRILL") || !strings.HasPrefix(lines[1], "hang") || len(lines) > 30 {
		t.Errorf("printed %q", text.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// What clients live through becomes outages, and nothing counts before the start.
func TestRecorder(t *testing.T) {
	p, _ := ParseProbe("ws:/ws")
	r := newRecorder(Spec{Probes: []Probe{p}, For: time.Minute}, mark())
	c, d := &client{n: 1, probe: p}, &client{n: 2, probe: p}
	r.join(c)
	r.join(d)
	r.up(c)
	r.failed(d, troubled("before"))
	r.up(d)
	r.start()
	r.down(c, "1012 crashed")
	r.down(c, "") // once is enough
	r.failed(c, troubled("503 Service Unavailable"))
	r.up(c)
	r.down(d, "1012 crashed")
	r.record([]byte(fmt.Sprintf(`{"msg":"request","trace":"%s00000000","instance":"a","status":502}`, mark())))
	r.record([]byte(`{"msg":"request","trace":"0123","instance":"a","status":502}`))
	r.record([]byte(`{"msg":"socket","trace":"0123","instance":"a","code":1012,"cause":"crashed"}`))
	r.record([]byte(`not JSON`))
	r.look([]Instance{{ID: "a", State: "ready", Sockets: 2}})
	r.look([]Instance{{ID: "a", State: "draining"}, {ID: "b", State: "starting"}})
	r.look(nil)
	r.stop()
	r.failed(c, troubled("after"))
	r.down(c, "after")
	res := r.result(Operation{ID: "op"})
	if len(res.Outages) != 2 || !res.Outages[0].Back || res.Outages[1].Back || res.Recovery.Away != 1 || res.Recovery.N != 2 {
		t.Errorf("outages %+v, %+v", res.Outages, res.Recovery)
	}
	if res.Errors != 1 || len(res.Failures) != 1 || res.Failures[0].What != "503 Service Unavailable" || len(res.Goodbyes) != 1 || res.Goodbyes[0].N != 2 {
		t.Errorf("failures %+v, goodbyes %+v", res.Failures, res.Goodbyes)
	}
	if res.Real.Records != 2 || len(res.Real.Met) != 2 || len(res.Samples) != 3 || res.Samples[0].Served["a"] != 2 || len(res.Moments) != 2 {
		t.Errorf("real %+v, samples %+v, moments %+v", res.Real, res.Samples, res.Moments)
	}
}

// Events that are numbered tell of gaps and repetitions.
func TestRecorderCountsEvents(t *testing.T) {
	r := newRecorder(Spec{}, mark())
	c := &client{n: 1}
	r.join(c)
	r.start()
	for _, id := range []string{"x", "1", "2", "3", "4", "5", "9", "10", "9", "10", "11", "-1"} {
		r.event(c, id)
	}
	if m := r.messages; m.Lost != 3 || m.Doubled != 2 {
		t.Errorf("%+v, want 3 lost, 2 doubled", m)
	}
}

func TestKindsOfFailuresAreBounded(t *testing.T) {
	all := map[string]*failure{}
	for i := range 10 * kindsMost {
		add(all, fmt.Sprint("error ", i), i, 0)
	}
	if len(all) > kindsMost+1 || all[""].n != 9*kindsMost {
		t.Errorf("%d kinds, %+v of others", len(all), all[""])
	}
}
