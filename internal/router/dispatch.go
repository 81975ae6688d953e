package router

import (
	"strings"

	"holdfast/internal/app"
)

// dispatch applies an application's rules to a place whose version its split
// decides: the first rule that matches leads to its service. A rule for a
// service that is not there is no rule. name is the host as hostname returns
// it, path the request's, without query and with its escapes undone.
//
// Paths under /_ah/ are the platform's own and stay where the host leads.
func dispatch(p place, name, path string, rules []app.DispatchRule, routes *Routes) place {
	if strings.HasPrefix(path, "/_ah/") {
		return p
	}
	if path == "" {
		path = "/" // of http://host, which means the same (RFC 9110, 4.2.3)
	}
	for _, r := range rules {
		if !pathMatches(r.Path, path) || !hostMatches(r.Host, name) {
			continue
		}
		if _, ok := routes.Apps[p.App].Services[r.Service]; ok {
			return place{p.App, r.Service, ""}
		}
	}
	return p
}

// pathMatches compares a path with a pattern that may end in *.
func pathMatches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

// hostMatches compares a name with a pattern that may begin with *. Both are
// in lower case. Patterns are written with dots; in either a dot may also be
// spelt "-dot-", so a rule means a host however it was written. An address has
// no name: "*" alone matches it.
func hostMatches(pattern, name string) bool {
	pattern, open := strings.CutPrefix(pattern, "*")
	for pattern != "" {
		if name == "" {
			return false
		}
		var want, got byte
		pattern, want = cutLetter(pattern)
		if name, got = cutLetter(name); got != want {
			return false
		}
	}
	return open || name == ""
}

// cutLetter takes the last letter of a name, which is a dot for "-dot-". From
// the right, as cutLast reads names.
func cutLetter(name string) (rest string, last byte) {
	if rest, ok := strings.CutSuffix(name, "-dot-"); ok {
		return rest, '.'
	}
	return name[:len(name)-1], name[len(name)-1]
}
