package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

const (
	// gcloudName is how our configuration of gcloud is called.
	gcloudName = "holdfast"

	// gcloudMark is the first line of the files that are ours: others are left
	// alone.
	gcloudMark = "# Written by holdfast gcloud setup; holdfast gcloud remove takes it away."

	// gcloudNowhere is where gcloud finds all APIs that are not led to the server: a
	// name that never resolves (RFC 2606), so that the token goes nowhere else.
	gcloudNowhere = "holdfast.invalid"

	gcloudTokenFile = "gcloud-token" // in the user's configuration of ours
)

// gcloudAPIs are the APIs that gcloud would otherwise send the token to at
// Google, with the path that follows the server's URL.
var gcloudAPIs = []struct{ name, path string }{
	{"appengine", "/"}, {"storage", "/"}, {"cloudbuild", "/"}, {"serviceusage", "/"}, {"logging", "/"},
	{"cloudscheduler", "/"}, {"cloudtasks", "/"}, {"datastore", "/"}, {"compute", "/compute/v1/"},
	{"artifactregistry", "/"}, {"cloudresourcemanager", "/"}, {"iam", "/"}, {"servicemanagement", "/"},
	{"cloudbilling", "/"}, {"domains", "/"}, {"certificatemanager", "/"}, {"oslogin", "/"},
}

func newGcloud() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gcloud",
		Short: "Have Google's gcloud command speak to a server, as to App Engine",
		Long: `The unmodified gcloud command works with a Holdfast server: gcloud app deploy, services,
versions, instances, logs and the rest. setup writes a configuration of gcloud that leads
every API it would use to the server; nothing goes to Google with it. The configurations
that are there already stay as they are. Then:

  gcloud --configuration=holdfast app deploy examples/chat`,
		Example: "  holdfast gcloud setup\n  holdfast gcloud remove",
		Args:    nounArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGcloudSetup(), newGcloudRemove())
	return cmd
}

func newGcloudSetup() *cobra.Command {
	var r remote
	var activate bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Write a configuration of gcloud for the server",
		Long: `Writes the configuration "holdfast" of gcloud, and the server's token into a file of its
own that only you may read. The project is --project, else the server's, else its only
application, else "app". With --activate, gcloud uses it without --configuration.`,
		Example: `  holdfast gcloud setup
  holdfast gcloud setup --server=http://127.0.0.1:8079 --project=shop --activate`,
		Args: exactly(0, "gcloud setup takes no argument"),
		RunE: r.asks(func(ctx context.Context, args []string) error { return r.setUpGcloud(ctx, activate) }),
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&activate, "activate", false, "make it the configuration that gcloud uses")
	return cmd
}

func newGcloudRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove",
		Short:   "Take the configuration of gcloud away",
		Example: "  holdfast gcloud remove",
		Args:    exactly(0, "gcloud remove takes no argument"),
		RunE:    func(cmd *cobra.Command, args []string) error { return removeGcloud() },
	}
}

// gcloudFiles are the files that gcloud's configuration is about.
type gcloudFiles struct {
	config string // our configuration
	active string // the name of the one in use
	token  string
}

// findGcloud finds where gcloud keeps its configurations, as it does itself.
func findGcloud() (gcloudFiles, error) {
	dir := os.Getenv("CLOUDSDK_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return gcloudFiles{}, &problem{what: fmt.Sprintf("gcloud's configuration cannot be found: %v", err), err: err, next: "Name its folder with the variable CLOUDSDK_CONFIG."}
		}
		dir = filepath.Join(home, ".config", "gcloud")
	}
	ours, err := configDir()
	if err != nil {
		return gcloudFiles{}, err
	}
	return gcloudFiles{
		config: filepath.Join(dir, "configurations", "config_"+gcloudName),
		active: filepath.Join(dir, "active_config"),
		token:  filepath.Join(ours, gcloudTokenFile),
	}, nil
}

