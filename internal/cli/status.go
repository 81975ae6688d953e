package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newStatus() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show which server commands speak to, and how it is",
		Example: "  holdfast status",
		Args:    exactly(0, "status takes no argument"),
		RunE: r.asks(func(ctx context.Context, _ []string) error {
			s, err := r.Status(ctx)
			if err != nil {
				return err
			}
			f := newFacts()
			f.add("server", r.found.url)
			f.add("found by", r.found.how)
			f.add("holdfast", s.Version)
			f.add("pid", strconv.Itoa(s.PID))
			f.add("up", round(time.Duration(s.UptimeSeconds*float64(time.Second))).String())
			f.add("data", s.Data)
			for _, l := range s.Listeners {
				f.add(l.Name, l.Addr)
			}
			f.add("domains", strings.Join(s.Domains, ", "))
			f.add("region", s.Region)
			f.add("project", s.Project)
			f.add("limits", s.Limits)
			f.add("services", strconv.Itoa(s.Services))
			f.add("versions", strconv.Itoa(s.Versions))
			f.add("instances", strconv.Itoa(s.Instances))
			sockets := strconv.Itoa(s.Sockets)
			if s.SocketsMax > 0 {
				sockets += " of " + strconv.Itoa(s.SocketsMax)
			}
			f.add("sockets", sockets)
			f.add("operations", strconv.Itoa(s.Operations))
			return showOne(r.format, s, f)
		}),
	}
	r.flags(cmd)
	return cmd
}
