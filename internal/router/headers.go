package router

import (
	"encoding/hex"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

const (
	traceHeader = "X-Cloud-Trace-Context"
	forwarded   = "X-Forwarded-For"

	strictTransport = "Strict-Transport-Security"
	via             = "1.1 holdfast" // RFC 9110, 7.6.3: a gateway must say so towards the instance
)

// platformNames are headers that only the platform may say to an app. A client
// that sends one loses it; a near miss of a name passes, as on App Engine. The
// first group is documented for flex, the second is internal there, the third
// is what older App Engine libraries still look at.
var platformNames = map[string]bool{
	"X-Appengine-Country": true, "X-Appengine-Region": true, "X-Appengine-City": true, "X-Appengine-Citylatlong": true,

	"X-Appengine-Https": true, "X-Appengine-User-Ip": true, "X-Appengine-Api-Ticket": true,
	"X-Appengine-Request-Log-Id": true, "X-Appengine-Default-Version-Hostname": true, "X-Appengine-Timeout-Ms": true,

	"X-Appengine-Auth-Domain": true, "X-Appengine-Background": true, "X-Appengine-Cron": true, "X-Appengine-Datacenter": true,
	"X-Appengine-Default-Namespace": true, "X-Appengine-Failfast": true, "X-Appengine-Inbound-Appid": true,
	"X-Appengine-Queuename": true, "X-Appengine-Tasketa": true, "X-Appengine-Taskexecutioncount": true,
	"X-Appengine-Taskname": true, "X-Appengine-Taskpreviousresponse": true, "X-Appengine-Taskretrycount": true,
	"X-Appengine-Taskretryreason": true, "X-Appengine-User-Email": true, "X-Appengine-User-Id": true,
	"X-Appengine-User-Is-Admin": true, "X-Appengine-User-Nickname": true, "X-Appengine-User-Organization": true,
}

// forwardingNames tell an app who asked and how. The platform writes some and
// removes the rest, because an app that prefers one which is not ours would
// believe the client.
var forwardingNames = map[string]bool{
	forwarded: true, "X-Forwarded-Proto": true, "X-Forwarded-Host": true, "Forwarded": true, traceHeader: true,
}

// hopNames do not travel beyond one connection (RFC 9110, 7.6.1).
var hopNames = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// origin is what the platform knows about a request and tells the app.
type origin struct {
	client, listener string // addresses without port
	proto            string // "http" or "https", as the client used it
	trace            string // value of X-Cloud-Trace-Context
}

// outbound turns a client's headers into those an instance gets, in place:
// platform names of the client go, the platform's own come. chain is the
// client's X-Forwarded-For, in case h has lost it already.
func outbound(h http.Header, o origin, chain []string) {
	for name := range h {
		if reserved(name) {
			delete(h, name)
		}
	}
	o.each(chain, h["Via"], func(name, value string) { h[name] = []string{value} })
}

// each calls add with the platform's own headers. chain and gone are the
// client's X-Forwarded-For and Via.
func (o origin) each(chain, gone []string, add func(name, value string)) {
	add("X-Appengine-Country", "ZZ") // unknown: there is no map of addresses here
	add("X-Appengine-Region", "?")
	add("X-Appengine-City", "?")
	add("X-Appengine-Citylatlong", "0.000000,0.000000")
	add(traceHeader, o.trace)
	add("X-Forwarded-Proto", o.proto)

	hops := make([]string, 0, len(chain)+2)
	for _, line := range chain {
		if line = textproto.TrimString(line); line != "" {
			hops = append(hops, line)
		}
	}
	hops = append(hops, o.client)
	if o.listener != "" {
		hops = append(hops, o.listener)
	}
	add(forwarded, strings.Join(hops, ", "))

	if len(gone) > 0 {
		add("Via", strings.Join(gone, ", ")+", "+via)
	} else {
		add("Via", via)
	}
}

// reserved tells whether a client may not send that header to an app. CGI and
// WSGI make HTTP_X_APPENGINE_CITY of X-Appengine-City and X_Appengine_City
// alike, so that an underscore would walk around the list.
func reserved(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return strings.HasPrefix(name, "X-Google-") || platformNames[name] || forwardingNames[name]
}

// dropHops removes what belongs to one connection, also what Connection names.
func dropHops(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopNames {
		delete(h, name)
	}
}

// hasToken tells whether a comma-separated list in header lines has a token.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(part), token) {
				return true
			}
		}
	}
	return false
}

// continueTrace is the trace header an instance gets, "TRACE/SPAN;o=OPTIONS",
// and the trace alone. A well-formed one of the client is continued: same
// trace, our span. What is not well-formed is as good as none.
func continueTrace(client string, fresh [16]byte, span uint64) (header, trace string) {
	trace, options := parseTrace(client)
	if trace == "" {
		trace = hex.EncodeToString(fresh[:])
	}
	header = trace + "/" + strconv.FormatUint(span, 10)
	if options != "" {
		header += ";o=" + options
	}
	return header, trace
}

// parseTrace reads TRACE_ID[/SPAN_ID][;o=OPTIONS]: 32 hex digits that are not
// all zero, a decimal number, and a small one.
func parseTrace(s string) (trace, options string) {
	if len(s) < 32 || len(s) > len("0123456789abcdef0123456789abcdef/18446744073709551615;o=3") {
		return "", ""
	}
	zero := true
	for i := range 32 {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return "", ""
		}
		zero = zero && c == '0'
	}
	if zero {
		return "", ""
	}
	rest := s[32:]
	span, found := strings.CutPrefix(rest, "/")
	if found {
		span, rest, found = strings.Cut(span, ";")
		if _, err := strconv.ParseUint(span, 10, 64); err != nil {
			return "", ""
		}
		if found {
			rest = ";" + rest
		}
	}
	if rest != "" {
		options, found = strings.CutPrefix(rest, ";o=")
		if !found || len(options) != 1 || options[0] < '0' || options[0] > '3' {
			return "", ""
		}
	}
	return strings.ToLower(s[:32]), options
}
