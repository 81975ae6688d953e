package router

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// A request is part of a trace: of the one that its client names, else of a
// new one. Every app learns it by X-Cloud-Trace-Context, as on App Engine. Where
// Holdfast tells a collector of its own part, the span, the app's parts have to
// hang below that: then the app is given traceparent, too (W3C Trace Context).
// Where it does not, that header and tracestate go through as they came, as a
// parent that nobody has heard of would tear the trace in two.

const (
	traceHeader = "X-Cloud-Trace-Context"
	traceParent = "Traceparent"
	traceState  = "Tracestate"
)

// traced is a request's place in its trace.
type traced struct {
	id      string // of the trace: 32 hex digits, not all zero
	parent  string // the client's span, of 16 hex digits; "" where it named none
	options string // ";o=" of X-Cloud-Trace-Context, as the client had it; "" where it had none
	stated  bool   // by traceparent: tracestate belongs to it
	decided bool   // the client has said whether the trace is sampled
	sampled bool
}

// trace reads where a client's request belongs. traceparent is believed before
// X-Cloud-Trace-Context; what is not well-formed is as good as none, and then the
// trace is fresh.
func trace(h http.Header, fresh [16]byte) traced {
	if lines := h[traceParent]; len(lines) == 1 {
		if t, ok := parseParent(lines[0]); ok {
			return t
		}
	}
	if lines := h[traceHeader]; len(lines) > 0 {
		if t, ok := parseTrace(lines[0]); ok {
			return t
		}
	}
	return traced{id: hex.EncodeToString(fresh[:])}
}

// sample decides for a client that has not: for a share of all traces, the same
// ones wherever they pass.
func (t *traced) sample(share float64) {
	if t.decided {
		return
	}
	var low [8]byte
	if _, err := hex.Decode(low[:], []byte(t.id[16:])); err == nil {
		t.sampled = float64(binary.BigEndian.Uint64(low[:])) < share*math.MaxUint64
	}
}

// cloud is the value of X-Cloud-Trace-Context that an app is given: TRACE/SPAN,
// with the options of the client, or what was decided.
func (t traced) cloud(span uint64) string {
	value := t.id + "/" + strconv.FormatUint(span, 10)
	switch {
	case t.options != "":
		value += ";o=" + t.options
	case t.sampled:
		value += ";o=1"
	}
	return value
}

// w3c is the value of traceparent that an app is given.
func (t traced) w3c(span uint64) string {
	flags := "-00"
	if t.sampled {
		flags = "-01"
	}
	return "00-" + t.id + "-" + spanID(span) + flags
}

// spanID is a span as others write it.
func spanID(span uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], span)
	return hex.EncodeToString(b[:])
}

// parentLength is that of VERSION-TRACE-PARENT-FLAGS: 2, 32, 16 and 2 hex digits.
const parentLength = 2 + 1 + 32 + 1 + 16 + 1 + 2

// parseParent reads a traceparent. Of a version that is not known yet the
// beginning is read as that of version 00 (Trace Context, 4.3).
func parseParent(s string) (t traced, ok bool) {
	if len(s) < parentLength || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, false
	}
	version, id, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	switch {
	case !lowerHex(version) || version == "ff",
		version == "00" && len(s) != parentLength,
		len(s) > parentLength && s[parentLength] != '-',
		!lowerHex(id) || allZero(id), !lowerHex(parent) || allZero(parent), !lowerHex(flags):
		return t, false
	}
	bits, _ := strconv.ParseUint(flags, 16, 8) // two hex digits
	return traced{id: id, parent: parent, stated: true, decided: true, sampled: bits&1 != 0}, true
}

// parseTrace reads TRACE_ID[/SPAN_ID][;o=OPTIONS]: 32 hex digits that are not
// all zero, a decimal number, and a small one.
func parseTrace(s string) (t traced, ok bool) {
	if len(s) < 32 || len(s) > len("0123456789abcdef0123456789abcdef/18446744073709551615;o=3") {
		return t, false
	}
	id, rest := strings.ToLower(s[:32]), s[32:]
	if !lowerHex(id) || allZero(id) {
		return t, false
	}
	t.id = id
	span, found := strings.CutPrefix(rest, "/")
	if found {
		span, rest, found = strings.Cut(span, ";")
		n, err := strconv.ParseUint(span, 10, 64)
		if err != nil {
			return t, false
		}
		if n != 0 {
			t.parent = spanID(n)
		}
		if found {
			rest = ";" + rest
		}
	}
	if rest != "" {
		options, found := strings.CutPrefix(rest, ";o=")
		if !found || len(options) != 1 || options[0] < '0' || options[0] > '3' {
			return t, false
		}
		t.options, t.decided, t.sampled = options, true, options[0]&1 != 0
	}
	return t, true
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func allZero(s string) bool { return strings.Trim(s, "0") == "" }
