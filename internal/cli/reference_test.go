package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite docs/reference/commands.md")

const reference = "../../docs/reference/commands.md"

func TestReferenceListsTheCommands(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written from internal/cli; change it there, then: go test ./internal/cli -update -->\n\n# Commands\n\n" +
		"`holdfast COMMAND --help` tells the same. Exit codes: 0, 1 for refused or failed, 2 for misuse.\n")
	describeCommands(&b, newRoot())
	page := []byte(b.String())
	if *update {
		if err := os.WriteFile(reference, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(reference); err != nil || !bytes.Equal(have, page) {
		t.Errorf("docs/reference/commands.md is not what the commands say (%v): go test ./internal/cli -update", err)
	}
}

func describeCommands(b *strings.Builder, cmd *cobra.Command) {
	if cmd.HasParent() && cmd.Runnable() {
		fmt.Fprintf(b, "\n## `%s`\n\n", cmd.UseLine())
		text := cmd.Short
		if cmd.Long != "" {
			text = cmd.Long
		}
		fmt.Fprintf(b, "```\n%s\n", strings.TrimSpace(text))
		if cmd.Example != "" {
			fmt.Fprintf(b, "\n%s\n", strings.TrimRight(cmd.Example, "\n"))
		}
		if flags := cmd.NonInheritedFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(b, "\n%s\n", strings.TrimRight(flags.FlagUsages(), "\n"))
		}
		b.WriteString("```\n")
	}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			describeCommands(b, c)
		}
	}
}
