package googleapi

import (
	"math"
	"slices"
	"strings"

	"holdfast/internal/app"
)

// Services.

type wireService struct {
	Name  string    `json:"name"`
	ID    string    `json:"id"`
	Split wireSplit `json:"split"`
}

type wireSplit struct {
	ShardBy     string             `json:"shardBy,omitempty"`
	Allocations map[string]float64 `json:"allocations,omitempty"`
}

func serviceOf(s app.Service) wireService {
	return wireService{
		Name: "apps/" + s.App + "/services/" + s.Name, ID: s.Name,
		Split: wireSplit{strings.ToUpper(string(s.Split.By)), s.Split.Shares},
	}
}

// service is the service that a request is about.
func (d *door) service(c *call) (app.Service, error) {
	k := app.ServiceKey{App: c.path["app"], Service: c.path["service"]}
	if _, err := d.application(c); err != nil {
		return app.Service{}, err
	}
	s, ok := d.Store.Wishes().Services[k]
	if !ok {
		return s, missing("service " + shown(k.Service))
	}
	return s, nil
}

func (d *door) listServices(c *call) (any, error) {
	if _, err := d.application(c); err != nil {
		return nil, err
	}
	var all []app.Service
	for k, s := range d.Store.Wishes().Services {
		if k.App == c.path["app"] {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b app.Service) int { return strings.Compare(a.Name, b.Name) })
	some, next, err := page(c, "pageSize", pageMax, all, func(s app.Service) string { return s.Name })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Services []wireService `json:"services,omitempty"`
		Next     string        `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, s := range some {
		answer.Services = append(answer.Services, serviceOf(s))
	}
	return answer, nil
}

func (d *door) getService(c *call) (any, error) {
	s, err := d.service(c)
	if err != nil {
		return nil, err
	}
	return serviceOf(s), nil
}

// splitMax bounds how many versions share a service's traffic: each is looked
// at for every new connection.
const splitMax = 50

// split is a split as control takes it: shares that sum to 1. by is what
// decides where it does not say.
func (w wireSplit) split(by app.SplitBy) (app.Split, error) {
	const field = "service.split"
	s := app.Split{By: by, Shares: map[string]float64{}}
	switch strings.ToUpper(w.ShardBy) { // gcloud also writes "ip"
	case "", "UNSPECIFIED":
	case "COOKIE":
		s.By = app.ByCookie
	case "IP":
		s.By = app.ByIP
	case "RANDOM":
		s.By = app.ByRandom
	default:
		return s, wrong(field+".shardBy", "%s: want COOKIE, IP or RANDOM", shown(w.ShardBy))
	}
	sum := 0.0
	for version, share := range w.Allocations {
		if !(share >= 0 && share <= 1) {
			return s, wrong(field+".allocations", "the share of %s is %v: want 0 to 1", shown(version), share)
		}
		sum += share
	}
	if len(w.Allocations) > splitMax || math.Abs(sum-1) > 0.01 {
		return s, wrong(field+".allocations", "%d shares that sum to %v: want up to %d that sum to 1", len(w.Allocations), sum, splitMax)
	}
	for version, share := range w.Allocations {
		if share > 0 {
			s.Shares[version] = share / sum
		}
	}
	return s, nil
}

func (d *door) patchService(c *call) (any, error) {
	s, err := d.service(c)
	if err != nil {
		return nil, err
	}
	// There is no warming up, so that to migrate is to move at once.
	if _, err := c.yes("migrateTraffic"); err != nil {
		return nil, err
	}
	var w struct {
		Split           *wireSplit `json:"split"`
		NetworkSettings struct {
			Ingress string `json:"ingressTrafficAllowed"`
		} `json:"networkSettings"`
	}
	if err := c.body(&w); err != nil {
		return nil, err
	}
	masks := c.masks()
	if len(masks) != 1 {
		return nil, wrong("updateMask", "want split or networkSettings")
	}
	switch masks[0] {
	case "split", "split.allocations":
		if w.Split == nil {
			return nil, wrong("service.split", "it is not there")
		}
		to, err := w.Split.split(s.Split.By)
		if err != nil {
			return nil, err
		}
		o, err := d.Control.SetTraffic(s.Key(), to, c.by)
		return d.accepted(c, o, err)
	case "networkSettings", "networkSettings.ingressTrafficAllowed":
		if in := w.NetworkSettings.Ingress; in != "INGRESS_TRAFFIC_ALLOWED_ALL" && in != "" && in != "INGRESS_TRAFFIC_ALLOWED_UNSPECIFIED" {
			return nil, unsupported("ingress that is bounded by service", "Bound it for the application with gcloud app firewall-rules, or have the server listen at an address of your own network")
		}
		return d.done(c, "Services.UpdateService", "apps/"+s.App+"/services/"+s.Name, typed(c.prefix()+"Service", serviceOf(s))), nil
	}
	return nil, wrong("updateMask", "%s: want split or networkSettings", shown(masks[0]))
}

func (d *door) deleteService(c *call) (any, error) {
	s, err := d.service(c)
	if err != nil {
		return nil, err
	}
	if s.Name == app.DefaultService {
		return nil, invalid("the default service cannot be deleted: every application has one")
	}
	o, err := d.Control.DeleteService(s.Key(), c.by)
	return d.accepted(c, o, err)
}
