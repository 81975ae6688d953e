package googleapi

import (
	"net/http"
	"net/url"
	"strings"

	"holdfast/internal/auth"
)

// route is one thing that can be asked for.
type route struct {
	method  string
	pattern string    // {name} stands for one part of the path; :verb may end it
	needs   auth.Role // "": see role
	do      func(*call) (any, error)

	parts []string // of the pattern, without the verb
	verb  string
}

// table is everything that is answered. v1beta is asked for the same as v1.
func (d *door) table() []route {
	const (
		apps      = "v1/apps/{app}"
		services  = apps + "/services"
		service   = services + "/{service}"
		versions  = service + "/versions"
		version   = versions + "/{version}"
		instances = version + "/instances"
		instance  = instances + "/{instance}"
		rules     = apps + "/firewall/ingressRules"
		mappings  = apps + "/domainMappings"
		certs     = apps + "/authorizedCertificates"
		objects   = "storage/v1/b/{bucket}/o"
		api       = "v1/projects/{project}/services/{api}"
	)
	return []route{
		{method: "POST", pattern: "v1/apps", needs: auth.Admin, do: d.createApp},
		{method: "GET", pattern: apps, do: d.getApp},
		{method: "PATCH", pattern: apps, do: d.patchApp},
		{method: "POST", pattern: apps + ":repair", do: d.repairApp},
		{method: "GET", pattern: apps + ":listRuntimes", do: d.listRuntimes},
		{method: "GET", pattern: apps + "/locations", do: d.listLocations},
		{method: "GET", pattern: apps + "/locations/{location}", do: d.getLocation},
		{method: "GET", pattern: apps + "/operations", do: d.listOperations},
		{method: "GET", pattern: apps + "/operations/{operation}", do: d.getOperation},

		{method: "GET", pattern: services, do: d.listServices},
		{method: "GET", pattern: service, do: d.getService},
		{method: "PATCH", pattern: service, do: d.patchService},
		{method: "DELETE", pattern: service, do: d.deleteService},
		{method: "GET", pattern: versions, do: d.listVersions},
		{method: "POST", pattern: versions, do: d.createVersion},
		{method: "GET", pattern: version, do: d.getVersion},
		{method: "PATCH", pattern: version, do: d.patchVersion},
		{method: "DELETE", pattern: version, do: d.deleteVersion},
		{method: "GET", pattern: instances, do: d.listInstances},
		{method: "GET", pattern: instance, do: d.getInstance},
		{method: "DELETE", pattern: instance, do: d.deleteInstance},
		{method: "POST", pattern: instance + ":debug", do: d.debugInstance},

		{method: "GET", pattern: rules, do: d.listRules},
		{method: "POST", pattern: rules, needs: auth.Admin, do: d.createRule},
		{method: "GET", pattern: rules + "/{priority}", do: d.getRule},
		{method: "PATCH", pattern: rules + "/{priority}", needs: auth.Admin, do: d.patchRule},
		{method: "DELETE", pattern: rules + "/{priority}", needs: auth.Admin, do: d.deleteRule},
		{method: "GET", pattern: mappings, do: d.listMappings},
		{method: "POST", pattern: mappings, needs: auth.Admin, do: d.createMapping},
		{method: "GET", pattern: mappings + "/{domain}", do: d.getMapping},
		{method: "PATCH", pattern: mappings + "/{domain}", needs: auth.Admin, do: d.patchMapping},
		{method: "DELETE", pattern: mappings + "/{domain}", needs: auth.Admin, do: d.deleteMapping},
		{method: "GET", pattern: apps + "/authorizedDomains", do: d.listAuthorized},
		{method: "GET", pattern: certs, do: d.listCertificates},
		{method: "POST", pattern: certs, needs: auth.Admin, do: d.createCertificate},
		{method: "GET", pattern: certs + "/{certificate}", do: d.getCertificate},
		{method: "PATCH", pattern: certs + "/{certificate}", needs: auth.Admin, do: d.patchCertificate},
		{method: "DELETE", pattern: certs + "/{certificate}", needs: auth.Admin, do: d.deleteCertificate},

		{method: "GET", pattern: "storage/v1/b/{bucket}", do: d.getBucket},
		{method: "GET", pattern: objects, do: d.listObjects},
		{method: "GET", pattern: objects + "/{object}", do: d.getObject},
		{method: "POST", pattern: "upload/" + objects, do: d.upload},
		{method: "POST", pattern: "resumable/upload/" + objects, do: d.upload},
		{method: "PUT", pattern: "upload/" + objects, do: d.resume},
		{method: "PUT", pattern: "resumable/upload/" + objects, do: d.resume},

		{method: "GET", pattern: api, do: d.getAPI},
		{method: "POST", pattern: api + ":enable", do: d.enableAPI},

		{method: "POST", pattern: "v2/entries:list", needs: auth.Viewer, do: d.listEntries},
	}
}

