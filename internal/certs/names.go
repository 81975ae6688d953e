package certs

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"
)

// shelf finds certificates by the names in them. It never changes.
type shelf struct {
	byName map[string][]*tls.Certificate // lower case, *.DOMAIN for wildcards; the newest first
	all    []*tls.Certificate            // in the order in which they were given
	files  int                           // how many of all, from the first on, are of files
	chosen map[string]*tls.Certificate   // what a name gets before all others
}

// newShelf takes certificates whose Leaf is parsed.
func newShelf(all []*tls.Certificate, files int, chosen map[string]*tls.Certificate) *shelf {
	s := &shelf{byName: map[string][]*tls.Certificate{}, all: all, files: files, chosen: chosen}
	for _, c := range all {
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.byName[name] = append(s.byName[name], c)
		}
		for _, ip := range c.Leaf.IPAddresses {
			s.byName[ip.String()] = append(s.byName[ip.String()], c)
		}
	}
	for _, list := range s.byName {
		slices.SortStableFunc(list, func(a, b *tls.Certificate) int { return b.Leaf.NotBefore.Compare(a.Leaf.NotBefore) })
	}
	return s
}

// find is the best certificate for a name that a client can use: the one that
// was chosen for it, else one for just that name before one for all beside it,
// and of several the newest that is valid. nil if there is none.
func (s *shelf) find(hello *tls.ClientHelloInfo, name string, now time.Time) *tls.Certificate {
	if name == "" {
		name = localName(hello)
	}
	good := func(c *tls.Certificate) bool {
		return !now.Before(c.Leaf.NotBefore) && now.Before(c.Leaf.NotAfter) && hello.SupportsCertificate(c) == nil
	}
	for _, n := range []string{name, beside(name)} {
		if c := s.chosen[n]; c != nil && good(c) {
			return c
		}
	}
	for _, n := range []string{name, beside(name)} {
		for _, c := range s.byName[n] {
			if good(c) {
				return c
			}
		}
	}
	return nil
}

// covers says whether there is a certificate for a name, valid or not.
func (s *shelf) covers(name string) bool {
	return len(s.byName[name]) > 0 || len(s.byName[beside(name)]) > 0
}

// beside is the wildcard that stands for a name: *.example.org for
// a.example.org, and for no name below (RFC 9525, 6.3).
func beside(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return "*." + rest
}

// localName is the address that a client came to which names none.
func localName(hello *tls.ClientHelloInfo) string {
	if hello.Conn == nil {
		return ""
	}
	return hostOf(hello.Conn.LocalAddr())
}
