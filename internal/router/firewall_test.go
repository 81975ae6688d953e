package router

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

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

// Who is kept out reaches no instance, by a request as little as by a handshake.
func TestTheFirewallStandsBeforeRequestsAndUpgrades(t *testing.T) {
	f := newFront(t, Config{})
	var asked atomic.Int64
	p := Pool{Instances: []app.Instance{instance("a", serving(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) }))}}
	for _, deny := range []bool{true, false} {
		routes := routesTo(p)
		for project, a := range routes.Apps {
			a.Firewall = []app.FirewallRule{{Priority: 1, Deny: deny, Range: netip.MustParsePrefix("127.0.0.0/8")}, {Priority: app.FirewallDefault, Deny: true}}
			routes.Apps[project] = a
		}
		f.Set(routes)
		before := asked.Load()
		for _, request := range []string{hello + "\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
			conn, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(conn, request)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if barred := res.StatusCode == http.StatusForbidden; barred != deny {
				t.Errorf("denied %v: %.20q is answered %d", deny, request, res.StatusCode)
			}
			conn.Close()
		}
		if came := asked.Load() > before; came == deny {
			t.Errorf("denied %v: the instance was asked: %v", deny, came)
		}
	}
}
