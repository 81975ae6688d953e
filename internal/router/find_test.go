package router

import (
	"strings"
	"testing"
)

// town has one application with two services, and one whose only service is
// not called default.
func town() *Routes {
	pools := func(versions ...string) map[string]Pool {
		m := map[string]Pool{}
		for _, v := range versions {
			m[v] = Pool{}
		}
		return m
	}
	return &Routes{
		Apps: map[string]App{
			"shop": {Services: map[string]Service{
				"default": {Pools: pools("v1", "v2")},
				"api":     {Pools: pools("v1", "next")},
			}},
			"solo": {Services: map[string]Service{"worker": {Pools: pools("w1")}}},
		},
		Default: Default{App: "solo", Service: "worker"},
	}
}

func TestFind(t *testing.T) {
	n := names{domains: []string{"apps.example.org", "localhost"}, region: "uc"}
	front := place{"shop", "default", ""}
	bare := place{"solo", "worker", ""}
	for _, c := range []struct {
		rule, host string
		want       place // zero: nothing of ours
	}{
		{"a project is its default service", "shop.localhost", front},
		{"with the region", "shop.uc.r.localhost", front},
		{"with a port", "shop.localhost:8080", front},
		{"upper case and trailing dot", "SHOP.LocalHost.:80", front},
		{"another base domain", "shop.apps.example.org", front},
		{"a service", "api-dot-shop.localhost", place{"shop", "api", ""}},
		{"a service, by dots", "api.shop.localhost", place{"shop", "api", ""}},
		{"a service in the region, by dots", "api.shop.uc.r.localhost", place{"shop", "api", ""}},
		{"a version of the default service", "v2-dot-shop.localhost", place{"shop", "default", "v2"}},
		{"said in full", "v2-dot-default-dot-shop.uc.r.localhost", place{"shop", "default", "v2"}},
		{"a version of a service", "next-dot-api-dot-shop.localhost", place{"shop", "api", "next"}},
		{"a version of a service, by dots", "next.api.shop.localhost", place{"shop", "api", "next"}},
		{"dots and -dot- mixed", "next-dot-api.shop.localhost", place{"shop", "api", "next"}},
		{"soft: unknown service", "nope-dot-shop.localhost", front},
		{"soft: unknown version", "v9-dot-api-dot-shop.localhost", front},
		{"soft: version of an unknown service", "v1-dot-nope-dot-shop.localhost", front},
		{"soft: no default service, but the bare one", "nope-dot-solo.localhost", bare},
		{"the bare one's project", "solo.localhost", bare},
		{"its service", "worker-dot-solo.localhost", place{"solo", "worker", ""}},
		{"bare localhost", "localhost", bare},
		{"bare localhost with port", "localhost:8080", bare},
		{"a base domain", "apps.example.org", bare},
		{"IPv4", "127.0.0.1:8080", bare},
		{"IPv6", "[::1]:8080", bare},
		{"IPv6 without port", "[::1]", bare},
		{"no host", "", bare},

		{"unknown project", "nobody.localhost", place{}},
		{"unknown project with service", "api-dot-nobody.localhost", place{}},
		{"another region", "shop.ew.r.localhost", place{}},
		{"no region", "shop..r.localhost", place{}},
		{"foreign", "example.com", place{}},
		{"foreign that ends alike", "shop.notlocalhost", place{}},
		{"an instance", "0-dot-v1-dot-api-dot-shop.localhost", place{}},
		{"empty part", "-dot-shop.localhost", place{}},
		{"empty part between", "v1-dot--dot-shop.localhost", place{}},
		{"empty part between dots", "v1..shop.localhost", place{}},
		{"leading dot", ".shop.localhost", place{}},
		{"two trailing dots", "shop.localhost..", place{}},
		{"dots alone", "...", place{}},
		{"nearly IPv4", "127.0.0.256", place{}},
		{"short IPv4", "127.1", place{}},
		{"bare IPv6", "::1", place{}},
		{"IPv4 in brackets", "[127.0.0.1]", place{}},
		{"open bracket", "[::1", place{}},
		{"behind the bracket", "[::1]x", place{}},
		{"odd port", "localhost:80a", place{}},
		{"long port", "localhost:123456", place{}},
		{"markup", "<b>.shop.localhost", place{}},
		{"space", "shop .localhost", place{}},
		{"NUL", "shop\x00.localhost", place{}},
		{"not ASCII", "shöp.localhost", place{}},
		{"case folding is ASCII's", "wor\u212Aer-dot-solo.localhost", place{}},
		{"user", "me@shop.localhost", place{}},
		{"too long", strings.Repeat("a", 300) + ".shop.localhost", place{}},
	} {
		got, ok := find(c.host, "/", n, town())
		if want := c.want != (place{}); ok != want || ok && got != c.want {
			t.Errorf("%s: find(%q) = %v, %v; want %v, %v", c.rule, c.host, got, ok, c.want, want)
		}
	}
}

