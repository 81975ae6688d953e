package googleapi

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"holdfast/internal/auth"
)

// Whatever somebody sends, the fault is theirs: never a 5xx, never a panic.
func TestNothingThatIsSentIsOurFault(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("v1")
		body, header := asParts("hello")
		words := []string{"v1", "v1beta", "v2", "apps", "demo", "services", "default", "versions", "instances", "operations", "locations", "entries:list", "storage", "upload",
			"resumable", "b", "o", "staging.demo", "projects", ":repair", "%00", "%2F", "..", "*", "x:debug", "v1:", "", "experiments.yaml", sum("hello"), "firewall", "ingressRules", "domainMappings",
			"authorizedCertificates", "2147483647", "100", strings.Repeat("x", 3000)}
		bodies := []string{"", "{}", "null", "[]", "7", `"x"`, "{", `{"id":7}`, `{"id":"v9","env":"flex","deployment":{"files":{"":{"sha1Sum":"x"}}}}`, `{"split":{"allocations":{"v1":1e308,"v2":1e308}}}`,
			`{"split":null}`, `{"servingStatus":{}}`, `{"manualScaling":{"instances":-1}}`, `{"resourceNames":["projects/demo"],"filter":"((("}`, body, strings.Repeat("[", 20000), "\xff\xfe"}
		queries := []string{"", "alt=json", "alt=xml", "pageSize=-1", "pageSize=x", "pageToken=%FF", "updateMask=,,,", "updateMask=split", "updateMask=servingStatus", "view=x", "fields=a(b", "fields=*",
			"uploadType=multipart&name=" + sum("hello"), "uploadType=resumable&name=" + sum("hello"), "uploadType=media", "%", "filter=done:maybe", "maxResults=99999999999999999999", "matchingAddress=x"}
		methods := []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"}
		headers := []string{header, "Content-Type: multipart/related; boundary=", "Content-Range: bytes 9-1/5", "X-HTTP-Method-Override: GET", "X-Upload-Content-Length: -7", "Origin: http://evil.example"}
		for seed := range uint64(10_000) {
			r := rand.New(rand.NewPCG(seed, 1))
			pick := func(from []string) string { return from[r.IntN(len(from))] }
			path := ""
			for range 1 + r.IntN(10) {
				path += "/" + pick(words)
			}
			if r.IntN(2) == 0 { // something near to what there is
				route := w.door.(*door).routes[r.IntN(len(w.door.(*door).routes))]
				path = ""
				for part := range strings.SplitSeq(route.pattern, "/") {
					if strings.HasPrefix(part, "{") {
						_, verb, _ := strings.Cut(part, "}")
						part = pick(words) + verb
					}
					path += "/" + part
				}
			}
			target := path + "?" + pick(queries)
			method := pick(methods)
			a := w.ask(method, target, pick(bodies), pick(headers))
			if a.Code >= 500 || a.Code < 200 {
				t.Fatalf("seed %d: %s %.200s: %d %s", seed, method, target, a.Code, a.Body)
			}
		}
	})
}

func TestNobodyActsWithoutAToken(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, r := range w.door.(*door).routes {
			for _, header := range []string{"Authorization: Bearer x", "Authorization: ", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"} {
				path := strings.NewReplacer("{", "", "}", "").Replace(r.pattern)
				if a := w.ask(r.method, "/"+path, "{}", header); a.Code != 401 && a.Code != 403 {
					t.Errorf("%s %s with %s: %d", r.method, path, header, a.Code)
				}
			}
		}
	})
}

