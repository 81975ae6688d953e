package googleapi

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
)

// The certificates that operators bring for an application's names. They change
// at once, as the firewall's rules do. A private key arrives in clear JSON; it is
// kept where only we read, and never told again, nor anything of it.

const (
	// certificatesMax bounds an application's certificates.
	certificatesMax = 100

	// chainBytesMax and chainMax bound one and what it stands on; namesMax what it
	// may be for. Certificates with the most names, CDNs', have some hundred.
	chainBytesMax = 64 << 10
	chainMax      = 10
	namesMax      = 250

	// rsaBitsMin is the shortest RSA key that clients still take.
	rsaBitsMin = 2048
)

type wireCertificate struct {
	Name        string    `json:"name,omitempty"`
	ID          string    `json:"id,omitempty"`
	DisplayName string    `json:"displayName,omitempty"`
	DomainNames []string  `json:"domainNames,omitempty"`
	ExpireTime  string    `json:"expireTime,omitempty"`
	Raw         *wirePair `json:"certificateRawData,omitempty"`

	// Told in the full view alone.
	Mappings      []string `json:"visibleDomainMappings,omitempty"`
	MappingsCount int      `json:"domainMappingsCount,omitempty"`
}

type wirePair struct {
	Public  string     `json:"publicCertificate,omitempty"`
	Private app.Secret `json:"privateKey,omitempty"`
}

func certificateOf(a app.Application, c app.Certificate, full bool) wireCertificate {
	w := wireCertificate{
		Name: "apps/" + a.ID + "/authorizedCertificates/" + c.ID, ID: c.ID, DisplayName: c.Name,
		DomainNames: c.Names, ExpireTime: stamp(c.Until),
	}
	if full {
		w.Raw = &wirePair{Public: c.Chain}
		for _, domain := range securedBy(a, c.ID) {
			w.Mappings = append(w.Mappings, "apps/"+a.ID+"/domainMappings/"+domain)
		}
		w.MappingsCount = len(w.Mappings)
	}
	return w
}

// securedBy are the mapped names that were given a certificate, sorted.
func securedBy(a app.Application, id string) (domains []string) {
	for domain, given := range a.Secured {
		if given == id {
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	return domains
}

// certificate reads a pair, and refuses one that no client would take.
func (w *wirePair) certificate(now time.Time) (c app.Certificate, err error) {
	const public, private = "certificate.certificateRawData.publicCertificate", "certificate.certificateRawData.privateKey"
	if w == nil || w.Public == "" || w.Private == "" {
		return c, wrong("certificate.certificateRawData", "want publicCertificate and privateKey, PEM both")
	}
	if len(w.Public) > chainBytesMax || len(w.Private) > chainBytesMax {
		return c, wrong("certificate.certificateRawData", "it has more than %d bytes", chainBytesMax)
	}
	var chain []*x509.Certificate
	for rest := []byte(w.Public); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		one, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			return c, wrong(public, "it holds a %s; want certificates alone", shown(block.Type))
		case err != nil:
			return c, wrong(public, "certificate %d cannot be read: %v", len(chain)+1, err)
		}
		if chain = append(chain, one); len(chain) > chainMax {
			return c, wrong(public, "there are more than %d certificates: want the one of your names, then those it stands on", chainMax)
		}
	}
	if len(chain) == 0 {
		return c, wrong(public, "it holds no certificate: want PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	for i, one := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(one); err != nil {
			return c, wrong(public, "certificate %d was not signed by certificate %d: put yours first, then each one's signer", i+1, i+2)
		}
	}
	leaf := chain[0]
	pair, err := tls.X509KeyPair([]byte(w.Public), []byte(w.Private))
	if err != nil {
		// Its errors say what is wrong and nothing of what the key is.
		return c, wrong(private, "it is not the key of the certificate: %s; want an unencrypted RSA or ECDSA key as PEM", strings.TrimPrefix(err.Error(), "tls: "))
	}
	switch key := pair.PrivateKey.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < rsaBitsMin {
			return c, wrong(private, "an RSA key of %d bits is too short for today's clients: want %d or more", bits, rsaBitsMin)
		}
	case *ecdsa.PrivateKey:
	default:
		return c, wrong(private, "want an RSA or ECDSA key")
	}
	switch {
	case !now.Before(leaf.NotAfter):
		return c, wrong(public, "it expired on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	case len(leaf.DNSNames) == 0:
		return c, wrong(public, "it names no host: clients look at its subject alternative names alone")
	case len(leaf.DNSNames) > namesMax:
		return c, wrong(public, "it is for %d names, and %d is the most", len(leaf.DNSNames), namesMax)
	}
	for _, name := range leaf.DNSNames {
		c.Names = append(c.Names, strings.ToLower(name))
	}
	slices.Sort(c.Names)
	c.Names = slices.Compact(c.Names)
	c.Chain, c.Key, c.Until = w.Public, w.Private, leaf.NotAfter
	return c, nil
}

func checkDisplayName(name string) error {
	if len(name) > nameMax {
		return wrong("certificate.displayName", "it is longer than %d bytes", nameMax)
	}
	return nil
}

