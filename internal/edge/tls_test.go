package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counted is a base that sees what passes.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// Requests over TLS come through, over the base that each connection was given.
func TestTLSStandsOnItsBase(t *testing.T) {
	lent := httptest.NewTLSServer(nil) // for its certificate
	defer lent.Close()
	var read atomic.Int64
	for name, base := range map[string]func(net.Conn) net.Conn{
		"none":    nil,
		"counted": func(c net.Conn) net.Conn { return counted{c, &read} },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			url := "https://" + l.Addr().String()
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Write(b)
			})
			go func() {
				done <- Serve(ctx, []net.Listener{TLS(l, &tls.Config{Certificates: lent.TLS.Certificates}, base)}, echo, Limits{}, time.Second, slog.New(slog.DiscardHandler))
			}()
			client := lent.Client()
			body := bytes.Repeat([]byte("0123456789"), 10_000)
			resp, err := client.Post(url, "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes came back, %v; want the %d that were sent", len(got), err, len(body))
			}
			client.CloseIdleConnections()
			stop()
			if err := <-done; err != nil {
				t.Errorf("Serve = %v", err)
			}
			if n := read.Load(); base != nil && n < int64(len(body)) {
				t.Errorf("the base saw %d bytes", n)
			}
		})
	}
}

// What is spoken with strangers is new enough, and a new certificate is for new
// connections.
func TestTLSConfig(t *testing.T) {
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	asked := 0
	server := TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked++
		return &lent.TLS.Certificates[0], nil
	}, "acme-tls/1")
	shake := func(client *tls.Config) (tls.ConnectionState, error) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		go tls.Server(far, server).Handshake()
		client.InsecureSkipVerify = true
		c := tls.Client(near, client)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		err := c.Handshake()
		return c.ConnectionState(), err
	}
	if s, err := shake(&tls.Config{NextProtos: []string{"http/1.1"}}); err != nil || s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "http/1.1" || asked != 1 {
		t.Errorf("a client of today: %x, %q, %v", s.Version, s.NegotiatedProtocol, err)
	}
	if s, err := shake(&tls.Config{NextProtos: []string{"acme-tls/1"}}); err != nil || s.NegotiatedProtocol != "acme-tls/1" {
		t.Errorf("who asks for another protocol: %q, %v", s.NegotiatedProtocol, err)
	}
	if _, err := shake(&tls.Config{MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if _, err := shake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	for _, suite := range []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256} {
		if _, err := shake(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}); err == nil {
			t.Errorf("%s is spoken", tls.CipherSuiteName(suite))
		}
	}
}

// Who speaks HTTP where TLS is spoken hears so, also when there is more of the
// request than anybody reads.
func TestPlainHTTPIsToldOfTLS(t *testing.T) {
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, []net.Listener{TLS(l, &tls.Config{Certificates: lent.TLS.Certificates}, nil)}, http.NotFoundHandler(), Limits{}, time.Second, slog.New(slog.DiscardHandler))
	}()
	defer func() { stop(); <-done }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nCookie: "+strings.Repeat("x", 8000)+"\r\n\r\n")
	got, err := io.ReadAll(io.LimitReader(c, 1000))
	if err != nil || !bytes.Contains(got, []byte("write https://")) {
		t.Errorf("got %q, %v", got, err)
	}
}
