package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// yesFlag gives a command --yes.
func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask on a terminal")
}

// interactive says whether a person can be asked.
func interactive() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// sure asks before what cannot be taken back. It asks only a person: without a
// terminal, as in a script, the command line is answer enough.
func sure(yes bool, format string, args ...any) error {
	if yes || !interactive() {
		return nil
	}
	fmt.Fprintf(os.Stderr, format+" [y/N] ", args...)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		if err == nil {
			return nil
		}
	}
	return &problem{what: "nothing was done"}
}
