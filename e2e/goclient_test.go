package e2e

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
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
// does at App Engine.
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
	files := map[string]appengine.FileInfo{}
	for name, text := range map[string]string{
		"app.yaml":   "runtime: custom\nenv: flex\nentrypoint: python3 -m http.server --bind 127.0.0.1 $PORT\nmanual_scaling:\n  instances: 1\n",
		"index.html": "hello",
	} {
		sum := sha1.Sum([]byte(text))
		hash := hex.EncodeToString(sum[:])
		resp, err := client.Post(endpoint+"/upload/storage/v1/b/"+a.CodeBucket+"/o?uploadType=media&name="+hash, "text/plain", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("upload %s: %s", name, resp.Status)
		}
		files[name] = appengine.FileInfo{Sha1Sum: hash, SourceUrl: "https://storage.googleapis.com/" + a.CodeBucket + "/" + hash}
	}
	services := service.Apps.Services
	op, err := services.Versions.Create("demo", "default", &appengine.Version{Id: "v1", Env: "flexible", Deployment: &appengine.Deployment{Files: files}}).Do()
	for deadline := time.Now().Add(patience); err == nil && !op.Done && time.Now().Before(deadline); {
		op, err = service.Apps.Operations.Get("demo", op.Name[strings.LastIndexByte(op.Name, '/')+1:]).Do()
	}
	if err != nil || !op.Done || op.Error != nil {
		t.Fatalf("deploy: %+v, %v", op, err)
	}
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
	rule := &appengine.FirewallRule{Priority: 7, Action: "DENY", SourceRange: "192.0.2.0/24"}
	if _, err := service.Apps.Firewall.IngressRules.Create("demo", rule).Do(); err != nil {
		t.Error(err)
	}
	_, err = services.Versions.Get("demo", "default", "none").Do()
	var refused *googleapi.Error
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound {
		t.Errorf("a version that is not there: %v", err)
	}
}
