package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
	"holdfast/internal/logs"
)

// The levels of --level.
var logLevels = []string{"debug", "info", "warning", "error", "critical"}

func newLogs() *cobra.Command {
	var r remote
	var n narrow
	var q admin.LogQuery
	var since string
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Print what instances wrote, and go on with --follow",
		Long: `Prints the last lines that instances wrote, in the order of time, each with its
instance before it. --follow goes on with what comes, of new instances too, until
Ctrl-C. A level is what the app says it is, as in JSON lines with a severity;
otherwise what comes from standard error is an error, all else info.`,
		Example: `  holdfast logs --follow --service=chat
  holdfast logs --since=10m --level=error
  holdfast logs --version=canary --limit=1000 --format=json`,
		Args: exactly(0, "logs takes no argument; narrow it down with --service, --version, --instance"),
		PreRunE: func(*cobra.Command, []string) (err error) {
			if q.Level != "" && !slices.Contains(logLevels, q.Level) {
				return misuse{fmt.Errorf("--level=%s: want %s", q.Level, strings.Join(logLevels, ", "))}
			}
			q.Since, err = parseSince(since, time.Now())
			return err
		},
		RunE: r.asks(func(ctx context.Context, _ []string) error {
			f, err := r.filter(ctx, n)
			if err != nil {
				return err
			}
			q.App, q.Service, q.Version, q.Instance = f.App, f.Service, f.Version, f.Instance
			return r.printLogs(ctx, q)
		}),
	}
	r.flags(cmd)
	r.narrowFlags(cmd, &n.service, &n.version, &n.instance)
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what is written")
	cmd.Flags().BoolVar(&q.Requests, "requests", false, "requests too")
	cmd.Flags().StringVar(&q.Level, "level", "", "at least: "+strings.Join(logLevels, ", "))
	cmd.Flags().StringVar(&since, "since", "", "from so long ago (10m, 2h) or from a time (2026-11-22T18:30:00Z) on")
	cmd.Flags().IntVar(&q.Limit, "limit", 0, "the last so many lines (default 100)")
	complete(cmd, "level", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return logLevels, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (r *remote) printLogs(ctx context.Context, q admin.LogQuery) error {
	var print func(l admin.LogLine) error
	if r.format == formatJSON { // a line of JSON for each line
		enc := json.NewEncoder(os.Stdout)
		enc.SetEscapeHTML(false)
		print = func(l admin.LogLine) error { return enc.Encode(l) }
	} else {
		s := newScreen(os.Stdout)
		print = func(l admin.LogLine) error {
			name := l.Instance
			if name == "" {
				name = "request"
			}
			s.log(name, logs.Line{Time: l.Time, Stream: logs.Stream(l.Stream), Text: l.Text})
			return nil
		}
	}
	err := r.Logs(ctx, q, print)
	if ctx.Err() != nil && q.Follow {
		return nil // Ctrl-C is how following ends
	}
	return err
}

// parseSince reads a duration before now, or a time; a zero time for nothing.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, misuse{fmt.Errorf("--since=%s: write how long ago, as in 10m or 2h, or a time, as in %s", text, now.UTC().Format(time.RFC3339))}
}
