package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience bounds what a test waits for, on a machine with much else to do.
const patience = 60 * time.Second

// pebble is a real ACME server: Let's Encrypt's small one for tests.
type pebble struct {
	directory string
	admin     string         // URL of its management interface
	roots     *x509.CertPool // who vouches for its own server
	zone      *zone
	client    *http.Client
}

// startPebble starts one that asks at ports of ours, and gives certificates that
// last for life.
func startPebble(t *testing.T, httpPort, tlsPort int, life time.Duration) *pebble {
	t.Helper()
	program, err := exec.LookPath("pebble")
	if err != nil {
		t.Skip("without pebble, of Debian's package of that name")
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	cert, key := pair(t, 1, from, until, "localhost")
	p := &pebble{roots: x509.NewCertPool(), zone: startZone(t)}
	p.roots.AppendCertsFromPEM(cert)
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}, DisableKeepAlives: true}}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It takes no listener of ours, so that its ports may be gone when it comes.
	for range 5 {
		if p.start(t, program, dir, httpPort, tlsPort, life) {
			return p
		}
	}
	t.Fatal("pebble does not start")
	return nil
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (p *pebble) start(t *testing.T, program, dir string, httpPort, tlsPort int, life time.Duration) bool {
	t.Helper()
	ours, theirs := freePort(t), freePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", ours), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", theirs),
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": httpPort, "tlsPort": tlsPort, "certificateValidityPeriod": int(life / time.Second),
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-config", file, "-dnsserver", p.zone.addr)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	p.directory = fmt.Sprintf("https://localhost:%d/dir", ours)
	p.admin = fmt.Sprintf("https://localhost:%d", theirs)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		resp, err := p.client.Get(p.directory)
		if err == nil {
			resp.Body.Close()
			t.Cleanup(func() {
				cmd.Process.Kill()
				<-ended
				if t.Failed() {
					t.Logf("pebble said:\n%s", tail(said.String()))
				}
			})
			return true
		}
		select {
		case <-ended:
			t.Logf("pebble ended: %s", tail(said.String()))
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	cmd.Process.Kill()
	<-ended
	return false
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// trusted is who vouches for what it gives.
func (p *pebble) trusted(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, what := range []string{"/roots/0", "/intermediates/0"} {
		pool.AppendCertsFromPEM(p.get(t, what))
	}
	return pool
}

func (p *pebble) get(t *testing.T, path string) []byte {
	t.Helper()
	resp, err := p.client.Get(p.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("pebble: %s: %s, %v", path, resp.Status, err)
	}
	return b
}

// revoked says whether it has revoked a certificate.
func (p *pebble) revoked(t *testing.T, c *x509.Certificate) bool {
	t.Helper()
	return strings.Contains(string(p.get(t, fmt.Sprintf("/cert-status-by-serial/%x", c.SerialNumber))), `"Revoked"`)
}

// zone is a nameserver whose names all lead to this machine, but for those that
// begin with "elsewhere", and whose records are lines of a file, NAME VALUE.
type zone struct{ addr, records string }

func startZone(t *testing.T) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{conn.LocalAddr().String(), filepath.Join(t.TempDir(), "records")}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(z.answer)}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }()
	t.Cleanup(func() { server.Shutdown(); conn.Close(); <-done })
	return z
}

func (z *zone) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	for _, q := range q.Question {
		head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
		switch {
		case q.Qtype == dns.TypeA && strings.HasPrefix(q.Name, "elsewhere"):
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 2)}) // where nobody listens
		case q.Qtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)})
		case q.Qtype == dns.TypeTXT:
			b, _ := os.ReadFile(z.records) // there is none before the first record
			for line := range strings.Lines(string(b)) {
				if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == q.Name {
					m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{value}})
				}
			}
		}
	}
	w.WriteMsg(m)
}
