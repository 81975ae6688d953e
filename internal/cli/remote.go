package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/app"
)

// remote is the server that a command speaks to. The flags are read before
// connect; the client works after it.
type remote struct {
	*admin.Client
	found reach

	server    string // flags
	tokenFile string
	project   string
	format    string
}

// The two ways to print.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// flags gives a command, and those below it, the flags of every command that
// speaks to a server.
func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&r.server, "server", "", "speak to the server at this URL (HOLDFAST_SERVER)")
	f.StringVar(&r.tokenFile, "token-file", "", "the token for it is in this file (HOLDFAST_TOKEN_FILE)")
	f.StringVar(&r.project, "project", "", "application, where there are several (HOLDFAST_PROJECT)")
	formatFlag(cmd, &r.format)
	complete(cmd, "project", r.completeProjects)
	complete(cmd, "token-file", nil)
}

// formatFlag gives a command, and those below it, --format.
func formatFlag(cmd *cobra.Command, format *string) {
	cmd.PersistentFlags().StringVar(format, "format", formatTable, "print a table or json")
	complete(cmd, "format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp
	})
}

// asks makes the function of a command that speaks to a server. The context
// ends at the first Ctrl-C; the second one ends the program.
func (r *remote) asks(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(r.format); err != nil {
			return err
		}
		if err := r.connect(); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // from here on a signal has its usual meaning
		err := told(run(ctx, args))
		var p *problem
		if errors.Is(err, context.Canceled) && !errors.As(err, &p) {
			return &problem{what: "interrupted", err: err}
		}
		return err
	}
}

func checkFormat(format string) error {
	if format != formatTable && format != formatJSON {
		return misuse{fmt.Errorf("--format=%s: want %s or %s", format, formatTable, formatJSON)}
	}
	return nil
}

// connect finds the server. It does not speak to it yet.
func (r *remote) connect() error {
	if r.Client != nil {
		return nil
	}
	or := func(said *string, variable string) {
		if *said == "" {
			*said = os.Getenv(variable)
		}
	}
	or(&r.server, "HOLDFAST_SERVER")
	or(&r.tokenFile, "HOLDFAST_TOKEN_FILE")
	or(&r.project, "HOLDFAST_PROJECT")
	if r.project != "" && !label.MatchString(r.project) {
		return misuse{fmt.Errorf("--project=%s: want lower-case letters, digits and hyphens, as in a host name", r.project)}
	}
	var err error
	if r.found, err = findServer(r.server, r.tokenFile); err != nil {
		return err
	}
	r.Client = &admin.Client{URL: r.found.url, Token: r.found.token, By: me(), HTTP: &http.Client{Transport: transport()}}
	return nil
}

// answerTime bounds waiting for the beginning of an answer: the door holds
// questions back for less than a minute, and a restore reads what it was sent.
const answerTime = 5 * time.Minute

// transport is Go's own with a bound for servers that hang.
func transport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = answerTime
	return t
}

// me says who asks, for the server's records: user@machine.
func me() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// told makes of an error of the server's what people are told.
func told(err error) error {
	var e *admin.Error
	if !errors.As(err, &e) {
		return err
	}
	p := &problem{what: e.Message, next: e.Next, err: err}
	if prefix, _, ok := strings.Cut(err.Error(), e.Message); ok {
		p.what = prefix + e.Message
	}
	// The kinds that say nothing more after a reason; "not found" does.
	for _, kind := range []error{app.ErrInvalid, app.ErrBusy} {
		p.what = strings.TrimSuffix(p.what, ": "+kind.Error())
	}
	if e.Kind == admin.KindUnauthorized && p.next == "" {
		p.next = "The server's token is in the file \"token\" of its data directory: --token-file=FILE, or holdfast login URL."
	}
	return p
}

// exactly checks the number of arguments, with a message that says what they are.
func exactly(n int, message string) cobra.PositionalArgs {
	return between(n, n, message)
}

// between does so where some may be left out.
func between(least, most int, message string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return misuse{fmt.Errorf("%s; got %d", message, len(args))}
		}
		return nil
	}
}

// nounArgs is for a noun that lists by itself, and has verbs below it: what
// follows it is a verb or nothing.
func nounArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var verbs []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			verbs = append(verbs, c.Name())
		}
	}
	return misuse{fmt.Errorf("%s %s: want nothing, or one of %s", cmd.Name(), args[0], strings.Join(verbs, ", "))}
}