// ours says whether the configuration is one that setup wrote, or is not there.
func (g gcloudFiles) ours() (there bool, err error) {
	text, err := readAtMost(g.config, smallFileMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, &problem{what: err.Error(), err: err}
	case !strings.HasPrefix(string(text), gcloudMark):
		return true, &problem{what: fmt.Sprintf("%s was not written by holdfast", g.config), next: "Rename it, or remove it if nobody needs it."}
	}
	return true, nil
}

func (r *remote) setUpGcloud(ctx context.Context, activate bool) error {
	status, err := r.Status(ctx) // a token that is wrong should not wait for gcloud to tell
	if err != nil {
		return err
	}
	project, err := r.gcloudProject(ctx, status.Project)
	if err != nil {
		return err
	}
	g, err := findGcloud()
	if err != nil {
		return err
	}
	if _, err := g.ours(); err != nil {
		return err
	}
	if err := writeText(g.token, r.found.token+"\n", 0o600); err != nil {
		return err
	}
	if err := writeText(g.config, gcloudConfig(r.found.url, project, g.token), 0o600); err != nil {
		return err
	}
	fmt.Printf("Wrote %s\n  project %s; every API that gcloud would use leads to %s\nWrote %s\n  the server's token, for you alone\n", g.config, project, r.found.url, g.token)
	if !activate {
		fmt.Printf("\nUse it with: gcloud --configuration=%s app deploy\n", gcloudName)
		return nil
	}
	if err := writeText(g.active, gcloudName, 0o644); err != nil {
		return err
	}
	fmt.Printf("Wrote %s\n  gcloud uses the configuration %s now\n", g.active, gcloudName)
	return nil
}

// gcloudProject is the project that gcloud shall mean.
func (r *remote) gcloudProject(ctx context.Context, otherwise string) (string, error) {
	if r.project != "" {
		return r.project, nil
	}
	if otherwise != "" {
		return otherwise, nil
	}
	services, err := r.Services(ctx, admin.Filter{})
	if err != nil {
		return "", err
	}
	var all []string
	for _, s := range services {
		if !slices.Contains(all, s.App) {
			all = append(all, s.App)
		}
	}
	switch len(all) {
	case 0:
		return projectFrom(""), nil
	case 1:
		return all[0], nil
	}
	return "", &problem{what: "the server has several applications: " + strings.Join(all, ", "), next: "Name one with --project=PROJECT.", err: app.ErrInvalid}
}

// gcloudConfig is the configuration's text.
func gcloudConfig(server, project, tokenFile string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `%s
[core]
project = %s
universe_domain = %s
disable_usage_reporting = true
check_gce_metadata = false

[auth]
access_token_file = %s

[component_manager]
disable_update_check = true

[survey]
disable_prompts = true

[api_endpoint_overrides]
`, gcloudMark, project, gcloudNowhere, strings.ReplaceAll(tokenFile, "%", "%%"))
	for _, a := range gcloudAPIs {
		fmt.Fprintf(&b, "%s = %s%s\n", a.name, server, a.path)
	}
	return b.String()
}

func removeGcloud() error {
	g, err := findGcloud()
	if err != nil {
		return err
	}
	there, err := g.ours()
	if err != nil {
		return err
	}
	var removed []string
	for _, name := range []string{g.config, g.token} {
		err := os.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &problem{what: err.Error(), err: err}
		}
		if err == nil {
			removed = append(removed, name)
		}
	}
	if active, err := readAtMost(g.active, smallFileMax); there && err == nil && strings.TrimSpace(string(active)) == gcloudName {
		if err := writeText(g.active, "default", 0o644); err != nil {
			return err
		}
		fmt.Printf("Wrote %s\n  gcloud uses its configuration default again\n", g.active)
	}
	if len(removed) == 0 {
		fmt.Println("There was nothing to remove.")
		return nil
	}
	for _, name := range removed {
		fmt.Println("Removed " + name)
	}
	return nil
}

// writeText writes a small file beside its place, synced, and renames it there.
func writeText(name, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return &problem{what: err.Error(), err: err}
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return &problem{what: err.Error(), err: err}
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return &problem{what: err.Error(), err: err}
	}
	return os.Rename(f.Name(), name)
}
