package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/appyaml"
)

// deployOptions are the flags of deploy.
type deployOptions struct {
	service   string
	version   string
	env       []string
	instances int
	noPromote bool
	keep      bool
}

func newDeploy() *cobra.Command {
	var r remote
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy [DIR|FILE.yaml...]",
		Short: "Upload an app, build and start it on the server, and move traffic to it",
		Long: `Uploads the app in DIR (by default the one here) as far as the server lacks it, has it
built and started there, waits until enough instances are ready, and moves all new
connections to it in one instant. If it does not build, or is not ready within
readiness_check.app_start_timeout_sec, traffic stays where it is.

An app.yaml by another name is deployed by naming the file; a dispatch.yaml sets the
dispatch rules. Ctrl-C ends the waiting: the server goes on.

The application is --project, else the server's, else the folder's name.`,
		Example: `  holdfast deploy examples/chat
  holdfast deploy --no-promote --version=canary
  holdfast deploy app.yaml worker/worker.yaml dispatch.yaml`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			if len(args) > 1 && o.service != "" {
				return misuse{errors.New("--service goes with one app")}
			}
			for _, arg := range args {
				if err := r.deploy(ctx, arg, o); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.service, "service", "", "service name (default: app.yaml's, else default)")
	f.StringVarP(&o.version, "version", "v", "", "version id (default: made of what is in it, so that the same app is the same version)")
	f.StringArrayVar(&o.env, "env", nil, "set a variable of the app, KEY=VALUE; may be repeated, wins over app.yaml")
	f.IntVar(&o.instances, "instances", 0, "run so many instances, whatever app.yaml says about scaling")
	f.BoolVar(&o.noPromote, "no-promote", false, "start it, and leave the traffic where it is")
	f.BoolVar(&o.keep, "no-stop-previous-version", false, "versions that lose their traffic go on running")
	complete(cmd, "service", r.completeServices(manyArgs))
	return cmd
}

// deploy deploys a folder, an app.yaml or a dispatch.yaml.
func (r *remote) deploy(ctx context.Context, arg string, o deployOptions) error {
	file, err := deployable(arg)
	if err != nil {
		return err
	}
	if strings.HasPrefix(filepath.Base(file), "dispatch.y") {
		return r.deployDispatch(ctx, file)
	}
	said, err := overlay(o.service, o.env, o.instances)
	if err != nil {
		return err
	}
	s := newScreen(os.Stdout)
	if r.format == formatJSON {
		s = newScreen(os.Stderr)
	}
	defer s.fail()
	text, v, err := readApp(file, s)
	if err != nil {
		return err
	}
	if err := said.Apply(&v); err != nil {
		return misuse{err}
	}
	status, err := r.Status(ctx)
	if err != nil {
		return err
	}
	project := cmp.Or(r.project, status.Project, projectFrom(filepath.Base(filepath.Dir(file))))
	tree, err := r.upload(ctx, s, filepath.Dir(file), v)
	if err != nil {
		return err
	}
	answer, err := r.Deploy(ctx, project, admin.DeployRequest{
		YAML: string(text), Tree: tree, Service: o.service, Version: o.version, Env: said.Env, Instances: o.instances,
		Promote: !o.noPromote, KeepOthers: o.keep,
	})
	if err != nil {
		return err
	}
	for _, w := range answer.Warnings {
		s.warn("%s", w)
	}
	op := answer.Operation
	k := app.Key{App: op.App, Service: op.Service, Version: op.Version}
	did := "Deployed " + k.String() + ", which has all new connections"
	if o.noPromote {
		did = "Deployed " + k.String() + "; traffic stays where it was"
	}
	if err := r.await(ctx, op, did); err != nil {
		return err
	}
	if r.format == formatJSON {
		return nil
	}
	return r.printAddress(ctx, s, k, !o.noPromote, status)
}

// deployable is the file that an argument means.
func deployable(arg string) (string, error) {
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &problem{what: fmt.Sprintf("there is no %s", arg), next: "Name the folder that holds the app.yaml, as in: holdfast deploy examples/chat", err: err}
	case err != nil:
		return "", &problem{what: err.Error(), err: err}
	case info.IsDir():
		arg = filepath.Join(arg, "app.yaml")
	}
	return filepath.Abs(arg)
}

// readApp reads an app.yaml here, so that mistakes are told at once, though the
// server reads it too. Its warnings are the server's to tell.
func readApp(file string, s *screen) ([]byte, app.Version, error) {
	text, err := readAtMost(file, appYAMLMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, app.Version{}, noAppYAML(filepath.Dir(file))
	}
	if err != nil {
		return nil, app.Version{}, &problem{what: err.Error(), err: err}
	}
	v, _, err := appyaml.Parse(shorten(file), text)
	if err != nil {
		return nil, app.Version{}, &problem{what: err.Error(), err: err}
	}
	return text, v, nil
}

// printAddress says where what was deployed is to be seen.
func (r *remote) printAddress(ctx context.Context, s *screen, k app.Key, promoted bool, status admin.Status) error {
	var hosts []string
	if promoted {
		service, err := r.Service(ctx, k.ServiceKey())
		if err != nil {
			return err
		}
		hosts = service.Hosts
	} else {
		version, err := r.Version(ctx, k)
		if err != nil {
			return err
		}
		hosts = version.Hosts
	}
	if len(hosts) > 0 {
		// The shorter of its names: the region is for App Engine's own.
		host := strings.Replace(hosts[0], "."+status.Region+".r.", ".", 1)
		if address := addressOf(host, status.Listeners); address != "" {
			s.say("\n  %s\n", color.New(color.Bold, color.Underline).Sprint(address))
		}
	}
	return nil
}

// addressOf is the URL of a host name at a server; "" when it listens nowhere.
func addressOf(host string, listeners []admin.Listener) string {
	for _, l := range listeners {
		_, port, err := net.SplitHostPort(l.Addr)
		if err != nil || l.Name != "http" && l.Name != "https" {
			continue
		}
		if l.Name == "http" && port == "80" || l.Name == "https" && port == "443" {
			return l.Name + "://" + host
		}
		return l.Name + "://" + net.JoinHostPort(host, port)
	}
	return ""
}
