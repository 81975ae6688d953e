package certs_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/certs"
	"holdfast/internal/certs/certstest"
	"holdfast/internal/edge"
)

// patience bounds what a test waits for, on a machine with much else to do.
const patience = 60 * time.Second

// site is a server with certificates, and with a socket that echoes.
type site struct {
	*certs.Set
	secure  string // address
	pebble  *certstest.Pebble
	trusted *x509.CertPool
	dir     string
}

// startSite starts one whose certificates come from an ACME server. only is the
// one way to prove a name, http or tls; "" are both.
func startSite(t *testing.T, life time.Duration, only string, change func(*certs.ACME, *certstest.Pebble)) *site {
	t.Helper()
	plain, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	httpPort, tlsPort := plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port
	s := &site{secure: secure.Addr().String(), pebble: certstest.Start(t, httpPort, tlsPort, life), dir: filepath.Join(t.TempDir(), "certs")}
	s.trusted = s.pebble.Trusted(t)
	a := certs.ACME{
		Dir: s.dir, Email: "a@example.org", CA: s.pebble.Directory, Roots: s.pebble.Roots,
		Domains: []string{"apps.example.org"}, Region: "local", HTTPPort: httpPort, TLSPort: tlsPort,
		RenewLook: 200 * time.Millisecond,
		Serves: func(name string) bool {
			return strings.HasSuffix(name, ".example.org") || strings.HasPrefix(name, "elsewhere")
		},
	}
	switch only {
	case "http":
		a.TLSPort = 0
	case "tls":
		a.HTTPPort = 0
	}
	if change != nil {
		change(&a, s.pebble)
	}
	if s.Set, err = certs.New(certs.Config{ACME: a, Log: discard}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() {
		edge.Serve(ctx, []net.Listener{plain, edge.TLS(secure, edge.TLSConfig(s.Get, a.Protocols()...), nil)},
			http.HandlerFunc(s.serve), edge.Limits{}, time.Second, discard)
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return s
}

// serve echoes what comes over an upgraded connection.
func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	if s.Challenge(w, r) {
		return
	}
	if r.Header.Get("Upgrade") == "" {
		fmt.Fprint(w, "here")
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
	io.Copy(conn, rw)
}

// dial opens a TLS connection to a name, as its clients do.
func (s *site) dial(name string) (*tls.Conn, error) {
	d := &net.Dialer{Timeout: patience}
	c, err := tls.DialWithDialer(d, "tcp", s.secure, &tls.Config{ServerName: name, RootCAs: s.trusted, NextProtos: []string{"http/1.1"}})
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// leaf is the certificate that a name has now.
func (s *site) leaf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c, err := s.dial(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// socket is an upgraded connection that stays open.
type socket struct {
	*tls.Conn
	in *bufio.Reader
}

func (s *site) socket(t *testing.T, name string) *socket {
	t.Helper()
	c, err := s.dial(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n", name)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no socket: %v, %v", resp, err)
	}
	return &socket{c, in}
}

// echoes says something and hears it.
func (s *socket) echoes(t *testing.T, text string) {
	t.Helper()
	s.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(s, text)
	if got, err := s.in.ReadString('\n'); err != nil || got != text+"\n" {
		t.Fatalf("the socket that was open before: %q, %v; want %q", got, err, text)
	}
}

// until waits for a state that something else brings about.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestCertificatesAreObtained(t *testing.T) {
	for _, only := range []string{"http", "tls"} {
		t.Run(only, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, time.Hour, only, nil)
			// The base domain's without anybody asking.
			until(t, "the base domain's certificate", func() bool { return len(s.List()) == 1 && !s.List()[0].Until.IsZero() })
			if got := s.leaf(t, "apps.example.org").DNSNames; len(got) != 1 || got[0] != "apps.example.org" {
				t.Errorf("its names are %q", got)
			}
			// Another when a client comes, and the client gets it at once.
			if got := s.leaf(t, "Shop.apps.example.org").DNSNames; len(got) != 1 || got[0] != "shop.apps.example.org" {
				t.Errorf("on demand: %q", got)
			}
			if !s.Covers("api.example.org") || s.Covers("example.com") || s.Covers("localhost") || s.Covers("127.0.0.1") {
				t.Error("Covers is wrong")
			}
			filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
				if info, _ := e.Info(); err == nil && info != nil && info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s is %v", path, info.Mode())
				}
				return err
			})
		})
	}
}

// A foreign name costs the authority nothing, and the client a failed handshake.
func TestForeignNamesAreRefused(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	s := startSite(t, time.Hour, "", func(a *certs.ACME, _ *certstest.Pebble) {
		a.Serves = func(name string) bool {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, name)
			return name == "shop.apps.example.org"
		}
	})
	s.leaf(t, "apps.example.org")
	open := s.socket(t, "shop.apps.example.org")
	for _, name := range []string{"example.com", "x.apps.example.org", "evil.shop.apps.example.org", "localhost"} {
		if c, err := s.dial(name); err == nil {
			c.Close()
			t.Errorf("%s has a certificate", name)
		}
	}
	open.echoes(t, "still here")
	if n := len(s.List()); n != 2 {
		t.Errorf("%d certificates: %+v", n, s.List())
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range asked {
		if name == "localhost" {
			t.Error("localhost was asked for")
		}
	}
}

