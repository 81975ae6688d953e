package googleapi

import (
	"fmt"
	"maps"
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

func (d *door) mapping(a app.Application, domain string) wireMapping {
	w := wireMapping{
		Name: "apps/" + a.ID + "/domainMappings/" + domain, ID: domain, SSL: wireSSL{Management: managedByUs},
		Records: []wireRecord{{Name: strings.TrimPrefix(domain, "*."), Type: "CNAME", Data: a.ID + "." + d.House.Place().Domain + "."}},
	}
	if id := a.Secured[domain]; id != "" {
		w.SSL = wireSSL{CertificateID: id, Management: managedByOperators}
	}
	return w
}

// How a mapped name comes by its certificate: Holdfast finds the best one that it
// has or can obtain, or an operator has said which.
const (
	managedByUs        = "AUTOMATIC"
	managedByOperators = "MANUAL"
)

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

// secure gives a mapped name the certificate that is named, or none of its own.
// One that the application does not have, or that is for other names, is refused.
func (w wireSSL) secure(a *app.Application, domain string) error {
	const field = "domainMapping.sslSettings."
	switch w.Management {
	case "", "SSL_MANAGEMENT_TYPE_UNSPECIFIED", managedByUs, managedByOperators:
	default:
		return wrong(field+"sslManagementType", "%s: want %s or %s", shown(w.Management), managedByUs, managedByOperators)
	}
	secured := maps.Clone(a.Secured)
	delete(secured, domain)
	if w.CertificateID != "" {
		i := slices.IndexFunc(a.Certificates, func(c app.Certificate) bool { return c.ID == w.CertificateID })
		switch {
		case w.Management == managedByUs:
			return wrong(field+"certificateId", "a certificate is named, and sslManagementType is %s: want one of them", managedByUs)
		case i < 0:
			return wrong(field+"certificateId", "there is no certificate %s; gcloud app ssl-certificates list shows those there are", shown(w.CertificateID))
		case !covers(a.Certificates[i], domain):
			return wrong(field+"certificateId", "certificate %s is for %s, not for %s", w.CertificateID, strings.Join(a.Certificates[i].Names, ", "), domain)
		}
		if secured == nil {
			secured = map[string]string{}
		}
		secured[domain] = w.CertificateID
	}
	a.Secured = secured
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
		answer.Mappings = append(answer.Mappings, d.mapping(a, domain))
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
	return d.mapping(a, domain), nil
}

func (d *door) createMapping(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wireMapping
	if err := c.body(&w); err != nil {
		return nil, err
	}
	domain, err := d.domain(a.ID, w.ID)
	if err != nil {
		return nil, err
	}
	return d.setMapping(c, a.ID, domain, "CreateDomainMapping", func(a *app.Application) error {
		i, there := slices.BinarySearch(a.Domains, domain)
		switch {
		case there:
			return fmt.Errorf("domain mapping %s: %w", domain, app.ErrExists)
		case len(a.Domains) >= domainsMax:
			return fmt.Errorf("there are %d domain mappings, which is the most: %w", domainsMax, app.ErrInvalid)
		}
		a.Domains = slices.Insert(slices.Clone(a.Domains), i, domain)
		return w.SSL.secure(a, domain)
	})
}

// patchMapping changes which certificate a mapped name gets. What the mask names
// and the body lacks is cleared.
func (d *door) patchMapping(c *call) (any, error) {
	a, domain, err := d.theMapping(c)
	if err != nil {
		return nil, err
	}
	var w wireMapping
	masks, err := c.patch(&w)
	if err != nil {
		return nil, err
	}
	change := false
	for _, m := range masks {
		switch m {
		case "sslSettings", "sslSettings.certificateId", "sslSettings.sslManagementType":
			change = true
		default:
			return nil, wrong("updateMask", "%s cannot be changed", shown(m))
		}
	}
	return d.setMapping(c, a.ID, domain, "UpdateDomainMapping", func(a *app.Application) error {
		if _, there := slices.BinarySearch(a.Domains, domain); !there {
			return fmt.Errorf("domain mapping %s: %w", domain, app.ErrNotFound)
		}
		if !change {
			return nil
		}
		return w.SSL.secure(a, domain)
	})
}

func (d *door) deleteMapping(c *call) (any, error) {
	a, domain, err := d.theMapping(c)
	if err != nil {
		return nil, err
	}
	return d.setMapping(c, a.ID, domain, "DeleteDomainMapping", func(a *app.Application) error {
		i, there := slices.BinarySearch(a.Domains, domain)
		if !there {
			return fmt.Errorf("domain mapping %s: %w", domain, app.ErrNotFound)
		}
		a.Domains = slices.Delete(slices.Clone(a.Domains), i, i+1)
		return wireSSL{}.secure(a, domain)
	})
}

// setMapping changes one mapped name in one transaction, and answers with an
// operation whose response gcloud prints.
func (d *door) setMapping(c *call, project, domain, method string, change func(a *app.Application) error) (any, error) {
	var now app.Application
	o, err := d.Control.ChangeApplication(project, c.by, func(a *app.Application) error {
		err := change(a)
		now = *a
		return err
	})
	if err != nil {
		return nil, err
	}
	d.wait(c, o, quickWait) // until it leads there
	response := empty()
	if slices.Contains(now.Domains, domain) {
		response = typed(c.prefix()+"DomainMapping", d.mapping(now, domain))
	}
	return d.done(c, "DomainMappings."+method, "apps/"+project+"/domainMappings/"+domain, response), nil
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
