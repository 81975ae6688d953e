package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/appyaml"
)

func newDispatch() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "dispatch",
		Short: "Show which paths and hosts lead to which service",
		Long: `Shows the dispatch rules of an application; the first that matches a request wins, and
host names decide about the rest. They are set by deploying a dispatch.yaml.`,
		Example: "  holdfast dispatch\n  holdfast deploy dispatch.yaml",
		Args:    exactly(0, "dispatch takes no argument; holdfast deploy dispatch.yaml sets the rules"),
		RunE: r.asks(func(ctx context.Context, _ []string) error {
			project, err := r.theProject(ctx)
			if err != nil {
				return err
			}
			rules, err := r.Dispatch(ctx, project)
			if err != nil {
				return err
			}
			t := newTable("HOST", "PATH", "SERVICE")
			for _, rule := range rules {
				host := rule.Host
				if host == "" {
					host = "*"
				}
				t.add(host, rule.Path, rule.Service)
			}
			return show(r.format, orNone(rules), t, "no rules: host names alone decide")
		}),
	}
	r.flags(cmd)
	return cmd
}

// deployDispatch sets the rules of a dispatch.yaml.
func (r *remote) deployDispatch(ctx context.Context, name string) error {
	data, err := readAtMost(name, appYAMLMax)
	if errors.Is(err, fs.ErrNotExist) {
		return &problem{what: fmt.Sprintf("there is no %s", name), err: err}
	}
	if err != nil {
		return err
	}
	rules, err := appyaml.ParseDispatch(name, data)
	if err != nil {
		return &problem{what: err.Error(), err: err}
	}
	project, err := r.theProject(ctx)
	if err != nil {
		return err
	}
	wire := make([]admin.DispatchRule, 0, len(rules))
	for _, rule := range rules {
		wire = append(wire, admin.DispatchRule{Host: rule.Host, Path: rule.Path, Service: rule.Service})
	}
	op, err := r.SetDispatch(ctx, project, wire)
	if err != nil {
		return err
	}
	return r.await(ctx, op, fmt.Sprintf("%s has %s", project, count(len(wire), "dispatch rule")))
}
