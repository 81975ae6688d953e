package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appengine "google.golang.org/api/appengine/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

// bearer sends a token with each request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// Google's own Go client, given another endpoint, deploys and commands as it
// does at App Engine: what the script does that drives gcloud.
func TestGoClient(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := startServer(dir, filepath.Join(dir, "data"), append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+caches))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })
	endpoint, err := s.admin()
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: bearer(strings.TrimSpace(string(token))), Timeout: patience}
	service, err := appengine.NewService(t.Context(), option.WithEndpoint(endpoint+"/"), option.WithHTTPClient(client))
	if err != nil {
		t.Fatal(err)
	}

	a, err := service.Apps.Get("demo").Do()
	if err != nil {
		t.Fatal(err)
	}
	services := service.Apps.Services
	commands := &googleCommands{t: t, s: service, client: client, endpoint: endpoint, bucket: a.CodeBucket}
	commands.deploy("default", "v1")
	v, err := services.Versions.Get("demo", "default", "v1").View("FULL").Do()
	if err != nil || v.ServingStatus != "SERVING" || v.Env != "flexible" || v.Entrypoint == nil || v.ManualScaling == nil || v.ManualScaling.Instances != 1 {
		t.Errorf("version: %+v, %v", v, err)
	}
	if _, err = services.Patch("demo", "default", &appengine.Service{Split: &appengine.TrafficSplit{Allocations: map[string]float64{"v1": 1}, ShardBy: "RANDOM"}}).UpdateMask("split").Do(); err != nil {
		t.Error(err)
	}
	list, err := services.List("demo").Do()
	if err != nil || len(list.Services) != 1 || list.Services[0].Split.ShardBy != "RANDOM" {
		t.Errorf("services: %+v, %v", list, err)
	}
	instances, err := services.Versions.Instances.List("demo", "default", "v1").Do()
	if err != nil || len(instances.Instances) != 1 || instances.Instances[0].VmStatus != "RUNNING" {
		t.Errorf("instances: %+v, %v", instances, err)
	}
	commands.versions()
	commands.instances()
	commands.application()
	commands.names()
	commands.away()

	_, err = services.Versions.Get("demo", "default", "none").Do()
	var refused *googleapi.Error
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound {
		t.Errorf("a version that is not there: %v", err)
	}
}

// googleCommands gives commands by the client, each of which must go well.
type googleCommands struct {
	t                *testing.T
	s                *appengine.APIService
	client           *http.Client
	endpoint, bucket string
}

// files uploads an app, and lists what it is made of.
func (c *googleCommands) files(service string) map[string]appengine.FileInfo {
	c.t.Helper()
	files := map[string]appengine.FileInfo{}
	for name, text := range map[string]string{
		"app.yaml":   "runtime: custom\nenv: flex\nservice: " + service + "\nentrypoint: python3 -m http.server --bind 127.0.0.1 $PORT\nmanual_scaling:\n  instances: 1\n",
		"index.html": "hello",
	} {
		sum := sha1.Sum([]byte(text))
		hash := hex.EncodeToString(sum[:])
		resp, err := c.client.Post(c.endpoint+"/upload/storage/v1/b/"+c.bucket+"/o?uploadType=media&name="+hash, "text/plain", strings.NewReader(text))
		if err != nil {
			c.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			c.t.Fatalf("upload %s: %s", name, resp.Status)
		}
		files[name] = appengine.FileInfo{Sha1Sum: hash, SourceUrl: "https://storage.googleapis.com/" + c.bucket + "/" + hash}
	}
	return files
}

func (c *googleCommands) ended(op *appengine.Operation, err error) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); err == nil && !op.Done && time.Now().Before(deadline); {
		op, err = c.s.Apps.Operations.Get("demo", op.Name[strings.LastIndexByte(op.Name, '/')+1:]).Do()
	}
	if err != nil || !op.Done || op.Error != nil {
		c.t.Fatalf("operation: %+v, %v", op, err)
	}
}

