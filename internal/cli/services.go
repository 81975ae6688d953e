package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
)

func newServices() *cobra.Command {
	var r remote
	list := r.asks(func(ctx context.Context, _ []string) error { return r.listServices(ctx) })
	cmd := &cobra.Command{
		Use:     "services",
		Aliases: []string{"service"},
		Short:   "List services and how they share their traffic; describe or delete one",
		Example: "  holdfast services\n  holdfast services describe chat\n  holdfast services delete worker",
		Args:    nounArgs,
		RunE:    list,
	}
	r.flags(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List services", Example: "  holdfast services list --format=json",
			Args: exactly(0, "services list takes no argument"), RunE: list,
		},
		r.newDescribeService("describe"),
		r.newDeleteService(),
	)
	return cmd
}

func (r *remote) listServices(ctx context.Context) error {
	all, err := r.services(ctx)
	if err != nil {
		return err
	}
	t := newTable("PROJECT", "SERVICE", "VERSIONS", "TRAFFIC", "SPLIT BY")
	for _, s := range all {
		by := s.Split.By
		if len(s.Split.Shares) < 2 {
			by = ""
		}
		t.add(s.App, s.Service, strconv.Itoa(len(s.Versions)), shares(s.Split), by)
	}
	return show(r.format, orNone(all), t, "no services yet: holdfast deploy DIR makes the first")
}

func (r *remote) newDescribeService(use string) *cobra.Command {
	return &cobra.Command{
		Use:               use + " SERVICE",
		Short:             "Show a service: its traffic, its past splits, its host names",
		Example:           "  holdfast services describe chat",
		Args:              exactly(1, "it takes one service, SERVICE or PROJECT/SERVICE"),
		ValidArgsFunction: r.completeServices(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			k, err := r.service(ctx, args[0])
			if err != nil {
				return err
			}
			s, err := r.Service(ctx, k)
			if err != nil {
				return err
			}
			f := newFacts()
			f.add("project", s.App)
			f.add("service", s.Service)
			f.add("created", when(s.Created))
			f.add("traffic", shares(s.Split))
			f.add("split by", s.Split.By)
			for i, past := range s.Past {
				f.add("before "+strconv.Itoa(i+1), shares(past))
			}
			f.add("versions", strings.Join(s.Versions, ", "))
			for _, h := range s.Hosts {
				f.add("host", h)
			}
			return showOne(r.format, s, f)
		}),
	}
}

func (r *remote) newDeleteService() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete SERVICE",
		Short: "Delete a service and all its versions",
		Long: `Deletes a service and all its versions; its instances drain. The default service
cannot be deleted: what other services do not take goes there.`,
		Example:           "  holdfast services delete worker",
		Args:              exactly(1, "services delete takes one service, SERVICE or PROJECT/SERVICE"),
		ValidArgsFunction: r.completeServices(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			k, err := r.service(ctx, args[0])
			if err != nil {
				return err
			}
			if err := sure(yes, "Delete %s and all its versions?", k); err != nil {
				return err
			}
			op, err := r.DeleteService(ctx, k)
			if err != nil {
				return err
			}
			return r.await(ctx, op, "Deleted "+k.String())
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

// shares shows a split, the greatest share first.
func shares(s admin.Split) string {
	var all []string
	for _, v := range byShare(s.Shares) {
		all = append(all, v+"="+percent(s.Shares[v]))
	}
	return strings.Join(all, " ")
}

// orNone makes JSON's [] of a list that is nil.
func orNone[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}
