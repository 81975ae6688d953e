package router

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

const (
	forwarded = "X-Forwarded-For"

	strictTransport = "Strict-Transport-Security"
	via             = "1.1 holdfast" // RFC 9110, 7.6.3: a gateway must say so towards the instance
)

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
	parent           string // value of traceparent; "": it goes through as it came
	stateless        bool   // tracestate, if there is one, belongs to no trace
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
	if o.stateless {
		delete(h, traceState)
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
	if o.parent != "" {
		add(traceParent, o.parent)
	}
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

// reserved tells whether a client may not send that header to an app: those that
// App Engine documents, those that older libraries look at, and whatever else
// begins like them and could be taken for the platform's word. CGI and
// WSGI make HTTP_X_APPENGINE_CITY of X-Appengine-City and X_Appengine_City
// alike, so that an underscore would walk around the list.
func reserved(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return strings.HasPrefix(name, "X-Google-") || strings.HasPrefix(name, "X-Appengine-") || forwardingNames[name]
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

// dropTrailers takes out of a client's trailers what it could not say in headers:
// there are apps that see no difference.
func dropTrailers(h http.Header) {
	for name := range h {
		if reserved(name) || name == "Host" || name == "Content-Length" || slices.Contains(hopNames, name) {
			delete(h, name)
		}
	}
}

// checkAnswer refuses headers that one client would read otherwise than another:
// net/http reads them from an app whatever bytes they have.
func checkAnswer(h http.Header) error {
	for name, values := range h {
		for _, v := range values {
			for i := range len(v) {
				if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
					return fmt.Errorf("instance's header %.100q has a control byte in it", name)
				}
			}
		}
	}
	return nil
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
