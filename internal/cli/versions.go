package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

func newVersions() *cobra.Command {
	var r remote
	var n narrow
	list := r.asks(func(ctx context.Context, _ []string) error { return r.listVersions(ctx, n) })
	cmd := &cobra.Command{
		Use:     "versions",
		Aliases: []string{"version"},
		Short:   "List versions; describe, start, stop, scale or delete them",
		Example: "  holdfast versions --service=chat\n  holdfast versions stop canary\n  holdfast versions delete chat/v1",
		Args:    nounArgs,
		RunE:    list,
	}
	r.flags(cmd)
	r.narrowFlags(cmd, &n.service, nil, nil)
	under := &cobra.Command{
		Use: "list", Short: "List versions", Example: "  holdfast versions list --format=json",
		Args: exactly(0, "versions list takes no argument"), RunE: list,
	}
	r.narrowFlags(under, &n.service, nil, nil)
	cmd.AddCommand(under, r.newDescribeVersion("describe"),
		r.newVersionVerb("start", "Have stopped versions run again", "Started", nil, (*admin.Client).StartVersion),
		r.newVersionVerb("stop", "Stop versions; what traffic they have is refused meanwhile", "Stopped", questionStop, (*admin.Client).StopVersion),
		r.newVersionVerb("delete", "Delete versions that have no share of the traffic", "Deleted", questionDelete, (*admin.Client).DeleteVersion),
		r.newScaleVersion(),
	)
	return cmd
}

func (r *remote) listVersions(ctx context.Context, n narrow) error {
	f, err := r.filter(ctx, n)
	if err != nil {
		return err
	}
	all, err := r.Versions(ctx, f)
	if err != nil {
		return err
	}
	t := newTable("PROJECT", "SERVICE", "VERSION", "TRAFFIC", "STATE", "READY", "SOCKETS", "AGE")
	for _, v := range all {
		ready := fmt.Sprintf("%d/%d", v.Ready, v.Running)
		t.add(v.App, v.Service, v.Version, percent(v.Share), versionState(v), ready, strconv.Itoa(v.Sockets), ago(v.Created))
	}
	return show(r.format, orNone(all), t, "no versions yet: holdfast deploy DIR makes the first")
}

// versionState says in a word how a version is.
func versionState(v admin.Version) string {
	switch {
	case !v.Serving:
		return "stopped"
	case !v.Built:
		return "building"
	case v.Ready == 0:
		return "starting"
	}
	return "serving"
}

func (r *remote) newDescribeVersion(use string) *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use:               use + " VERSION",
		Short:             "Show a version: its scaling, resources, settings, environment, host names",
		Example:           "  holdfast versions describe chat/v1",
		Args:              exactly(1, "it takes one version, VERSION or SERVICE/VERSION"),
		ValidArgsFunction: r.completeVersions(1),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			k, err := r.version(ctx, service, args[0])
			if err != nil {
				return err
			}
			v, err := r.Version(ctx, k)
			if err != nil {
				return err
			}
			return showOne(r.format, v, versionFacts(v))
		}),
	}
	r.narrowFlags(cmd, &service, nil, nil)
	return cmd
}

func versionFacts(v admin.Version) *facts {
	f := newFacts()
	f.add("project", v.App)
	f.add("service", v.Service)
	f.add("version", v.Version)
	f.add("state", versionState(v))
	f.add("created", when(v.Created))
	f.add("traffic", percent(v.Share))
	f.add("instances", fmt.Sprintf("%d ready of %d", v.Ready, v.Running))
	f.add("sockets", strconv.Itoa(v.Sockets))
	f.add("runtime", v.Runtime)
	f.add("entrypoint", v.Entrypoint)
	f.add("scaling", scalingText(v.Scaling))
	f.add("resources", fmt.Sprintf("%g CPU, %g GiB of memory, %d GB of disk", v.Resources.CPU, v.Resources.MemoryGB, v.Resources.DiskGB))
	f.add("drain", secondsText(v.DrainSeconds))
	f.add("max age", secondsText(v.MaxAgeSeconds))
	f.add("affinity", yes(v.Affinity))
	f.add("source", v.Source)
	f.add("build", v.Build)
	for _, name := range slices.Sorted(maps.Keys(v.Env)) {
		f.add("env", name+"="+v.Env[name])
	}
	for _, h := range v.Hosts {
		f.add("host", h)
	}
	return f
}