// Certificates are renewed while a socket stays open that began with the first.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	s := startSite(t, 12*time.Second, "", nil)
	first := s.leaf(t, "shop.apps.example.org")
	open := s.socket(t, "shop.apps.example.org")
	until(t, "another certificate", func() bool {
		open.echoes(t, "hello")
		return s.leaf(t, "shop.apps.example.org").SerialNumber.Cmp(first.SerialNumber) != 0
	})
	open.echoes(t, "still here")
}

// A certificate whose key was stolen is revoked and replaced, by one with
// another key, while a socket stays open.
func TestACertificateIsRevokedAndReplaced(t *testing.T) {
	t.Parallel()
	s := startSite(t, time.Hour, "", nil)
	first := s.leaf(t, "shop.apps.example.org")
	open := s.socket(t, "shop.apps.example.org")
	if err := s.Replace(t.Context(), "shop.apps.example.org"); err != nil {
		t.Fatal(err)
	}
	second := s.leaf(t, "shop.apps.example.org")
	if !s.pebble.Revoked(t, first) || s.pebble.Revoked(t, second) {
		t.Errorf("revoked: the first %v, the second %v", s.pebble.Revoked(t, first), s.pebble.Revoked(t, second))
	}
	if string(first.RawSubjectPublicKeyInfo) == string(second.RawSubjectPublicKeyInfo) {
		t.Error("the stolen key is in use again")
	}
	open.echoes(t, "still here")
	if err := s.Replace(t.Context(), "other.apps.example.org"); err == nil {
		t.Error("one that is not there was replaced")
	}
}

// What was obtained is there after a restart, without the authority.
func TestCertificatesAreKept(t *testing.T) {
	t.Parallel()
	first := startSite(t, time.Hour, "", nil)
	was := first.leaf(t, "shop.apps.example.org")
	second := startSite(t, time.Hour, "", func(a *certs.ACME, _ *certstest.Pebble) { a.Dir, a.CA = first.dir, first.pebble.Directory })
	second.trusted = first.trusted
	if now := second.leaf(t, "shop.apps.example.org"); now.SerialNumber.Cmp(was.SerialNumber) != 0 {
		t.Error("another was obtained")
	}
}

// With a hook there is one certificate for all names below a base domain.
func TestTheHookProvesWildcards(t *testing.T) {
	t.Parallel()
	var records string
	s := startSite(t, time.Hour, "", func(a *certs.ACME, p *certstest.Pebble) {
		records = p.Records
		a.Hook = filepath.Join(t.TempDir(), "hook")
		text := fmt.Sprintf(`#!/bin/sh
set -e
case $1 in
present) echo "$2 $3" >>%[1]s ;;
cleanup) grep -v -- "$3" %[1]s >%[1]s.new || true; mv %[1]s.new %[1]s ;;
esac
`, records)
		if err := os.WriteFile(a.Hook, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	})
	a, b := s.leaf(t, "shop.apps.example.org"), s.leaf(t, "v1-dot-api-dot-shop.apps.example.org")
	if a.SerialNumber.Cmp(b.SerialNumber) != 0 || a.DNSNames[0] != "*.apps.example.org" {
		t.Errorf("two names below have %q and %q", a.DNSNames, b.DNSNames)
	}
	if c := s.leaf(t, "shop.local.r.apps.example.org"); c.DNSNames[0] != "*.local.r.apps.example.org" {
		t.Errorf("with a region: %q", c.DNSNames)
	}
	if c := s.leaf(t, "www.example.org"); c.DNSNames[0] != "www.example.org" {
		t.Errorf("a name that is not below: %q", c.DNSNames)
	}
	if left, err := os.ReadFile(records); err != nil || len(left) > 0 {
		t.Errorf("records are left: %q, %v", left, err)
	}
}

// A failure is told in the authority's words with what to do, and is not
// repeated at once.
func TestFailuresAreToldAndBackedOff(t *testing.T) {
	t.Parallel()
	s := startSite(t, time.Hour, "http", nil)
	for range 2 {
		if c, err := s.dial("elsewhere.example.org"); err == nil {
			c.Close()
			t.Fatal("a name that leads elsewhere has a certificate")
		}
	}
	for _, e := range s.List() {
		if e.Names[0] != "elsewhere.example.org" {
			continue
		}
		if !e.Until.IsZero() || !strings.Contains(e.Problem, "the authority says: ") || !strings.Contains(e.Problem, "let ports 80 and 443") || time.Until(e.Next) < 30*time.Second {
			t.Errorf("it is told as %+v", e)
		}
		start := time.Now()
		if _, err := s.Get(hello("elsewhere.example.org")); err == nil || !strings.Contains(err.Error(), "tried again in") {
			t.Errorf("Get = %v", err)
		}
		if time.Since(start) > 5*time.Second {
			t.Error("it was tried again")
		}
		return
	}
	t.Errorf("nothing is told: %+v", s.List())
}
