package server

import (
	"context"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"

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
	if s.certs, err = certs.New(*from); err != nil {
		return err
	}
	s.spoken = edge.TLSConfig(s.certs.Get, from.ACME.Protocols()...)
	return nil
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
	for _, l := range s.cfg.TLS {
		all = append(all, edge.TLS(relayed(l), s.spoken, tunnel.TLSBase))
	}
	return all
}

// adminListeners are where operators arrive.
func (s *Server) adminListeners() []net.Listener {
	all := slices.Clone(s.cfg.Admin)
	for _, l := range s.cfg.AdminTLS {
		all = append(all, edge.TLS(l, s.spoken, nil))
	}
	return all
}

// giveCerts has the certificates used that operators uploaded, as they are now
// and whenever they change, until ctx ends.
func (s *Server) giveCerts(ctx context.Context) error {
	for {
		changed := s.wishes.Changed()
		var all []certs.Given
		apps := s.wishes.Wishes().Apps
		for _, id := range slices.Sorted(maps.Keys(apps)) {
			for _, c := range apps[id].Certificates {
				g := certs.Given{Chain: c.Chain, Key: string(c.Key)}
				for name, chosen := range apps[id].Secured {
					if chosen == c.ID {
						g.Chosen = append(g.Chosen, name)
					}
				}
				slices.Sort(g.Chosen)
				all = append(all, g)
			}
		}
		s.certs.Give(all)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
