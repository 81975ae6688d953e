package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/metrics"
	"holdfast/internal/tunnel"
)

// The pages of docs/reference are written from the code: go test . -update.
func TestReferenceIsWhatTheCodeSays(t *testing.T) {
	for file, page := range map[string]string{
		"docs/reference/metrics.md": metricsPage(),
		"docs/reference/causes.md":  causesPage(t),
		"docs/reference/keys.md":    keysPage(),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, []byte(page)) {
			t.Errorf("%s is not what the code says (%v): go test . -update", file, err)
		}
	}
}

func metricsPage() string {
	var b strings.Builder
	b.WriteString("<!-- Written from internal/metrics/table.go; change it there, then: go test . -update -->\n\n# Metrics\n\n" +
		"`GET /metrics` of the admin listener, with a token of the role viewer:\n\n" +
		"```\nholdfast tokens add prometheus --role=viewer\n```\n\n" +
		"[contrib/prometheus](../../contrib/prometheus/prometheus.yml) has a scrape configuration and alerts, " +
		"[contrib/grafana](../../contrib/grafana/holdfast.json) a dashboard. " +
		"`go_*` and `process_*` tell of Holdfast's own process, as those of every Go program. Counters begin at 0 when it starts; " +
		"a version that is gone is shown for ten more minutes. What `cause` may be is told in [causes](causes.md).\n\n" +
		"| name | kind | labels | what |\n|---|---|---|---|\n")
	for _, m := range metrics.Table() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(m.Labels, ", "), m.Meaning)
	}
	return b.String()
}

func keysPage() string {
	var b strings.Builder
	b.WriteString("<!-- Written from internal/appyaml/keys.go; change it there, then: go test . -update -->\n\n# Settings of our own in app.yaml\n\n" +
		"They travel in `beta_settings`, the one map that every App Engine client passes through.\n\n| key | default | what |\n|---|---|---|\n")
	for _, k := range appyaml.Keys() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, k.Default, k.Meaning)
	}
	return b.String()
}

// causesPage lists the constants of type app.Cause, block by block, with what
// their comments say.
func causesPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("<!-- Written from the constants of type app.Cause; change their comments, then: go test . -update -->\n\n# Causes and close codes\n\n" +
		"Whatever happens has a cause, one word that is the same everywhere: in the log, in the console, in a metric's label and as the reason in " +
		"the Close frame of a WebSocket. Where Holdfast ends a socket, the code is the one beside its cause, unless an operator gave another with " +
		"`holdfast sockets --close`. 1006 in a log means that no Close frame was seen.\n")
	sockets := map[app.Cause]bool{
		app.Deployed: true, app.ScaledDown: true, app.Aged: true, app.Unhealthy: true, app.Crashed: true, app.Requested: true,
		app.Lost: true, app.Deadline: true, app.Rebalanced: true, app.ShuttingDown: true, app.TooBig: true, app.TooMany: true, app.Broken: true,
	}
	for _, file := range []string{"internal/app/instance.go", "internal/app/operation.go", "internal/router/refuse.go", "internal/router/numbers.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			block, ok := d.(*ast.GenDecl)
			if !ok || block.Tok != token.CONST || !ofCauses(block) {
				continue
			}
			fmt.Fprintf(&b, "\n## %s\n\n| cause | close code | when |\n|---|---|---|\n", strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSpace(block.Doc.Text()), ".")), " "))
			for _, s := range block.Specs {
				c := s.(*ast.ValueSpec)
				word, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				code := ""
				if sockets[app.Cause(word)] && strings.HasPrefix(file, "internal/app/") {
					code = strconv.Itoa(tunnel.CloseCode(app.Cause(word)))
				}
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", word, code, strings.TrimSpace(c.Comment.Text()))
			}
		}
	}
	return b.String()
}

func ofCauses(block *ast.GenDecl) bool {
	for _, s := range block.Specs {
		c, ok := s.(*ast.ValueSpec)
		if !ok || c.Type == nil {
			return false
		}
		switch kind := c.Type.(type) {
		case *ast.Ident:
			if kind.Name != "Cause" {
				return false
			}
		case *ast.SelectorExpr:
			if kind.Sel.Name != "Cause" {
				return false
			}
		default:
			return false
		}
	}
	return true
}
