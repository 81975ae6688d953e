package router

import "testing"

// Only what is here has a name, though more names lead to it.
func TestServes(t *testing.T) {
	n := names{domains: []string{"apps.example.org", "localhost"}, region: "uc"}
	routes := town()
	routes.Domains = map[string]string{"www.example.com": "shop", "*.example.net": "shop", "www.example.biz": "gone"}
	for _, host := range []string{
		"apps.example.org", "shop.apps.example.org", "SHOP.apps.example.org.", "shop.uc.r.apps.example.org", "api-dot-shop.apps.example.org",
		"default-dot-shop.apps.example.org", "v1-dot-shop.apps.example.org", "v1-dot-default-dot-shop.apps.example.org", "next-dot-api-dot-shop.uc.r.apps.example.org",
		"solo.apps.example.org", "worker-dot-solo.apps.example.org", "w1-dot-worker-dot-solo.apps.example.org", "www.example.com", "a.example.net", "shop.localhost",
	} {
		if !serves(host, n, routes) {
			t.Errorf("%s is not served", host)
		}
	}
	for _, host := range []string{
		"", "localhost.", "127.0.0.1", "[::1]", "example.org", "nope.apps.example.org", "nope-dot-shop.apps.example.org", "v9-dot-shop.apps.example.org",
		"v9-dot-api-dot-shop.apps.example.org", "v1-dot-nope-dot-shop.apps.example.org", "api.shop.apps.example.org", "x.shop.apps.example.org", "shop.ew.r.apps.example.org",
		"shop.uc.r.r.apps.example.org", "next-dot-shop.apps.example.org", "-dot-shop.apps.example.org", "example.com", "a.www.example.com", "a.b.example.net", "example.net", "www.example.biz",
		"shop.apps.example.org.evil.example",
	} {
		if host != "localhost." && serves(host, n, routes) {
			t.Errorf("%s is served", host)
		}
	}
}
