package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/auth"
)

func newTokens() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "List who may command the server; add or remove somebody",
		Long: `A token lets people and machines elsewhere command the server. It has a name and a
role: a viewer looks, a deployer also changes what runs, an admin may everything. Only
its hash is kept. The server's own token is not among them.`,
		Example: "  holdfast tokens\n  holdfast tokens add ci --role=deployer\n  holdfast tokens remove ci",
		Args:    nounArgs,
		RunE:    r.asks(func(ctx context.Context, args []string) error { return r.listTokens(ctx) }),
	}
	r.flags(cmd)
	var role string
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token, which is printed this once",
		Example: `  holdfast tokens add ci --role=deployer
  holdfast tokens add anna@example.org`,
		Args: exactly(1, "tokens add takes one name"),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if _, err := auth.ParseRole(role); err != nil {
				return misuse{err}
			}
			t, err := r.AddToken(ctx, args[0], role)
			if err != nil {
				return err
			}
			fmt.Println(t.Token)
			return nil
		}),
	}
	add.Flags().StringVar(&role, "role", string(auth.Viewer), "what it may do: viewer, deployer or admin")
	complete(add, "role", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, r := range auth.Roles() {
			names = append(names, string(r))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	remove := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Have the server accept a token no more, from now on",
		Example: "  holdfast tokens remove ci",
		Args:    exactly(1, "tokens remove takes one name"),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if err := r.RemoveToken(ctx, args[0]); err != nil {
				return err
			}
			fmt.Printf("Removed %s\n", args[0])
			return nil
		}),
	}
	cmd.AddCommand(add, remove)
	return cmd
}

func (r *remote) listTokens(ctx context.Context) error {
	all, err := r.Tokens(ctx)
	if err != nil {
		return err
	}
	t := newTable("NAME", "ROLE", "CREATED")
	for _, token := range all {
		t.add(token.Name, token.Role, ago(token.Created))
	}
	return show(r.format, all, t, "there are none besides the server's own")
}
