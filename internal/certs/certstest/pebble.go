// Package certstest is a real authority for tests: Pebble, which is Let's
// Encrypt's own for that, with a nameserver that leads every name to this
// machine. Start at Start.
package certstest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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

// patience bounds its start and its answers, on a machine with much else to do.
const patience = 60 * time.Second

// Pebble is a real ACME server: Let's Encrypt's small one for tests.
type Pebble struct {
	Directory string         // URL of its directory
	Roots     *x509.CertPool // who vouches for its own server
	RootsFile string         // the same, PEM
	Records   string         // file of the TXT records of all names, lines of NAME VALUE

	admin  string // URL of its management interface
	zone   *zone
	client *http.Client
}

// Start starts one that asks at ports of ours, and gives certificates that last
// for life. It ends with the test, which is skipped where it is not installed.
func Start(t *testing.T, httpPort, tlsPort int, life time.Duration) *Pebble {
	t.Helper()
	program, err := exec.LookPath("pebble")
	if err != nil {
		t.Skip("without pebble, of Debian's package of that name")
	}
	cert, key := ownPair(t)
	p := &Pebble{Roots: x509.NewCertPool(), zone: startZone(t)}
	p.Records = p.zone.records
	p.Roots.AppendCertsFromPEM(cert)
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.Roots}, DisableKeepAlives: true}}
	dir := t.TempDir()
	p.RootsFile = filepath.Join(dir, "cert.pem")
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

// FreePort is a TCP port that nobody had a moment ago.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (p *Pebble) start(t *testing.T, program, dir string, httpPort, tlsPort int, life time.Duration) bool {
	t.Helper()
	ours, theirs := FreePort(t), FreePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", ours), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", theirs),
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"ocspResponderURL": "http://127.0.0.1:1", // nobody answers there; certificates of public authorities name one
		"httpPort":         httpPort, "tlsPort": tlsPort, "certificateValidityPeriod": int(life / time.Second),
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
	p.Directory = fmt.Sprintf("https://localhost:%d/dir", ours)
	p.admin = fmt.Sprintf("https://localhost:%d", theirs)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		resp, err := p.client.Get(p.Directory)
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

// ownPair is the certificate of its own server, and the key.
func ownPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
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

func tail(text string) string { return text[max(0, len(text)-4000):] }

// Trusted is who vouches for what it gives.
func (p *Pebble) Trusted(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.TrustedPEM(t))
	return pool
}

// TrustedPEM is the same, PEM.
func (p *Pebble) TrustedPEM(t *testing.T) []byte {
	t.Helper()
	return append(p.get(t, "/roots/0"), p.get(t, "/intermediates/0")...)
}

func (p *Pebble) get(t *testing.T, path string) []byte {
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

// Revoked says whether it has revoked a certificate.
func (p *Pebble) Revoked(t *testing.T, c *x509.Certificate) bool {
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
