package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/certs"
)

var discard = slog.New(slog.DiscardHandler)

// pair makes a certificate that signs itself, and its key, PEM both. The serial
// number tells one from another.
func pair(t *testing.T, serial int64, from, until time.Time, names ...string) (cert, key []byte) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, NotBefore: from, NotAfter: until, DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// files writes a pair.
func files(t *testing.T, serial int64, from, until time.Time, names ...string) certs.Files {
	t.Helper()
	dir := t.TempDir()
	f := certs.Files{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	rewrite(t, f, serial, from, until, names...)
	return f
}

func rewrite(t *testing.T, f certs.Files, serial int64, from, until time.Time, names ...string) {
	t.Helper()
	cert, key := pair(t, serial, from, until, names...)
	for name, text := range map[string][]byte{f.Cert: cert, f.Key: key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// hello is what a client of today says that wants a name.
func hello(name string) *tls.ClientHelloInfo {
	near, _ := net.Pipe()
	return &tls.ClientHelloInfo{
		ServerName: name, Conn: near,
		SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
}

// serial is which certificate a name gets; 0 for none.
func serial(s *certs.Set, name string) int64 {
	c, err := s.Get(hello(name))
	if err != nil {
		return 0
	}
	return c.Leaf.SerialNumber.Int64()
}

func TestTheBestCertificateOfAName(t *testing.T) {
	now := time.Now()
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	s, err := certs.New(certs.Config{Log: discard, Files: []certs.Files{
		files(t, 1, day(-9), day(9), "*.example.org", "example.org"),
		files(t, 2, day(-9), day(9), "a.example.org"),
		files(t, 3, day(-2), day(9), "b.example.org"),
		files(t, 4, day(-1), day(9), "B.Example.org"),
		files(t, 5, day(-9), day(-1), "c.example.org"),
		files(t, 6, day(1), day(9), "b.example.org"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"example.org":     1,
		"x.example.org":   1,
		"X.EXAMPLE.org.":  1,
		"a.example.org":   2, // just that name, before all beside it
		"b.example.org":   4, // the newest that is valid already
		"c.example.org":   1, // its own is not valid any more
		"x.a.example.org": 1, // none: the first, whose name will be seen to be wrong
		"":                1,
	} {
		if got := serial(s, name); got != want {
			t.Errorf("%q gets certificate %d, want %d", name, got, want)
		}
	}
	for name, want := range map[string]bool{"example.org": true, "x.example.org": true, "x.a.example.org": false, "org": false, "": false} {
		if got := s.Covers(name); got != want {
			t.Errorf("Covers(%q) = %v", name, got)
		}
	}
	if _, err := certs.New(certs.Config{Log: discard, Files: []certs.Files{{Cert: "missing", Key: "missing"}}}); err == nil {
		t.Error("a missing file is no error")
	}
}

// Files that change are read again; half a change leaves what was there.
func TestFilesAreReadAgain(t *testing.T) {
	from, until := time.Now().Add(-time.Hour), time.Now().AddDate(30, 0, 0) // a bubble's time is in the past
	f := files(t, 1, from.AddDate(-30, 0, 0), until, "a.example.org")
	g := files(t, 2, from.AddDate(-30, 0, 0), until, "a.example.org")
	half, err := os.ReadFile(g.Cert)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := certs.New(certs.Config{Log: discard, Files: []certs.Files{f}})
		if err != nil {
			t.Fatal(err)
		}
		go s.Run(t.Context())
		for _, step := range []struct {
			change func()
			want   int64
		}{
			{func() {}, 1},
			{func() { os.WriteFile(f.Cert, half, 0o600) }, 1},
			{func() { os.Remove(f.Cert) }, 1},
			{func() { rewrite(t, f, 3, from.AddDate(-30, 0, 0), until, "a.example.org") }, 3},
		} {
			step.change()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := serial(s, "a.example.org"); got != step.want {
				t.Errorf("certificate %d, want %d", got, step.want)
			}
		}
	})
}

// Uploaded certificates are used for their names from the next handshake on, and
// for the names that they were chosen for before all others.
func TestUploadedCertificates(t *testing.T) {
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	s, err := certs.New(certs.Config{Log: discard, Files: []certs.Files{files(t, 1, from, until, "file.example.org")}})
	if err != nil {
		t.Fatal(err)
	}
	given := func(serial int64, from, until time.Time, chosen []string, names ...string) certs.Given {
		cert, key := pair(t, serial, from, until, names...)
		return certs.Given{Chain: string(cert), Key: string(key), Chosen: chosen}
	}
	s.Give([]certs.Given{
		given(2, from, until, nil, "*.example.org"),
		given(3, from.Add(time.Minute), until, nil, "a.example.org"),
		given(4, from, until, []string{"a.example.org"}, "a.example.org"),
		given(5, from.Add(-time.Hour), from, []string{"b.example.org"}, "b.example.org"), // it is over
		{Chain: "nonsense", Key: "nonsense"},
	})
	for name, want := range map[string]int64{"a.example.org": 4, "b.example.org": 2, "c.example.org": 2, "file.example.org": 1, "example.com": 1} {
		if got := serial(s, name); got != want {
			t.Errorf("%s gets certificate %d, want %d", name, got, want)
		}
	}
	if all := s.List(); len(all) != 5 || all[0].From != "file" || all[1].From != "uploaded" {
		t.Errorf("List = %+v", all)
	}
	s.Give(nil)
	if got := serial(s, "a.example.org"); got != 1 {
		t.Errorf("one that was deleted is in use: %d", got)
	}
}