func scalingText(s admin.Scaling) string {
	if s.Manual {
		return "manual, " + count(s.Min, "instance")
	}
	text := fmt.Sprintf("automatic, %d to %d instances", s.Min, s.Max)
	if s.CPU > 0 {
		text += ", CPU at " + percent(s.CPU)
	}
	if s.Connections > 0 {
		text += fmt.Sprintf(", %d connections each", s.Connections)
	}
	return text
}

// questionDelete and questionStop are what a person is asked before; "" is nothing.
func questionDelete(v admin.Version) string {
	return fmt.Sprintf("Delete %s/%s/%s?", v.App, v.Service, v.Version)
}

func questionStop(v admin.Version) string {
	if v.Share == 0 || !v.Serving {
		return ""
	}
	return fmt.Sprintf("%s/%s/%s gets %s of the traffic, which will be refused. Stop it?", v.App, v.Service, v.Version, percent(v.Share))
}

func (r *remote) newVersionVerb(verb, short, did string, question func(admin.Version) string,
	do func(c *admin.Client, ctx context.Context, k app.Key) (admin.Operation, error)) *cobra.Command {
	var service string
	var yes bool
	cmd := &cobra.Command{
		Use:     verb + " VERSION...",
		Short:   short,
		Example: fmt.Sprintf("  holdfast versions %s canary\n  holdfast versions %s v1 v2 --service=chat", verb, verb),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misuse{fmt.Errorf("versions %s takes a version, VERSION or SERVICE/VERSION, or several", verb)}
			}
			return nil
		},
		ValidArgsFunction: r.completeVersions(manyArgs),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			for _, name := range args {
				k, err := r.version(ctx, service, name)
				if err != nil {
					return err
				}
				if question != nil {
					v, err := r.Version(ctx, k)
					if err != nil {
						return err
					}
					if text := question(v); text != "" {
						if err := sure(yes, "%s", text); err != nil {
							return err
						}
					}
				}
				op, err := do(r.Client, ctx, k)
				if err != nil {
					return err
				}
				if err := r.await(ctx, op, did+" "+k.String()); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	r.narrowFlags(cmd, &service, nil, nil)
	if question != nil {
		yesFlag(cmd, &yes)
	}
	return cmd
}

func (r *remote) newScaleVersion() *cobra.Command {
	var service string
	var instances, least, most int
	cmd := &cobra.Command{
		Use:   "scale VERSION",
		Short: "Change how many instances a version has",
		Long: `Changes how many instances a version has, until it is deployed again. --instances is
manual scaling; --min and --max bound automatic scaling.`,
		Example:           "  holdfast versions scale chat/v1 --instances=3\n  holdfast versions scale v1 --min=2 --max=10",
		Args:              exactly(1, "versions scale takes one version, VERSION or SERVICE/VERSION"),
		ValidArgsFunction: r.completeVersions(1),
	}
	cmd.Flags().IntVar(&instances, "instances", 0, "so many, whatever the load")
	cmd.Flags().IntVar(&least, "min", 0, "never fewer")
	cmd.Flags().IntVar(&most, "max", 0, "never more")
	r.narrowFlags(cmd, &service, nil, nil)
	cmd.RunE = r.asks(func(ctx context.Context, args []string) error {
		var change admin.ScalingChange
		for flag, to := range map[string]**int{"instances": &change.Instances, "min": &change.Min, "max": &change.Max} {
			if cmd.Flags().Changed(flag) {
				n, err := cmd.Flags().GetInt(flag)
				if err != nil {
					return err
				}
				*to = &n
			}
		}
		if change == (admin.ScalingChange{}) {
			return misuse{fmt.Errorf("versions scale: say how many with --instances, or with --min and --max")}
		}
		k, err := r.version(ctx, service, args[0])
		if err != nil {
			return err
		}
		op, err := r.SetScaling(ctx, k, change)
		if err != nil {
			return err
		}
		return r.await(ctx, op, "Scaled "+k.String())
	})
	return cmd
}
