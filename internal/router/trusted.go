package router

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
)

// Where other proxies stand before us, they tell in X-Forwarded-For and
// X-Forwarded-Proto who came and how. Anybody can write these, so that they are
// believed of trusted addresses alone, and for as long as the chain, read from
// its end, consists of such.

const forwardedProto = "X-Forwarded-Proto"

// unknownClient stands for who comes over a Unix socket and is told of by nobody:
// the word that chains have for that (RFC 7239, 6).
const unknownClient = "unknown"

// Trusts says whether a peer is a trusted proxy. One over a Unix socket has no
// valid address.
func (r *Router) Trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return r.cfg.TrustedUnix
	}
	for _, p := range r.cfg.Trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// believe replaces what is known of the client by what trusted proxies say: the
// last address in the chain that is none of theirs, and how it came. What stands
// before it in the chain goes on as the client's own word.
func (x *exchange) believe() {
	if len(x.r.cfg.Trusted) == 0 && !x.r.cfg.TrustedUnix || !x.r.Trusts(x.client) {
		return
	}
	h := x.req.Header
	if lines := h[forwardedProto]; len(lines) > 0 {
		last := lines[len(lines)-1]
		last = textproto.TrimString(last[strings.LastIndexByte(last, ',')+1:])
		x.secure = strings.EqualFold(last, "https")
	}
	rest := strings.Join(h[forwarded], ",")
	if rest == "" {
		return
	}
	for rest != "" {
		i := strings.LastIndexByte(rest, ',')
		hop, ok := hopAddress(textproto.TrimString(rest[i+1:]))
		if !ok {
			break // a word that means nothing: whoever wrote it down is the last we know
		}
		x.client, rest = hop, rest[:max(i, 0)]
		if !x.r.Trusts(hop) {
			break
		}
	}
	h[forwarded] = []string{rest}
	if strings.Trim(rest, " \t,") == "" {
		delete(h, forwarded)
	}
}

// hopAddress is the address in a chain, which some proxies write with a port or
// in brackets.
func hopAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// elsewhere is where a plain request is to come by TLS; "" where it need not.
func (x *exchange) elsewhere() string {
	if x.secure || x.r.cfg.Secure == nil {
		return ""
	}
	name, literal, ok := hostname(x.req.Host)
	if !ok || literal {
		return ""
	}
	authority, ok := x.r.cfg.Secure(name)
	if !ok {
		return ""
	}
	// The path as it was written. One of "//" is no host of another's here, as it
	// stands behind ours.
	return "https://" + authority + x.req.URL.RequestURI()
}

// redirect leads a plain request to TLS. Methods with a body keep it.
func (x *exchange) redirect(to string) {
	status := http.StatusPermanentRedirect
	if x.req.Method == http.MethodGet || x.req.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	x.w.Header().Set("Location", to)
	x.refuse(UseTLS, status, "This is served over HTTPS: "+to)
}
