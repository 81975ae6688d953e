// Package certs knows which certificate a name gets: one from files, one that an
// operator uploaded, or one that a local authority makes on the spot. It answers
// handshakes and knows nothing of what is served under those names, but for what
// it is told. Start at Set.Get, then names.go.
package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Config says where certificates come from. Its zero value has none.
type Config struct {
	Files []Files    // certificates that lie in files
	Local *Authority // makes certificates for names of this machine; nil: nobody does
	Log   *slog.Logger
}

// Set is the certificates of a server. Make one with New; its methods may be
// called from several goroutines.
type Set struct {
	// Set by New, then constant.
	cfg   Config
	local *issued // nil: without a local authority

	files atomic.Pointer[shelf]
	read  []reading // owned by Run after New
}

// New reads the certificates that lie in files. It starts nothing.
func New(cfg Config) (*Set, error) {
	s := &Set{cfg: cfg}
	if cfg.Local != nil {
		var err error
		if s.local, err = newIssued(cfg.Local); err != nil {
			return nil, err
		}
	}
	for _, f := range cfg.Files {
		r := reading{files: f}
		if err := r.read(); err != nil {
			return nil, err
		}
		s.read = append(s.read, r)
	}
	s.put()
	return s, nil
}

// put makes what was read the certificates in use.
func (s *Set) put() {
	var all []*tls.Certificate
	for _, r := range s.read {
		all = append(all, r.pair)
	}
	s.files.Store(newShelf(all))
}

// Get is for tls.Config: the certificate of the name that a client asks for.
// What lies in files comes before what is made, as somebody wanted it so.
func (s *Set) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c := s.files.Load().find(hello, name, time.Now()); c != nil {
		return c, nil
	}
	if s.local != nil {
		return s.local.get(hello, name)
	}
	if c := s.files.Load().first; c != nil {
		return c, nil // a wrong name, which clients explain better than no answer
	}
	return nil, fmt.Errorf("there is no certificate for %q", name)
}

// Covers says whether a host name has a certificate, or gets one as soon as
// somebody asks: whether to lead its clients to TLS.
func (s *Set) Covers(name string) bool {
	return s.files.Load().covers(name) || s.local != nil && s.local.authority.signs(name)
}

// Run looks after the certificates until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(filesLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.reread()
		case <-ctx.Done():
			return nil
		}
	}
}
