package googleapi

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
	"holdfast/internal/source"
)

// A whole deploy, in the order and the words of gcloud 528.
func TestADeployInGcloudsOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.ask("GET", "/storage/v1/b/runtime-builders/o/experiments.yaml?alt=media", "", "Range: bytes=0-104857599")
		if a.Code != 200 || !strings.Contains(a.Body.String(), "trigger_build_server_side: 100") {
			t.Errorf("who builds: %d %s", a.Code, a.Body)
		}
		if a = w.fine("GET", "/v1/apps/demo?alt=json", ""); a.at("defaultHostname") != "demo.localhost:8080" || a.at("codeBucket") != "staging.demo" {
			t.Errorf("application: %s", a.Body)
		}
		if a = w.fine("GET", "/v1/projects/demo/services/appengineflex.googleapis.com?alt=json", ""); a.at("state") != "ENABLED" {
			t.Errorf("API: %s", a.Body)
		}
		if a = w.fine("GET", "/v1/apps/demo/services?alt=json&pageSize=100", ""); len(a.json) != 0 {
			t.Errorf("services before: %s", a.Body)
		}
		if a = w.fine("GET", "/storage/v1/b/staging.demo?alt=json&fields=lifecycle", ""); len(a.json) != 0 {
			t.Errorf("lifecycle: %s", a.Body)
		}
		w.deploy("v1")
		a = w.fine("GET", "/storage/v1/b/staging.demo/o?alt=json&maxResults=1000", "")
		var held []string
		for i := range 2 {
			held = append(held, fmt.Sprint(a.at(fmt.Sprintf("items/%d/name", i))))
		}
		if want := []string{sum(chatYAML), sum("app = 'v1'\n")}; !same(held, want) {
			t.Errorf("held %v, want %v", held, want)
		}
		if a = w.fine("GET", "/v1/apps/demo/services?alt=json&pageSize=100", ""); a.at("services/0/split/allocations/v1") != 1.0 {
			t.Errorf("the first version of a service gets its traffic: %s", a.Body)
		}
		w.deploy("v2")
		if a = w.fine("GET", "/v1/apps/demo/services/default?alt=json", ""); a.at("split/allocations/v1") != 1.0 {
			t.Errorf("the second one does not: %s", a.Body)
		}
		a = w.fine("GET", "/v1/apps/demo/services/default/versions/v2?alt=json&view=FULL", "")
		if a.at("env") != "flexible" || a.at("vm") != true || a.at("servingStatus") != "SERVING" || a.at("envVariables/FOO") != "bar" ||
			a.at("network/sessionAffinity") != true || a.at("manualScaling/instances") != 2.0 || a.at("versionUrl") != "http://v2-dot-demo.localhost:8080" {
			t.Errorf("version: %s", a.Body)
		}
		a = w.fine("PATCH", "/v1/apps/demo/services/default?alt=json&migrateTraffic=False&updateMask=split", `{"split":{"allocations":{"v2":1.0},"shardBy":"UNSPECIFIED"}}`)
		if a.at("done") != true || a.at("response/split/allocations/v2") != 1.0 || a.at("response/split/shardBy") != "IP" || a.at("metadata/method") != "google.appengine.v1.Services.UpdateService" {
			t.Errorf("promote: %s", a.Body)
		}
		a = w.fine("PATCH", "/v1/apps/demo/services/default/versions/v1?alt=json&updateMask=servingStatus", `{"servingStatus":"STOPPED"}`)
		if a.at("done") != true || a.at("response/servingStatus") != "STOPPED" {
			t.Errorf("stop: %s", a.Body)
		}
	})
}