func (c *googleCommands) deploy(service, version string) {
	c.t.Helper()
	c.ended(c.s.Apps.Services.Versions.Create("demo", service, &appengine.Version{Id: version, Env: "flexible", Deployment: &appengine.Deployment{Files: c.files(service)}}).Do())
}

// versions shares traffic between two, moves it, stops and starts one.
func (c *googleCommands) versions() {
	c.t.Helper()
	versions := c.s.Apps.Services.Versions
	c.deploy("default", "v2")
	share := func(shares map[string]float64) {
		c.t.Helper()
		c.ended(c.s.Apps.Services.Patch("demo", "default", &appengine.Service{Split: &appengine.TrafficSplit{Allocations: shares, ShardBy: "COOKIE"}}).UpdateMask("split").MigrateTraffic(false).Do())
	}
	share(map[string]float64{"v1": 0.25, "v2": 0.75})
	if s, err := c.s.Apps.Services.Get("demo", "default").Do(); err != nil || s.Split.Allocations["v2"] != 0.75 || s.Split.ShardBy != "COOKIE" {
		c.t.Errorf("shared: %+v, %v", s, err)
	}
	share(map[string]float64{"v1": 1})
	for _, status := range []string{"STOPPED", "SERVING", "STOPPED"} {
		c.ended(versions.Patch("demo", "default", "v2", &appengine.Version{ServingStatus: status}).UpdateMask("servingStatus").Do())
		if v, err := versions.Get("demo", "default", "v2").Do(); err != nil || v.ServingStatus != status {
			c.t.Errorf("want %s: %+v, %v", status, v, err)
		}
	}
	c.ended(versions.Patch("demo", "default", "v1", &appengine.Version{ManualScaling: &appengine.ManualScaling{Instances: 2}}).UpdateMask("manualScaling.instances").Do())
	var all []string
	err := versions.List("demo", "default").PageSize(1).Pages(c.t.Context(), func(page *appengine.ListVersionsResponse) error {
		for _, v := range page.Versions {
			all = append(all, v.Id)
		}
		return nil
	})
	if err != nil || strings.Join(all, " ") != "v1 v2" {
		c.t.Errorf("versions, a page each: %v, %v", all, err)
	}
	c.ended(versions.Delete("demo", "default", "v2").Do())
}

// instances looks into one, and deletes it.
func (c *googleCommands) instances() {
	c.t.Helper()
	instances := c.s.Apps.Services.Versions.Instances
	list, err := instances.List("demo", "default", "v1").Do()
	if err != nil || len(list.Instances) == 0 {
		c.t.Fatalf("instances: %+v, %v", list, err)
	}
	id := list.Instances[0].Id
	c.ended(instances.Debug("demo", "default", "v1", id, &appengine.DebugInstanceRequest{}).Do())
	if i, err := instances.Get("demo", "default", "v1", id).Do(); err != nil || !i.VmDebugEnabled {
		c.t.Errorf("looked into: %+v, %v", i, err)
	}
	c.ended(instances.Delete("demo", "default", "v1", id).Do())
}

