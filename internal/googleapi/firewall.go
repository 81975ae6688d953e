package googleapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"holdfast/internal/app"
)

// The application's firewall. Its rules change at once: no operation stands
// between.

const (
	// rulesMax bounds the rules of an application, as on App Engine.
	rulesMax = 1000

	// descriptionMax bounds what is noted beside one, in bytes.
	descriptionMax = 400
)

type wireIngress struct {
	Priority    int64  `json:"priority"`
	Action      string `json:"action"`
	SourceRange string `json:"sourceRange"`
	Description string `json:"description,omitempty"`
}

func ingressOf(r app.FirewallRule) wireIngress {
	w := wireIngress{Priority: int64(r.Priority), Action: "ALLOW", SourceRange: "*", Description: r.Description}
	if r.Deny {
		w.Action = "DENY"
	}
	if r.Range.IsValid() {
		w.SourceRange = r.Range.String()
	}
	return w
}

// rule reads a rule; priority is where it is to stand.
func (w wireIngress) rule(priority int) (app.FirewallRule, error) {
	const field = "rule."
	r := app.FirewallRule{Priority: priority, Description: w.Description}
	if len(w.Description) > descriptionMax {
		return r, wrong(field+"description", "it has more than %d bytes", descriptionMax)
	}
	switch w.Action {
	case "ALLOW":
	case "DENY":
		r.Deny = true
	default:
		return r, wrong(field+"action", "%s: want ALLOW or DENY", shown(w.Action))
	}
	if w.SourceRange == "*" {
		return r, nil
	}
	var err error
	if r.Range, err = parseSource(w.SourceRange); err != nil {
		return r, err
	}
	if priority == app.FirewallDefault {
		return r, wrong(field+"sourceRange", "the default rule is about everybody: want *")
	}
	return r, nil
}

// parseSource reads an address or a range of them.
func parseSource(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, bad := netip.ParseAddr(text)
		if bad != nil || a.Zone() != "" {
			return p, wrong("rule.sourceRange", "%s: want an address, a range such as 10.0.0.0/8, or *", shown(text))
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, wrong("rule.sourceRange", "%s: write the range of IPv4 as such", shown(text))
	}
	return p.Masked(), nil
}

// rulesOf are an application's rules with the default one, which is always
// there.
func rulesOf(a app.Application) []app.FirewallRule {
	if n := len(a.Firewall); n > 0 && a.Firewall[n-1].Priority == app.FirewallDefault {
		return a.Firewall
	}
	return append(slices.Clone(a.Firewall), app.FirewallRule{Priority: app.FirewallDefault, Description: "The default action."})
}

