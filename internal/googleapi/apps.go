package googleapi

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/store"
)

// Applications.

type wireApp struct {
	Name            string       `json:"name"`
	ID              string       `json:"id"`
	LocationID      string       `json:"locationId"`
	DefaultHostname string       `json:"defaultHostname"`
	ServingStatus   string       `json:"servingStatus"`
	CodeBucket      string       `json:"codeBucket"`
	DefaultBucket   string       `json:"defaultBucket"`
	GcrDomain       string       `json:"gcrDomain"`
	ServiceAccount  string       `json:"serviceAccount,omitempty"`
	FeatureSettings wireFeatures `json:"featureSettings"`
	DispatchRules   []wireRule   `json:"dispatchRules,omitempty"`
	DatabaseType    string       `json:"databaseType,omitempty"`
}

type wireFeatures struct {
	SplitHealthChecks *bool `json:"splitHealthChecks,omitempty"`
}

type wireRule struct {
	Domain  string `json:"domain"`
	Path    string `json:"path"`
	Service string `json:"service"`
}

// host is the name that leads to a version of a service; either may be "".
func (d *door) host(project, service, version string) string {
	place := d.House.Place()
	name := project
	if service != "" && service != app.DefaultService {
		name = service + "-dot-" + name
	}
	if version != "" {
		name = version + "-dot-" + name
	}
	return name + "." + place.Domain + place.Port
}

func (d *door) app(a app.Application) wireApp {
	yes := true
	w := wireApp{
		Name: "apps/" + a.ID, ID: a.ID, LocationID: a.Location, ServingStatus: "SERVING",
		DefaultHostname: d.host(a.ID, "", ""), CodeBucket: bucketOf(a.ID), DefaultBucket: bucketOf(a.ID), GcrDomain: "gcr.io",
		ServiceAccount: a.ServiceAccount, FeatureSettings: wireFeatures{&yes},
	}
	if w.LocationID == "" {
		w.LocationID = d.House.Place().Region
	}
	for _, r := range a.Dispatch {
		w.DispatchRules = append(w.DispatchRules, wireRule{r.Host, r.Path, r.Service})
	}
	return w
}

// projects are the shapes of project ids. Google's have six letters at least;
// ours become part of host names, and nothing else is asked of them.
var projects = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// application is the one that a request is about. The server's own project
// exists from the beginning, and so does any as long as there is none: the first
// deploy needs no ceremony.
func (d *door) application(c *call) (app.Application, error) {
	id := c.path["app"]
	w := d.Store.Wishes()
	if a, ok := w.Apps[id]; ok {
		return a, nil
	}
	if projects.MatchString(id) && (len(w.Apps) == 0 || id == d.House.Place().Project) {
		return app.Application{ID: id}, nil
	}
	known := slices.Sorted(maps.Keys(w.Apps))
	return app.Application{}, refuse(404, "application %s does not exist here; there are: %s. Create it with: gcloud app create --project=%s", shown(id), strings.Join(known[:min(len(known), 10)], ", "), plain(id))
}

func (d *door) getApp(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	return d.app(a), nil
}

// wishApp is an application as clients send it.
type wishApp struct {
	ID              string        `json:"id"`
	LocationID      string        `json:"locationId"`
	ServiceAccount  string        `json:"serviceAccount"`
	SslPolicy       string        `json:"sslPolicy"`
	FeatureSettings *wireFeatures `json:"featureSettings"`
	DispatchRules   []wireRule    `json:"dispatchRules"`
}

// check refuses what an application of ours cannot have.
func (w wishApp) check() error {
	switch w.SslPolicy {
	case "", "DEFAULT", "MODERN", "SSL_POLICY_UNSPECIFIED":
	default:
		return wrong("application.sslPolicy", "%s: want DEFAULT or MODERN", shown(w.SslPolicy))
	}
	if w.SslPolicy == "DEFAULT" {
		return unsupported("TLS 1.0", "What is served is TLS 1.2 or newer, which is --ssl-policy=TLS_VERSION_1_2")
	}
	if f := w.FeatureSettings; f != nil && f.SplitHealthChecks != nil && !*f.SplitHealthChecks {
		return unsupported("legacy health checks", "Split health checks are always on")
	}
	if len(w.ServiceAccount) > nameMax || len(w.LocationID) > nameMax {
		return wrong("application", "a name is longer than %d bytes", nameMax)
	}
	return nil
}

// nameMax bounds names that are kept as they are, in bytes.
const nameMax = 256

