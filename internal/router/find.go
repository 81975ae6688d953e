package router

import (
	"net/netip"
	"strings"

	"holdfast/internal/app"
)

// place is what a host name leads to. Version is "" where the service's split
// decides.
type place struct{ App, Service, Version string }

// names is how the hosts of this installation are made.
type names struct {
	domains []string // base domains, lower case, no dot at either end, longest first
	region  string   // REGION_ID; "" accepts any
}

// hostMax is the longest name DNS carries, in bytes.
const hostMax = 253

// find says where a request for host and path goes; ok is false where nothing
// of ours answers to that name. path is without query, its escapes undone.
//
//	[VERSION-dot-][SERVICE-dot-]PROJECT[.REGION.r].DOMAIN
//
// "." may stand for "-dot-", as App Engine has it for plain HTTP. Decisions
// the documentation leaves open, or leaves to us:
//
//   - One name before the project is a service if there is such a service, else
//     a version of the default service.
//   - Soft routing: an unknown service or version of a known project goes to
//     the default service, its split applied.
//   - An unknown project is nobody's: there is no default application to be
//     soft about, and answering for any name would hide a typing error.
//   - REGION.r may be left out. Another region than ours is another host.
//   - INSTANCE-dot-VERSION-dot-SERVICE-dot-PROJECT is not answered: flex does
//     not serve single instances by name.
//   - localhost, addresses, the base domains themselves and a request without
//     Host (HTTP/1.0) go to routes.Default.
//   - A host name that was mapped leads to its project's default service, and
//     wins over what the name would mean otherwise.
//   - Dispatch rules apply to all of these hosts but to those that name a
//     version, also one that is not there.
func find(host, path string, n names, routes *Routes) (place, bool) {
	name, literal, ok := hostname(host)
	if !ok {
		return place{}, false
	}
	p, rules, ok := n.find(name, literal, routes)
	if ok && len(rules) > 0 {
		p = dispatch(p, name, path, rules, routes)
	}
	return p, ok
}

// find says where a name leads, and which rules may still lead elsewhere.
func (n names) find(name string, literal bool, routes *Routes) (place, []app.DispatchRule, bool) {
	if literal || name == "" || name == "localhost" {
		return bare(routes)
	}
	if project, ok := mapped(name, routes.Domains); ok {
		if a, ok := routes.Apps[project]; ok {
			return soft(project, a, routes)
		}
	}
	for _, domain := range n.domains {
		if name == domain {
			return bare(routes)
		}
		rest, found := strings.CutSuffix(name, domain)
		if !found {
			continue
		}
		if rest, found = strings.CutSuffix(rest, "."); found {
			return n.within(rest, routes)
		}
	}
	return place{}, nil, false
}

// within resolves what stands before the base domain.
func (n names) within(name string, routes *Routes) (place, []app.DispatchRule, bool) {
	if before, ok := strings.CutSuffix(name, ".r"); ok {
		if i := strings.LastIndexByte(before, '.'); i >= 0 {
			if region := before[i+1:]; region == "" || n.region != "" && region != n.region {
				return place{}, nil, false
			}
			name = before[:i]
		}
	}
	// Read from the right: the project is always there.
	rest, project := cutLast(name)
	a, ok := routes.Apps[project]
	if !ok {
		return place{}, nil, false
	}
	rest, second := cutLast(rest)
	rest, third := cutLast(rest)
	if rest != "" || second == "" && third != "" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-dot-") {
		return place{}, nil, false // an instance's name, or an empty part
	}
	switch {
	case third != "":
		if s, ok := a.Services[second]; ok {
			if _, ok := s.Pools[third]; ok {
				return place{project, second, third}, nil, true
			}
		}
		p, _, ok := soft(project, a, routes)
		return p, nil, ok
	case second != "":
		if _, ok := a.Services[second]; ok {
			return place{project, second, ""}, a.Dispatch, true
		}
		if _, ok := a.Services[app.DefaultService].Pools[second]; ok {
			return place{project, app.DefaultService, second}, nil, true
		}
	}
	return soft(project, a, routes)
}

// mapped is the project that a host name was mapped to: by that name, or by all
// names beside it.
func mapped(name string, domains map[string]string) (string, bool) {
	if len(domains) == 0 {
		return "", false
	}
	if project, ok := domains[name]; ok {
		return project, true
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		project, ok := domains["*"+name[i:]]
		return project, ok
	}
	return "", false
}

// soft is the default service of an application. One that has no service of
// that name, but is where bare hosts lead, uses the service they lead to: a
// single service run from its own directory.
func soft(project string, a App, routes *Routes) (place, []app.DispatchRule, bool) {
	if _, ok := a.Services[app.DefaultService]; ok {
		return place{project, app.DefaultService, ""}, a.Dispatch, true
	}
	if routes.Default.App == project {
		return bare(routes)
	}
	return place{}, nil, false
}

// bare is where hosts go that name no application.
func bare(routes *Routes) (place, []app.DispatchRule, bool) {
	d := routes.Default
	a := routes.Apps[d.App]
	_, ok := a.Services[d.Service]
	return place{d.App, d.Service, ""}, a.Dispatch, ok
}

// cutLast takes the last part of a name, at "." or "-dot-", whichever is
// further right.
func cutLast(name string) (rest, last string) {
	dot, word := strings.LastIndexByte(name, '.'), strings.LastIndex(name, "-dot-")
	switch {
	case dot < 0 && word < 0:
		return "", name
	case dot > word:
		return name[:dot], name[dot+1:]
	default:
		return name[:word], name[word+len("-dot-"):]
	}
}

// hostname takes port, brackets, trailing dot and upper case from a Host
// header. literal tells of an IP address. ok is false for what cannot be a
// name: better no host than two readings of it.
func hostname(host string) (name string, literal, ok bool) {
	if len(host) > hostMax+len("[]:65535") {
		return "", false, false
	}
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || !validPort(host[end+1:]) {
			return "", false, false
		}
		a, err := netip.ParseAddr(host[1:end])
		return "", true, err == nil && a.Is6()
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !validPort(host[i:]) {
			return "", false, false
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > hostMax {
		return "", false, false
	}
	numeric := host != ""
	for i := range len(host) {
		switch c := host[i]; {
		case c >= '0' && c <= '9', c == '.':
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
			numeric = false
		default:
			return "", false, false
		}
	}
	if numeric {
		_, err := netip.ParseAddr(host)
		return "", true, err == nil
	}
	return strings.ToLower(host), false, true // ASCII by now: no K but K's
}

// validPort accepts "", ":" and ":8080".
func validPort(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != ':' || len(s) > len(":65535") {
		return false
	}
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
