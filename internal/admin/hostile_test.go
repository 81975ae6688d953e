package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// takesJSON are the routes that read a body of JSON, each with one that fits.
var takesJSON = map[string]string{
	"POST tokens": `{"name":"x","role":"viewer"}`, "DELETE tokens/{name}": "",
	"POST trees":             `{"files":[]}`,
	"POST apps/{app}/deploy": `{"yaml":"runtime: go\nenv: flex\n","tree":"0","promote":true}`,
	"PUT apps/{app}/services/{service}/traffic":                      `{"by":"ip","shares":{"v1":1}}`,
	"PATCH apps/{app}/services/{service}/versions/{version}/scaling": `{"min":1,"max":2}`,
	"PUT apps/{app}/dispatch":                                        `{"rules":[]}`,
	"POST sockets/close":                                             `{"filter":{"id":"a"},"code":4000,"reason":"x"}`,
	"POST apps/{app}/services/{service}/rollback":                    ``,
	"DELETE apps/{app}/services/{service}":                           ``,
	"POST apps/{app}/services/{service}/versions/{version}/start":    ``,
	"POST apps/{app}/services/{service}/versions/{version}/stop":     ``,
	"DELETE apps/{app}/services/{service}/versions/{version}":        ``,
	"POST instances/{id}/restart":                                    ``,
	"DELETE instances/{id}":                                          ``,
	"POST operations/{id}/cancel":                                    ``,
	"POST certificates/{name}/replace":                               ``,
	"POST console":                                                   ``,
	"POST apps/{app}/services/{service}/drills":                      `{"drill":"hang","seconds":1}`,
}

func TestBodiesThatDoNotFitAreRefused(t *testing.T) {
	w := newWorld(t)
	w.house.restore = nil
	for pattern, good := range takesJSON {
		method, path := example(pattern)
		if rec := w.ask(method, path, good); strings.Contains(rec.Body.String(), "the request") {
			t.Errorf("%s: what fits is refused: %s", pattern, rec.Body)
		}
		before := len(w.clerk.asked())
		long := bodyMax
		if pattern == "POST trees" {
			long = treeMax
		}
		bodies := map[string]string{
			"unknown field":  `{"surprise":1}`,
			"array":          `[]`,
			"text":           `"x"`,
			"no JSON":        `<html>`,
			"cut":            `{"files":`,
			"two values":     `{} {}`,
			"more behind":    `{}x`,
			"deep":           strings.Repeat(`{"filter":`, 100_000),
			"deep lists":     `{"rules":` + strings.Repeat(`[`, 100_000),
			"too long":       `{"reason":"` + strings.Repeat("x", long) + `"}`,
			"wrong type":     `{"files":1,"yaml":1,"by":1,"min":"1","rules":1,"filter":1}`,
			"fraction":       `{"min":1.5,"instances":1.5,"code":1.5}`,
			"beyond numbers": `{"min":1e99,"instances":1e99,"code":1e99,"shares":{"v1":1e999}}`,
			"zero bytes":     "\x00\x00",
			"not UTF-8":      "{\"\xff\":1}",
		}
		if good != "" {
			bodies["empty"] = ""
		}
		for name, body := range bodies {
			rec := w.ask(method, path, body)
			if rec.Code != http.StatusBadRequest || kind(rec) != KindInvalid || rec.Body.Len() > 1000 {
				t.Errorf("%s, %s: %d %.300s", pattern, name, rec.Code, rec.Body)
			}
		}
		if calls := w.clerk.asked(); len(calls) != before {
			t.Errorf("%s: control was asked: %q", pattern, calls[before:])
		}
	}
}

func TestEveryRouteThatChangesIsAmongTheHostile(t *testing.T) {
	for _, pattern := range allRoutes {
		_, known := takesJSON[pattern]
		if method, _, _ := strings.Cut(pattern, " "); method != "GET" && !known && pattern != "PUT blobs/{hash}" && pattern != "POST restore" && pattern != "PUT operations/{id}/report" {
			t.Errorf("%s is not there", pattern)
		}
	}
}

