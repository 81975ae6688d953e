package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/console"
)

func newConsole() *cobra.Command {
	var r remote
	var link bool
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Look at the server in your browser",
		Long: `Opens the server's console in your browser and signs you in, with the role of your
token. The link works once, within a minute.`,
		Example: "  holdfast console\n  holdfast console --link",
		Args:    exactly(0, "console takes no argument"),
		RunE: r.asks(func(ctx context.Context, _ []string) error {
			invitation, err := r.Invite(ctx)
			if err != nil {
				return err
			}
			url := r.found.url + console.Entrance(invitation.Code)
			if link {
				fmt.Println(url)
				return nil
			}
			if err := openBrowser(url); err != nil {
				fmt.Printf("No browser could be opened. Within a minute, open\n%s\n", url)
				return nil
			}
			fmt.Printf("The console is open in your browser: %s%s\n", r.found.url, console.Prefix)
			return nil
		}),
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&link, "link", false, "print the link instead of opening it")
	return cmd
}
