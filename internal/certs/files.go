package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// filesLook is how often files are looked at for whether they have changed.
	filesLook = 5 * time.Second

	// fileBytesMax bounds a file of certificates or a key.
	fileBytesMax = 1 << 20
)

// Files is a certificate with its chain and its key, PEM both; they may be one
// file.
type Files struct{ Cert, Key string }

// reading is what was read of Files.
type reading struct {
	files     Files
	cert, key []byte // as it was when it was tried
	pair      *tls.Certificate
}

// read reads the files. A pair that is the one in use already, or that was
// refused already, is no news: changed is false, and err too.
func (r *reading) read() error {
	_, err := r.look()
	return err
}

func (r *reading) look() (changed bool, err error) {
	cert, err := readFile(r.files.Cert)
	if err != nil {
		return false, err
	}
	key, err := readFile(r.files.Key)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, r.cert) && bytes.Equal(key, r.key) {
		return false, nil
	}
	r.cert, r.key = cert, key
	pair, err := tls.X509KeyPair(cert, key) // it parses the Leaf too
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %s", r.files.Cert, r.files.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	r.pair = &pair
	return true, nil
}

// ReadRoots reads certificates, PEM, that vouch for others.
func ReadRoots(name string) (*x509.CertPool, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return roots, nil
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%s has more than %d bytes: it is no certificate", name, fileBytesMax)
	}
	return os.ReadFile(name)
}

// reread takes what has changed. What cannot be used, as a certificate whose key
// is yet to be written, leaves what there is in use.
func (s *Set) reread() {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := false
	for i := range s.read {
		r := &s.read[i]
		changed, err := r.look()
		if err != nil {
			s.cfg.Log.Warn("read certificate", "file", r.files.Cert, "err", err)
			continue
		}
		if changed {
			s.cfg.Log.Info("certificate", "from", r.files.Cert, "names", strings.Join(r.pair.Leaf.DNSNames, ","), "until", r.pair.Leaf.NotAfter)
			news = true
		}
	}
	if news {
		s.putLocked()
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return host
}
