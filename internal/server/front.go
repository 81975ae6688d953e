package server

import (
	"net"
	"net/http"
	"path/filepath"

	"holdfast/internal/certs"
	"holdfast/internal/edge"
	"holdfast/internal/router"
	"holdfast/internal/tunnel"
)

// front is what strangers meet: the router, but for the questions of an
// authority that is asked for certificates.
type front struct {
	*router.Router // also edge.Ahead
	certs          *certs.Set
}

func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil && f.certs.Challenge(w, r) {
		return
	}
	f.Router.ServeHTTP(w, r)
}

// openCerts prepares the certificates, which are for what the router serves.
func (s *Server) openCerts() (err error) {
	from := &s.cfg.Certs
	from.Log = s.cfg.Log.With("room", "certs")
	from.ACME.Dir = filepath.Join(s.cfg.Data, "certificates")
	from.ACME.Domains, from.ACME.Region, from.ACME.Serves = s.cfg.Domains, s.cfg.Region, s.router.Serves
	from.ACME.HTTPPort, from.ACME.TLSPort = firstPort(s.cfg.Plain), firstPort(s.cfg.TLS)
	s.certs, err = certs.New(*from)
	return err
}

// firstPort is the port of the first listener that has one; 0 if none has.
func firstPort(ls []net.Listener) int {
	for _, l := range ls {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			return a.Port
		}
	}
	return 0
}

// secureAt is for router.Config: where a host's clients are to use TLS. nil
// where that is not to be had.
func (s *Server) secureAt() func(host string) (authority string, ok bool) {
	if !s.cfg.Redirect || len(s.cfg.TLS) == 0 {
		return nil
	}
	suffix := portSuffix("https", s.cfg.TLS[0].Addr())
	return func(host string) (string, bool) { return host + suffix, s.certs.Covers(host) }
}

// portSuffix is what follows a host name in a URL of a listener's: nothing for
// the scheme's usual port, and for Unix sockets, before which stands somebody
// else.
func portSuffix(scheme string, a net.Addr) string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return ""
	}
	return ":" + port
}

// frontListeners are where strangers arrive, with what they have to speak before
// requests: that of trusted proxies, then TLS.
func (s *Server) frontListeners() (all []net.Listener) {
	log := s.cfg.Log.With("room", "edge")
	relayed := func(l net.Listener) net.Listener {
		if len(s.cfg.Trusted) == 0 && !s.cfg.TrustedUnix {
			return l
		}
		return edge.Relayed(l, s.router.Trusts, log)
	}
	for _, l := range s.cfg.Plain {
		all = append(all, relayed(l))
	}
	spoken := edge.TLSConfig(s.certs.Get, s.cfg.Certs.ACME.Protocols()...)
	for _, l := range s.cfg.TLS {
		all = append(all, edge.TLS(relayed(l), spoken, tunnel.TLSBase))
	}
	return all
}
