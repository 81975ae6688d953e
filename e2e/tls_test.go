package e2e

import (
	"bufio"
	"bytes"
	"context"
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
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/certs/certstest"
)

// public is a server as the internet has it, whose certificates come from an
// authority for tests, with echo as the application shop.
type public struct {
	*served
	t           *testing.T
	plain, tls  string // addresses
	authority   *certstest.Pebble
	trusted     *x509.CertPool
	environment []string
}

const publicHost = "shop.apps.example.org"

func openPublic(t *testing.T, args ...string) *public {
	t.Helper()
	plain, secure := certstest.FreePort(t), certstest.FreePort(t)
	p := &public{
		t: t, plain: fmt.Sprintf("127.0.0.1:%d", plain), tls: fmt.Sprintf("127.0.0.1:%d", secure),
		authority: certstest.Start(t, plain, secure, 90*24*time.Hour),
	}
	p.trusted = p.authority.Trusted(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p.environment = append(command(data).Env, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOLDFAST_DATA="+data)
	var err error
	p.served, err = startServer(dir, data, p.environment, append([]string{
		"--listen=" + p.plain, "--listen-tls=" + p.tls, "--domain=apps.example.org", "--project=shop",
		"--acme-email=ops@example.org", "--acme-ca=" + p.authority.Directory, "--acme-ca-root=" + p.authority.RootsFile,
	}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	if out := p.holdfast("deploy", "../examples/echo", "--project=shop"); !strings.Contains(out, "https://"+publicHost+":") {
		t.Fatalf("deploy does not name its address over TLS:\n%s", out)
	}
	return p
}

// holdfast runs a command against the server.
func (p *public) holdfast(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = p.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("holdfast %q: %v\n%s\nthe server says:\n%s", args, err, out, p.log)
	}
	return string(out)
}

// client asks every host of this server.
func (p *public) client() *http.Client {
	d := &net.Dialer{Timeout: patience}
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: p.trusted}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if strings.HasSuffix(addr, ":80") {
					return d.DialContext(ctx, network, p.plain)
				}
				return d.DialContext(ctx, network, p.tls)
			},
		},
	}
}

// A public server from its first request on: a certificate for each name that is
// served and for no other, plain HTTP led there, and a socket that stays open
// while its certificate is revoked and replaced.
func TestAPublicServer(t *testing.T) {
	t.Parallel()
	p := openPublic(t, "--hsts=24h", "--admin=0.0.0.0:0")
	client := p.client()
	resp, err := client.Get("https://" + publicHost + "/")
	if err != nil {
		t.Fatalf("%v\nthe server says:\n%s", err, p.log)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") != "max-age=86400" || resp.Header.Get("Echo-Instance") == "" {
		t.Errorf("over TLS: %s, %v", resp.Status, resp.Header)
	}
	_, port, _ := net.SplitHostPort(p.tls)
	resp, err = client.Get("http://" + publicHost + "/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := "https://" + publicHost + ":" + port + "/a?b=c"; resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != want {
		t.Errorf("plain HTTP: %s to %q, want %q", resp.Status, resp.Header.Get("Location"), want)
	}
	for _, foreign := range []string{"nope.apps.example.org", "nope-dot-shop.apps.example.org", "example.com"} {
		if resp, err := client.Get("https://" + foreign + "/"); err == nil {
			resp.Body.Close()
			t.Errorf("%s has a certificate", foreign)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+publicHost+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	echoes := func(text string) {
		t.Helper()
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
			t.Fatalf("the socket says %q, %v", got, err)
		}
	}
	echoes("before")
	first := p.leaf()
	p.holdfast("certificates", "replace", publicHost)
	if second := p.leaf(); second.SerialNumber.Cmp(first.SerialNumber) == 0 || !p.authority.Revoked(t, first) {
		t.Error("the certificate is the same, or is not revoked")
	}
	echoes("after")
	p.operatorsComeOverTLS()
	if out := p.holdfast("certificates"); !strings.Contains(out, publicHost) || !strings.Contains(out, "apps.example.org") || strings.Contains(out, "nope") {
		t.Errorf("certificates:\n%s", out)
	}
}

// operatorsComeOverTLS asks at the address of the admin API that other machines
// reach, as they do.
func (p *public) operatorsComeOverTLS() {
	p.t.Helper()
	var status struct {
		Listeners []struct{ Name, Addr string }
	}
	if err := json.Unmarshal([]byte(p.holdfast("status", "--format=json")), &status); err != nil {
		p.t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(p.data, "token"))
	if err != nil {
		p.t.Fatal(err)
	}
	asked := 0
	for _, l := range status.Listeners {
		_, port, _ := net.SplitHostPort(l.Addr)
		if l.Name != "admin" || strings.HasPrefix(l.Addr, "127.0.0.1:") {
			continue
		}
		asked++
		client := p.client()
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: patience}).DialContext(ctx, network, "127.0.0.1:"+port)
		}
		for scheme, want := range map[string]int{"https": http.StatusOK, "http": http.StatusBadRequest} {
			req, err := http.NewRequest(http.MethodGet, scheme+"://apps.example.org:"+port+"/holdfast/v1/status", nil)
			if err != nil {
				p.t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			resp, err := client.Do(req)
			if err != nil {
				if scheme == "https" {
					p.t.Error(err)
				}
				continue // plain HTTP is no handshake
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				p.t.Errorf("the admin API by %s: %s", scheme, resp.Status)
			}
		}
	}
	if asked != 1 {
		p.t.Errorf("listeners are %v", status.Listeners)
	}
}

