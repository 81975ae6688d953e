package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A local authority makes certificates for names that only this machine and its
// neighbours know, which no public one can. Whoever trusts it trusts its key, so
// that it is made to be good for nothing else: its certificate permits such
// names alone.

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	leafRenew     = 30 * 24 * time.Hour // a certificate with less left is made again
	backdate      = time.Hour           // clocks differ

	// leavesMax bounds the certificates that are kept, of 2 KB each; whoever asks
	// for more names has earlier ones made again.
	leavesMax = 1000
)

// Authority is a local certificate authority.
type Authority struct {
	Path string // of its certificate, for people to trust; PEM

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// The names that a local authority signs: those of this machine, of its
// neighbours, and the addresses that networks use among themselves.
var (
	localDomains  = []string{"localhost", "local"}
	localNetworks = []string{
		"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10",
	}
)

// OpenAuthority opens the local authority in dir, making it first if there is
// none. Its key is readable for its owner alone.
func OpenAuthority(dir string) (*Authority, error) {
	whole := filepath.Join(dir, "authority-key.pem") // the key, and its certificate
	text, err := os.ReadFile(whole)
	if errors.Is(err, os.ErrNotExist) {
		if err = makeAuthority(whole); err == nil {
			text, err = os.ReadFile(whole)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("local authority: %s cannot be used (%v): remove it to have a new one made, which has to be trusted again", whole, err)
	}
	if time.Until(pair.Leaf.NotAfter) < leafLife {
		return nil, fmt.Errorf("local authority: %s ends at %s: remove it to have a new one made, which has to be trusted again", whole, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	a := &Authority{Path: filepath.Join(dir, "authority.crt"), cert: pair.Leaf, key: key}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	if had, err := os.ReadFile(a.Path); err != nil || string(had) != string(public) {
		if err := os.WriteFile(a.Path, public, 0o644); err != nil {
			return nil, fmt.Errorf("local authority: %w", err)
		}
	}
	return a, nil
}

// makeAuthority writes a new authority beside its place and links it there: of
// two who make one at once, one wins, and both go on with that.
func makeAuthority(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // only for people, to tell one from another
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: strings.TrimSpace("Holdfast's local authority " + host), Organization: []string{"Holdfast"}},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: localDomains,
	}
	for _, n := range localNetworks {
		_, network, err := net.ParseCIDR(n)
		if err != nil {
			panic(err) // ours
		}
		t.PermittedIPRanges = append(t.PermittedIPRanges, network)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".authority-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(
		pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}),
		f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// serial is a random serial number of 127 bits, positive.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return n.Add(n, big.NewInt(1))
}

// signs says whether the authority makes certificates for a name or an address.
func (a *Authority) signs(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		for _, n := range a.cert.PermittedIPRanges {
			if n.Contains(ip.Unmap().AsSlice()) {
				return true
			}
		}
		return false
	}
	if !hostShape.MatchString(name) {
		return false
	}
	for _, d := range a.cert.PermittedDNSDomains {
		if name == d || strings.HasSuffix(name, "."+d) {
			return true
		}
	}
	return false
}

// hostShape is what the name of a host is, in lower case: what is no name has no
// place in a certificate. Underscores are in no name of ours, and in some of
// other people's.
var hostShape = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// issued is the certificates that a local authority has made for this process.
// They share one key, which nobody else has.
type issued struct {
	authority *Authority
	key       *ecdsa.PrivateKey

	mu     sync.Mutex // guards the following
	leaves map[string]*tls.Certificate
}

func newIssued(a *Authority) (*issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &issued{authority: a, key: key, leaves: map[string]*tls.Certificate{}}, err
}

// get is the certificate of a name, or of the address that the client came to
// if it names none.
func (i *issued) get(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	if name == "" {
		name = localName(hello)
	}
	if !i.authority.signs(name) {
		return nil, fmt.Errorf("the local authority makes no certificate for %q, only for names of this machine and its network", name)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.leaves[name]; c != nil && time.Until(c.Leaf.NotAfter) > leafRenew {
		return c, nil
	}
	c, err := i.sign(name)
	if err != nil {
		return nil, err
	}
	if len(i.leaves) >= leavesMax {
		clear(i.leaves)
	}
	i.leaves[name] = c
	return c, nil
}

func (i *issued) sign(name string) (*tls.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"Holdfast"}},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.authority.cert, i.key.Public(), i.authority.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, i.authority.cert.Raw}, PrivateKey: i.key, Leaf: leaf}, nil
}
