//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// makeCerts writes a self-signed ECDSA P-256 certificate for localhost into dir.
func makeCerts(dir string) (certs, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certs{}, err
	}
	now := time.Now()
	names := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
	signed, err := x509.CreateCertificate(rand.Reader, names, names, &key.PublicKey, key)
	if err != nil {
		return certs{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certs{}, err
	}
	c := certs{
		Cert: filepath.Join(dir, "cert.pem"),
		Key:  filepath.Join(dir, "key.pem"),
		Pair: filepath.Join(dir, "pair.pem"), // HAProxy wants both in one
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return c, errors.Join(
		os.WriteFile(c.Cert, cert, 0o600),
		os.WriteFile(c.Key, private, 0o600),
		os.WriteFile(c.Pair, bytes.Join([][]byte{cert, private}, nil), 0o600),
	)
}
