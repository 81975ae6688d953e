package googleapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/app"
)

// Domain mappings. Verification follows one rule: there is none beyond the
// token. Who may command the server may map any name that no other application
// has, since what a name leads to is decided in the DNS, by whoever owns it.

// domainsMax bounds an application's mapped names.
const domainsMax = 1000

type wireMapping struct {
	Name    string       `json:"name"`
	ID      string       `json:"id"`
	SSL     wireSSL      `json:"sslSettings"`
	Records []wireRecord `json:"resourceRecords,omitempty"`
}

type wireSSL struct {
	CertificateID string `json:"certificateId,omitempty"`
	Management    string `json:"sslManagementType,omitempty"`
}

type wireRecord struct {
	Name string `json:"name,omitempty"`
	Type string `json:"type"`
	Data string `json:"rrdata"`
}

// domainShape is what a mapped name may be: in lower case, with a dot, and with
// a * for its first part at most.
var domainShape = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (d *door) mapping(project, domain string) wireMapping {
	return wireMapping{
		Name: "apps/" + project + "/domainMappings/" + domain, ID: domain,
		Records: []wireRecord{{Name: strings.TrimPrefix(domain, "*."), Type: "CNAME", Data: project + "." + d.House.Place().Domain + "."}},
	}
}

// domain reads a name that may be mapped.
func (d *door) domain(project, text string) (string, error) {
	name := strings.ToLower(text)
	base := d.House.Place().Domain
	switch {
	case len(name) > 253 || !domainShape.MatchString(name):
		return "", wrong("domainMapping.id", "%s: want a host name such as www.example.com or *.example.com", shown(text))
	case name == base || strings.HasSuffix(name, "."+base):
		return "", wrong("domainMapping.id", "%s is below %s, whose names say by themselves what they lead to", shown(text), base)
	}
	for other, a := range d.Store.Wishes().Apps {
		if other != project && slices.Contains(a.Domains, name) {
			return "", refuse(409, "%s is mapped to application %s; delete that mapping first", name, other)
		}
	}
	return name, nil
}

// check refuses certificates that are not there.
func (w wireMapping) check() error {
	if w.SSL.CertificateID != "" {
		return unsupported("certificates of domain mappings", "Map the domain without --certificate-id")
	}
	return nil
}

func (d *door) listMappings(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Mappings []wireMapping `json:"domainMappings,omitempty"`
	}{}
	for _, domain := range a.Domains {
		answer.Mappings = append(answer.Mappings, d.mapping(a.ID, domain))
	}
	return answer, nil
}

// theMapping is the mapping that a request is about.
func (d *door) theMapping(c *call) (app.Application, string, error) {
	a, err := d.application(c)
	if err != nil {
		return a, "", err
	}
	domain := strings.ToLower(c.path["domain"])
	if !slices.Contains(a.Domains, domain) {
		return a, "", missing("domain mapping " + shown(domain))
	}
	return a, domain, nil
}

func (d *door) getMapping(c *call) (any, error) {
	a, domain, err := d.theMapping(c)
	if err != nil {
		return nil, err
	}
	return d.mapping(a.ID, domain), nil
}

func (d *door) createMapping(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wireMapping
	if _, err := c.body(&w); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	domain, err := d.domain(a.ID, w.ID)
	if err != nil {
		return nil, err
	}
	return d.setMapping(c, a.ID, domain, "DomainMappings.CreateDomainMapping", func(all []string, i int, there bool) ([]string, error) {
		switch {
		case there:
			return nil, fmt.Errorf("domain mapping %s: %w", domain, app.ErrExists)
		case len(all) >= domainsMax:
			return nil, fmt.Errorf("there are %d domain mappings, which is the most: %w", domainsMax, app.ErrInvalid)
		}
		return slices.Insert(all, i, domain), nil
	})
}

func (d *door) patchMapping(c *call) (any, error) {
	a, domain, err := d.theMapping(c)
	if err != nil {
		return nil, err
	}
	var w wireMapping
	if _, err := c.body(&w); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	for _, m := range c.masks() {
		if !strings.HasPrefix(m, "sslSettings") {
			return nil, wrong("updateMask", "%s cannot be changed", shown(m))
		}
	}
	return d.done(c, "DomainMappings.UpdateDomainMapping", "apps/"+a.ID+"/domainMappings/"+domain, typed(c.prefix()+"DomainMapping", d.mapping(a.ID, domain))), nil
}

func (d *door) deleteMapping(c *call) (any, error) {
	a, domain, err := d.theMapping(c)
	if err != nil {
		return nil, err
	}
	return d.setMapping(c, a.ID, domain, "DomainMappings.DeleteDomainMapping", func(all []string, i int, there bool) ([]string, error) {
		if !there {
			return nil, fmt.Errorf("domain mapping %s: %w", domain, app.ErrNotFound)
		}
		return slices.Delete(all, i, i+1), nil
	})
}

// setMapping changes the mapped names in one transaction, and answers with an
// operation whose response gcloud prints.
func (d *door) setMapping(c *call, project, domain, method string, change func(all []string, i int, there bool) ([]string, error)) (any, error) {
	o, err := d.Control.ChangeApplication(project, c.by, func(a *app.Application) error {
		all := slices.Clone(a.Domains)
		i, there := slices.BinarySearch(all, domain)
		all, err := change(all, i, there)
		if err == nil {
			a.Domains = all
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.wait(c, o, quickWait) // until it leads there
	response := typed(c.prefix()+"DomainMapping", d.mapping(project, domain))
	if strings.Contains(method, "Delete") {
		response = empty()
	}
	return d.done(c, method, "apps/"+project+"/domainMappings/"+domain, response), nil
}

// listAuthorized lists the domains that are known here: all are verified.
func (d *door) listAuthorized(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	type authorized struct {
		Name string `json:"name"`
		ID   string `json:"id"`
	}
	answer := struct {
		Domains []authorized `json:"domains"`
	}{}
	for _, domain := range append([]string{d.House.Place().Domain}, a.Domains...) {
		domain = strings.TrimPrefix(domain, "*.")
		answer.Domains = append(answer.Domains, authorized{"apps/" + a.ID + "/authorizedDomains/" + domain, domain})
	}
	return answer, nil
}