func same(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// The other requests that gcloud was seen to send, and what comes of them.
func TestRequestsOfGcloud(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("v1")
		w.deploy("v2")
		instance := fmt.Sprint(w.fine("GET", "/v1/apps/demo/services/default/versions/v2/instances?alt=json&pageSize=100", "").at("instances/0/id"))
		const a, s = "/v1/apps/demo", "/v1/apps/demo/services/default"
		for _, r := range []struct {
			method, target, body string
			code                 int
			path                 string
			want                 any
		}{
			{"POST", "/v1/apps?alt=json", `{"id": "demo", "locationId": "local"}`, 409, "error/status", "ALREADY_EXISTS"},
			{"POST", "/v1/apps?alt=json", `{"id":"other","locationId":"local1","serviceAccount":"x@y.test","sslPolicy":"MODERN"}`, 200, "response/locationId", "local1"},
			{"GET", "/v1/apps/none?alt=json", "", 404, "error/status", "NOT_FOUND"},
			{"POST", a + ":repair?alt=json", "{}", 200, "done", true},
			{"POST", "/v1beta/apps/demo:repair?alt=json", "{}", 200, "metadata/@type", "type.googleapis.com/google.appengine.v1beta.OperationMetadataV1Beta"},
			{"PATCH", "/v1beta/apps/demo?alt=json&updateMask=serviceAccount%2CsslPolicy%2C", `{"featureSettings":{},"serviceAccount":"x@y","sslPolicy":"MODERN"}`, 200, "response/serviceAccount", "x@y"},
			{"PATCH", "/v1beta/apps/demo?alt=json&updateMask=featureSettings.splitHealthChecks%2C", `{"featureSettings":{"splitHealthChecks":false}}`, 400, "error/status", "FAILED_PRECONDITION"},
			{"PATCH", a + "?alt=json&updateMask=dispatchRules%2C", `{"dispatchRules":[{"domain":"*","path":"/api/*","service":"default"}]}`, 200, "response/dispatchRules/0/path", "/api/*"},
			{"PATCH", a + "?alt=json&updateMask=dispatchRules%2C", `{"dispatchRules":[{"domain":"*","path":"/api/*","service":"none"}]}`, 400, "error/details/0/fieldViolations/0/field", "application.dispatchRules"},
			{"GET", a + "/locations/local?alt=json", "", 200, "locationId", "local"},
			{"GET", a + ":listRuntimes?alt=json&environment=STANDARD", "", 200, "runtimes", nil},
			{"GET", a + ":listRuntimes?alt=json&environment=FLEXIBLE", "", 200, "runtimes/0/name", "custom"},
			{"GET", a + "/operations?alt=json&filter=done%3Afalse&pageSize=100", "", 200, "operations", nil},
			{"GET", a + "/operations?alt=json&pageSize=100", "", 200, "operations/0/metadata/method", "google.appengine.v1.Versions.CreateVersion"},
			{"GET", a + "/operations?alt=json&filter=target:x", "", 400, "error/code", 400.0},
			{"PATCH", s + "?alt=json&migrateTraffic=True&updateMask=split", `{"split":{"allocations":{"v1":0.33,"v2":0.67},"shardBy":"ip"}}`, 200, "response/split/shardBy", "IP"},
			{"PATCH", s + "?alt=json&migrateTraffic=maybe&updateMask=split", `{"split":{"allocations":{"v1":1}}}`, 400, "error/code", 400.0},
			{"PATCH", s + "?alt=json&updateMask=split", `{"split":{"allocations":{"v9":1}}}`, 404, "error/code", 404.0},
			{"PATCH", s + "?alt=json&updateMask=split", `{"split":{"allocations":{"v1":7}}}`, 400, "error/code", 400.0},
			{"PATCH", s + "?alt=json&updateMask=networkSettings", `{"networkSettings":{"ingressTrafficAllowed":"INGRESS_TRAFFIC_ALLOWED_ALL"}}`, 200, "done", true},
			{"PATCH", s + "?alt=json&updateMask=networkSettings", `{"networkSettings":{"ingressTrafficAllowed":"INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"}}`, 400, "error/status", "FAILED_PRECONDITION"},
			{"DELETE", s + "?alt=json", "", 400, "error/code", 400.0},
			{"GET", "/v1/apps/demo/services/none?alt=json", "", 404, "error/code", 404.0},
			{"GET", s + "/versions?alt=json&pageSize=1", "", 200, "versions/0/name", "apps/demo/services/default/versions/v1"},
			{"GET", s + "/versions?alt=json&fields=versions(id)", "", 200, "versions/0/name", nil},
			{"GET", s + "/versions?alt=json&fields=versions/id", "", 200, "versions/1/id", "v2"},
			{"GET", s + "/versions/v1?view=SIDE", "", 400, "error/code", 400.0},
			{"PATCH", s + "/versions/v1?alt=json&updateMask=servingStatus", `{"servingStatus":"STOPPED"}`, 200, "done", true},
			{"GET", s + "/versions/v1?alt=json", "", 200, "servingStatus", "STOPPED"},
			{"PATCH", s + "/versions/v1?alt=json&updateMask=servingStatus", `{"servingStatus":"SERVING"}`, 200, "done", true},
			{"PATCH", s + "/versions/v1?updateMask=manualScaling.instances", `{"manualScaling":{"instances":1}}`, 200, "response/manualScaling/instances", 1.0},
			{"PATCH", s + "/versions/v1?updateMask=automatic_scaling.max_total_instances", `{"automaticScaling":{"maxTotalInstances":1}}`, 400, "error/code", 400.0},
			{"DELETE", s + "/versions/v1?alt=json", "", 409, "error/code", 409.0},
			{"GET", s + "/versions/v2/instances/" + instance + "?alt=json", "", 200, "vmStatus", "RUNNING"},
			{"POST", s + "/versions/v2/instances/" + instance + ":debug?alt=json", "{}", 200, "response/vmDebugEnabled", true},
			{"POST", s + "/versions/v2/instances/" + instance + ":debug?alt=json", `{"sshKey":"root:ssh-rsa AAAA root"}`, 400, "error/status", "FAILED_PRECONDITION"},
			{"DELETE", s + "/versions/v2/instances/" + instance + "?alt=json", "", 200, "done", true},
			{"GET", s + "/versions/v2/instances/" + instance + "?alt=json", "", 404, "error/code", 404.0},
			{"POST", "/v1/projects/demo/services/cloudtasks.googleapis.com:enable?alt=json", "{}", 400, "error/status", "FAILED_PRECONDITION"},
			{"POST", "/v1/projects/demo/services/appengineflex.googleapis.com:enable?alt=json", "{}", 200, "done", true},
			{"GET", "/v1beta1/projects/demo/locations?alt=json&pageSize=100", "", 400, "error/status", "FAILED_PRECONDITION"},
			{"GET", "/v2/projects/demo/locations?alt=json&pageSize=100", "", 400, "error/status", "FAILED_PRECONDITION"},
			{"GET", "/v1/projects/demo/indexes?alt=json", "", 400, "error/status", "FAILED_PRECONDITION"},
			{"POST", "/v1/projects/demo/builds?alt=json", "{}", 400, "error/status", "FAILED_PRECONDITION"},
			{"GET", "/compute/v1/projects/demo?alt=json", "", 400, "error/status", "FAILED_PRECONDITION"},
			{"GET", a + "/firewall/ingressRules?alt=json&pageSize=100", "", 200, "ingressRules/0/priority", 2147483647.0},
			{"POST", a + "/firewall/ingressRules?alt=json", `{"action":"DENY","description":"test","priority":100,"sourceRange":"10.0.0.7/8"}`, 200, "sourceRange", "10.0.0.0/8"},
			{"POST", a + "/firewall/ingressRules?alt=json", `{"action":"DENY","priority":100,"sourceRange":"10.0.0.0/8"}`, 409, "error/status", "ALREADY_EXISTS"},
			{"POST", a + "/firewall/ingressRules?alt=json", `{"action":"DENY","priority":101,"sourceRange":"10.0.0.0/80"}`, 400, "error/details/0/fieldViolations/0/field", "rule.sourceRange"},
			{"POST", a + "/firewall/ingressRules?alt=json", `{"action":"DENY","priority":2147483647,"sourceRange":"*"}`, 400, "error/code", 400.0},
			{"GET", a + "/firewall/ingressRules?alt=json&matchingAddress=10.1.2.3&pageSize=100", "", 200, "ingressRules/0/action", "DENY"},
			{"GET", a + "/firewall/ingressRules?alt=json&matchingAddress=192.0.2.1&pageSize=100", "", 200, "ingressRules/0/action", "ALLOW"},
			{"PATCH", a + "/firewall/ingressRules/100?alt=json&updateMask=action%2CsourceRange", `{"action":"ALLOW","priority":100,"sourceRange":"2001:db8::/32"}`, 200, "description", "test"},
			{"PATCH", a + "/firewall/ingressRules/100?alt=json", `{"description":"again"}`, 200, "description", "again"},
			{"PATCH", a + "/firewall/ingressRules/2147483647?alt=json&updateMask=action", `{"action":"DENY"}`, 200, "action", "DENY"},
			{"GET", a + "/firewall/ingressRules/2147483647?alt=json", "", 200, "action", "DENY"},
			{"DELETE", a + "/firewall/ingressRules/2147483647?alt=json", "", 400, "error/code", 400.0},
			{"DELETE", a + "/firewall/ingressRules/100?alt=json", "", 200, "error", nil},
			{"GET", a + "/firewall/ingressRules/100?alt=json", "", 404, "error/code", 404.0},
			{"POST", a + "/domainMappings?alt=json", `{"id":"*.Example.com","sslSettings":{"sslManagementType":"AUTOMATIC"}}`, 200, "response/id", "*.example.com"},
			{"POST", a + "/domainMappings?alt=json", `{"id":"*.example.com"}`, 409, "error/status", "ALREADY_EXISTS"},
			{"POST", "/v1/apps/other/domainMappings?alt=json", `{"id":"*.example.com"}`, 409, "error/status", "ALREADY_EXISTS"},
			{"POST", a + "/domainMappings?alt=json", `{"id":"x.localhost"}`, 400, "error/code", 400.0},
			{"POST", a + "/domainMappings?alt=json", `{"id":"www.example.com","sslSettings":{"certificateId":"7"}}`, 400, "error/status", "INVALID_ARGUMENT"},
			{"GET", a + "/domainMappings?alt=json", "", 200, "domainMappings/0/id", "*.example.com"},
			{"GET", a + "/domainMappings/*.example.com?alt=json", "", 200, "id", "*.example.com"},
			{"PATCH", a + "/domainMappings/*.example.com?alt=json&updateMask=sslSettings.certificateId", `{}`, 200, "done", true},
			{"GET", a + "/authorizedDomains?alt=json", "", 200, "domains/1/id", "example.com"},
			{"DELETE", a + "/domainMappings/*.example.com?alt=json", "", 200, "done", true},
			{"GET", a + "/domainMappings/*.example.com?alt=json", "", 404, "error/code", 404.0},
			{"GET", a + "/authorizedCertificates?alt=json", "", 200, "certificates", nil},
			{"PUT", a, "{}", 405, "error/status", "UNIMPLEMENTED"},
			{"GET", "/v1/nothing", "", 404, "error/status", "NOT_FOUND"},
			{"GET", s + "/versions/v1:start", "", 404, "error/status", "NOT_FOUND"},
		} {
			got := w.ask(r.method, r.target, r.body)
			if got.Code != r.code || got.at(r.path) != r.want {
				t.Errorf("%s %s: %d %s; want %d with %s %v", r.method, r.target, got.Code, got.Body, r.code, r.path, r.want)
			}
		}
		if got := w.fine("GET", a+"/locations", "").at("locations/0/labels"); fmt.Sprint(got) != "map[cloud.googleapis.com/region:local]" {
			t.Errorf("labels %v", got)
		}
	})
}

