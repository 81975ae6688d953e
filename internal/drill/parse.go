package drill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
)

// Probe is what a client does.
type Probe struct {
	Kind string // ws, poll, http or sse
	Path string // with its query, if any

	Echo     bool          // ws: the app sends back what it is sent
	Upgrade  bool          // poll: goes over to a WebSocket
	Cookies  string        // yes, no or half, of the clients: whether they send cookies back
	Every    time.Duration // between two messages, pings or requests
	Patience time.Duration // without an answer for so long is an error
}

// The defaults of a probe.
const (
	everyDefault    = 500 * time.Millisecond
	everyLeast      = 10 * time.Millisecond
	patienceDefault = 5 * time.Second
)

// ProbeHelp says how probes are written.
const ProbeHelp = `A probe is KIND:PATH[,OPTION...]. The kinds:

  ws:PATH    opens a WebSocket, pings it, and reconnects when it ends
  poll:PATH  speaks engine.io 4, as socket.io does, by long polling
  http:PATH  asks again and again
  sse:PATH   listens to server-sent events, and reconnects when they end

and the options:

  echo              ws: send numbered messages, which the app sends back as they are
  upgrade           poll: go over to a WebSocket
  cookies=no|half   no client, or only every second one, sends cookies back
  every=DURATION    between two pings, messages or requests (500ms)
  patience=DURATION without an answer for so long is an error (5s)`

// ParseProbe reads a probe as ProbeHelp has it.
func ParseProbe(text string) (Probe, error) {
	p := Probe{Cookies: "yes", Every: everyDefault, Patience: patienceDefault}
	wrong := func(format string, args ...any) (Probe, error) {
		return Probe{}, fmt.Errorf("probe %q: %s: %w", text, fmt.Sprintf(format, args...), app.ErrInvalid)
	}
	kind, rest, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains([]string{"ws", "poll", "http", "sse"}, kind) {
		return wrong("want ws:PATH, poll:PATH, http:PATH or sse:PATH")
	}
	parts := strings.Split(rest, ",")
	p.Kind, p.Path = kind, parts[0]
	if !strings.HasPrefix(p.Path, "/") || strings.ContainsFunc(p.Path, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return wrong("want a path that begins with /")
	}
	for _, option := range parts[1:] {
		name, value, valued := strings.Cut(option, "=")
		switch {
		case option == "echo" && kind == "ws":
			p.Echo = true
		case option == "upgrade" && kind == "poll":
			p.Upgrade = true
		case name == "cookies" && (value == "yes" || value == "no" || value == "half"):
			p.Cookies = value
		case (name == "every" || name == "patience") && valued:
			d, err := time.ParseDuration(value)
			if err != nil || d < everyLeast || d > ForMost {
				return wrong("%s: want a duration from %v, as 500ms", option, everyLeast)
			}
			if name == "every" {
				p.Every = d
			} else {
				p.Patience = d
			}
		default:
			return wrong("no option %q; there are echo (ws), upgrade (poll), cookies=no|half, every=, patience=", option)
		}
	}
	return p, nil
}

// String is the probe as it is written, without what is the default.
func (p Probe) String() string {
	text := p.Kind + ":" + p.Path
	if p.Echo {
		text += ",echo"
	}
	if p.Upgrade {
		text += ",upgrade"
	}
	if p.Cookies != "yes" && p.Cookies != "" {
		text += ",cookies=" + p.Cookies
	}
	return text
}

// Expect is what a drill has to keep to. Its zero value expects nothing.
type Expect struct {
	text     string
	Errors   *int           // at most so many
	Lost     *int           // messages, at most
	Doubled  *int           // messages, at most
	Recover  *time.Duration // every client is back within; also nobody stays away
	Median   *time.Duration // half of them are back within
	Evenness *float64       // the fullest instance has at most so much more than its share in the end, 0.25 is a quarter
}

// ExpectHelp says how expectations are written.
const ExpectHelp = `errors=N      errors that clients met, at most
reconnect=D   every client is back within D, and nobody stays away
p50=D         half of the clients are back within D
lost=N        messages without an answer, at most
doubled=N     messages answered twice, at most
uneven=P      in the end no instance has more than P more than its share, as 25%`

// ParseExpect reads expectations such as errors=0,reconnect=3s.
func ParseExpect(text string) (Expect, error) {
	e := Expect{text: text}
	if text == "" {
		return e, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		wrong := func(want string) (Expect, error) {
			return Expect{}, fmt.Errorf("expectation %q: want %s: %w", part, want, app.ErrInvalid)
		}
		number, notNumber := strconv.Atoi(value)
		if number < 0 {
			notNumber = app.ErrInvalid
		}
		long, notLong := time.ParseDuration(value)
		if long < 0 {
			notLong = app.ErrInvalid
		}
		var target **int
		switch name {
		case "errors":
			target = &e.Errors
		case "lost":
			target = &e.Lost
		case "doubled":
			target = &e.Doubled
		case "reconnect", "p50":
			if notLong != nil {
				return wrong(name + "=DURATION, as 3s")
			}
			if name == "p50" {
				e.Median = &long
			} else {
				e.Recover = &long
			}
			continue
		case "uneven":
			share, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
			if err != nil || !(share >= 0) || share > 1e6 {
				return wrong("uneven=PERCENT, as 25%")
			}
			share /= 100
			e.Evenness = &share
			continue
		default:
			return wrong("errors=, reconnect=, p50=, lost=, doubled= or uneven=")
		}
		if notNumber != nil {
			return wrong(name + "=NUMBER")
		}
		*target = &number
	}
	return e, nil
}

// String is the expectations as they were written.
func (e Expect) String() string { return e.text }