func TestFindWithoutDefault(t *testing.T) {
	routes := &Routes{Apps: map[string]App{"shop": {Services: map[string]Service{"api": {}}}}}
	n := names{domains: []string{"localhost"}}
	for _, host := range []string{"", "localhost", "127.0.0.1", "shop.localhost", "x-dot-shop.localhost"} {
		if got, ok := find(host, "/", n, routes); ok {
			t.Errorf("find(%q) = %v, want nothing: no default anywhere", host, got)
		}
	}
	if got, ok := find("api-dot-shop.any.r.localhost", "/", n, routes); !ok || got.Service != "api" {
		t.Errorf("no region configured: got %v, %v; want api, with any region", got, ok)
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range []string{
		"", "localhost", "shop.localhost:80", "v1-dot-api-dot-shop.uc.r.localhost", "v1.api.shop.localhost.",
		"[::1]:8080", "[fe80::1%25eth0]", "-dot-", "-dot--dot-shop.localhost", ".r.localhost", "r.localhost", "127.0.0.1:", "%00",
	} {
		f.Add(s)
	}
	n, routes := names{domains: []string{"localhost"}, region: "uc"}, town()
	f.Fuzz(func(t *testing.T, host string) {
		p, ok := find(host, "/", n, routes)
		if !ok {
			return
		}
		s, known := routes.Apps[p.App].Services[p.Service]
		if !known {
			t.Fatalf("find(%q) = %v, which is not routed", host, p)
		}
		if _, known := s.Pools[p.Version]; p.Version != "" && !known {
			t.Fatalf("find(%q) = %v, whose version is not routed", host, p)
		}
		for _, again := range []string{strings.ToUpper(host), host + "."} {
			if strings.ContainsAny(host, ":[]") && again != strings.ToUpper(host) || strings.HasSuffix(host, ".") || host == "" {
				continue
			}
			for i := range len(host) {
				if host[i] >= 0x80 {
					return
				}
			}
			if q, ok := find(again, "/", n, routes); len(again) <= hostMax && (!ok || q != p) {
				t.Fatalf("find(%q) = %v, find(%q) = %v, %v; want the same", host, p, again, q, ok)
			}
		}
	})
}

func TestFindAllocatesNothing(t *testing.T) {
	n, routes := names{domains: []string{"localhost"}, region: "uc"}, town()
	var p place
	if got := testing.AllocsPerRun(100, func() {
		p, _ = find("next-dot-api-dot-shop.uc.r.localhost:8080", "/", n, routes)
		p, _ = find("127.0.0.1:8080", "/", n, routes)
	}); got != 0 {
		t.Errorf("find allocates %v times, want 0", got)
	}
	if p.Service != "worker" {
		t.Errorf("got %v", p)
	}
}

func BenchmarkFind(b *testing.B) {
	n, routes := names{domains: []string{"localhost"}, region: "uc"}, town()
	b.ReportAllocs()
	for b.Loop() {
		find("next-dot-api-dot-shop.uc.r.localhost:8080", "/", n, routes)
	}
}
