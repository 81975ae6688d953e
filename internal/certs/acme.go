package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"holdfast/internal/app"
)

// Certificates from a public authority, by ACME (RFC 8555). certmagic speaks the
// protocol, keeps what it obtains and renews it in time; here is decided for
// which names, and when: for the base domains at once, for any other name when
// somebody asks for it, since then it points here, and only if it is ours.

const (
	// demandWait is how long a handshake waits for a certificate that is being
	// obtained, which takes some seconds; afterwards it fails, and the next finds
	// it there. Shorter than the edge's patience with a handshake, 10 s.
	demandWait = 8 * time.Second

	// obtainTime bounds obtaining one certificate, with the hook's work.
	obtainTime = 10 * time.Minute

	// baseLook is how often is looked whether the base domains have theirs. After
	// a failure the pause below decides.
	baseLook = time.Minute

	// cleanEvery is how often what ended long ago is removed from the disk, and
	// cleanAfter how long ago that is.
	cleanEvery = 24 * time.Hour
	cleanAfter = 30 * 24 * time.Hour
)

// ACME says how certificates are obtained. Its zero value obtains none.
type ACME struct {
	Dir     string         // where they, their keys and the account's key are kept, for us alone to read
	Email   string         // whom the authority may write to; "": nothing is obtained
	CA      string         // URL of the authority's directory; "" is Let's Encrypt's
	Roots   *x509.CertPool // who vouches for the authority's own server; nil: whom the system trusts
	Domains []string       // base domains: obtained before anybody asks
	Region  string         // REGION_ID of names below them
	Hook    string         // program that writes DNS records, for the base domains: one certificate for all names below; "": none

	// The ports of this machine that ports 80 and 443 of the names lead to, by
	// which the authority sees that they are ours; 0: none does.
	HTTPPort, TLSPort int

	// Serves says whether a name is ours. It is asked for each name that a
	// stranger names, and must be quick.
	Serves func(name string) bool

	// RenewLook is how often is looked whether a certificate has come of age to
	// be renewed, which it has when a third of its life is left, or when the
	// authority says so; 0 means every ten minutes.
	RenewLook time.Duration
}

// Protocols are what Get answers by itself, for edge.TLSConfig.
func (a ACME) Protocols() []string {
	if a.Email == "" || a.TLSPort == 0 {
		return nil
	}
	return []string{acmez.ACMETLS1Protocol}
}

// public obtains certificates.
type public struct {
	// Set by newPublic, then constant.
	cfg   ACME
	log   *slog.Logger
	slots chan struct{} // one for each that is obtained at once
	hook  chan struct{} // the same for those that need the hook, whose records must not meet

	// Set when run begins, then constant; closed tells so.
	running chan struct{}
	ctx     context.Context
	cache   *certmagic.Cache
	asked   *issuer // proves by the ports that names lead here
	written *issuer // proves by records in the DNS; nil without a hook

	mu     sync.Mutex // guards the following
	names  map[string]*wish
	have   map[string]bool // subjects of certificates that were read or obtained
	recent []time.Time     // when names that nobody had before were asked for
	jobs   sync.WaitGroup
}

// issuer is certmagic's half for one kind of proof.
type issuer struct {
	config *certmagic.Config
	acme   *certmagic.ACMEIssuer
}

func newPublic(cfg ACME, log *slog.Logger) *public {
	return &public{
		cfg: cfg, log: log,
		slots: make(chan struct{}, obtainedAtOnce), hook: make(chan struct{}, 1),
		running: make(chan struct{}), names: map[string]*wish{}, have: map[string]bool{},
	}
}

