package certs_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/certs"
)

func TestTheLocalAuthorityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	var all [4]*certs.Authority
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = certs.OpenAuthority(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(e.Name(), "key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", e.Name(), info.Mode())
		}
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(all[0].Path)
	if err != nil || !roots.AppendCertsFromPEM(text) || strings.Contains(string(text), "KEY") {
		t.Fatalf("%s cannot be trusted: %v", all[0].Path, err)
	}
	for _, a := range all {
		s, err := certs.New(certs.Config{Local: a, Log: discard})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "chat.localhost", "a-dot-b.localhost", "box.local", "Chat.LOCALHOST"} {
			c, err := s.Get(hello(name))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: strings.ToLower(name), Roots: roots}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if again, err := s.Get(hello(name)); err != nil || again != c {
				t.Errorf("%s has another certificate at once: %v", name, err)
			}
			if !s.Covers(strings.ToLower(name)) {
				t.Errorf("%s is not covered", name)
			}
		}
		for _, name := range []string{"example.org", "localhost.example.org", "notlocalhost", "8.8.8.8", "", "*.localhost", "a\x00.localhost", "..localhost", "a b.localhost"} {
			if _, err := s.Get(hello(name)); err == nil || s.Covers(name) {
				t.Errorf("%q has a certificate, or would", name)
			}
		}
	}
	for _, name := range []string{"127.0.0.1", "192.168.1.5", "::1"} {
		s, _ := certs.New(certs.Config{Local: all[0], Log: discard})
		c, err := s.Get(hello(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABrokenAuthorityIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := certs.OpenAuthority(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "authority-key.pem")
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.OpenAuthority(dir); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("OpenAuthority = %v", err)
	}
}