func (p *public) leaf() *x509.Certificate {
	p.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", p.tls, &tls.Config{ServerName: publicHost, RootCAs: p.trusted})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// What operators use is nowhere behind the public listeners, whatever a request
// says, and with a token that is good.
func TestThePublicListenersLeadToAppsAlone(t *testing.T) {
	t.Parallel()
	p := openPublic(t, "--redirect=false")
	admin, err := p.admin()
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(p.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	adminHost := strings.TrimPrefix(admin, "http://")
	_, adminPort, _ := net.SplitHostPort(adminHost)
	hosts := []string{publicHost, "apps.example.org", "localhost", "127.0.0.1", adminHost, "localhost:" + adminPort, "[::1]:" + adminPort, "admin.apps.example.org", "holdfast", ""}
	paths := []string{"/holdfast/v1/status", "/holdfast/v1/tokens", "//holdfast/v1/status", "/x/../holdfast/v1/status", "/%68oldfast/v1/status", "/v1/apps/shop", "/v1/apps/shop/services",
		"/storage/v1/b", "/compute/v1/projects", "/metrics", "/console", "/console/", "/", admin + "/holdfast/v1/status"}
	headers := []string{"", "X-Forwarded-Host: " + adminHost + "\r\n", "Forwarded: host=" + adminHost + "\r\n", "X-Original-URL: /holdfast/v1/status\r\n", "X-Forwarded-Port: " + adminPort + "\r\n"}
	theirs := regexp.MustCompile(`uptime_seconds|"tokens"|"listeners"|servingStatus|domainMappings|holdfast_[a-z_]+ |unauthorized|storage#`)
	asked := 0
	for _, over := range []string{"plain", "tls"} {
		for _, host := range hosts {
			for _, path := range paths {
				for _, header := range headers {
					var conn net.Conn
					if over == "plain" {
						conn, err = net.DialTimeout("tcp", p.plain, patience)
					} else {
						conn, err = tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", p.tls, &tls.Config{ServerName: publicHost, RootCAs: p.trusted})
					}
					if err != nil {
						t.Fatal(err)
					}
					conn.SetDeadline(time.Now().Add(patience))
					fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%sAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", path, host, header, bytes.TrimSpace(token))
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatalf("%s %q %s %q: %v", over, host, path, header, err)
					}
					body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
					conn.Close()
					// echo says who asked, and nothing of these.
					if err != nil || theirs.Match(body) && resp.Header.Get("Echo-Instance") == "" {
						t.Errorf("%s %q %s %q: %s, %v\n%.300s", over, host, path, header, resp.Status, err, body)
					}
					if fromApp := resp.Header.Get("Echo-Instance") != ""; !fromApp && resp.StatusCode < 400 {
						t.Errorf("%s %q %s %q: %s comes from nobody's app", over, host, path, header, resp.Status)
					}
					asked++
				}
			}
		}
	}
	t.Logf("%d requests", asked)
}

// run --tls serves over HTTPS what its own authority vouches for.
func TestRunOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command(dir, "run", "../examples/echo", "--tls", "--port=0", "--instances=1", "--data="+filepath.Join(dir, "data"))
	cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	out := newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); out.end(); close(done) }()
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); <-done })
	address := regexp.MustCompile(`https://localhost:(\d+)`)
	var found []string
	for deadline := time.Now().Add(patience); found == nil; time.Sleep(20 * time.Millisecond) {
		if found = address.FindStringSubmatch(out.String()); found == nil && time.Now().After(deadline) {
			t.Fatalf("it names no address over TLS:\n%s", out)
		}
	}
	root, err := os.ReadFile(filepath.Join(dir, "holdfast", "authority", "authority.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	for _, name := range []string{"localhost", "echo.localhost", "127.0.0.1"} {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+found[1])
			},
		}}
		resp, err := client.Get("https://" + name + ":" + found[1] + "/")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if text := out.String(); !strings.Contains(text, "authority.crt") || !strings.Contains(text, "curl --cacert") {
		t.Errorf("it does not say how to trust it:\n%s", text)
	}
}

// testssl.sh finds nothing above low in a public server.
func TestTestSSL(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("takes five minutes: HOLDFAST_LONG=1")
	}
	program, err := exec.LookPath("testssl")
	if err != nil {
		t.Skip("without testssl, of Debian's package testssl.sh")
	}
	p := openPublic(t, "--hsts=8760h")
	dir := t.TempDir()
	roots, found := filepath.Join(dir, "roots.pem"), filepath.Join(dir, "found.json")
	if err := os.WriteFile(roots, p.authority.TrustedPEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(p.tls)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--quiet", "--warnings=off", "--color=0", "--openssl-timeout=30", "--add-ca="+roots,
		"--ip=127.0.0.1", "--jsonfile="+found, "https://"+publicHost+":"+port)
	said, err := cmd.CombinedOutput() // its exit code counts findings
	text, readErr := os.ReadFile(found)
	if readErr != nil {
		t.Fatalf("testssl: %v\n%s", err, said)
	}
	var all []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 100 {
		t.Fatalf("%d findings, %v\n%s", len(all), err, said)
	}
	for _, f := range all {
		switch {
		case f.ID == "security_headers": // an app's to say
		case f.Severity == "MEDIUM" || f.Severity == "HIGH" || f.Severity == "CRITICAL":
			t.Errorf("%s %s: %s", f.Severity, f.ID, f.Finding)
		case f.Severity == "LOW":
			t.Logf("low: %s: %s", f.ID, f.Finding)
		}
	}
}