func (d *door) createApp(c *call) (any, error) {
	var w wishApp
	if err := c.body(&w); err != nil {
		return nil, err
	}
	if !projects.MatchString(w.ID) {
		return nil, wrong("application.id", "%s: want lower-case letters, digits and hyphens, as in a host name", shown(w.ID))
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	o, err := d.Control.CreateApplication(app.Application{ID: w.ID, Location: w.LocationID, ServiceAccount: w.ServiceAccount}, c.by)
	return d.accepted(c, o, err)
}

func (d *door) patchApp(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	var w wishApp
	masks, err := c.patch(&w)
	if err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	dispatch, account := false, false
	for _, m := range masks {
		switch m {
		case "dispatchRules":
			dispatch = true
		case "serviceAccount":
			account = true
		case "featureSettings", "featureSettings.splitHealthChecks", "featureSettings.useContainerOptimizedOs", "sslPolicy":
			// Checked above: what they may be they are.
		default:
			return nil, wrong("updateMask", "%s cannot be changed", shown(m))
		}
	}
	switch {
	case dispatch && account:
		return nil, wrong("updateMask", "dispatchRules and serviceAccount are changed one at a time")
	case dispatch:
		return d.setDispatch(c, a, w.DispatchRules)
	}
	o, err := d.Control.ChangeApplication(a.ID, c.by, func(a *app.Application) error {
		if account {
			a.ServiceAccount = w.ServiceAccount
		}
		return nil
	})
	return d.accepted(c, o, err)
}

func (d *door) setDispatch(c *call, a app.Application, wanted []wireRule) (any, error) {
	var rules []app.DispatchRule
	for _, r := range wanted {
		if r.Domain == "" {
			r.Domain = "*"
		}
		rules = append(rules, app.DispatchRule{Host: r.Domain, Path: r.Path, Service: r.Service})
	}
	if err := appyaml.CheckDispatch(rules, servicesOf(d.Store.Wishes(), a.ID)); err != nil {
		return nil, wrong("application.dispatchRules", "%v", err)
	}
	o, err := d.Control.SetDispatch(a.ID, rules, c.by)
	return d.accepted(c, o, err)
}

func servicesOf(w store.Wishes, project string) (names []string) {
	for k := range w.Services {
		if k.App == project {
			names = append(names, k.Service)
		}
	}
	slices.Sort(names)
	return names
}

// repairApp answers that all is well: nothing of an application is made ahead
// of its use.
func (d *door) repairApp(c *call) (any, error) {
	a, err := d.application(c)
	if err != nil {
		return nil, err
	}
	return d.done(c, "Applications.RepairApplication", "apps/"+a.ID, typed(c.prefix()+"Application", d.app(a))), nil
}

// done is an operation that ended before it began, and that nobody remembers.
func (d *door) done(c *call, method, target string, response any) operation {
	project := strings.Split(target, "/")[1]
	now := stamp(time.Now())
	meta := wireMetadata{Type: typePrefix + c.prefix() + "OperationMetadataV1", Method: c.prefix() + method, InsertTime: now, EndTime: now, User: c.by, Target: target}
	if c.beta {
		meta.Type += "Beta"
	}
	return operation{Name: "apps/" + project + "/operations/none", Metadata: meta, Done: true, Response: response}
}

type wireLocation struct {
	Name       string            `json:"name"`
	LocationID string            `json:"locationId"`
	Labels     map[string]string `json:"labels"` // gcloud takes the first value for the region's name, and crashes without
	Metadata   any               `json:"metadata"`
}

func (d *door) location(project string) wireLocation {
	region := d.House.Place().Region
	return wireLocation{
		Name: fmt.Sprintf("apps/%s/locations/%s", project, region), LocationID: region, Labels: map[string]string{"cloud.googleapis.com/region": region},
		Metadata: typed("google.appengine.v1.LocationMetadata", map[string]bool{"flexibleEnvironmentAvailable": true, "standardEnvironmentAvailable": false, "searchApiAvailable": false}),
	}
}

// listLocations answers for applications that do not exist yet too: whoever
// creates one asks where.
func (d *door) listLocations(c *call) (any, error) {
	return map[string]any{"locations": []wireLocation{d.location(c.path["app"])}}, nil
}

func (d *door) getLocation(c *call) (any, error) {
	if l := d.location(c.path["app"]); l.LocationID == c.path["location"] {
		return l, nil
	}
	return nil, missing("location " + shown(c.path["location"]))
}

func (d *door) listRuntimes(c *call) (any, error) {
	type runtime struct {
		Name        string `json:"name"`
		Stage       string `json:"stage"`
		Environment string `json:"environment"`
	}
	answer := struct {
		Runtimes []runtime `json:"runtimes,omitempty"`
	}{}
	switch environment := c.query.Get("environment"); environment {
	case "", "ENVIRONMENT_UNSPECIFIED", "FLEXIBLE":
		for _, name := range appyaml.Runtimes() {
			answer.Runtimes = append(answer.Runtimes, runtime{name, "GA", "FLEXIBLE"})
		}
	case "STANDARD": // Holdfast runs none of them
	default:
		return nil, wrong("environment", "%s: want FLEXIBLE or STANDARD", shown(environment))
	}
	return answer, nil
}
