package cli

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command has a sentence, and examples that it would take: their words
// are parsed as if somebody had typed them.
func TestEveryCommandHasHelpThatHolds(t *testing.T) {
	// What stands between shell and command in an example.
	before := regexp.MustCompile(`^.*\| *`)
	var walk func(path []string)
	walk = func(path []string) {
		cmd, _, err := newRoot().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || cmd.Example == "" {
			t.Errorf("%s: short %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			line = before.ReplaceAllString(strings.TrimSpace(line), "")
			line, _, _ = strings.Cut(line, " | ")
			words := strings.Fields(line)
			if strings.HasPrefix(strings.TrimSpace(line), "gzip") {
				continue // what a pipe leads to
			}
			if len(words) < 2 || words[0] != "holdfast" {
				t.Errorf("%s: example %q", cmd.CommandPath(), line)
				continue
			}
			if err := parse(words[1:]); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(append(path[:len(path):len(path)], sub.Name()))
		}
	}
	for _, cmd := range newRoot().Commands() {
		walk([]string{cmd.Name()})
	}
}

// parse takes the words of a command line up to the point where work begins.
func parse(words []string) error {
	cmd, rest, err := newRoot().Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if cmd.PreRunE != nil {
		return cmd.PreRunE(cmd, cmd.Flags().Args())
	}
	return nil
}

// The command lines that people were promised.
func TestPromisedCommandLines(t *testing.T) {
	for line := range strings.Lines(`deploy examples/chat
deploy --no-promote --version=canary
traffic set chat v1=90,canary=10 --by=cookie
services
versions
instances
operations
describe version v1
versions start v1
versions stop v1
versions delete v1 --yes
rollback
instances restart i1
instances delete i1
logs --follow --service=s --version=v --instance=i --level=error --since=10m
sockets
sockets --close --code=1008 --reason=why --service=s
backup FILE
restore FILE
login http://127.0.0.1:1
services --format=json --server=http://127.0.0.1:1 --token-file=t
`) {
		if err := parse(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	for line, want := range map[string]string{
		"traffic set chat v1=x":         `"v1=x" is no share`,
		"traffic set chat v1=1,v1=2":    "two shares",
		"traffic set chat v1=0":         "no share is above 0",
		"traffic set chat v1=NaN":       "is no share",
		"traffic set chat v1=1 --by=me": "--by=me",
		"logs --since=yesterday":        "--since=yesterday",
		"logs --level=loud":             "--level=loud",
		"sockets --code=1008":           "go with --close",
		"sockets --close --code=5":      "--code=5",
		"versions stop":                 "takes a version",
		"versions fly":                  "want nothing, or one of",
		"services --nonsense":           "unknown flag",
	} {
		if err := parse(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// Completion is there for every shell that cobra knows, and knows our flags.
func TestCompletion(t *testing.T) {
	root := newRoot()
	var out strings.Builder
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs([]string{cobra.ShellCompRequestCmd, "traffic", "set", "--by", ""})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "cookie\nip\nrandom\n") {
		t.Errorf("completes --by with %q", got)
	}
}
