package certs

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// hook writes records in the DNS by a program of the operator's, who knows how
// their zone is kept:
//
//	PROGRAM present _acme-challenge.apps.example.org. VALUE
//	PROGRAM cleanup _acme-challenge.apps.example.org. VALUE
//
// present adds a TXT record and returns when it can be seen; cleanup removes it.
// It is what the "exec" providers of other clients call, so that their scripts
// serve. One runs at a time. What it writes is told when it fails.
type hook struct{ program string }

const (
	// hookTime bounds one run: some nameservers take minutes.
	hookTime = 5 * time.Minute

	// hookGrace is how long what it left behind may hold its output open.
	hookGrace = 2 * time.Second

	// saidMax is how much of what it wrote is told, in bytes.
	saidMax = 500
)

// Present is for acmez.
func (h hook) Present(ctx context.Context, c acme.Challenge) error {
	return h.run(ctx, "present", c)
}

// CleanUp is for acmez, which calls it also when ctx has ended.
func (h hook) CleanUp(ctx context.Context, c acme.Challenge) error {
	return h.run(context.WithoutCancel(ctx), "cleanup", c)
}

func (h hook) run(ctx context.Context, verb string, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program, verb, c.DNS01TXTRecordName()+".", c.DNS01KeyAuthorization())
	cmd.WaitDelay = hookGrace
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(said))
	if len(text) > saidMax {
		text = "..." + text[len(text)-saidMax:]
	}
	return fmt.Errorf("%s %s: %w: %s", h.program, verb, err, text)
}