// A question that is too long for a URL comes as a form.
func TestALongQuestionComesAsAForm(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("v1")
		a := w.fine("POST", "/v1/apps/demo/services/default/versions", "alt=json&view=FULL", "X-HTTP-Method-Override: GET", "Content-Type: application/x-www-form-urlencoded")
		if a.at("versions/0/envVariables/FOO") != "bar" {
			t.Errorf("answered %s", a.Body)
		}
	})
}

// Everything is listed once, however small the pages are.
func TestPagesListEverythingOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 5 {
			w.deploy(fmt.Sprint("v", i))
		}
		var got []string
		token := ""
		for range 10 {
			a := w.fine("GET", "/v1/apps/demo/services/default/versions?pageSize=2&pageToken="+token, "")
			for i := range len(a.at("versions").([]any)) {
				got = append(got, a.at(fmt.Sprintf("versions/%d/id", i)).(string))
			}
			if token, _ = a.at("nextPageToken").(string); token == "" {
				break
			}
		}
		if !slices.Equal(got, []string{"v0", "v1", "v2", "v3", "v4"}) {
			t.Errorf("listed %v", got)
		}
	})
}

// What fails says why, in Google's form, and leaves traffic where it was.
func TestAFailedDeployTellsWhy(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("v1")
		w.builder.mu.Lock()
		w.builder.fail = buildFailure{}
		w.builder.mu.Unlock()
		a := w.fineOrFailed("POST", "/v1/apps/demo/services/default/versions", w.version("v2", map[string]string{"app.yaml": chatYAML, "main.py": "no"}))
		text, _ := a.at("error/message").(string)
		for _, want := range []string{"build-failed", "go build: exit status 1", "main.go:1: no", "Next: mend it", "Traffic has not moved"} {
			if !strings.Contains(text, want) {
				t.Errorf("the failure lacks %q: %s", want, text)
			}
		}
		if a.at("done") != true || a.at("error/code") != 3.0 || a.Code != 200 {
			t.Errorf("answered %d %s", a.Code, a.Body)
		}
	})
}

