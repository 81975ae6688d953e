package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
)

func newInstances() *cobra.Command {
	var r remote
	var n narrow
	list := r.asks(func(ctx context.Context, _ []string) error { return r.listInstances(ctx, n) })
	cmd := &cobra.Command{
		Use:     "instances",
		Aliases: []string{"instance"},
		Short:   "List what runs; describe, restart or delete an instance",
		Example: "  holdfast instances --service=chat\n  holdfast instances restart chat-v1-abc123",
		Args:    nounArgs,
		RunE:    list,
	}
	r.flags(cmd)
	r.narrowFlags(cmd, &n.service, &n.version, nil)
	under := &cobra.Command{
		Use: "list", Short: "List what runs", Example: "  holdfast instances list --format=json",
		Args: exactly(0, "instances list takes no argument"), RunE: list,
	}
	r.narrowFlags(under, &n.service, &n.version, nil)
	cmd.AddCommand(under, r.newDescribeInstance("describe"),
		r.newInstanceVerb("restart", "Replace an instance, its successor ready first",
			`Starts a successor, waits until it is ready, and then drains the instance: its sockets
are closed in pace, with the reason "requested".`, "Replaced", "", (*admin.Client).RestartInstance),
		r.newInstanceVerb("delete", "Drain an instance at once; another takes its place",
			`Drains the instance at once, without waiting for a successor: for one that misbehaves.
As many instances as before run again soon.`, "Deleted", "Drain %s at once?", (*admin.Client).DeleteInstance),
	)
	return cmd
}

func (r *remote) listInstances(ctx context.Context, n narrow) error {
	f, err := r.filter(ctx, n)
	if err != nil {
		return err
	}
	all, err := r.Instances(ctx, f)
	if err != nil {
		return err
	}
	t := newTable("INSTANCE", "PROJECT", "SERVICE", "VERSION", "STATE", "SOCKETS", "REQUESTS", "CPU", "AGE", "WHY")
	for _, i := range all {
		t.add(i.ID, i.App, i.Service, i.Version, i.State, strconv.Itoa(i.Sockets), strconv.Itoa(i.Requests), cores(i.CPU), ago(i.Born), why(i))
	}
	return show(r.format, orNone(all), t, "nothing runs")
}

// cores shows CPU in use; nothing when nothing is known.
func cores(n float64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatFloat(n, 'f', 2, 64)
}

// why says what is remarkable about an instance's state.
func why(i admin.Instance) string {
	text := i.Cause
	if i.Detail != "" {
		if text != "" {
			text += ": "
		}
		text += i.Detail
	}
	return text
}

func (r *remote) newDescribeInstance(use string) *cobra.Command {
	return &cobra.Command{
		Use:               use + " INSTANCE",
		Short:             "Show an instance: its state and why, its load, where it listens",
		Example:           "  holdfast instances describe chat-v1-abc123",
		Args:              exactly(1, "it takes the id of one instance"),
		ValidArgsFunction: r.completeInstances(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			i, err := r.Instance(ctx, args[0])
			if err != nil {
				return err
			}
			f := newFacts()
			f.add("instance", i.ID)
			f.add("project", i.App)
			f.add("service", i.Service)
			f.add("version", i.Version)
			f.add("state", i.State)
			f.add("why", why(i))
			f.add("since", when(i.Since))
			f.add("until", when(i.Until))
			f.add("born", when(i.Born))
			f.add("address", i.Addr)
			f.add("sockets", strconv.Itoa(i.Sockets))
			f.add("requests", strconv.Itoa(i.Requests))
			f.add("CPU", cores(i.CPU))
			return showOne(r.format, i, f)
		}),
	}
}

func (r *remote) newInstanceVerb(verb, short, long, did, question string,
	do func(c *admin.Client, ctx context.Context, id string) (admin.Operation, error)) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               verb + " INSTANCE",
		Short:             short,
		Long:              long,
		Example:           fmt.Sprintf("  holdfast instances %s chat-v1-abc123", verb),
		Args:              exactly(1, "instances "+verb+" takes the id of one instance"),
		ValidArgsFunction: r.completeInstances(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if question != "" {
				if err := sure(yes, question, args[0]); err != nil {
					return err
				}
			}
			op, err := do(r.Client, ctx, args[0])
			if err != nil {
				return err
			}
			return r.await(ctx, op, did+" "+args[0])
		}),
	}
	if question != "" {
		yesFlag(cmd, &yes)
	}
	return cmd
}

// secondsText shows a number of seconds; nothing for none.
func secondsText(n float64) string {
	if n == 0 {
		return ""
	}
	return seconds(n).String()
}
