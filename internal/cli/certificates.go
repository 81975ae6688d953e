package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCertificates() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "certificates",
		Short: "List the certificates that clients are shown; replace one",
		Long: `Certificates come from files (tls-cert), were uploaded with gcloud, or are obtained
from an authority (acme-email), which renews them in time. A name that could not get one
is listed with the reason.`,
		Example: "  holdfast certificates\n  holdfast certificates replace shop.apps.example.org",
		Args:    nounArgs,
		RunE:    r.asks(func(ctx context.Context, args []string) error { return r.listCertificates(ctx) }),
	}
	r.flags(cmd)
	replace := &cobra.Command{
		Use:     "replace NAME",
		Short:   "Revoke a certificate that was obtained, as after its key was stolen, and obtain another",
		Example: "  holdfast certificates replace shop.apps.example.org",
		Args:    exactly(1, "certificates replace takes one host name"),
		RunE: r.asks(func(ctx context.Context, args []string) error {
			if err := r.ReplaceCertificate(ctx, args[0]); err != nil {
				return err
			}
			fmt.Printf("Replaced the certificate of %s\n", args[0])
			return nil
		}),
	}
	cmd.AddCommand(replace)
	return cmd
}

func (r *remote) listCertificates(ctx context.Context) error {
	all, err := r.Certificates(ctx)
	if err != nil {
		return err
	}
	t := newTable("NAMES", "FROM", "UNTIL", "PROBLEM")
	for _, c := range all {
		until, problem := "none", c.Problem
		if !c.Until.IsZero() {
			until = c.Until.Local().Format(time.DateOnly)
		}
		if !c.Again.IsZero() {
			problem += "; again at " + c.Again.Local().Format(time.TimeOnly)
		}
		t.add(strings.Join(c.Names, ","), c.From, until, problem)
	}
	return show(r.format, all, t, "there are none: see acme-email and tls-cert in docs/configuration.md")
}
