package edge

import (
	"crypto/tls"
	"net"
	"slices"
)

// protocols are what is spoken over TLS, the most wanted first: the names that
// ALPN has for them.
var protocols = []string{alpnHTTP2, "http/1.1"}

// suites are those of TLS 1.2 that keep a secret after the key is lost and seal
// what they encrypt. Those of TLS 1.3 are all like this, and not for us to choose.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// TLSConfig is how TLS is spoken to strangers, for TLS. certificate is asked for
// each handshake, so that a new one is used from the next handshake on, and
// connections that stand are not touched. also are protocols that certificate
// answers by itself, such as a challenge of ACME.
//
// The keys of session tickets are crypto/tls's own: a new one each day, and none
// opens a ticket after seven (common.go, ticketKeyRotation). That holds for a
// Config that is neither cloned nor given keys, and is why there is one for all
// listeners and certificates.
func TLSConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), also ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		NextProtos:     append(slices.Clone(protocols), also...),
		GetCertificate: certificate,
	}
}

// TLS is a listener whose connections speak TLS as cfg says, each of them on what
// base makes of it; a nil base leaves it as it is. It is for Serve, which does the
// handshakes. It owns l.
//
// tls.NewListener has no place for a base, and a tls.Conn stands on the same
// connection for as long as it lives: who wants to take that over one day, as
// the tunnels do, has to be there from the beginning.
func TLS(l net.Listener, cfg *tls.Config, base func(net.Conn) net.Conn) net.Listener {
	return &secure{Listener: l, cfg: cfg, base: base}
}

type secure struct {
	net.Listener
	cfg  *tls.Config
	base func(net.Conn) net.Conn
}

func (s *secure) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if s.base != nil {
		c = s.base(c)
	}
	return tls.Server(c, s.cfg), nil
}
