package admin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/auth"
)

// ask sends one request through the door, without a network.
func (w *world) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8079"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+w.token)
	// Each from an address of its own: who fails again and again waits.
	r.RemoteAddr = fmt.Sprintf("[2001:db8::%x]:1234", rand.Uint32()&0xffff)
	for i := 0; i < len(header); i += 2 {
		if name, value := header[i], header[i+1]; name == "Host" {
			r.Host = value
		} else if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Add(name, value)
		}
	}
	rec := httptest.NewRecorder()
	w.door.ServeHTTP(rec, r)
	return rec
}

// kind is what an answer says went wrong.
func kind(rec *httptest.ResponseRecorder) Kind {
	var e wireError
	if json.Unmarshal(rec.Body.Bytes(), &e) != nil {
		return "no JSON"
	}
	return e.Error.Kind
}

// example is a path that a route takes.
func example(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	path = strings.NewReplacer("{app}", "shop", "{service}", "chat", "{version}", "v1", "{id}", "x", "{name}", "x", "{hash}", strings.Repeat("0", 64)).Replace(path)
	return method, Prefix + path
}

// Every route is written down here, so that a new one is thought of where it
// matters: who may use it.
var allRoutes = []string{
	"GET status",
	"GET services", "GET versions", "GET instances", "GET operations",
	"GET apps/{app}/services/{service}", "GET apps/{app}/services/{service}/versions/{version}", "GET apps/{app}/dispatch",
	"GET instances/{id}", "GET operations/{id}", "GET operations/{id}/log",
	"PUT blobs/{hash}", "POST trees", "POST apps/{app}/deploy",
	"PUT apps/{app}/services/{service}/traffic", "POST apps/{app}/services/{service}/rollback", "DELETE apps/{app}/services/{service}",
	"POST apps/{app}/services/{service}/versions/{version}/start", "POST apps/{app}/services/{service}/versions/{version}/stop",
	"DELETE apps/{app}/services/{service}/versions/{version}", "PATCH apps/{app}/services/{service}/versions/{version}/scaling",
	"POST instances/{id}/restart", "DELETE instances/{id}", "PUT apps/{app}/dispatch", "POST operations/{id}/cancel",
	"GET logs", "GET sockets", "POST sockets/close", "GET backup", "GET certificates", "POST certificates/{name}/replace", "POST restore",
	"GET drills", "POST apps/{app}/services/{service}/drills", "PUT operations/{id}/report", "GET operations/{id}/report",
	"GET tokens", "POST tokens", "DELETE tokens/{name}", "POST console",
}

func TestEveryRouteNeedsAToken(t *testing.T) {
	w := newWorld(t)
	var have []string
	for _, r := range w.door.(*door).routes() {
		have = append(have, r.pattern)
		if (r.answer == nil) == (r.stream == nil) {
			t.Errorf("%s has not one way to be answered", r.pattern)
		}
	}
	slices.Sort(have)
	if want := slices.Sorted(slices.Values(allRoutes)); !slices.Equal(have, want) {
		t.Errorf("routes:\n%q\nwant\n%q", have, want)
	}
	other := "holdfast_" + strings.Repeat("A", 43)
	for _, pattern := range append(slices.Clone(allRoutes), "GET nothing/there", "TRACE status", "POST status") {
		method, path := example(pattern)
		for name, header := range map[string][]string{
			"none":      {"Authorization", ""},
			"wrong":     {"Authorization", "", "Authorization", "Bearer " + other},
			"empty":     {"Authorization", "", "Authorization", "Bearer "},
			"basic":     {"Authorization", "", "Authorization", "Basic " + w.token},
			"two":       {"Authorization", "Bearer " + other},
			"elsewhere": {"Authorization", "", "Cookie", "token=" + w.token, byHeader, "owner"},
		} {
			rec := w.ask(method, path, `{}`, header...)
			if rec.Code != http.StatusUnauthorized || kind(rec) != KindUnauthorized || !strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s with token %s: %d %s", pattern, name, rec.Code, rec.Body)
			}
		}
	}
	if calls := w.clerk.asked(); len(calls) > 0 {
		t.Errorf("control was asked: %q", calls)
	}
}

func TestEveryRouteTakesTheToken(t *testing.T) {
	w := newWorld(t)
	for _, pattern := range allRoutes {
		method, path := example(pattern)
		if rec := w.ask(method, path, `{}`); kind(rec) == KindUnauthorized || kind(rec) == KindForbidden || rec.Code == http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", pattern, rec.Code, rec.Body)
		}
	}
}

func TestBrowsersThatAreMisledAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name   string
		header []string
		ok     bool
	}{
		{"address", []string{"Host", "127.0.0.1:8079"}, true},
		{"another address", []string{"Host", "192.168.1.5"}, true},
		{"IPv6", []string{"Host", "[::1]:8079"}, true},
		{"IPv6 without port", []string{"Host", "[fe80::1]"}, true},
		{"localhost", []string{"Host", "LOCALHOST:8079"}, true},
		{"below localhost", []string{"Host", "holdfast.localhost"}, true},
		{"a name of its own", []string{"Host", "cupboard.lan:8079"}, true},
		{"with a final dot", []string{"Host", "cupboard.lan."}, true},
		{"below a name of its own", []string{"Host", "a.b.home.example"}, true},
		{"not itself", []string{"Host", "home.example"}, false},
		{"rebound", []string{"Host", "evil.example"}, false},
		{"rebound, with port", []string{"Host", "evil.example:8079"}, false},
		{"looks like an address", []string{"Host", "127.0.0.1.evil.example"}, false},
		{"ends like ours", []string{"Host", "evilcupboard.lan"}, false},
		{"ends like localhost", []string{"Host", "evillocalhost"}, false},
		{"none", []string{"Host", ""}, false},

		{"its own page", []string{"Origin", "http://127.0.0.1:8079"}, true},
		{"another port's page", []string{"Origin", "http://127.0.0.1:8080"}, false},
		{"another site's page", []string{"Origin", "https://evil.example"}, false},
		{"a hidden page", []string{"Origin", "null"}, false},
		{"two origins", []string{"Origin", "http://127.0.0.1:8079", "Origin", "https://evil.example"}, false},
		{"a file", []string{"Origin", "file://"}, false},
		{"typed by a person", []string{"Sec-Fetch-Site", "none"}, true},
		{"from its own page", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"from another site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"from a neighbour", []string{"Sec-Fetch-Site", "same-site"}, false},
	} {
		rec := w.ask(http.MethodGet, Prefix+"status", "", c.header...)
		switch {
		case c.ok && rec.Code != http.StatusOK:
			t.Errorf("%s: %d %s", c.name, rec.Code, rec.Body)
		case !c.ok && (rec.Code != http.StatusForbidden || kind(rec) != KindForbidden):
			t.Errorf("%s: %d %s", c.name, rec.Code, rec.Body)
		}
		for name := range rec.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: it answers with %s", c.name, name)
			}
		}
		if rec.Header().Get("X-Content-Type-Options") != "nosniff" || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", c.name, rec.Header())
		}
	}
	// Preflights are not answered: no page of another site may ask at all.
	if rec := w.ask(http.MethodOptions, Prefix+"status", "", "Authorization", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "PUT"); rec.Code < 400 {
		t.Errorf("a preflight: %d", rec.Code)
	}
}

func TestWhatIsNotThereIsSaidSo(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", Prefix + "nothing", 404, "there is nothing at"},
		{"GET", Prefix, 404, "there is nothing at"},
		{"POST", Prefix + "status", 400, "Use GET"},
		{"GET", Prefix + "apps/a/deploy", 400, "Use POST"},
		{"HEAD", Prefix + "status", 400, ""},
		{"GET", Prefix + "status?verbose=1", 400, "unknown parameter"},
		{"GET", Prefix + "services?servce=chat", 400, `did you mean \"service\"`},
		{"GET", Prefix + "services?app=a&app=b", 400, "2 times"},
		{"GET", Prefix + "operations?pending=1", 400, "want true or false"},
		{"GET", Prefix + "operations/x?wait=soon", 400, "want seconds"},
		{"GET", Prefix + "operations/x?wait=NaN", 400, "want seconds"},
		{"GET", Prefix + "operations/x?wait=-1", 400, "want seconds"},
		{"GET", Prefix + "logs?limit=0", 400, "want a number"},
		{"GET", Prefix + "logs?limit=1000000", 400, "want a number"},
		{"GET", Prefix + "logs?level=loud", 400, "want one of debug"},
		{"GET", Prefix + "logs?since=yesterday", 400, "want a time"},
		{"GET", Prefix + "sockets?limit=99999", 400, "want a number"},
		{"GET", Prefix + "instances/x", 404, "not found"},
		{"GET", Prefix + "apps/a/services/s", 404, "not found"},
	} {
		rec := w.ask(c.method, c.path, "")
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.text) {
			t.Errorf("%s %s: %d %s, want %d and %q", c.method, c.path, rec.Code, rec.Body, c.status, c.text)
		}
	}
	if rec := w.ask("GET", Prefix+"status", "", byHeader, strings.Repeat("x", byMax+1)); rec.Code != 400 {
		t.Errorf("a long name: %d", rec.Code)
	}
}

func TestThePageOfTheAPIHasEveryRoute(t *testing.T) {
	data, err := os.ReadFile("../../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, pattern := range allRoutes {
		// Two that differ in their last word stand in one line.
		if stem, ok := strings.CutSuffix(pattern, "/stop"); ok && strings.Contains(page, "`"+stem+"/start` and `…/stop`") {
			continue
		}
		if !strings.Contains(page, "`"+pattern+"`") {
			t.Errorf("docs/admin-api.md has no `%s`", pattern)
		}
	}
	for _, k := range kinds {
		if !strings.Contains(page, fmt.Sprintf("| `%s` | %d |", k.kind, k.status)) {
			t.Errorf("docs/admin-api.md does not have %s with %d", k.kind, k.status)
		}
	}
}

// To look needs a viewer, to change what runs a deployer, and what is about the
// server itself an admin.
func TestEveryRouteNeedsItsRole(t *testing.T) {
	w := newWorld(t)
	tokens := map[auth.Role]string{}
	for _, role := range auth.Roles() {
		tokens[role] = must(w.tokens.Add(string(role), role))(t)
	}
	for _, pattern := range allRoutes {
		method, path := example(pattern)
		least := auth.Deployer
		switch {
		case strings.HasSuffix(pattern, "backup") || strings.HasSuffix(pattern, "restore") || strings.Contains(pattern, "tokens") || strings.Contains(pattern, "replace"):
			least = auth.Admin
		case method == "GET" || pattern == "POST console":
			least = auth.Viewer
		}
		for role, token := range tokens {
			allowed := auth.Caller{Name: "x", Role: role}.May(least)
			if allowed && pattern == "GET backup" {
				continue // it is a tar
			}
			rec := w.ask(method, path, "{}", "Authorization", "", "Authorization", "Bearer "+token)
			if refused := rec.Code == 403; refused == allowed {
				t.Errorf("%s as %s: %d %s", pattern, role, rec.Code, rec.Body)
			}
		}
	}
}
