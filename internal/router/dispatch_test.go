package router

import (
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/app"
)

func TestDispatch(t *testing.T) {
	n := names{domains: []string{"apps.example.org", "localhost"}, region: "uc"}
	rule := func(url, service string) app.DispatchRule {
		i := strings.IndexByte(url, '/')
		return app.DispatchRule{Host: url[:i], Path: url[i:], Service: service}
	}
	routes := town()
	shop := routes.Apps["shop"]
	shop.Services["mobile"] = Service{Pools: map[string]Pool{"m1": {}}}
	shop.Dispatch = []app.DispatchRule{
		rule("*/gone/*", "gone"), // there is no such service
		rule("*/mobile/*", "mobile"),
		rule("api.shop.uc.r.localhost/v2*", "default"),
		rule("api.shop.localhost/*", "mobile"),
		rule("shop.localhost/exact", "api"),
		rule("*.apps.example.org/wide*", "api"),
		rule("*-old.localhost/", "api"),
		rule("*op.localhost/tail*", "mobile"),
		rule("*/mobile*", "api"),
	}
	routes.Apps["shop"] = shop
	front, api, mobile := place{"shop", "default", ""}, place{"shop", "api", ""}, place{"shop", "mobile", ""}
	for _, c := range []struct {
		rule, host, path string
		want             place
	}{
		{"no rule", "shop.localhost", "/x", front},
		{"any host", "shop.localhost", "/mobile/a", mobile},
		{"the prefix alone", "shop.localhost", "/mobile/", mobile},
		{"first match wins", "shop.localhost", "/mobile", api},
		{"its service is not there", "shop.localhost", "/gone/x", front},
		{"exact path", "shop.localhost", "/exact", api},
		{"exact path, more behind", "shop.localhost", "/exact/", front},
		{"case of paths counts", "shop.localhost", "/EXACT", front},
		{"case of hosts does not", "SHOP.localhost:80", "/exact", api},
		{"a service by -dot-", "api-dot-shop.localhost", "/x", mobile},
		{"a service by dots", "api.shop.localhost", "/x", mobile},
		{"with region", "api-dot-shop.uc.r.localhost", "/v2/x", front},
		{"with region, another path", "api-dot-shop.uc.r.localhost", "/v3", api},
		{"without path", "api-dot-shop.localhost", "", mobile},
		{"suffix of a host", "shop.apps.example.org", "/wider", api},
		{"suffix of a host by -dot-", "api-dot-shop.apps.example.org", "/wide", api},
		{"suffix without dot", "x-dot-shop.localhost", "/tail", mobile},
		{"soft, then a rule", "nope-dot-shop.localhost", "/mobile/", mobile},
		{"a version's host", "v1-dot-shop.localhost", "/mobile/", place{"shop", "default", "v1"}},
		{"a version's whole host", "next-dot-api-dot-shop.localhost", "/mobile/", place{"shop", "api", "next"}},
		{"a version that is not there", "v9-dot-api-dot-shop.localhost", "/mobile/", front},
		{"the platform's paths", "api-dot-shop.localhost", "/_ah/health", api},
		{"nearly the platform's", "api-dot-shop.localhost", "/_ah", mobile},
		{"another app has no rules", "worker-dot-solo.localhost", "/mobile/", place{"solo", "worker", ""}},
		{"bare hosts belong to an app without rules", "localhost", "/mobile/", place{"solo", "worker", ""}},
	} {
		if got, ok := find(c.host, c.path, n, routes); !ok || got != c.want {
			t.Errorf("%s: find(%q, %q) = %v, %v; want %v", c.rule, c.host, c.path, got, ok, c.want)
		}
	}
	routes.Default = Default{App: "shop", Service: "default"}
	for _, host := range []string{"", "localhost", "apps.example.org", "127.0.0.1:8080", "[::1]"} {
		if got, ok := find(host, "/mobile/x", n, routes); !ok || got != mobile {
			t.Errorf("find(%q) = %v, %v; want %v: a bare host's app has rules", host, got, ok, mobile)
		}
	}
	if got := testing.AllocsPerRun(100, func() {
		find("api-dot-shop.localhost:8080", "/nothing/of/that", n, routes)
		find("127.0.0.1:8080", "/mobile/x", n, routes)
	}); got != 0 {
		t.Errorf("find with rules allocates %v times, want 0", got)
	}
	if _, ok := find("nobody.localhost", "/mobile/", n, routes); ok {
		t.Error("a rule answers for a host that is nobody's")
	}
}

func TestHostMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "a.b", true}, {"", "", true}, {"", "a", false},
		{"a.b", "a.b", true}, {"a.b", "a-dot-b", true}, {"a-dot-b", "a.b", true}, {"a.b", "xa.b", false}, {"a.b", "b", false}, {"a.b", "", false},
		{"*.b", "a.b", true}, {"*.b", "a-dot-b", true}, {"*.b", "b", false}, {"*.b", "ab", false}, {"*.b", ".b", true},
		{"*-a", "x-a", true}, {"*-a", "a", false}, {"*a.b", "xa-dot-b", true}, {"*dot-b", "x-dot-b", false},
		{"a-dot.b", "a-dot-dot-b", true}, {"a.dot-b", "a-dot-dot-b", false}, // read from the right
	} {
		if got := hostMatches(c.pattern, c.name); got != c.want {
			t.Errorf("hostMatches(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

// FuzzHostMatches compares with the obvious way, which allocates.
func FuzzHostMatches(f *testing.F) {
	f.Add("*.b.localhost", "a-dot-b.localhost")
	f.Add("a-dot-dot-b", "a.b")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		dots := func(s string) (out string) {
			for s != "" {
				if rest, ok := strings.CutSuffix(s, "-dot-"); ok {
					s, out = rest, "."+out
				} else {
					s, out = s[:len(s)-1], s[len(s)-1:]+out
				}
			}
			return out
		}
		tail, open := strings.CutPrefix(pattern, "*")
		want := dots(name) == dots(tail) || open && strings.HasSuffix(dots(name), dots(tail))
		if got := hostMatches(pattern, name); got != want {
			t.Errorf("hostMatches(%q, %q) = %v, want %v", pattern, name, got, want)
		}
	})
}

// TestDispatchedRequest: the service that a rule leads to is the one for
// everything: its split, its affinity, its log.
func TestDispatchedRequest(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	routes := routesTo(Pool{Instances: []app.Instance{instance("a", serving(t, socketApp("a")))}})
	chat := func(id string) app.Instance {
		i := instance(id, serving(t, socketApp(id)))
		i.Key.Service, i.Key.Version = "chat", id
		return i
	}
	routes.Apps["shop"].Services["chat"] = Service{
		Split: app.Split{By: app.ByCookie, Shares: map[string]float64{"c1": 1}},
		Pools: map[string]Pool{"c1": {Affinity: true, Instances: []app.Instance{chat("c1")}}, "c2": {Instances: []app.Instance{chat("c2")}}},
	}
	shop := routes.Apps["shop"]
	shop.Dispatch = []app.DispatchRule{{Host: "*", Path: "/ws", Service: "chat"}, {Host: "*", Path: "/chat room/*", Service: "chat"}}
	routes.Apps["shop"] = shop
	f.Set(routes)

	if res, body := f.get("/"); body != "a" || given(res, splitCookie) != nil {
		t.Errorf("/ answered by %q, %v; want a, and no cookie of the other service", body, res.Header)
	}
	for _, path := range []string{"/chat%20room/x?y", "/ch%61t%20room/"} {
		if res, body := f.get(path); body != "c1" || given(res, splitCookie) == nil || given(res, affinityCookie) == nil {
			t.Errorf("%s answered by %q, %v; want c1 with its cookies", path, body, res.Header)
		}
	}
	if m := f.access.last(t, "request"); m["service"] != "chat" || m["version"] != "c1" {
		t.Errorf("access log: %v, want service chat", m)
	}
	if name, end, err := openSocket(f.url, plain); err != nil || name != "c1" {
		t.Errorf("socket at %q, %v; want c1", name, err)
	} else {
		end()
	}
	if _, body := f.get("/chat%20room/", func(r *http.Request) { r.Host = "v1-dot-shop.localhost" }); body != "a" {
		t.Errorf("a version's host answered by %q, want a", body)
	}
}

func BenchmarkDispatch(b *testing.B) {
	n, routes := names{domains: []string{"localhost"}, region: "uc"}, town()
	shop := routes.Apps["shop"]
	for range 20 {
		shop.Dispatch = append(shop.Dispatch, app.DispatchRule{Host: "*.shop.localhost", Path: "/some/path/*", Service: "api"})
	}
	routes.Apps["shop"] = shop
	b.ReportAllocs()
	for b.Loop() {
		find("api-dot-shop.uc.r.localhost:8080", "/some/other/path", n, routes)
	}
}
