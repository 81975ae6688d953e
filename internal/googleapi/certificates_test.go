package googleapi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"
)

// pair is a certificate that signs itself, and its key, PEM both.
func pair(t *testing.T, key crypto.Signer, until time.Time, names ...string) (public, private string) {
	t.Helper()
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until, DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func ellipticKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// upload is the body that gcloud sends.
func upload(t *testing.T, name, public, private string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"displayName": name, "certificateRawData": map[string]string{"publicCertificate": public, "privateKey": private}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A certificate's life: brought, given to a name, renewed under it, taken away.
func TestCertificates(t *testing.T) {
	inWorld(t, func(w *world) {
		const a = "/v1/apps/demo/authorizedCertificates"
		until := time.Now().Add(30 * 24 * time.Hour)
		public, private := pair(t, ellipticKey(t), until, "www.example.com", "*.Example.org")

		made := w.fine("POST", a+"?alt=json", upload(t, "mine", public, private))
		id := made.at("id").(string)
		if made.at("displayName") != "mine" || made.at("domainNames/0") != "*.example.org" || made.at("domainNames/1") != "www.example.com" {
			t.Errorf("created: %s", made.Body)
		}
		for _, answer := range []answer{made, w.fine("GET", a+"?alt=json", ""), w.fine("GET", a+"/"+id+"?alt=json&view=FULL_CERTIFICATE", ""), w.fine("GET", "/v1/apps/demo?alt=json", "")} {
			if strings.Contains(answer.Body.String(), "PRIVATE KEY") || strings.Contains(answer.Body.String(), "(secret)") {
				t.Errorf("the key was told: %s", answer.Body)
			}
		}
		stored := w.store.Wishes().Apps["demo"].Certificates[0]
		if string(stored.Key) != private || stored.Chain != public || !stored.Until.Equal(until.UTC().Truncate(time.Second)) {
			t.Errorf("stored until %v, key and chain kept: %v, %v", stored.Until, string(stored.Key) == private, stored.Chain == public)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "application", w.store.Wishes().Apps["demo"])
		fmt.Fprintf(&log, "%v %+v %#v", stored, stored, stored)
		if strings.Contains(log.String(), private[40:60]) || !strings.Contains(log.String(), "(secret)") {
			t.Errorf("the key is printed: %s", &log)
		}

		// Given to a mapped name that it is for, it cannot be taken away.
		const m = "/v1/apps/demo/domainMappings"
		give := `{"id":"www.example.com","sslSettings":{"certificateId":"` + id + `","sslManagementType":"MANUAL"}}`
		if got := w.fine("POST", m+"?alt=json", give); got.at("response/sslSettings/certificateId") != id {
			t.Errorf("mapped: %s", got.Body)
		}
		if got := w.ask("POST", m+"?alt=json", strings.Replace(give, "www.example.com", "a.example.net", 1)); got.Code != 400 {
			t.Errorf("given to a name that it is not for: %d %s", got.Code, got.Body)
		}
		if got := w.fine("GET", a+"/"+id+"?alt=json&view=FULL_CERTIFICATE", ""); got.at("visibleDomainMappings/0") != "apps/demo/domainMappings/www.example.com" || got.at("domainMappingsCount") != 1.0 {
			t.Errorf("the full view: %s", got.Body)
		}
		if got := w.ask("DELETE", a+"/"+id+"?alt=json", ""); got.Code != 409 {
			t.Errorf("deleted while it is used: %d %s", got.Code, got.Body)
		}

		// Renewed, it keeps its id; another that is not for the name is refused.
		newer, newerKey := pair(t, ellipticKey(t), until.Add(time.Hour), "www.example.com")
		w.fine("PATCH", a+"/"+id+"?alt=json&updateMask=certificateRawData", upload(t, "", newer, newerKey))
		w.fine("PATCH", a+"/"+id+"?alt=json&updateMask=displayName", `{"displayName":"renewed"}`)
		other, otherKey := pair(t, ellipticKey(t), until, "other.example.com")
		if got := w.ask("PATCH", a+"/"+id+"?alt=json&updateMask=certificateRawData", upload(t, "", other, otherKey)); got.Code != 400 {
			t.Errorf("renewed with one for another name: %d %s", got.Code, got.Body)
		}
		if got := w.store.Wishes().Apps["demo"].Certificates[0]; got.Chain != newer || got.Name != "renewed" || got.ID != id {
			t.Errorf("renewed: %+v", got)
		}

		// Cleared by what the mask names and the body lacks; then it may go.
		if got := w.fine("PATCH", m+"/www.example.com?alt=json&updateMask=sslSettings.certificateId%2CsslSettings.sslManagementType", `{"sslSettings":{"sslManagementType":"AUTOMATIC"}}`); got.at("response/sslSettings/certificateId") != nil {
			t.Errorf("cleared: %s", got.Body)
		}
		w.fine("DELETE", a+"/"+id+"?alt=json", "")
		if got := w.ask("GET", a+"/"+id+"?alt=json", ""); got.Code != 404 {
			t.Errorf("after it was deleted: %d", got.Code)
		}
		// A mapping takes what it was given along.
		id = w.fine("POST", a+"?alt=json", upload(t, "", public, private)).at("id").(string)
		w.fine("PATCH", m+"/www.example.com?alt=json", `{"sslSettings":{"certificateId":"`+id+`"}}`)
		w.fine("DELETE", m+"/www.example.com?alt=json", "")
		if got := w.store.Wishes().Apps["demo"]; len(got.Secured) != 0 {
			t.Errorf("given still: %v", got.Secured)
		}
	})
}

// What no client would take is refused, with what is wrong.
func TestCertificatesThatAreNone(t *testing.T) {
	inWorld(t, func(w *world) {
		now := time.Now()
		good, goodKey := pair(t, ellipticKey(t), now.Add(time.Hour), "a.example.com")
		_, otherKey := pair(t, ellipticKey(t), now.Add(time.Hour), "a.example.com")
		old, oldKey := pair(t, ellipticKey(t), now.Add(-time.Hour), "a.example.com")
		nameless, namelessKey := pair(t, ellipticKey(t), now.Add(time.Hour))
		stranger, _ := pair(t, ellipticKey(t), now.Add(time.Hour), "b.example.com")
		t.Setenv("GODEBUG", "rsa1024min=0")
		short, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		small, smallKey := pair(t, short, now.Add(time.Hour), "a.example.com")
		for _, test := range []struct{ public, private, want string }{
			{"", goodKey, "want publicCertificate and privateKey"},
			{good, "", "want publicCertificate and privateKey"},
			{"hello", goodKey, "holds no certificate"},
			{goodKey, goodKey, "want certificates alone"},
			{good, "hello", "not the key of the certificate"},
			{good, otherKey, "not the key of the certificate"},
			{old, oldKey, "it expired on"},
			{nameless, namelessKey, "names no host"},
			{good + stranger, goodKey, "certificate 1 was not signed by certificate 2"},
			{small, smallKey, "too short"},
			{strings.Repeat("x", 65<<10), goodKey, "more than 65536 bytes"},
			{strings.Repeat(good, 12), goodKey, "certificate"},
			{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", goodKey, "certificate 1 cannot be read"},
		} {
			got := w.ask("POST", "/v1/apps/demo/authorizedCertificates?alt=json", upload(t, "", test.public, test.private))
			if text := got.Body.String(); got.Code != 400 || !strings.Contains(text, test.want) || strings.Contains(text, "PRIVATE") && test.public != goodKey {
				t.Errorf("want %q, got %d %s", test.want, got.Code, text)
			}
		}
		if got := w.store.Wishes().Apps["demo"].Certificates; len(got) != 0 {
			t.Errorf("kept: %v", got)
		}
	})
}
