package appyaml

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

const (
	maxRules    = 20  // of a dispatch.yaml, as App Engine documents it
	maxURLBytes = 100 // of a rule's pattern, likewise
)

// ParseDispatch reads a dispatch.yaml: the rules in their order, none for
// "dispatch: []", which is how people remove all. The name is only for
// messages. The error, if any, is of type Errors and matches app.ErrInvalid;
// there are no rules then. Any bytes may be given, as to Parse. Whether the
// services exist is for CheckDispatch.
func ParseDispatch(name string, data []byte) ([]app.DispatchRule, error) {
	src := &source{name: name, least: `a dispatch.yaml has "dispatch:" and beneath it rules such as "- {url: \"*/api/*\", service: api}"`}
	root := src.tree(data)
	if root == nil {
		return nil, src.failure()
	}
	r := &reader{source: src, seen: map[string]*node{}}
	var rules []app.DispatchRule
	r.table = section{
		"dispatch":    value(r.dispatch(&rules)),
		"application": r.refuse("it does not belong into the file", "remove it and use --project"),
	}
	r.table.take(r, root)
	if r.seen["dispatch"] == nil {
		src.fail(root.place, "there is no dispatch", src.least)
	}
	if err := src.failure(); err != nil {
		return nil, err
	}
	return rules, nil
}

// dispatch reads the list of rules.
func (r *reader) dispatch(to *[]app.DispatchRule) func(n *node) {
	return func(n *node) {
		if n.kind == null && !n.bad {
			r.wrong(n, `write "dispatch: []" for no rules`, "dispatch has no value")
			return
		}
		r.each(func(n *node) { r.rule(n, to) })(n)
		if len(n.items) > maxRules {
			r.wrong(n.items[maxRules], fmt.Sprintf("at most %d are taken", maxRules), "dispatch has %d rules", len(n.items))
		}
	}
}

// rule reads one rule: a mapping of url and service.
func (r *reader) rule(n *node, to *[]app.DispatchRule) {
	var rule app.DispatchRule
	service := value(func(n *node) { r.dispatchService(&rule, n) })
	section{
		"url":     value(func(n *node) { r.dispatchURL(&rule, n) }),
		"service": service,
		"module":  service, // its name until 2016
	}.take(r, n)
	if n.bad {
		return
	}
	url, to1, to2 := r.seen[n.name+".url"], r.seen[n.name+".service"], r.seen[n.name+".module"]
	switch {
	case to1 != nil && to2 != nil:
		r.fail(to2.key, n.name+" has both service and module, its old name", "keep service")
	case to1 == nil && to2 == nil:
		r.fail(n.place, n.name+" has no service", `write the service that the url leads to, such as "service: api"`)
	case url == nil:
		r.fail(n.place, n.name+" has no url", `write what leads to the service, such as "url: \"*/api/*\""`)
	}
	*to = append(*to, rule)
}

func (r *reader) dispatchService(rule *app.DispatchRule, n *node) {
	if !r.is(n, scalar) {
		return
	}
	if why := checkLabel(n.text); why != "" {
		r.wrong(n, why, "%s: %s does not fit", n.name, quote(n.text))
		return
	}
	rule.Service = n.text
}

func (r *reader) dispatchURL(rule *app.DispatchRule, n *node) {
	if !r.is(n, scalar) {
		return
	}
	host, path, why, hint := splitURL(n.text)
	if why == "" {
		why, hint = checkPattern(host, path)
	}
	if why != "" {
		r.wrong(n, hint, "%s: %s %s", n.name, quote(n.text), why)
		return
	}
	rule.Host, rule.Path = host, path
}

// splitURL cuts HOST/PATH, or says what is wrong with it and what to do.
func splitURL(url string) (host, path, why, hint string) {
	if scheme, rest, found := strings.Cut(url, "://"); found && !strings.Contains(scheme, "/") {
		return "", "", "begins with a scheme", "write it without, as " + quote(rest)
	}
	host, path, found := strings.Cut(url, "/")
	switch {
	case url == "":
		return "", "", "is empty", `write a host and a path, such as "*/api/*"`
	case !found:
		return "", "", "has no path", fmt.Sprintf("write %s for all of that host", quote(url+"/*"))
	case host == "":
		return "", "", "has no host", fmt.Sprintf("write %s for every host", quote("*"+url))
	}
	return host, "/" + path, "", ""
}

// The shapes of hosts in rules, as App Engine's client has them.
var (
	dispatchHost   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	dispatchSuffix = regexp.MustCompile(`^\*(|[a-z0-9-]*[a-z0-9]|(\.|[a-z0-9-]*[a-z0-9]\.)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?)$`)
	fourNumbers    = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3}){3}$`)
)

// checkPattern says what is wrong with a rule's host and path, and what to do.
func checkPattern(host, path string) (why, hint string) {
	shape := dispatchHost
	if strings.HasPrefix(host, "*") {
		shape = dispatchSuffix
	}
	if lower := strings.ToLower(host); lower != host && shape.MatchString(lower) {
		return "has upper case in its host", fmt.Sprintf("write %s, which means every spelling", quote(lower+path))
	}
	switch {
	case len(host)+len(path) > maxURLBytes:
		return fmt.Sprintf("has %d characters", len(host)+len(path)), fmt.Sprintf("at most %d are taken", maxURLBytes)
	case strings.Contains(host, ":"):
		return "has a port", "rules know hosts and paths; leave it out"
	case fourNumbers.MatchString(host):
		return "has an address as its host", `write a name, or "*" for every host`
	case !shape.MatchString(host):
		return "has a host that cannot be", `write a name such as "shop.example.com"; one * may begin it`
	case !strings.HasPrefix(path, "/"):
		return "has a path that does not begin with a slash", "begin it with one"
	case strings.Contains(strings.TrimSuffix(path, "*"), "*"):
		return "has a * within its path", "only the end of a path may be *"
	case strings.ContainsAny(path, "?#"):
		return "has a query or a fragment", "rules know hosts and paths; leave it out"
	case strings.Contains(path, "%"):
		return "has a % in its path", "write the character that is meant: %XX in requests is undone before they are compared"
	case strings.HasPrefix(path, "/_ah/"):
		return "is about the platform's own paths, which are never dispatched", "remove the rule"
	case strings.ContainsFunc(path, unicode.IsControl):
		return "has unprintable characters in its path", "remove them"
	}
	return "", ""
}

// CheckDispatch says whether rules can be set for an application that has
// these services. The error matches app.ErrInvalid and is meant for people.
func CheckDispatch(rules []app.DispatchRule, services []string) error {
	if len(rules) > maxRules {
		return fmt.Errorf("dispatch has %d rules; at most %d are taken: %w", len(rules), maxRules, app.ErrInvalid)
	}
	for i, rule := range rules {
		if why, hint := checkPattern(rule.Host, rule.Path); why != "" {
			return fmt.Errorf("dispatch rule %d: %s %s: %s: %w", i+1, quote(rule.Host+rule.Path), why, printable(hint), app.ErrInvalid)
		}
		if !slices.Contains(services, rule.Service) {
			known := "deploy it first; there is no service yet"
			if len(services) > 0 {
				known = "deploy it first, or lead the rule to " + either(slices.Sorted(slices.Values(services)))
			}
			return fmt.Errorf("dispatch rule %d leads to service %s, which does not exist: %s: %w", i+1, quote(rule.Service),
				spelling.DidYouMean(rule.Service, slices.Values(services), known), app.ErrInvalid)
		}
	}
	return nil
}