// A token's role decides what may be asked for.
func TestRolesDecideWhatMayBeAsked(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("v1")
		const s = "/v1/apps/demo/services/default"
		for _, r := range []struct {
			method, target, body string
			least                auth.Role
		}{
			{"GET", s, "", auth.Viewer},
			{"POST", "/v2/entries:list", `{"resourceNames":["projects/demo"]}`, auth.Viewer},
			{"PATCH", s + "?updateMask=split", `{"split":{"allocations":{"v1":1}}}`, auth.Deployer},
			{"PATCH", "/v1/apps/demo?updateMask=serviceAccount", `{"serviceAccount":"x"}`, auth.Deployer},
			{"POST", "/v1/apps", `{"id":"demo"}`, auth.Admin},
		} {
			for _, role := range auth.Roles() {
				token, err := w.tokens.Add("test", role)
				if err != nil {
					t.Fatal(err)
				}
				got := w.ask(r.method, r.target, r.body, "Authorization: Bearer "+token).Code
				if (got == 403) != !(auth.Caller{Name: "test", Role: role}).May(r.least) {
					t.Errorf("%s %s as %s: %d", r.method, r.target, role, got)
				}
				if err := w.tokens.Remove("test"); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzMultipart(f *testing.F) {
	body, header := asParts("hello")
	f.Add(header, body)
	f.Add("multipart/related; boundary=\"x\"", "--x\r\n\r\n{}\r\n--x\r\n\r\nhello\r\n--x--")
	f.Fuzz(func(t *testing.T, header, body string) {
		p, err := openParts(strings.TrimPrefix(header, "Content-Type: "), strings.NewReader(body))
		if err != nil {
			check(t, err)
			return
		}
		_, file, err := p.next()
		if err != nil {
			check(t, err)
			return
		}
		text, err := io.ReadAll(file)
		if err != nil {
			check(t, err)
		}
		if !strings.Contains(body, string(text)) {
			t.Errorf("the file has %q, which did not come", text)
		}
	})
}

// check says that an error is the sender's.
func check(t *testing.T, err error) {
	t.Helper()
	if e := errorOf(err); e.Code < 400 || e.Code >= 500 {
		t.Errorf("%v is answered with %d", err, e.Code)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`resource.type="gae_app" AND (severity>=ERROR OR NOT logName=("a" OR "b"))`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilter(text)
		if err != nil {
			check(t, err)
			return
		}
		e := wireEntry{Severity: "ERROR", Text: "x"}
		// What a filter lets through is what it says that it lets through.
		if got.meets(&e) && (got.service != "" || got.version != "" || !got.since.IsZero()) {
			t.Errorf("%q lets through what is not of service %q, version %q, since %v", text, got.service, got.version, got.since)
		}
		_ = got.meets(&wireEntry{})
	})
}

func FuzzFields(f *testing.F) {
	f.Add("nextPageToken,items(name,size),a/b/c")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseFields(text)
		if err != nil {
			check(t, err)
			return
		}
		_ = s.of(map[string]any{"items": []any{map[string]any{"name": "x"}}, "a": map[string]any{"b": 1.0}})
	})
}

func FuzzRange(f *testing.F) {
	for _, text := range []string{"", "bytes 0-99/200", "bytes 0-99/*", "bytes */200", "bytes 1-0/2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseRange(text)
		if err != nil {
			check(t, err)
			return
		}
		if p.from < 0 || p.to >= 0 && (p.to < p.from || p.total >= 0 && p.to >= p.total) {
			t.Errorf("%q is %+v", text, p)
		}
	})
}

// The index forgets what is damaged, and nothing else.
func TestADamagedIndexIsNotBelieved(t *testing.T) {
	for i := range 200 {
		o := object{sha1: sum(fmt.Sprint(i)), hash: strings.Repeat("a", 64), size: int64(i), exec: i%2 == 0}
		line := strings.TrimSuffix(o.line(), "\n")
		if got, ok := parseObject(line); !ok || got != o {
			t.Fatalf("%q is %+v, %v", line, got, ok)
		}
		at := rand.IntN(len(line))
		if got, ok := parseObject(line[:at] + "~" + line[at+1:]); ok {
			t.Errorf("damaged at %d: %+v", at, got)
		}
	}
}
