package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

// completeTime bounds asking the server while a person waits for the shell.
const completeTime = 800 * time.Millisecond

type completer = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// complete has the shell complete a flag by fn; nil completes file names.
func complete(cmd *cobra.Command, flag string, fn completer) {
	if fn == nil {
		fn = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // the flag has just been made
	}
}

// completes makes a completer of a question to the server. most bounds how many
// arguments the command takes. A server that is slow or not there completes
// nothing.
func (r *remote) completes(most int, ask func(ctx context.Context) ([]string, error)) completer {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most || r.connect() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeTime)
		defer cancel()
		all, err := ask(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var fit []string
		seen := map[string]bool{}
		for _, a := range all {
			if strings.HasPrefix(a, begun) && !seen[a] {
				seen[a] = true
				fit = append(fit, a)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// manyArgs is for commands that take any number.
const manyArgs = 1 << 10

func (r *remote) completeProjects(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return r.completes(manyArgs, func(ctx context.Context) ([]string, error) {
		all, err := r.Services(ctx, admin.Filter{})
		return each(all, func(s admin.Service) string { return s.App }), err
	})(cmd, args, begun)
}

// completeServices completes SERVICE; default services, of which there may be
// several, by their application.
func (r *remote) completeServices(most int) completer {
	return r.completes(most, func(ctx context.Context) ([]string, error) {
		all, err := r.services(ctx)
		return each(all, func(s admin.Service) string {
			if s.Service == app.DefaultService {
				return s.App
			}
			return s.Service
		}), err
	})
}

// completeVersions completes SERVICE/VERSION, and bare versions for those who
// begin with one.
func (r *remote) completeVersions(most int) completer {
	return r.completes(most, func(ctx context.Context) ([]string, error) {
		all, err := r.Versions(ctx, admin.Filter{App: r.project})
		return append(each(all, func(v admin.Version) string { return v.Version }),
			each(all, func(v admin.Version) string { return v.Service + "/" + v.Version })...), err
	})
}

func (r *remote) completeInstances(most int) completer {
	return r.completes(most, func(ctx context.Context) ([]string, error) {
		all, err := r.Instances(ctx, admin.Filter{App: r.project})
		return each(all, func(i admin.Instance) string { return i.ID }), err
	})
}

func (r *remote) completeOperations(most int, pending bool) completer {
	return r.completes(most, func(ctx context.Context) ([]string, error) {
		all, err := r.Operations(ctx, admin.Filter{App: r.project, Pending: pending})
		return each(all, func(o admin.Operation) string { return o.ID }), err
	})
}

// each is fn of every element.
func each[T any](all []T, fn func(T) string) []string {
	texts := make([]string, 0, len(all))
	for _, t := range all {
		texts = append(texts, fn(t))
	}
	return texts
}

// narrowFlags gives a command the flags that narrow a list, those that are not
// nil.
func (r *remote) narrowFlags(cmd *cobra.Command, service, version, instance *string) {
	f := cmd.Flags()
	if service != nil {
		f.StringVar(service, "service", "", "only of this service")
		complete(cmd, "service", r.completeServices(manyArgs))
	}
	if version != nil {
		f.StringVar(version, "version", "", "only of this version, VERSION or SERVICE/VERSION")
		complete(cmd, "version", r.completeVersions(manyArgs))
	}
	if instance != nil {
		f.StringVar(instance, "instance", "", "only of this instance")
		complete(cmd, "instance", r.completeInstances(manyArgs))
	}
}
