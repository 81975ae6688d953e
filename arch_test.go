package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms says which rooms each room may enter; most are folders of internal/. Everybody may use
// app. What is not written here is forbidden, and the reason stands in
// ARCHITECTURE.md: above all, the data plane (router, tunnel) never imports the
// control plane, and a driver cannot know about traffic.
var rooms = map[string][]string{
	"app":      nil,
	"spelling": nil,
	"tally":    nil,
	"traces":   nil, // reads the router's records, which are words and numbers
	"appyaml":  {"app", "spelling"},
	"config":   {"app", "spelling"},
	"logs":     {"app"},
	"bus":      nil, // carries messages; who sends them is none of its business
	"store":    {"app"},
	"edge":     {"app"},
	"certs":    {"app"},
	"tunnel":   {"app"},
	"probe":    {"app"},
	"router":   {"app", "tally", "tunnel", "logs"},
	"source":   {"app"},
	"build":    {"app", "logs", "source"},
	"control":  {"app", "store", "driver", "probe", "router", "logs", "tally"},
	"metrics":  {"app", "bus", "certs", "control", "router", "tally", "traces", "tunnel"},
	"server":   {"admin", "app", "auth", "build", "bus", "certs", "console", "control", "driver/process", "edge", "googleapi", "journal", "logs", "metrics", "router", "source", "store", "traces", "tunnel"},
	"cli":      {"admin", "app", "appyaml", "auth", "build", "certs", "config", "console", "control", "drill", "driver/process", "edge", "logs", "server", "spelling", "store"},

	"auth":  {"app"},
	"admin": {"app", "appyaml", "auth", "control", "logs", "source", "spelling", "store", "tunnel"},

	"drill": {"app"}, // a client like any other; what it asks of a server is an interface of its own

	"googleapi": {"app", "appyaml", "auth", "control", "logs", "source", "store"},

	"journal": {"app", "logs"},
	"console": {"app", "auth", "control", "docs", "drill", "journal", "logs", "store", "tunnel"},
	"docs":    nil, // the guide, as files

	"bench": {"app", "bus", "edge", "logs", "router", "tunnel"}, // the data plane and the bus, beside others
	"e2e":   nil,                                                // knows the program from outside

	"certs/certstest":   {"app"},
	"driver":            {"app"},
	"driver/drivertest": {"app", "driver"},
	"driver/memory":     {"app", "driver"},
	"driver/process":    {"app", "driver", "logs"}, // logs: an instance's keeper writes its log
}

// outside says which foreign modules a room may import, each with a page in
// decisions/. golang.org/x is near and needs none.
var outside = map[string][]string{
	"appyaml":         {"github.com/goccy/go-yaml"},
	"config":          {"github.com/goccy/go-yaml"},
	"store":           {"go.etcd.io/bbolt"},
	"certs":           {"github.com/caddyserver/certmagic", "github.com/mholt/acmez/v3", "go.uber.org/zap"},
	"drill":           {"github.com/coder/websocket"},
	"build":           {"github.com/bmatcuk/doublestar/v4", "github.com/Masterminds/semver/v3"},
	"metrics":         {"github.com/prometheus/client_golang"},
	"traces":          {"go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf"},
	"certs/certstest": {"github.com/miekg/dns"}, // comes with certmagic
	"driver/process":  {"github.com/containerd/cgroups/v3", "github.com/opencontainers/runtime-spec"},
	"console":         {"github.com/coder/websocket", "github.com/yuin/goldmark"},
	"cli":             {"github.com/spf13/cobra", "github.com/fsnotify/fsnotify", "github.com/briandowns/spinner", "github.com/fatih/color"},
}

type pkg struct {
	ImportPath, Name, Doc string
	Imports               []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestRoomsEnterOnlyWhatTheMapAllows(t *testing.T) {
	roomOf := func(path string) (string, bool) {
		room, ours := strings.CutPrefix(path, "holdfast/")
		return strings.TrimPrefix(room, "internal/"), ours
	}
	seen := map[string]bool{}
	for _, p := range packages(t) {
		room, ok := roomOf(p.ImportPath)
		if !ok {
			continue // main, which calls cli and nothing else
		}
		seen[room] = true
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("room %s is not on the map", room)
			continue
		}
		for _, imp := range p.Imports {
			if to, ours := roomOf(imp); ours {
				if !slices.Contains(allowed, to) {
					t.Errorf("%s imports %s, which the map does not allow", room, to)
				}
				continue
			}
			domain, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(domain, ".") || strings.HasPrefix(imp, "golang.org/x/") {
				continue
			}
			if !slices.ContainsFunc(outside[room], func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
				t.Errorf("%s imports %s, a dependency without a decision", room, imp)
			}
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("room %s is on the map and does not exist", room)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name != "main" && !strings.HasPrefix(p.Doc, "Package "+p.Name+" ") {
			t.Errorf("%s has no package comment that begins with %q", p.ImportPath, "Package "+p.Name)
		}
	}
}
