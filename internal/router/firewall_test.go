package router

import (
	"net/netip"
	"testing"

	"holdfast/internal/app"
)

func TestTheFirstRuleThatIsAboutAClientDecides(t *testing.T) {
	rule := func(deny bool, text string) app.FirewallRule {
		r := app.FirewallRule{Deny: deny}
		if text != "*" {
			r.Range = netip.MustParsePrefix(text)
		}
		return r
	}
	office := []app.FirewallRule{rule(true, "10.1.0.0/16"), rule(false, "10.0.0.0/8"), rule(false, "2001:db8::/32"), rule(true, "*")}
	for _, c := range []struct {
		what   string
		rules  []app.FirewallRule
		client string
		want   bool
	}{
		{"no rules: everybody", nil, "192.0.2.1", true},
		{"no rules: even who is not known", nil, "", true},
		{"a narrow rule before a wide one", office, "10.1.2.3", false},
		{"the wide one for the others", office, "10.2.2.3", true},
		{"IPv4 in IPv6's clothes", office, "::ffff:10.2.2.3", true},
		{"IPv6", office, "2001:db8:1::7", true},
		{"a zone changes nothing", office, "2001:db8:1::7%eth0", true},
		{"the rule for all", office, "192.0.2.1", false},
		{"who is not known meets the rule for all", office, "", false},
		{"no rule is about it", office[:3], "192.0.2.1", true},
		{"all of IPv4 is not IPv6", []app.FirewallRule{rule(true, "0.0.0.0/0")}, "2001:db8::1", true},
	} {
		var client netip.Addr
		if c.client != "" {
			client = netip.MustParseAddr(c.client)
		}
		if got := allows(c.rules, client); got != c.want {
			t.Errorf("%s: allows(%s) = %v", c.what, c.client, got)
		}
	}
}

func TestMappedNamesLeadToTheirProject(t *testing.T) {
	routes := &Routes{
		Apps:    map[string]App{"shop": {Services: map[string]Service{"default": {}}}, "blog": {Services: map[string]Service{"default": {}}}},
		Domains: map[string]string{"www.example.com": "shop", "*.example.com": "blog", "*.gone.example": "gone"},
	}
	n := names{domains: []string{"apps.example.org"}}
	for host, want := range map[string]string{
		"www.example.com": "shop", "WWW.example.com:8080": "shop", "img.example.com": "blog", "a.b.example.com": "", "example.com": "",
		"x.gone.example": "", "shop.apps.example.org": "shop", "www.example.org": "",
	} {
		p, ok := find(host, "/", n, routes)
		if p.App != want || ok != (want != "") {
			t.Errorf("%s leads to %q, %v; want %q", host, p.App, ok, want)
		}
	}
}
