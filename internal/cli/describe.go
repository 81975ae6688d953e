package cli

import (
	"github.com/spf13/cobra"
)

func newDescribe() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "describe service|version|instance|operation NAME",
		Short: "Show all about one thing",
		Example: `  holdfast describe service chat
  holdfast describe version chat/v1
  holdfast describe instance chat-v1-abc123 --format=json
  holdfast describe operation ID`,
		Args: nounArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	r.flags(cmd)
	for _, noun := range []*cobra.Command{
		r.newDescribeService("service"), r.newDescribeVersion("version"),
		r.newDescribeInstance("instance"), r.newDescribeOperation("operation"),
	} {
		noun.Example = "  holdfast describe " + noun.Use
		cmd.AddCommand(noun)
	}
	return cmd
}
