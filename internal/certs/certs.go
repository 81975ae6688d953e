// Package certs knows which certificate a name gets: one that we were given, by
// files or by an operator, one that is obtained from a public authority, or one
// that a local authority makes on the spot. It answers handshakes and knows nothing of what is served under those
// names, but for what it is told. Start at Set.Get, then names.go and acme.go.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"

	"holdfast/internal/app"
)

// Config says where certificates come from. Its zero value has none.
type Config struct {
	Files []Files    // certificates that lie in files
	ACME  ACME       // obtains certificates
	Local *Authority // makes certificates for names of this machine; nil: nobody does
	Log   *slog.Logger
}

// Set is the certificates of a server. Make one with New; its methods may be
// called from several goroutines.
type Set struct {
	// Set by New, then constant.
	cfg    Config
	local  *issued // nil: without a local authority
	public *public // nil: without ACME

	shelf atomic.Pointer[shelf] // of what we were given: by files, and by Give

	mu    sync.Mutex // guards the following
	read  []reading
	given []Given
	taken []*tls.Certificate // of given, those that can be used
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
	if cfg.ACME.Email != "" {
		s.public = newPublic(cfg.ACME, cfg.Log)
	}
	for _, f := range cfg.Files {
		r := reading{files: f}
		if err := r.read(); err != nil {
			return nil, err
		}
		s.read = append(s.read, r)
	}
	s.putLocked()
	return s, nil
}

// putLocked makes what was read and given the certificates in use. Called with
// mu held, or by New.
func (s *Set) putLocked() {
	var all []*tls.Certificate
	for _, r := range s.read {
		all = append(all, r.pair)
	}
	chosen := map[string]*tls.Certificate{}
	for i, c := range s.taken {
		if c == nil {
			continue
		}
		all = append(all, c)
		for _, name := range s.given[i].Chosen {
			chosen[name] = c
		}
	}
	s.shelf.Store(newShelf(all, len(s.read), chosen))
}

// Entry tells of one certificate, or of a name that should have one.
type Entry struct {
	Names   []string
	From    string    // file, uploaded, acme
	Issuer  string    // who signed it; "": there is none
	Until   time.Time // zero: there is none
	Problem string    // why there is none, or no newer one
	Next    time.Time // when it is tried again; zero: nobody knows, or nothing is wrong
}

// List tells of the certificates there are, but for those that a local authority
// makes.
func (s *Set) List() []Entry {
	var all []Entry
	shelf := s.shelf.Load()
	for i, c := range shelf.all {
		e := Entry{Names: c.Leaf.DNSNames, From: "file", Issuer: issuerOf(c.Leaf), Until: c.Leaf.NotAfter}
		if i >= shelf.files {
			e.From = "uploaded"
		}
		all = append(all, e)
	}
	if s.public != nil {
		all = append(all, s.public.list()...)
	}
	return all
}

// issuerOf is who signed a certificate, as people call it.
func issuerOf(c *x509.Certificate) string {
	if of := c.Issuer; len(of.Organization) > 0 && of.Organization[0] != of.CommonName {
		return strings.TrimSpace(of.Organization[0] + " " + of.CommonName)
	}
	return c.Issuer.CommonName
}

// Get is for tls.Config: the certificate of the name that a client asks for. One
// that somebody gave us comes before one that we obtain, and that before one
// that is made. It may have to be waited for.
func (s *Set) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	given := s.shelf.Load()
	if c := given.find(hello, name, time.Now()); c != nil && !challenged(hello) {
		return c, nil
	}
	err := fmt.Errorf("there is no certificate for %q", name)
	if s.public != nil {
		c, failed := s.public.get(hello, name)
		if failed == nil {
			return c, nil
		}
		err = failed
	}
	if s.local != nil {
		return s.local.get(hello, name)
	}
	if given.files > 0 {
		return given.all[0], nil // a wrong name, which clients explain better than no answer
	}
	s.cfg.Log.Debug("no certificate", "names", name, "err", err)
	return nil, err
}

// challenged says whether an authority asks, and no client.
func challenged(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol})
}

// Challenge answers the questions of an authority that come as plain requests;
// it is false for all others, which are not touched.
func (s *Set) Challenge(w http.ResponseWriter, r *http.Request) bool {
	return s.public != nil && s.public.challenge(w, r)
}

// Replace revokes the certificate of a name that was obtained, as after its key
// was stolen, and obtains another, which is used from the next handshake on;
// until then the old one is, better than none. It returns when that is done. A
// name without such a certificate is app.ErrNotFound.
func (s *Set) Replace(ctx context.Context, name string) error {
	if s.public == nil {
		return fmt.Errorf("certificate of %s: %w", name, app.ErrNotFound)
	}
	return s.public.replace(ctx, name)
}

// Covers says whether a host name has a certificate, or gets one as soon as
// somebody asks: whether to lead its clients to TLS.
func (s *Set) Covers(name string) bool {
	return s.shelf.Load().covers(name) || s.public != nil && s.public.covers(name) || s.local != nil && s.local.authority.signs(name)
}

// Run looks after the certificates until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	var looking sync.WaitGroup
	defer looking.Wait()
	if s.public != nil {
		looking.Go(func() { s.public.run(ctx) })
	}
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