// fineOrFailed asks until an operation has ended.
func (w *world) fineOrFailed(method, target, body string) answer {
	a := w.ask(method, target, body)
	for range 20 {
		if a.at("done") == true || a.Code != 200 {
			break
		}
		a = w.ask("GET", "/v1/"+a.at("name").(string), "")
	}
	return a
}

// The same version with other contents is replaced, as on App Engine.
func TestAVersionIsReplaced(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("prod")
		a := w.fineOrFailed("POST", "/v1/apps/demo/services/default/versions", w.version("prod", map[string]string{"app.yaml": chatYAML, "main.py": "other"}))
		if a.at("done") != true || a.at("error") != nil {
			t.Errorf("deployed again: %s", a.Body)
		}
	})
}

func TestVersionsThatAreRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		fine := map[string]string{"app.yaml": chatYAML}
		for name, r := range map[string]struct {
			change func(body string) string
			field  string
		}{
			"no id":      {func(b string) string { return strings.Replace(b, `"id": "v1"`, `"id": ""`, 1) }, "version.id"},
			"a bad id":   {func(b string) string { return strings.Replace(b, `"id": "v1"`, `"id": "V 1"`, 1) }, "version.id"},
			"standard":   {func(b string) string { return strings.Replace(b, `"env": "flex"`, `"env": "standard"`, 1) }, "version.env"},
			"runtime":    {func(b string) string { return strings.Replace(b, `"vm_runtime": "python"`, `"vm_runtime": "go"`, 1) }, "version.betaSettings.vm_runtime"},
			"instances":  {func(b string) string { return strings.Replace(b, `"instances": 2`, `"instances": 3`, 1) }, "version.manualScaling.instances"},
			"a variable": {func(b string) string { return strings.Replace(b, `"FOO": "bar"`, `"BAR": "foo"`, 1) }, "version.envVariables"},
			"no app.yaml": {func(b string) string {
				return strings.Replace(b, `"appYamlPath": "app.yaml"`, `"appYamlPath": "a.yaml"`, 1)
			}, "version.deployment.cloudBuildOptions.appYamlPath"},
			"climbs":        {func(b string) string { return strings.Replace(b, `"app.yaml":{`, `"../app.yaml":{`, 1) }, "version.deployment.files"},
			"absolute":      {func(b string) string { return strings.Replace(b, `"app.yaml":{`, `"/app.yaml":{`, 1) }, "version.deployment.files"},
			"not uploaded":  {func(b string) string { return strings.ReplaceAll(b, sum(chatYAML), sum("x")) }, "version.deployment.files"},
			"two sums":      {func(b string) string { return strings.Replace(b, sum(chatYAML), sum("x"), 1) }, "version.deployment.files"},
			"no sum at all": {func(b string) string { return strings.ReplaceAll(b, sum(chatYAML), "x") }, "version.deployment.files"},
		} {
			a := w.ask("POST", "/v1/apps/demo/services/default/versions", r.change(w.version("v1", fine)))
			if a.Code != 400 || a.at("error/details/0/fieldViolations/0/field") != r.field {
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
		}
		a := w.ask("POST", "/v1/apps/demo/services/other/versions", w.version("v1", fine))
		if a.Code != 400 {
			t.Errorf("another service: %d %s", a.Code, a.Body)
		}
		a = w.ask("POST", "/v1/apps/demo/services/default/versions", w.version("v1", map[string]string{"app.yaml": chatYAML + "resources:\n  cpu: many\n"}))
		if field := fmt.Sprint(a.at("error/details/0/fieldViolations/0/field")); a.Code != 400 || field != "app.yaml:11:8" {
			t.Errorf("a mistake in app.yaml: %d %s", a.Code, a.Body)
		}
		a = w.ask("POST", "/v1/apps/demo/services/default/versions", `{"id":"v1","env":"flex","deployment":{"container":{"image":"gcr.io/p/i"}}}`)
		if a.Code != 400 || a.at("error/status") != "FAILED_PRECONDITION" {
			t.Errorf("an image: %d %s", a.Code, a.Body)
		}
		if len(w.store.Wishes().Versions) != 0 {
			t.Errorf("versions came of it: %v", w.store.Wishes().Versions)
		}
	})
}