// run obtains and renews until ctx ends.
func (p *public) run(ctx context.Context) {
	storage := &certmagic.FileStorage{Path: p.cfg.Dir}
	p.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(c certmagic.Certificate) (*certmagic.Config, error) {
			if len(c.Names) == 0 {
				return p.asked.config, nil
			}
			return p.issuer(c.Names[0]).config, nil
		},
		RenewCheckInterval: p.cfg.RenewLook,
		Logger:             zap.NewNop(), // what matters is an event, and told by us
	})
	defer p.cache.Stop()
	p.asked = p.newIssuer(storage, nil)
	if p.cfg.Hook != "" {
		p.written = p.newIssuer(storage, hook{p.cfg.Hook})
	}
	p.ctx = ctx
	close(p.running)
	defer p.jobs.Wait()

	look, clean := time.NewTicker(baseLook), time.NewTicker(cleanEvery)
	defer look.Stop()
	defer clean.Stop()
	for {
		for _, name := range p.base() {
			if len(p.own(name)) == 0 {
				_, _ = p.want(name) // a failure is told when it happens
			}
		}
		select {
		case <-look.C:
		case <-clean.C:
			err := certmagic.CleanStorage(ctx, storage, certmagic.CleanStorageOptions{
				Logger: zap.NewNop(), OCSPStaples: true, ExpiredCerts: true, ExpiredCertGracePeriod: cleanAfter,
			})
			if err != nil && ctx.Err() == nil {
				p.log.Warn("remove old certificates", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (p *public) newIssuer(storage certmagic.Storage, dns acmez.Solver) *issuer {
	config := certmagic.New(p.cache, certmagic.Config{
		Storage: storage, OnEvent: p.event, Logger: zap.NewNop(),
		// The default waits for the network at each start, for an answer that most
		// authorities have ceased to give.
		KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
	})
	i := &issuer{config: config}
	ca := p.cfg.CA
	if ca == "" {
		ca = certmagic.LetsEncryptProductionCA
	}
	i.acme = certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{
		CA: ca, Email: p.cfg.Email, Agreed: true, TrustedRoots: p.cfg.Roots,
		// Where we listen ourselves, certmagic sees that and leaves it to us.
		AltHTTPPort: p.cfg.HTTPPort, AltTLSALPNPort: p.cfg.TLSPort,
		DisableHTTPChallenge: p.cfg.HTTPPort == 0, DisableTLSALPNChallenge: p.cfg.TLSPort == 0,
		DNS01Solver: dns,
		Logger:      zap.NewNop(),
	})
	config.Issuers = []certmagic.Issuer{i.acme}
	return i
}

// base are the names that certificates are obtained for before anybody asks.
func (p *public) base() (names []string) {
	for _, d := range p.cfg.Domains {
		if !obtainable(d) {
			continue
		}
		names = append(names, d)
		if p.cfg.Hook != "" {
			names = append(names, "*."+d)
		}
	}
	return names
}

// subject is the name of the certificate that a name gets: itself, or where the
// hook writes records the one for all beside it.
func (p *public) subject(name string) string {
	if p.cfg.Hook == "" {
		return name
	}
	for _, d := range p.cfg.Domains {
		if all := beside(name); all == "*."+d || all == "*."+p.cfg.Region+".r."+d {
			return all
		}
	}
	return name
}

// issuer is who obtains the certificate of a subject.
func (p *public) issuer(subject string) *issuer {
	if p.written != nil {
		name := strings.TrimPrefix(subject, "*.")
		for _, d := range p.cfg.Domains {
			if name == d || strings.HasSuffix(name, "."+d) {
				return p.written
			}
		}
	}
	return p.asked
}

// obtainable says whether a public authority could know a name.
func obtainable(name string) bool {
	return hostShape.MatchString(name) && strings.Contains(name, ".") && !strings.HasSuffix(name, ".localhost") && strings.ContainsAny(lastLabel(name), "abcdefghijklmnopqrstuvwxyz")
}

func lastLabel(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// ours says whether a subject is one that we want a certificate for.
func (p *public) ours(subject string) bool {
	return slices.Contains(p.base(), subject) || strings.HasPrefix(subject, "*.") && p.issuer(subject) == p.written ||
		obtainable(subject) && p.cfg.Serves(subject)
}

// get is the certificate of a name that a client asks for, which it may have to
// wait for.
func (p *public) get(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	select {
	case <-p.running:
	default:
		return nil, errors.New("certificates are not ready yet")
	}
	if slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		return p.asked.config.GetCertificate(hello)
	}
	if name == "" {
		base := p.base()
		if len(base) == 0 {
			return nil, errors.New("the client names no host")
		}
		named := *hello
		named.ServerName, name, hello = base[0], base[0], &named
	}
	if c := p.find(hello, name); c != nil {
		return c, nil
	}
	subject := p.subject(name)
	if !p.ours(subject) || subject != name && !p.cfg.Serves(name) {
		return nil, fmt.Errorf("%s is not served here", name)
	}
	done, err := p.want(subject)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(hello.Context(), demandWait)
	defer cancel()
	select {
	case <-done:
	case <-wait.Done():
		return nil, fmt.Errorf("the certificate of %s is being obtained: %w", name, wait.Err())
	}
	if c := p.find(hello, name); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no certificate for %s", name)
}

// find is a certificate that is there; nil if none is.
func (p *public) find(hello *tls.ClientHelloInfo, name string) *tls.Certificate {
	if len(p.cache.AllMatchingCertificates(name)) == 0 {
		return nil
	}
	c, err := p.asked.config.GetCertificate(hello)
	if err != nil || c.Leaf == nil {
		return nil
	}
	return c
}

// covers says whether a name has a certificate, or gets one when it is asked for.
func (p *public) covers(name string) bool {
	select {
	case <-p.running:
	default:
		return false
	}
	return obtainable(name) && (p.ours(name) || len(p.cache.AllMatchingCertificates(name)) > 0)
}

// challenge answers a question of the authority's over plain HTTP; it is false
// for any other request.
func (p *public) challenge(w http.ResponseWriter, r *http.Request) bool {
	if !certmagic.LooksLikeHTTPChallenge(r) {
		return false
	}
	select {
	case <-p.running:
		return p.asked.acme.HandleHTTPChallenge(w, r)
	default:
		return false
	}
}

// event is told by certmagic what it does, and may keep it from doing so.
func (p *public) event(ctx context.Context, what string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	err, _ := data["error"].(error)
	switch what {
	case "cert_obtaining":
		if !renewal {
			return p.admit(name, time.Now())
		}
		if !p.ours(name) {
			// It is not wanted any more; who asks again is told so.
			p.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
			p.mu.Lock()
			delete(p.have, name)
			p.mu.Unlock()
			return fmt.Errorf("%s is not served here any more", name)
		}
	case "cached_managed_cert":
		if names, ok := data["sans"].([]string); ok && len(names) > 0 {
			p.mu.Lock()
			p.have[names[0]] = true
			p.mu.Unlock()
		}
	case "cert_obtained":
		p.log.Info("certificate", "from", "acme", "names", name, "renewal", renewal)
		p.forgive(name)
	case "cert_failed":
		if renewal {
			p.log.Warn("certificate not renewed", "names", name, "err", explain(err))
			p.note(name, explain(err), time.Time{})
		}
	case "cert_ocsp_revoked":
		p.log.Warn("certificate revoked, and replaced", "names", data["subjects"])
	}
	return nil
}

// replace is Set.Replace.
func (p *public) replace(ctx context.Context, name string) error {
	select {
	case <-p.running:
	default:
		return errors.New("certificates are not ready yet")
	}
	ctx, cancel := context.WithTimeout(ctx, obtainTime)
	defer cancel()
	subject := p.subject(name)
	config := p.issuer(subject).config
	var old []string
	for _, c := range p.own(subject) {
		old = append(old, c.Hash())
	}
	if len(old) == 0 {
		return fmt.Errorf("certificate of %s: %w", name, app.ErrNotFound)
	}
	if err := config.RevokeCert(ctx, subject, acme.ReasonKeyCompromise, false); err != nil {
		return fmt.Errorf("revoke the certificate of %s: %s: %w", subject, explain(err), app.ErrBusy)
	}
	p.log.Info("certificate revoked", "names", subject)
	if err := config.ObtainCertSync(ctx, subject); err != nil {
		return fmt.Errorf("%s is revoked, and another could not be obtained: %s: %w", subject, explain(err), app.ErrBusy)
	}
	if _, err := config.CacheManagedCertificate(ctx, subject); err != nil {
		return fmt.Errorf("read the certificate of %s: %w", subject, err)
	}
	p.cache.Remove(old)
	return nil
}

// list tells of all certificates that were obtained, and of names that have
// none, by name.
func (p *public) list() []Entry {
	select {
	case <-p.running:
	default:
		return nil
	}
	var all []Entry
	p.mu.Lock()
	have, names := slices.Sorted(maps.Keys(p.have)), slices.Sorted(maps.Keys(p.names))
	wrong := map[string]Entry{}
	for _, name := range names {
		if w := p.names[name]; w.problem != "" {
			wrong[name] = Entry{Names: []string{name}, From: "acme", Problem: w.problem, Next: w.next}
		}
	}
	p.mu.Unlock()
	for _, name := range have {
		for _, c := range p.own(name) {
			all = append(all, Entry{Names: c.Names, From: "acme", Issuer: issuerOf(c.Leaf), Until: c.Leaf.NotAfter, Problem: wrong[name].Problem, Next: wrong[name].Next})
			delete(wrong, name)
		}
	}
	for _, name := range names {
		if e, ok := wrong[name]; ok {
			all = append(all, e)
		}
	}
	return all
}

// own are the certificates in use that were obtained for a subject, and not for
// one that it is among.
func (p *public) own(subject string) []certmagic.Certificate {
	return slices.DeleteFunc(p.cache.AllMatchingCertificates(subject), func(c certmagic.Certificate) bool { return c.Names[0] != subject })
}

// explain says why an authority refused, in its words and without the rest.
func explain(err error) string {
	var p acme.Problem
	if !errors.As(err, &p) {
		return err.Error()
	}
	text := p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	kind := strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
	return fmt.Sprintf("the authority says: %s (%s)%s", text, kind, nextSteps[kind])
}

// nextSteps is what to do about the usual problems (RFC 8555, 6.7).
var nextSteps = map[string]string{
	"dns":          "; let an A or AAAA record of the name lead to this machine",
	"connection":   "; let ports 80 and 443 of the name lead to this machine, through firewalls too",
	"unauthorized": "; somebody else seems to answer by that name: let it, and its ports 80 and 443, lead to this machine",
	"rateLimited":  "; it goes on by itself later",
	"caa":          "; a CAA record of the domain forbids this authority",
}