// application changes what services have in common.
func (c *googleCommands) application() {
	c.t.Helper()
	c.deploy("worker", "w1")
	c.ended(c.s.Apps.Patch("demo", &appengine.Application{DispatchRules: []*appengine.UrlDispatchRule{{Domain: "*", Path: "/jobs/*", Service: "worker"}}}).UpdateMask("dispatchRules").Do())
	c.ended(c.s.Apps.Patch("demo", &appengine.Application{ServiceAccount: "x@y.test"}).UpdateMask("serviceAccount").Do())
	if a, err := c.s.Apps.Get("demo").Do(); err != nil || a.ServiceAccount != "x@y.test" || len(a.DispatchRules) != 1 || a.DispatchRules[0].Service != "worker" {
		c.t.Errorf("application: %+v, %v", a, err)
	}
	c.ended(c.s.Apps.Patch("demo", &appengine.Application{}).UpdateMask("dispatchRules").Do())
	c.ended(c.s.Apps.Repair("demo", &appengine.RepairApplicationRequest{}).Do())
	c.ended(c.s.Apps.Create(&appengine.Application{Id: "other", LocationId: "local"}).Do())
	if l, err := c.s.Apps.Locations.List("demo").Do(); err != nil || len(l.Locations) != 1 {
		c.t.Errorf("locations: %+v, %v", l, err)
	}
	if o, err := c.s.Apps.Operations.List("demo").Filter("done:true").Do(); err != nil || len(o.Operations) == 0 {
		c.t.Errorf("operations: %+v, %v", o, err)
	}

	rules := c.s.Apps.Firewall.IngressRules
	if _, err := rules.Create("demo", &appengine.FirewallRule{Priority: 7, Action: "DENY", SourceRange: "192.0.2.0/24"}).Do(); err != nil {
		c.t.Error(err)
	}
	if r, err := rules.Patch("demo", "7", &appengine.FirewallRule{Action: "ALLOW"}).UpdateMask("action").Do(); err != nil || r.Action != "ALLOW" || r.SourceRange != "192.0.2.0/24" {
		c.t.Errorf("rule: %+v, %v", r, err)
	}
	if l, err := rules.List("demo").MatchingAddress("192.0.2.1").Do(); err != nil || len(l.IngressRules) != 2 {
		c.t.Errorf("rules about an address: %+v, %v", l, err)
	}
	if _, err := rules.Delete("demo", "7").Do(); err != nil {
		c.t.Error(err)
	}
}

// names maps one, with a certificate that is made for it.
func (c *googleCommands) names() {
	c.t.Helper()
	public, private := certificateFor(c.t, "www.example.com")
	certificates := c.s.Apps.AuthorizedCertificates
	cert, err := certificates.Create("demo", &appengine.AuthorizedCertificate{DisplayName: "mine", CertificateRawData: &appengine.CertificateRawData{PublicCertificate: public, PrivateKey: private}}).Do()
	if err != nil || len(cert.DomainNames) != 1 || cert.CertificateRawData.PrivateKey != "" {
		c.t.Fatalf("certificate: %+v, %v", cert, err)
	}
	c.ended(c.s.Apps.DomainMappings.Create("demo", &appengine.DomainMapping{Id: "www.example.com", SslSettings: &appengine.SslSettings{CertificateId: cert.Id, SslManagementType: "MANUAL"}}).Do())
	if full, err := certificates.Get("demo", cert.Id).View("FULL_CERTIFICATE").Do(); err != nil || full.DomainMappingsCount != 1 {
		c.t.Errorf("certificate in full: %+v, %v", full, err)
	}
	c.ended(c.s.Apps.DomainMappings.Patch("demo", "www.example.com", &appengine.DomainMapping{}).UpdateMask("sslSettings.certificateId,").Do())
	c.ended(c.s.Apps.DomainMappings.Delete("demo", "www.example.com").Do())
	if _, err := certificates.Delete("demo", cert.Id).Do(); err != nil {
		c.t.Error(err)
	}
	if d, err := c.s.Apps.AuthorizedDomains.List("demo").Do(); err != nil || len(d.Domains) != 1 {
		c.t.Errorf("domains: %+v, %v", d, err)
	}
}

// away deletes a service.
func (c *googleCommands) away() {
	c.t.Helper()
	c.ended(c.s.Apps.Services.Delete("demo", "worker").Do())
	if l, err := c.s.Apps.Services.List("demo").Do(); err != nil || len(l.Services) != 1 {
		c.t.Errorf("services: %+v, %v", l, err)
	}
}

// certificateFor is a certificate that signs itself, and its key, PEM both.
func certificateFor(t *testing.T, name string) (public, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
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