func TestUploadsAreBelievedOnlyIfTheyAreRight(t *testing.T) {
	inWorld(t, func(w *world) {
		body, header := asParts("hello")
		for name, a := range map[string]answer{
			"another hash":  w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name="+sum("other"), body, header),
			"no hash":       w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name=hello.txt", body, header),
			"another size":  w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name="+sum("hello"), strings.Replace(body, `"5"`, `"6"`, 1), header),
			"cut off":       w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name="+sum("hello"), body[:len(body)-20], header),
			"no boundary":   w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name="+sum("hello"), body, "Content-Type: multipart/related"),
			"another kind":  w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=x&name="+sum("hello"), body, header),
			"a bad bucket":  w.ask("POST", "/upload/storage/v1/b/A%2FB/o?uploadType=multipart&name="+sum("hello"), body, header),
			"a client's":    w.ask("POST", "/upload/storage/v1/b/staging.demo/o?uploadType=multipart&name=us.gcr.io%2Fdemo%2Fappengine%2Fdefault.v1%3Alatest", body, header),
			"no such piece": w.ask("PUT", "/resumable/upload/storage/v1/b/staging.demo/o?uploadType=resumable&upload_id=x", "hello", "Content-Range: bytes 0-4/5"),
		} {
			if a.Code < 400 || a.Code >= 500 {
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
		}
		if a := w.fine("GET", "/storage/v1/b/staging.demo/o", ""); a.at("items") != nil {
			t.Errorf("held: %s", a.Body)
		}
		left, err := os.ReadDir(filepath.Join(w.dir, "staging", "new"))
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestAnUploadInPieces(t *testing.T) {
	inWorld(t, func(w *world) {
		text := strings.Repeat("0123456789", 100)
		begin := func() string {
			a := w.ask("POST", "/resumable/upload/storage/v1/b/staging.demo/o?alt=json&name="+sum(text)+"&uploadType=resumable", `{"size": "1000"}`, "X-Upload-Content-Length: 1000")
			if a.Code != http.StatusOK || a.Body.Len() != 0 {
				t.Fatalf("begin: %d %s", a.Code, a.Body)
			}
			return strings.TrimPrefix(a.Header().Get("Location"), "http://127.0.0.1:8079")
		}
		at := begin()
		a := w.ask("PUT", at, text[:600], "Content-Range: bytes 0-599/1000")
		if a.Code != 308 || a.Header().Get("Range") != "bytes=0-599" {
			t.Errorf("first piece: %d %v", a.Code, a.Header())
		}
		if a = w.ask("PUT", at, text[:600], "Content-Range: bytes 0-599/1000"); a.Code != 400 {
			t.Errorf("the same again: %d %s", a.Code, a.Body)
		}
		if a = w.ask("PUT", at, "", "Content-Range: bytes */1000"); a.Code != 308 || a.Header().Get("Range") != "bytes=0-599" {
			t.Errorf("how much is here: %d %v", a.Code, a.Header())
		}
		if a = w.fine("PUT", at, text[600:], "Content-Range: bytes 600-999/1000"); a.at("size") != "1000" {
			t.Errorf("last piece: %s", a.Body)
		}
		if a = w.ask("PUT", begin(), strings.Replace(text, "0", "1", 1), "Content-Range: bytes 0-999/1000"); a.Code != 400 {
			t.Errorf("another content: %d %s", a.Code, a.Body)
		}
		// An upload goes on with another server; what was not written down is nobody's.
		at = begin()
		w.ask("PUT", at, text[:700], "Content-Range: bytes 0-699/1000")
		if err := os.WriteFile(filepath.Join(w.dir, "staging", "pieces", "stray"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.open()
		if a = w.ask("PUT", at, "", "Content-Range: bytes */1000"); a.Code != 308 || a.Header().Get("Range") != "bytes=0-699" {
			t.Errorf("how much is here after a restart: %d %v", a.Code, a.Header())
		}
		if a = w.fine("PUT", at, text[700:], "Content-Range: bytes 700-999/1000"); a.at("size") != "1000" {
			t.Errorf("last piece after a restart: %s", a.Body)
		}
		if a = w.ask("PUT", at, "", "Content-Range: bytes */1000"); a.Code != 404 {
			t.Errorf("after its end: %d %s", a.Code, a.Body)
		}
		if left, err := os.ReadDir(filepath.Join(w.dir, "staging", "pieces")); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		// A new server knows what the former one held, and lists nothing that is gone.
		w.open()
		if a = w.fine("GET", "/storage/v1/b/staging.demo/o", ""); a.at("items/0/name") != sum(text) {
			t.Errorf("held after a restart: %s", a.Body)
		}
		if err := os.RemoveAll(filepath.Join(w.dir, "source", "blobs")); err != nil {
			t.Fatal(err)
		}
		if a = w.fine("GET", "/storage/v1/b/staging.demo/o", ""); a.at("items") != nil {
			t.Errorf("listed though it is gone: %s", a.Body)
		}
	})
}

// gcloud drops the modes of files; what names its interpreter may be run.
func TestProgramsMayBeRun(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.fineOrFailed("POST", "/v1/apps/demo/services/default/versions", w.version("v1", map[string]string{"app.yaml": chatYAML, "run.sh": "#!/bin/sh\nexit 0\n", "text": "no"}))
		if a.Code != 200 || a.at("error") != nil {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		tree, err := w.sources.Tree(w.store.Wishes().Versions[app.Key{App: "demo", Service: "default", Version: "v1"}].Source)
		if err != nil {
			t.Fatal(err)
		}
		var run []string
		for _, f := range tree {
			if f.Exec {
				run = append(run, f.Path)
			}
		}
		if !slices.Equal(run, []string{"run.sh"}) {
			t.Errorf("may be run: %v of %v", run, []source.File(tree))
		}
	})
}

func TestLogsAreReadAsGcloudDoes(t *testing.T) {
	inWorld(t, func(w *world) {
		f, err := logs.Create(filepath.Join(w.dir, "logs", "aef-default-v1-abcd.log"), logs.Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := logs.Own(filepath.Join(w.dir, "logs", "aef-default-v1-abcd.log"), app.Key{App: "demo", Service: "default", Version: "v1"}); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 22, 16, 0, 0, 0, time.UTC)
		for i, l := range []logs.Line{{Stream: logs.Out, Text: "hello"}, {Stream: logs.Err, Text: "oops"}, {Stream: logs.Out, Text: "again"}} {
			l.Time = at.Add(time.Duration(i) * time.Second)
			if err := f.Append(l); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		const names = `logName=(\"projects/demo/logs/appengine.googleapis.com%2Fcrash.log\" OR \"projects/demo/logs/stderr\" OR \"projects/demo/logs/stdout\")`
		for _, r := range []struct{ filter, order, want string }{
			{`resource.type=\"gae_app\" AND ` + names, "timestamp desc", "again oops hello"},
			{`resource.type=\"gae_app\" AND resource.labels.module_id=\"default\" AND ` + names + ` AND timestamp>=\"1970-01-01T01:00:00.000000000Z\" AND timestamp<\"2026-11-22T16:00:02.000000Z\"`, "timestamp asc", "hello oops"},
			{`resource.type=\"gae_app\" AND severity>=ERROR`, "timestamp desc", "oops"},
			{`resource.labels.version_id=\"v2\"`, "timestamp desc", ""},
			{`(timestamp=\"2026-11-22T16:00:01Z\" AND insertId>\"0\") OR timestamp>\"2026-11-22T16:00:01Z\"`, "timestamp asc", "oops again"},
			{`NOT textPayload:\"O\"`, "timestamp asc", "again"},
			{``, "", "hello oops again"},
		} {
			a := w.fine("POST", "/v2/entries:list?alt=json", fmt.Sprintf(`{"resourceNames":["projects/demo"],"orderBy":%q,"pageSize":200,"filter":"%s"}`, r.order, r.filter))
			var got []string
			for i := 0; a.at(fmt.Sprintf("entries/%d/textPayload", i)) != nil; i++ {
				got = append(got, a.at(fmt.Sprintf("entries/%d/textPayload", i)).(string))
			}
			if strings.Join(got, " ") != r.want {
				t.Errorf("filter %s: %v, want %s", r.filter, got, r.want)
			}
		}
		for _, filter := range []string{`severity>=LOUD`, `shape=round`, `(`, `a`, `severity`, `timestamp>=now`, `\"`, `severity=(ERROR AND INFO)`, strings.Repeat("(", 1000), strings.Repeat("NOT ", 1000)} {
			if a := w.ask("POST", "/v2/entries:list", fmt.Sprintf(`{"resourceNames":["projects/demo"],"filter":"%s"}`, filter)); a.Code != 400 {
				t.Errorf("filter %.20s: %d %s", filter, a.Code, a.Body)
			}
		}
	})
}
