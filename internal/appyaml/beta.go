package appyaml

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

// prefix begins our own settings. They travel in beta_settings because that is
// the one mapping that every client of App Engine passes on unread.
const prefix = "holdfast."

const (
	day     = 24 * time.Hour
	longest = 10 * 365 * day
)

// settings are our own: each key and what reads it. Defaults are in defaults.
func (r *reader) settings() section {
	v := &r.v
	return section{
		"holdfast.websocket_timeout": r.duration(&v.Sockets.MaxAge, time.Second, longest, "never"),
		"holdfast.drain":             r.duration(&v.Drain, time.Second, 24*time.Hour, "at once"),
		"holdfast.max_age":           r.duration(&v.MaxAge, time.Second, longest, "never"),
		"holdfast.drain_signal":      r.only("SIGUSR1", &v.DrainSignal, "without it no signal is sent, and HOLDFAST_DRAIN_FILE alone tells the app that it drains"),
		"holdfast.rebalance":         r.only("gentle", &v.Rebalance, "without it sockets stay where they are"),
		"holdfast.affinity":          r.sticky(&v.Sticky),
		"holdfast.max_body":          r.bytes(&v.MaxBody),

		"holdfast.bus":     r.only("redis", &v.Bus, "without it there is no bus, and no REDIS_URL is set"),
		"holdfast.bus_env": r.variableName(&v.BusEnv),

		"holdfast.ping_interval":           r.duration(&v.Sockets.PingInterval, time.Second, 24*time.Hour, "never"),
		"holdfast.max_message_bytes":       r.bytes(&v.Sockets.MaxMessageBytes),
		"holdfast.max_messages_per_second": r.whole(&v.Sockets.MaxMessagesPerSecond, 0, 1_000_000),
		"holdfast.max_sockets_per_client":  r.whole(&v.Sockets.MaxPerClient, 0, 1_000_000),
		"holdfast.allowed_origins":         r.origins(&v.Sockets.AllowedOrigins),
		"holdfast.strict_frames":           r.boolean(func(b bool) { v.Sockets.Strict = b }),
	}
}

// beta reads beta_settings: ours by the table, the others as they are.
func (r *reader) beta(n *node) {
	ours := r.settings()
	for key, v := range r.entries(n) {
		if t, ok := ours[key]; ok {
			r.seen[v.name] = v
			v.plain = true // values are texts here, and clients may quote them
			t.take(r, v)
			n.bad = n.bad || v.bad
			continue
		}
		near, slip := spelling.Nearest(strings.ToLower(key), maps.Keys(ours))
		if strings.HasPrefix(strings.ToLower(key), prefix) || slip {
			hint := "known are " + strings.Join(slices.Sorted(maps.Keys(ours)), ", ")
			if slip {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			r.fail(v.key, "unknown setting "+quote(key)+" in beta_settings", hint)
			continue
		}
		if r.v.Beta == nil {
			r.v.Beta = map[string]string{}
		}
		r.v.Beta[key] = v.text
	}
}

// only reads a setting that can be one word, or else is left out.
func (r *reader) only(word string, on *bool, without string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		if n.text != word {
			r.wrong(n, without, "%s must be %s, not %s", n.name, word, quote(n.text))
			return
		}
		*on = true
	}
}

// sticky reads by what session affinity knows clients again.
func (r *reader) sticky(to *app.Sticky) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		switch strings.Join(strings.FieldsFunc(n.text, func(c rune) bool { return c == ',' || c == ' ' }), ",") {
		case "cookie,sid", "sid,cookie":
			*to = app.StickyBoth
		case "cookie":
			*to = app.StickyCookie
		case "sid":
			*to = app.StickySid
		default:
			r.wrong(n, `write "cookie,sid", or one of them; to know nobody again, leave session_affinity out`, "%s must be cookie, sid or both, not %s", n.name, quote(n.text))
		}
	}
}

// variableName reads the name of a variable of the app.
func (r *reader) variableName(to *string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		if what, hint := checkVariable(n.text, ""); what != "" {
			r.wrong(n, hint, "%s: %s", n.name, what)
			return
		}
		*to = n.text
	}
}

// bytes reads a size of a message or of a body, in bytes; 0 means that nothing is
// said about it.
func (r *reader) bytes(to *int64) value {
	return func(n *node) {
		var size int
		if r.whole(&size, 0, 1<<40)(n); !n.bad {
			*to = int64(size)
		}
	}
}

// origin is what a browser sends as Origin (RFC 6454, 7), with "*." for every
// host below the rest; "self" is the page's own host.
var origin = regexp.MustCompile(`^(?:self|https?://(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::\d{1,5})?)$`)

// originsMax bounds a list that every handshake is compared with.
const originsMax = 100

// origins reads a list separated by commas or spaces.
func (r *reader) origins(to *[]string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		list := strings.FieldsFunc(strings.ToLower(n.text), func(c rune) bool { return c == ',' || c == ' ' })
		if len(list) == 0 || len(list) > originsMax {
			r.wrong(n, `write origins such as "self, https://app.example.org, https://*.example.org"`, "%s names %d origins, want 1 to %d", n.name, len(list), originsMax)
			return
		}
		for _, o := range list {
			if !origin.MatchString(o) {
				r.wrong(n, `write "self", or scheme and host such as "https://app.example.org" or "https://*.example.org"`, "%s is no origin in %s", quote(o), n.name)
				return
			}
		}
		*to = list
	}
}

// duration reads a length of time within bounds; 0 is always allowed, and what
// it means is for the message.
func (r *reader) duration(to *time.Duration, least, most time.Duration, zero string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		d, ok := parseDuration(n.text)
		if !ok {
			r.wrong(n, `write seconds, or a length such as "90s", "1h30m" or "7d"`, "%s: %s is no length of time", n.name, quote(n.text))
			return
		}
		if d != 0 && (d < least || d > most) {
			r.wrong(n, "0 means "+zero, "%s must be from %s to %s, not %s", n.name, spell(least), spell(most), quote(n.text))
			return
		}
		*to = d
	}
}

var durationShape = regexp.MustCompile(`^(?:(\d{1,6}(?:\.\d{1,6})?)d)?(.{0,40})$`)

// parseDuration reads plain seconds, Go's durations, and days before either.
func parseDuration(text string) (time.Duration, bool) {
	if f, ok := parseFloat(text); ok {
		if f < 0 || f > longest.Seconds()*2 {
			return 0, false
		}
		return time.Duration(f * float64(time.Second)), true
	}
	m := durationShape.FindStringSubmatch(text)
	if m == nil || m[1] == "" && m[2] == "" {
		return 0, false
	}
	var total time.Duration
	if m[1] != "" {
		days, err := strconv.ParseFloat(m[1], 64)
		if err != nil || days > 2*float64(longest/day) {
			return 0, false
		}
		total = time.Duration(days * float64(day))
	}
	if m[2] != "" {
		rest, err := time.ParseDuration(m[2])
		if err != nil || rest < 0 || strings.HasPrefix(m[2], "+") || rest > 2*longest {
			return 0, false
		}
		total += rest
	}
	return total, true
}

// spell writes a bound the way it may be written in the file.
func spell(d time.Duration) string {
	switch {
	case d > day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