func TestUploadsThatAreWrongAreRefused(t *testing.T) {
	w := newWorld(t)
	const ofX = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"right":       {ofX, "x", 200},
		"wrong":       {ofX, "y", 400},
		"upper case":  {strings.ToUpper(ofX), "x", 400},
		"short":       {"00", "x", 400},
		"a way out":   {"..%2f..%2ftoken", "x", 400},
		"a long name": {strings.Repeat("0", 5000), "x", 400},
	} {
		if rec := w.ask("PUT", Prefix+"blobs/"+c.path, c.body); rec.Code != c.status || c.status == 400 && kind(rec) != KindInvalid {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	for name, files := range map[string]string{
		"absolute":   `{"path":"/etc/passwd","hash":"` + ofX + `","size":1}`,
		"upwards":    `{"path":"../x","hash":"` + ofX + `","size":1}`,
		"a link out": `{"path":"a","link":"../../x"}`,
		"unsorted":   `{"path":"b","hash":"` + ofX + `","size":1},{"path":"a","hash":"` + ofX + `","size":1}`,
		"twice":      `{"path":"a","hash":"` + ofX + `","size":1},{"path":"a","hash":"` + ofX + `","size":1}`,
		"negative":   `{"path":"a","hash":"` + ofX + `","size":-1}`,
		"no hash":    `{"path":"a","hash":"","size":1}`,
	} {
		if rec := w.ask("POST", Prefix+"trees", `{"files":[`+files+`]}`); rec.Code != 400 || kind(rec) != KindInvalid {
			t.Errorf("a tree that is %s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

// Whatever comes, the door answers with JSON and never by an error of its own,
// and what it takes for good has been understood whole.
func FuzzBodies(f *testing.F) {
	patterns := make([]string, 0, len(takesJSON))
	for _, pattern := range allRoutes { // in an order that stays
		if body, ok := takesJSON[pattern]; ok {
			f.Add(uint8(len(patterns)), body)
			patterns = append(patterns, pattern)
		}
	}
	f.Add(uint8(1), `{"yaml":"runtime: go\nenv: flex\nmanual_scaling: {instances: 3}","env":{"A":"\u0000"},"tree":"`+strings.Repeat("0", 64)+`"}`)
	f.Add(uint8(0), `{"files":[{"path":"a","hash":"`+strings.Repeat("0", 64)+`","size":1},{"path":"b","link":"a"}]}`)
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		pattern := patterns[int(which)%len(patterns)]
		method, path := example(pattern)
		began := time.Now()
		rec := w.ask(method, path, body)
		if !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%s: no JSON: %q", pattern, rec.Body)
		}
		if rec.Code >= 500 {
			t.Errorf("%s: %d %s", pattern, rec.Code, rec.Body)
		}
		if rec.Code == 200 && body != "" && !json.Valid([]byte(body)) {
			t.Errorf("%s: it took what is no JSON", pattern)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s: it took %v", pattern, d)
		}
	})
}

// The client takes any answer for what it is or refuses it, and does not panic.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"time":"2026-11-22T12:00:00Z","stream":"out","level":"info","text":"x"}`+"\n\n"+`{"error":{"kind":"busy","message":"x"}}`)
	f.Add(409, `{"error":{"kind":"busy","message":"x","next":"y"}}`)
	f.Add(200, `{"id":"x","stage":"done"}`)
	f.Add(502, `<html>`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status >= 300 && status < 400 {
			return
		}
		c := &Client{URL: "http://127.0.0.1:1", HTTP: &http.Client{Transport: answers{status, body}}}
		op, err := c.Cancel(t.Context(), "x")
		if (err == nil) != (status < 300 && json.Valid([]byte(body)) && json.Unmarshal([]byte(body), &Operation{}) == nil) {
			t.Errorf("%d %q: %+v, %v", status, body, op, err)
		}
		n := 0
		err = c.Logs(t.Context(), LogQuery{}, func(LogLine) error { n++; return nil })
		if status >= 300 && (err == nil || n > 0) {
			t.Errorf("%d: %d lines, %v", status, n, err)
		}
	})
}
