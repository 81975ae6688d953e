package router

import (
	"strings"

	"holdfast/internal/app"
)

// Serves says whether a host name is just the name of something that is here: a
// base domain, a mapped name, or an application, service or version in its -dot-
// form. Requests are let in by more names, as soft routing makes something of
// every one below an application's; but a certificate is for a name, and who
// may have any number of names has any number of them.
func (r *Router) Serves(host string) bool {
	return serves(host, r.names, &r.table.Load().routes)
}

func serves(host string, n names, routes *Routes) bool {
	name, literal, ok := hostname(host)
	if !ok || literal || name == "" {
		return false
	}
	if project, ok := mapped(name, routes.Domains); ok {
		_, ok := routes.Apps[project]
		return ok
	}
	for _, domain := range n.domains {
		if name == domain {
			return true
		}
		if rest, ok := strings.CutSuffix(name, "."+domain); ok {
			return n.names(rest, routes)
		}
	}
	return false
}

// names says whether what stands before a base domain names what is here.
func (n names) names(name string, routes *Routes) bool {
	if before, region, ok := strings.Cut(name, "."); ok {
		if n.region == "" || region != n.region+".r" {
			return false
		}
		name = before
	}
	p, _, ok := n.within(name, routes)
	if !ok {
		return false
	}
	forms := []string{p.App}
	if p.Version == "" {
		forms = append(forms, p.Service+"-dot-"+p.App)
	} else {
		forms = append(forms, p.Version+"-dot-"+p.Service+"-dot-"+p.App)
		if p.Service == app.DefaultService {
			forms = append(forms, p.Version+"-dot-"+p.App)
		}
	}
	for _, f := range forms {
		if name == f {
			return true
		}
	}
	return false
}
