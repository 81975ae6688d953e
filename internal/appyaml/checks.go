package appyaml

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"holdfast/internal/app"
)

const (
	// legacyPath is where health checks asked before they were split.
	legacyPath = "/_ah/health"

	// maxRestartThreshold is for restart_threshold, whose default was 60.
	maxRestartThreshold = 1000
)

// legacyCheck is the health_check of old; zero is what was not said.
type legacyCheck struct {
	app.Check
	disabled bool
	restart  int
}

func (r *reader) finishChecks() {
	if n := r.seen["health_check"]; n != nil {
		r.finishLegacyCheck(n)
		return
	}
	r.finishCheck("liveness_check", r.v.Live)
	r.finishCheck("readiness_check", r.v.Ready)
}

// finishCheck: a check must have ended before the next one begins.
func (r *reader) finishCheck(name string, c app.Check) {
	timeout, interval := name+".timeout_sec", name+".check_interval_sec"
	if !r.good(name, timeout, interval) || c.Interval > c.Timeout {
		return
	}
	said := func(key string, d time.Duration) string {
		if r.seen[key] == nil {
			return fmt.Sprintf("%d, the default", d/time.Second)
		}
		return fmt.Sprint(int(d / time.Second))
	}
	r.fail(r.where(interval, timeout).place,
		fmt.Sprintf("%s: check_interval_sec (%s) must be longer than timeout_sec (%s)", name, said(interval, c.Interval), said(timeout, c.Timeout)), "")
}

// finishLegacyCheck reads health_check as both of its successors.
func (r *reader) finishLegacyCheck(n *node) {
	for _, split := range []string{"liveness_check", "readiness_check"} {
		if s := r.seen[split]; s != nil {
			r.fail(n.key, fmt.Sprintf("health_check is what %s replaced, and both are there", split), "remove health_check")
			return
		}
	}
	if n.bad {
		return
	}
	old := r.legacy
	if old.disabled {
		r.warn(n.key, "health_check is deprecated; as it is disabled, instances are only asked whether their port is open")
		return
	}
	for _, c := range []*app.Check{&r.v.Live, &r.v.Ready} {
		c.Path, c.Host = legacyPath, old.Host
		if old.Timeout > 0 {
			c.Timeout = old.Timeout
		}
		if old.Interval > 0 {
			c.Interval = old.Interval
		}
		if old.Successes > 0 {
			c.Successes = old.Successes
		}
	}
	if old.Failures > 0 {
		r.v.Ready.Failures = old.Failures
	}
	if old.restart > 0 {
		r.v.Live.Failures = old.restart
	}
	r.warn(n.key, "health_check is deprecated and read as liveness_check and readiness_check with path "+legacyPath+"; only the status 200 passes now, 404 does no more")
	shortest := min(r.v.Live.Interval, r.v.Ready.Interval)
	if r.good("health_check.timeout_sec", "health_check.check_interval_sec") && shortest <= r.v.Ready.Timeout {
		r.fail(r.where("health_check.check_interval_sec", "health_check.timeout_sec").place,
			fmt.Sprintf("health_check: check_interval_sec (%d) must be longer than timeout_sec (%d)", shortest/time.Second, r.v.Ready.Timeout/time.Second), "")
	}
}

// maxPathBytes is far below what any server takes in a request line.
const maxPathBytes = 1000

// checkPath reads where a health check asks.
func (r *reader) checkPath(to *string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		switch {
		case n.text == "": // as if it were not there: the port is asked
		case !strings.HasPrefix(n.text, "/"):
			r.wrong(n, fmt.Sprintf("write %s", quote("/"+n.text)), "%s must begin with a slash", n.name)
		case len(n.text) > maxPathBytes:
			r.wrong(n, fmt.Sprintf("at most %d bytes are sent", maxPathBytes), "%s is too long", n.name)
		case !pathShape.MatchString(n.text):
			r.wrong(n, "write them as %XX", "%s: %s has blanks or other characters that no path has", n.name, quote(n.text))
		default:
			*to = n.text
		}
	}
}

// pathShape is what a request line carries unchanged, a query included (RFC
// 3986, 3.3 and 3.4).
var pathShape = regexp.MustCompile(`^/([A-Za-z\d/._~!$&'()*+,;=:@?-]|%[\dA-Fa-f]{2})*$`)