func (d *door) listCertificates(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	full, err := c.view("BASIC_CERTIFICATE", "FULL_CERTIFICATE")
	if err != nil {
		return nil, err
	}
	some, next, err := page(c, "pageSize", pageMax, a.Certificates, func(c app.Certificate) string { return c.ID })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Certificates []wireCertificate `json:"certificates,omitempty"`
		Next         string            `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, one := range some {
		answer.Certificates = append(answer.Certificates, certificateOf(a, one, full))
	}
	return answer, nil
}

// theCertificate is the certificate that a request is about.
func (d *door) theCertificate(c *call) (app.Application, app.Certificate, error) {
	a, err := d.application(c)
	if err != nil {
		return a, app.Certificate{}, err
	}
	for _, one := range a.Certificates {
		if one.ID == c.path["certificate"] {
			return a, one, nil
		}
	}
	return a, app.Certificate{}, missing("certificate " + shown(c.path["certificate"]))
}

func (d *door) getCertificate(c *call) (any, error) {
	a, one, err := d.theCertificate(c)
	if err != nil {
		return nil, err
	}
	full, err := c.view("BASIC_CERTIFICATE", "FULL_CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return certificateOf(a, one, full), nil
}

func (d *door) createCertificate(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wireCertificate
	if err := c.body(&w); err != nil {
		return nil, err
	}
	if err := checkDisplayName(w.DisplayName); err != nil {
		return nil, err
	}
	one, err := w.Raw.certificate(time.Now())
	if err != nil {
		return nil, err
	}
	one.Name = w.DisplayName
	return d.setCertificates(c, a.ID, func(a *app.Application, all []app.Certificate) ([]app.Certificate, error) {
		if len(all) >= certificatesMax {
			return nil, fmt.Errorf("there are %d certificates, which is the most: %w", certificatesMax, app.ErrInvalid)
		}
		one.ID = newCertificateID(all)
		c.path["certificate"] = one.ID
		return append(all, one), nil
	})
}

// newCertificateID is a number that no certificate has.
func newCertificateID(all []app.Certificate) string {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(90_000_000))
		if err != nil {
			panic(err) // crypto/rand.Reader never fails
		}
		id := n.Add(n, big.NewInt(10_000_000)).String()
		if !slices.ContainsFunc(all, func(c app.Certificate) bool { return c.ID == id }) {
			return id
		}
	}
}

func (d *door) patchCertificate(c *call) (any, error) {
	a, was, err := d.theCertificate(c)
	if err != nil {
		return nil, err
	}
	var w wireCertificate
	masks, err := c.patch(&w)
	if err != nil {
		return nil, err
	}
	to := was
	for _, m := range masks {
		switch m {
		case "displayName":
			if err := checkDisplayName(w.DisplayName); err != nil {
				return nil, err
			}
			to.Name = w.DisplayName
		case "certificateRawData":
			pair, err := w.Raw.certificate(time.Now())
			if err != nil {
				return nil, err
			}
			pair.ID, pair.Name = to.ID, to.Name
			to = pair
		default:
			return nil, wrong("updateMask", "%s: want displayName or certificateRawData", shown(m))
		}
	}
	for _, domain := range securedBy(a, to.ID) {
		if !covers(to, domain) {
			return nil, wrong("certificate.certificateRawData", "it is not for %s, whose mapping uses this certificate", domain)
		}
	}
	return d.setCertificates(c, a.ID, func(_ *app.Application, all []app.Certificate) ([]app.Certificate, error) {
		i := slices.IndexFunc(all, func(c app.Certificate) bool { return c.ID == to.ID })
		if i < 0 {
			return nil, fmt.Errorf("certificate %s: %w", to.ID, app.ErrNotFound)
		}
		all[i] = to
		return all, nil
	})
}

func (d *door) deleteCertificate(c *call) (any, error) {
	a, was, err := d.theCertificate(c)
	if err != nil {
		return nil, err
	}
	_, err = d.setCertificates(c, a.ID, func(a *app.Application, all []app.Certificate) ([]app.Certificate, error) {
		if used := securedBy(*a, was.ID); len(used) > 0 {
			return nil, fmt.Errorf("the mapping of %s uses certificate %s; give it another with gcloud app domain-mappings update, or none with --no-certificate-id: %w", strings.Join(used, ", "), was.ID, app.ErrBusy)
		}
		return slices.DeleteFunc(all, func(c app.Certificate) bool { return c.ID == was.ID }), nil
	})
	return struct{}{}, err
}

// setCertificates changes an application's certificates, in one transaction, and
// answers with the one that the path is about. change gets a copy of them.
func (d *door) setCertificates(c *call, project string, change func(a *app.Application, all []app.Certificate) ([]app.Certificate, error)) (any, error) {
	var now app.Application
	o, err := d.Control.ChangeApplication(project, c.by, func(a *app.Application) error {
		all, err := change(a, slices.Clone(a.Certificates))
		if err == nil {
			slices.SortFunc(all, func(a, b app.Certificate) int { return strings.Compare(a.ID, b.ID) })
			a.Certificates = all
			now = *a
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.wait(c, o, quickWait)
	for _, one := range now.Certificates {
		if one.ID == c.path["certificate"] {
			return certificateOf(now, one, true), nil
		}
	}
	return struct{}{}, nil // it was deleted
}

// covers says whether a certificate is for a host name, or for all those that a
// mapping of *.DOMAIN is about.
func covers(c app.Certificate, name string) bool {
	if slices.Contains(c.Names, name) {
		return true
	}
	_, parent, ok := strings.Cut(name, ".")
	return ok && !strings.HasPrefix(name, "*.") && slices.Contains(c.Names, "*."+parent)
}