// priority reads which rule the path is about.
func (c *call) priority() (int, error) {
	text := c.path["priority"]
	if text == "default" {
		return app.FirewallDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > app.FirewallDefault {
		return 0, wrong("rule.priority", "%s: want a number from 1 to %d", shown(text), app.FirewallDefault)
	}
	return n, nil
}

func (d *door) listRules(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	all := rulesOf(a)
	if text := c.query.Get("matchingAddress"); text != "" {
		client, err := netip.ParseAddr(text)
		if err != nil {
			return nil, wrong("matchingAddress", "%s is no address", shown(text))
		}
		all = slices.DeleteFunc(slices.Clone(all), func(r app.FirewallRule) bool { return r.Range.IsValid() && !r.Range.Contains(client.Unmap()) })
	}
	some, next, err := page(c, "pageSize", pageMax, all, func(r app.FirewallRule) string { return fmt.Sprintf("%010d", r.Priority) })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Rules []wireIngress `json:"ingressRules,omitempty"`
		Next  string        `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, r := range some {
		answer.Rules = append(answer.Rules, ingressOf(r))
	}
	return answer, nil
}

func (d *door) getRule(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	n, err := c.priority()
	if err != nil {
		return nil, err
	}
	for _, r := range rulesOf(a) {
		if r.Priority == n {
			return ingressOf(r), nil
		}
	}
	return nil, missing(fmt.Sprintf("firewall rule %d", n))
}

func (d *door) createRule(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wireIngress
	if err := c.body(&w); err != nil {
		return nil, err
	}
	if w.Priority < 1 || w.Priority >= app.FirewallDefault {
		return nil, wrong("rule.priority", "%d: want a number from 1 to %d; the default rule is always there", w.Priority, app.FirewallDefault-1)
	}
	r, err := w.rule(int(w.Priority))
	if err != nil {
		return nil, err
	}
	return d.setRules(c, a.ID, r, func(rules []app.FirewallRule, i int, there bool) ([]app.FirewallRule, error) {
		switch {
		case there:
			return nil, fmt.Errorf("firewall rule %d: %w; update it, or choose another priority", r.Priority, app.ErrExists)
		case len(rules) >= rulesMax:
			return nil, fmt.Errorf("there are %d firewall rules, which is the most: %w", rulesMax, app.ErrInvalid)
		}
		return slices.Insert(rules, i, r), nil
	})
}

func (d *door) patchRule(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	n, err := c.priority()
	if err != nil {
		return nil, err
	}
	var w wireIngress
	masks, err := c.patch(&w)
	if err != nil {
		return nil, err
	}
	rules := rulesOf(a)
	i := slices.IndexFunc(rules, func(r app.FirewallRule) bool { return r.Priority == n })
	if i < 0 {
		return nil, missing(fmt.Sprintf("firewall rule %d", n))
	}
	to := ingressOf(rules[i])
	for _, m := range masks {
		switch m {
		case "action":
			to.Action = w.Action
		case "sourceRange":
			to.SourceRange = w.SourceRange
		case "description":
			to.Description = w.Description
		case "priority":
			if w.Priority != int64(n) {
				return nil, wrong("updateMask", "the priority stays: delete the rule and create another")
			}
		default:
			return nil, wrong("updateMask", "%s: want action, sourceRange or description", shown(m))
		}
	}
	r, err := to.rule(n)
	if err != nil {
		return nil, err
	}
	return d.setRules(c, a.ID, r, func(rules []app.FirewallRule, i int, there bool) ([]app.FirewallRule, error) {
		if there {
			rules[i] = r
			return rules, nil
		}
		if n != app.FirewallDefault {
			return nil, fmt.Errorf("firewall rule %d: %w", n, app.ErrNotFound)
		}
		return append(rules, r), nil
	})
}

func (d *door) deleteRule(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	n, err := c.priority()
	if err != nil {
		return nil, err
	}
	if n == app.FirewallDefault {
		return nil, wrong("rule.priority", "the default rule cannot be deleted; update its action")
	}
	_, err = d.setRules(c, a.ID, app.FirewallRule{Priority: n}, func(rules []app.FirewallRule, i int, there bool) ([]app.FirewallRule, error) {
		if !there {
			return nil, fmt.Errorf("firewall rule %d: %w", n, app.ErrNotFound)
		}
		return slices.Delete(rules, i, i+1), nil
	})
	return struct{}{}, err
}

// setRules changes the rules, in one transaction, and answers with r. change gets
// a copy of them, and where r's priority is or would be.
func (d *door) setRules(c *call, project string, r app.FirewallRule, change func(rules []app.FirewallRule, i int, there bool) ([]app.FirewallRule, error)) (any, error) {
	o, err := d.Control.ChangeApplication(project, c.by, func(a *app.Application) error {
		rules := slices.Clone(a.Firewall)
		i, there := slices.BinarySearchFunc(rules, r.Priority, func(have app.FirewallRule, n int) int { return have.Priority - n })
		rules, err := change(rules, i, there)
		if err == nil {
			a.Firewall = rules
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.wait(c, o, quickWait) // until it is enforced
	return ingressOf(r), nil
}
