package certs

import (
	"crypto/tls"
	"reflect"
	"strings"
)

// Given is a certificate that an operator uploaded.
type Given struct {
	Chain, Key string   // PEM
	Chosen     []string // names that get this one whatever else there is for them, lower case, or *.DOMAIN
}

// Give replaces the certificates that operators uploaded, for handshakes from
// now on. One that cannot be used is told in the log and left out; whoever
// takes them in checks them before.
func (s *Set) Give(all []Given) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(all, s.given) {
		return // most changes of what was asked for are about something else
	}
	s.given, s.taken = all, make([]*tls.Certificate, len(all))
	for i, g := range all {
		pair, err := tls.X509KeyPair([]byte(g.Chain), []byte(g.Key))
		if err != nil {
			s.cfg.Log.Warn("use an uploaded certificate", "err", err)
			continue
		}
		s.taken[i] = &pair
		s.cfg.Log.Info("certificate", "from", "uploaded", "names", strings.Join(pair.Leaf.DNSNames, ","), "until", pair.Leaf.NotAfter)
	}
	s.putLocked()
}
