package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

func newTraffic() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:     "traffic",
		Short:   "Show or set how a service shares its traffic among its versions",
		Example: "  holdfast traffic show chat\n  holdfast traffic set chat v1=90,canary=10 --by=cookie",
		Args:    nounArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	r.flags(cmd)
	cmd.AddCommand(r.newTrafficShow(), r.newTrafficSet())
	return cmd
}

func (r *remote) newTrafficShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show [SERVICE]",
		Short:             "Show the shares of a service, or of all",
		Example:           "  holdfast traffic show chat",
		Args:              between(0, 1, "traffic show takes one service, or none for all"),
		ValidArgsFunction: r.completeServices(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			all, err := r.services(ctx)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				k, err := pickService(all, args[0])
				if err != nil {
					return err
				}
				all = slices.DeleteFunc(all, func(s admin.Service) bool { return s.App != k.App || s.Service != k.Service })
			}
			type share struct {
				App     string  `json:"app"`
				Service string  `json:"service"`
				Version string  `json:"version"`
				Share   float64 `json:"share"`
				By      string  `json:"by"`
			}
			rows := []share{}
			t := newTable("PROJECT", "SERVICE", "VERSION", "SHARE", "SPLIT BY")
			for _, s := range all {
				for _, v := range byShare(s.Split.Shares) {
					rows = append(rows, share{s.App, s.Service, v, s.Split.Shares[v], s.Split.By})
					t.add(s.App, s.Service, v, percent(s.Split.Shares[v]), s.Split.By)
				}
			}
			return show(r.format, rows, t, "no version has traffic yet: holdfast deploy DIR gives the first one all")
		}),
	}
}

func (r *remote) newTrafficSet() *cobra.Command {
	var by string
	var split admin.Split
	cmd := &cobra.Command{
		Use:   "set SERVICE VERSION=SHARE[,VERSION=SHARE...]",
		Short: "Share a service's traffic among versions",
		Long: `Shares a service's new connections among versions, once enough instances of each
are ready; versions that are stopped are started. Shares are weighed against each
other: v1=90,canary=10 is the same as v1=0.9,canary=0.1. Sockets that are open stay
where they are.

A client keeps its version while the shares do not change: by its address (ip, the
default), or by the cookie GOOGAPPUID (cookie); random asks the dice each time.`,
		Example: `  holdfast traffic set chat v1=90,canary=10 --by=cookie
  holdfast traffic set chat v2=1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return misuse{fmt.Errorf("traffic set takes a service and shares, as in: holdfast traffic set chat v1=90,canary=10; got %d arguments", len(args))}
			}
			if by != "" && !slices.Contains(splitWays, by) {
				return misuse{fmt.Errorf("--by=%s: want %s", by, strings.Join(splitWays, ", "))}
			}
			var err error
			split, err = parseShares(args[1:])
			split.By = by
			return err
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return r.completeServices(1)(cmd, args, begun)
			}
			all, how := r.completeVersions(manyArgs)(cmd, args, begun)
			all = slices.DeleteFunc(all, func(v string) bool { return strings.Contains(v, "/") })
			return each(all, func(v string) string { return v + "=" }), how | cobra.ShellCompDirectiveNoSpace
		},
		RunE: r.asks(func(ctx context.Context, args []string) error {
			k, err := r.service(ctx, args[0])
			if err != nil {
				return err
			}
			op, err := r.SetTraffic(ctx, k, split)
			if err != nil {
				return err
			}
			did := shares(split)
			if op.Split != nil {
				did = shares(*op.Split)
			}
			return r.await(ctx, op, fmt.Sprintf("%s: %s", k, did))
		}),
	}
	cmd.Flags().StringVar(&by, "by", "", "what decides which version a client gets: ip, cookie or random (default: as it is)")
	complete(cmd, "by", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return splitWays, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

var splitWays = []string{string(app.ByCookie), string(app.ByIP), string(app.ByRandom)}

// parseShares reads VERSION=SHARE, with commas or in several arguments.
func parseShares(args []string) (admin.Split, error) {
	s := admin.Split{Shares: map[string]float64{}}
	sum := 0.0
	for _, part := range strings.Split(strings.Join(args, ","), ",") {
		version, number, ok := strings.Cut(strings.TrimSpace(part), "=")
		share, err := strconv.ParseFloat(strings.TrimSuffix(number, "%"), 64)
		if !ok || version == "" || err != nil || !(share >= 0 && share < 1e9) {
			return s, misuse{fmt.Errorf("%q is no share: write VERSION=SHARE, as in v1=90,canary=10", part)}
		}
		if _, twice := s.Shares[version]; twice {
			return s, misuse{fmt.Errorf("version %s has two shares", version)}
		}
		if share > 0 {
			s.Shares[version] = share
		}
		sum += share
	}
	if sum == 0 {
		return s, misuse{fmt.Errorf("somebody has to get the traffic: no share is above 0")}
	}
	for v := range s.Shares {
		s.Shares[v] /= sum
	}
	return s, nil
}

// byShare lists versions, the one with the greatest share first.
func byShare(shares map[string]float64) []string {
	return slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		return cmp.Or(cmp.Compare(shares[b], shares[a]), cmp.Compare(a, b))
	})
}

func newRollback() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "rollback [SERVICE]",
		Short: "Give the traffic back to whom it was before",
		Long: `Returns a service to the split before the present one. It takes less than a second
where the old versions still have instances; otherwise they are started first, and
traffic moves when they are ready. The versions that lose their share are not
stopped. A second rollback goes back to where the first one began.`,
		Example:           "  holdfast rollback chat",
		Args:              between(0, 1, "rollback takes one service, SERVICE or PROJECT/SERVICE; none where there is only one"),
		ValidArgsFunction: r.completeServices(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			k, err := r.onlyService(ctx, args)
			if err != nil {
				return err
			}
			op, err := r.Rollback(ctx, k)
			if err != nil {
				return err
			}
			did := "Rolled back " + k.String()
			if op.Split != nil {
				did += " to " + shares(*op.Split)
			}
			return r.await(ctx, op, did)
		}),
	}
	r.flags(cmd)
	return cmd
}