// role is the least that a route needs: to look, unless it says otherwise, and
// to change what runs.
func (r route) role() auth.Role {
	switch {
	case r.needs != "":
		return r.needs
	case r.method == http.MethodGet:
		return auth.Viewer
	}
	return auth.Deployer
}

func compile(table []route) []route {
	for i, r := range table {
		table[i].parts = strings.Split(r.pattern, "/")
		last := &table[i].parts[len(table[i].parts)-1]
		if name, verb, ok := strings.Cut(*last, ":"); ok {
			*last, table[i].verb = name, verb
		}
	}
	return table
}

// find finds the route of a request and takes the variable parts of its path.
func (d *door) find(c *call) (route, error) {
	parts := strings.Split(strings.TrimPrefix(c.URL.EscapedPath(), "/"), "/")
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil || strings.ContainsRune(parts[i], 0) {
			return route{}, invalid("the path is none")
		}
	}
	if len(parts) > 1 && parts[0] == "v1beta" && parts[1] == "apps" {
		parts[0], c.beta = "v1", true
	}
	allowed := ""
	for _, r := range d.routes {
		path, ok := r.match(parts)
		switch {
		case ok && r.method == c.Method:
			c.path = path
			return r, nil
		case ok:
			allowed = r.method
		}
	}
	if allowed != "" {
		e := refuse(http.StatusMethodNotAllowed, "%s is not for %s: use %s", shown(c.Method), shown(c.URL.Path), allowed)
		e.Status = "UNIMPLEMENTED"
		return route{}, e
	}
	if err := refusedPath(parts); err != nil {
		return route{}, err
	}
	return route{}, refuse(http.StatusNotFound, "there is nothing at %s: Holdfast does not speak all of Google's APIs", shown(c.URL.Path))
}

// match says whether a path is the route's, and what its variable parts are.
// The verb is what follows the last colon of the last part, where the route has
// one: names of resources have none.
func (r route) match(parts []string) (map[string]string, bool) {
	if len(parts) != len(r.parts) {
		return nil, false
	}
	path := map[string]string{}
	for i, want := range r.parts {
		have := parts[i]
		if i == len(parts)-1 && r.verb != "" {
			name, verb, ok := strings.Cut(have, ":")
			if !ok || verb != r.verb {
				return nil, false
			}
			have = name
		}
		if name, ok := strings.CutPrefix(want, "{"); ok {
			// An object may be called anything; resources have no colon in their names,
			// or a verb that does not exist would be taken for one.
			if have == "" || r.verb == "" && i == len(parts)-1 && want != "{object}" && strings.Contains(have, ":") {
				return nil, false
			}
			path[strings.TrimSuffix(name, "}")] = have
			continue
		}
		if want != have {
			return nil, false
		}
	}
	return path, true
}

// refusedPath has words of its own for what gcloud may ask for and Holdfast
// does not do.
func refusedPath(parts []string) error {
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	switch {
	case at(0) == "v1beta1" && at(1) == "projects": // Cloud Scheduler
		return unsupported("cron.yaml", "It has no scheduler: call the paths of your jobs from the machine's cron or a systemd timer, as in: curl http://SERVICE-dot-PROJECT.DOMAIN/tasks/x")
	case at(0) == "v2" && at(1) == "projects", at(0) == "v2beta3": // Cloud Tasks
		return unsupported("queue.yaml", "It has no task queues: have the app keep one itself, or run one beside it")
	case at(0) == "v1" && at(1) == "projects" && at(3) == "indexes": // Datastore
		return unsupported("index.yaml", "It has no Datastore: its indexes belong to the database that the app uses")
	case at(0) == "v1" && at(1) == "projects" && (at(3) == "builds" || at(5) == "builds"), at(0) == "v1" && at(1) == "operations":
		return unsupported("builds in Cloud Build", "The server builds by itself: deploy without --image-url, and leave app/trigger_build_server_side unset or true")
	case at(0) == "compute":
		return unsupported("SSH into instances", "They are processes of the server's machine: log in there, and see holdfast instances list and holdfast logs")
	}
	return nil
}
