package googleapi

// Service Usage: whether an API is switched on. What Holdfast does always is;
// of the others gcloud hears when it wants to switch them on.

type wireAPI struct {
	Name   string `json:"name"`
	Parent string `json:"parent"`
	State  string `json:"state"`
}

// offered are the APIs that a Holdfast server answers for.
func offered(api string) bool {
	switch api {
	case "appengineflex.googleapis.com", "appengine.googleapis.com", "storage.googleapis.com", "logging.googleapis.com", "cloudbuild.googleapis.com":
		return true
	}
	return false
}

func (c *call) api(state string) wireAPI {
	parent := "projects/" + c.path["project"]
	return wireAPI{Name: parent + "/services/" + c.path["api"], Parent: parent, State: state}
}

func (d *door) getAPI(c *call) (any, error) {
	if offered(c.path["api"]) {
		return c.api("ENABLED"), nil
	}
	return c.api("DISABLED"), nil
}

func (d *door) enableAPI(c *call) (any, error) {
	api := c.path["api"]
	switch {
	case offered(api):
		return operation{Name: "operations/noop.DONE_OPERATION", Done: true, Response: typed("google.api.serviceusage.v1.EnableServiceResponse", map[string]any{"service": c.api("ENABLED")})}, nil
	case api == "cloudtasks.googleapis.com":
		return nil, refusedPath([]string{"v2beta3"})
	case api == "cloudscheduler.googleapis.com":
		return nil, refusedPath([]string{"v1beta1", "projects"})
	}
	return nil, unsupported("the API "+shown(api), "It runs App Engine apps and nothing else")
}
