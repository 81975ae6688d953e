package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
)

func newOperations() *cobra.Command {
	var r remote
	var n narrow
	var pending bool
	list := r.asks(func(ctx context.Context, _ []string) error { return r.listOperations(ctx, n, pending) })
	cmd := &cobra.Command{
		Use:     "operations",
		Aliases: []string{"operation"},
		Short:   "List what was asked for and how it went; describe, await or cancel one",
		Example: "  holdfast operations --pending\n  holdfast operations describe ID\n  holdfast operations cancel ID",
		Args:    nounArgs,
		RunE:    list,
	}
	r.flags(cmd)
	flags := func(c *cobra.Command) {
		r.narrowFlags(c, &n.service, &n.version, nil)
		c.Flags().BoolVar(&pending, "pending", false, "only those under way")
	}
	flags(cmd)
	under := &cobra.Command{
		Use: "list", Short: "List operations, the latest first", Example: "  holdfast operations list --format=json",
		Args: exactly(0, "operations list takes no argument"), RunE: list,
	}
	flags(under)
	cmd.AddCommand(under, r.newDescribeOperation("describe"), r.newWait(), r.newCancel())
	return cmd
}

func (r *remote) listOperations(ctx context.Context, n narrow, pending bool) error {
	f, err := r.filter(ctx, n)
	if err != nil {
		return err
	}
	f.Pending = pending
	all, err := r.Operations(ctx, f)
	if err != nil {
		return err
	}
	t := newTable("OPERATION", "VERB", "TARGET", "STATE", "ASKED", "TOOK", "BY")
	for _, o := range all {
		t.add(o.ID, o.Verb, target(o), operationState(o), ago(o.Asked), took(o), o.By)
	}
	return show(r.format, orNone(all), t, "nothing was asked for yet")
}

// operationState says in a word how an operation stands.
func operationState(o admin.Operation) string {
	switch {
	case o.Failure != nil && o.Failure.Cause != "":
		return o.Failure.Cause
	case o.Failure != nil:
		return "failed"
	}
	return o.Stage
}

func took(o admin.Operation) string {
	if o.Ended.IsZero() {
		return ""
	}
	return round(o.Ended.Sub(o.Asked)).String()
}

func (r *remote) newDescribeOperation(use string) *cobra.Command {
	return &cobra.Command{
		Use:               use + " OPERATION",
		Short:             "Show an operation: how far it is, or how it ended and why",
		Example:           "  holdfast operations describe ID",
		Args:              exactly(1, "it takes the id of one operation"),
		ValidArgsFunction: r.completeOperations(1, false),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			o, err := r.Operation(ctx, args[0])
			if err != nil {
				return err
			}
			f := newFacts()
			f.add("operation", o.ID)
			f.add("verb", o.Verb)
			f.add("target", target(o))
			if d := o.Drill; d != nil {
				f.add("drill", d.Drill)
				f.add("meets", strings.Join(d.Instances, ", "))
				f.add("share", percent(d.Share))
				f.add("for", secondsText(d.Seconds))
			}
			f.add("state", operationState(o))
			f.add("by", o.By)
			f.add("asked", when(o.Asked))
			f.add("deadline", when(o.Deadline))
			f.add("ended", when(o.Ended))
			f.add("took", took(o))
			if o.Split != nil {
				f.add("traffic", shares(*o.Split))
			}
			if o.Failure != nil {
				f.add("failure", o.Failure.Detail)
				f.add("instance", o.Failure.Instance)
				f.add("next", o.Failure.Next)
				for _, line := range o.Failure.Tail {
					f.add("last lines", line)
				}
			}
			return showOne(r.format, o, f)
		}),
	}
}

func (r *remote) newWait() *cobra.Command {
	return &cobra.Command{
		Use:               "wait OPERATION",
		Short:             "Show how an operation goes on until it has ended",
		Long:              "Shows how an operation goes on until it has ended. It exits with 1 when the operation\nfails. Ctrl-C ends the waiting and nothing else.",
		Example:           "  holdfast operations wait ID",
		Args:              exactly(1, "operations wait takes the id of one operation"),
		ValidArgsFunction: r.completeOperations(1, true),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			o, err := r.Operation(ctx, args[0])
			if err != nil {
				return err
			}
			return r.await(ctx, o, fmt.Sprintf("%s of %s is done", o.Verb, target(o)))
		}),
	}
}

func (r *remote) newCancel() *cobra.Command {
	return &cobra.Command{
		Use:               "cancel OPERATION",
		Short:             "Give up an operation that is under way",
		Long:              "Gives up an operation that is under way: traffic stays where it is, and what was\nstarted for it is stopped.",
		Example:           "  holdfast operations cancel ID",
		Args:              exactly(1, "operations cancel takes the id of one operation"),
		ValidArgsFunction: r.completeOperations(1, true),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			o, err := r.Cancel(ctx, args[0])
			if err != nil {
				return err
			}
			if r.format == formatJSON {
				return printJSON(o)
			}
			fmt.Printf("Cancelled %s of %s\n", o.Verb, target(o))
			return nil
		}),
	}
}
