package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/admin"
)

func newSockets() *cobra.Command {
	var r remote
	var n narrow
	var f admin.SocketFilter
	var closing, all, yes bool
	var code, limit int
	var reason string
	cmd := &cobra.Command{
		Use:   "sockets",
		Short: "Show the live socket table; close sockets with --close",
		Long: `Shows the open WebSockets, the oldest first: whose they are, by what they belong to
their instance (cookie or sid), how long they have been idle, what has passed. --close says goodbye to all that the filters match, with a
Close frame of --code and --reason between two frames; without a filter it needs
--all.`,
		Example: `  holdfast sockets --service=chat
  holdfast sockets --client=203.0.113.7 --close --code=1008 --reason=banned
  holdfast sockets --close --all`,
		Args: exactly(0, "sockets takes no argument; narrow it down with --service, --version, --instance, --client, --id"),
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !closing && (cmd.Flags().Changed("code") || cmd.Flags().Changed("reason") || all) {
			return misuse{fmt.Errorf("--code, --reason and --all go with --close")}
		}
		if code != 0 && (code < 1000 || code > 4999) {
			return misuse{fmt.Errorf("--code=%d: want 1000 to 4999", code)}
		}
		return nil
	}
	cmd.RunE = r.asks(func(ctx context.Context, _ []string) error {
		by, err := r.filter(ctx, n)
		if err != nil {
			return err
		}
		f.App, f.Service, f.Version, f.Instance = by.App, by.Service, by.Version, by.Instance
		if !closing {
			return r.listSockets(ctx, f, limit)
		}
		if f == (admin.SocketFilter{}) && !all {
			return misuse{fmt.Errorf("--close would close every socket: narrow it down, or say --all")}
		}
		table, err := r.Sockets(ctx, f, 1)
		if err != nil {
			return err
		}
		if err := sure(yes, "Close %s?", count(table.Total, "socket")); err != nil {
			return err
		}
		closed, err := r.CloseSockets(ctx, f, all, code, reason)
		if err != nil {
			return err
		}
		if r.format == formatJSON {
			return printJSON(struct {
				Closed int `json:"closed"`
			}{closed})
		}
		fmt.Printf("Said goodbye to %s\n", count(closed, "socket"))
		return nil
	})
	r.flags(cmd)
	r.narrowFlags(cmd, &n.service, &n.version, &n.instance)
	cmd.Flags().StringVar(&f.Client, "client", "", "only of this client address")
	cmd.Flags().StringVar(&f.ID, "id", "", "only this one")
	cmd.Flags().IntVar(&limit, "limit", 0, "show at most so many (default 1000)")
	cmd.Flags().BoolVar(&closing, "close", false, "close what matches")
	cmd.Flags().BoolVar(&all, "all", false, "with --close: every socket there is")
	cmd.Flags().IntVar(&code, "code", 0, "with --close: the code of the Close frame, 1000 to 4999 (default 1012)")
	cmd.Flags().StringVar(&reason, "reason", "", "with --close: its reason, up to 123 bytes (default requested)")
	yesFlag(cmd, &yes)
	return cmd
}

func (r *remote) listSockets(ctx context.Context, f admin.SocketFilter, limit int) error {
	table, err := r.Sockets(ctx, f, limit)
	if err != nil {
		return err
	}
	t := newTable("SOCKET", "CLIENT", "PROJECT", "SERVICE", "INSTANCE", "AFFINITY", "OPEN", "IDLE", "RTT", "IN", "OUT", "LEAVING")
	for _, s := range table.Sockets {
		t.add(s.ID, s.Client, s.App, s.Service, s.Instance, s.Affinity, ago(s.Opened), brief(seconds(s.IdleSeconds)), roundTrip(s.RoundTripSeconds),
			passed(s.FromClient), passed(s.FromInstance), s.Leaving)
	}
	table.Sockets = orNone(table.Sockets)
	if err := show(r.format, table, t, "no sockets are open"); err != nil {
		return err
	}
	if more := table.Total - len(table.Sockets); more > 0 && r.format == formatTable {
		fmt.Fprintf(os.Stderr, "and %d more: --limit shows them, filters narrow it down\n", more)
	}
	return nil
}

// passed shows what came from one end of a socket.
func passed(t admin.Traffic) string {
	return fmt.Sprintf("%s/%d", bytesText(t.Bytes), t.Text+t.Binary)
}

func roundTrip(n float64) string {
	if n == 0 {
		return ""
	}
	return round(seconds(n)).String()
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
