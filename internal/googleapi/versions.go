package googleapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
)

// Versions, but for their creation, which is in deploy.go.

// wireVersion is a version as it is told. What is in flex's own words is; what
// Holdfast has besides is among betaSettings, as in app.yaml.
type wireVersion struct {
	Name            string            `json:"name"`
	ID              string            `json:"id"`
	Env             string            `json:"env"` // always flexible: gcloud looks for that word
	Runtime         string            `json:"runtime"`
	VM              bool              `json:"vm"`
	ServingStatus   string            `json:"servingStatus"`
	CreateTime      string            `json:"createTime"`
	VersionURL      string            `json:"versionUrl"`
	BetaSettings    map[string]string `json:"betaSettings"`
	FlexibleRuntime *wireRuntime      `json:"flexibleRuntimeSettings,omitempty"`
	Resources       wireResources     `json:"resources"`
	Network         wireNetwork       `json:"network"` // gcloud crashes without
	Manual          *wireManual       `json:"manualScaling,omitempty"`
	Automatic       *wireAutomatic    `json:"automaticScaling,omitempty"`
	Liveness        wireCheck         `json:"livenessCheck"`
	Readiness       wireCheck         `json:"readinessCheck"`
	ServiceAccount  string            `json:"serviceAccount,omitempty"`
	Endpoints       *wireEndpoints    `json:"endpointsApiService,omitempty"`

	// Of the full view only.
	Entrypoint   *wireEntrypoint   `json:"entrypoint,omitempty"`
	EnvVariables map[string]string `json:"envVariables,omitempty"`
	BuildEnv     map[string]string `json:"buildEnvVariables,omitempty"`
}

type wireRuntime struct {
	OperatingSystem string `json:"operatingSystem,omitempty"`
	RuntimeVersion  string `json:"runtimeVersion,omitempty"`
}

type wireResources struct {
	CPU      float64      `json:"cpu"`
	MemoryGB float64      `json:"memoryGb"`
	DiskGB   float64      `json:"diskGb"`
	Volumes  []wireVolume `json:"volumes,omitempty"`
}

type wireVolume struct {
	Name   string  `json:"name"`
	Type   string  `json:"volumeType"`
	SizeGB float64 `json:"sizeGb"`
}

type wireNetwork struct {
	Name            string   `json:"name,omitempty"`
	SubnetworkName  string   `json:"subnetworkName,omitempty"`
	InstanceTag     string   `json:"instanceTag,omitempty"`
	InstanceIPMode  string   `json:"instanceIpMode,omitempty"`
	ForwardedPorts  []string `json:"forwardedPorts,omitempty"`
	SessionAffinity bool     `json:"sessionAffinity,omitempty"`
}

type wireManual struct {
	Instances int `json:"instances"`
}

type wireAutomatic struct {
	CoolDown string           `json:"coolDownPeriod,omitempty"`
	Min      int              `json:"minTotalInstances"`
	Max      int              `json:"maxTotalInstances"`
	CPU      *wireCPU         `json:"cpuUtilization,omitempty"`
	Requests *wireUtilisation `json:"requestUtilization,omitempty"`
}

type wireCPU struct {
	Target float64 `json:"targetUtilization,omitempty"`
	Window string  `json:"aggregationWindowLength,omitempty"`
}

type wireUtilisation struct {
	Concurrent int `json:"targetConcurrentRequests,omitempty"`
}

type wireCheck struct {
	Path             string `json:"path,omitempty"`
	Host             string `json:"host,omitempty"`
	CheckInterval    string `json:"checkInterval,omitempty"`
	Timeout          string `json:"timeout,omitempty"`
	FailureThreshold int    `json:"failureThreshold,omitempty"`
	SuccessThreshold int    `json:"successThreshold,omitempty"`
	InitialDelay     string `json:"initialDelay,omitempty"`
	AppStartTimeout  string `json:"appStartTimeout,omitempty"`
}

type wireEndpoints struct {
	Name     string `json:"name"`
	ConfigID string `json:"configId,omitempty"`
	Rollout  string `json:"rolloutStrategy,omitempty"`
}

type wireEntrypoint struct {
	Shell string `json:"shell"`
}

// duration is Google's spelling: "30s".
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%gs", d.Seconds())
}

func checkOf(c app.Check) wireCheck {
	return wireCheck{
		Path: c.Path, Host: c.Host, CheckInterval: duration(c.Interval), Timeout: duration(c.Timeout),
		FailureThreshold: c.Failures, SuccessThreshold: c.Successes, InitialDelay: duration(c.InitialDelay), AppStartTimeout: duration(c.Within),
	}
}

// version is a version as it is told; full adds what only the full view has.
func (d *door) version(v app.Version, full bool) wireVersion {
	beta := maps.Clone(v.Beta)
	if beta == nil {
		beta = map[string]string{}
	}
	beta["vm_runtime"] = v.Recipe.Runtime
	w := wireVersion{
		Name: "apps/" + v.App + "/services/" + v.Service + "/versions/" + v.Version, ID: v.Version,
		Env: "flexible", Runtime: "vm", VM: true, ServingStatus: "STOPPED", CreateTime: stamp(v.CreatedAt),
		VersionURL: d.House.Place().scheme() + d.host(v.App, v.Service, v.Version), BetaSettings: beta,
		Resources: wireResources{CPU: v.Resources.CPU, MemoryGB: v.Resources.MemoryGB, DiskGB: float64(v.Resources.DiskGB)},
		Network:   wireNetwork{Name: v.Network.Name, SubnetworkName: v.Network.Subnetwork, InstanceTag: v.Network.InstanceTag, SessionAffinity: v.Affinity},
		Liveness:  checkOf(v.Live), Readiness: checkOf(v.Ready), ServiceAccount: v.ServiceAccount,
	}
	if v.Serving {
		w.ServingStatus = "SERVING"
	}
	if r := (wireRuntime{v.Recipe.RuntimeConfig["operating_system"], v.Recipe.RuntimeConfig["runtime_version"]}); r != (wireRuntime{}) {
		w.FlexibleRuntime = &r
	}
	for _, volume := range v.Resources.Volumes {
		w.Resources.Volumes = append(w.Resources.Volumes, wireVolume{volume.Name, "tmpfs", volume.SizeGB})
	}
	if v.Network.InternalIP {
		w.Network.InstanceIPMode = "INTERNAL"
	}
	for _, p := range v.Network.ForwardedPorts {
		text := fmt.Sprintf("%d:%d", p.Host, p.Instance)
		if p.Host == p.Instance {
			text = fmt.Sprint(p.Host)
		}
		if p.Protocol != "" {
			text += "/" + p.Protocol
		}
		w.Network.ForwardedPorts = append(w.Network.ForwardedPorts, text)
	}
	if v.Scaling.Manual {
		w.Manual = &wireManual{v.Scaling.Min}
	} else {
		w.Automatic = &wireAutomatic{Min: v.Scaling.Min, Max: v.Scaling.Max, CoolDown: duration(v.Scaling.CoolDown)}
		if v.Scaling.CPU > 0 {
			w.Automatic.CPU = &wireCPU{v.Scaling.CPU, duration(v.Scaling.CPUWindow)}
		}
		if v.Scaling.Connections > 0 {
			w.Automatic.Requests = &wireUtilisation{v.Scaling.Connections}
		}
	}
	if e := v.Endpoints; e.Name != "" {
		w.Endpoints = &wireEndpoints{e.Name, e.ConfigID, strings.ToUpper(e.Rollout)}
	}
	if full {
		w.Entrypoint = &wireEntrypoint{v.Recipe.Entrypoint}
		w.EnvVariables, w.BuildEnv = v.Env, v.Recipe.Env
	}
	return w
}

func (c *call) key() app.Key {
	return app.Key{App: c.path["app"], Service: c.path["service"], Version: c.path["version"]}
}

// theVersion is the version that a request is about.
func (d *door) theVersion(c *call) (app.Version, error) {
	if _, err := d.service(c); err != nil {
		return app.Version{}, err
	}
	v, ok := d.Store.Wishes().Versions[c.key()]
	if !ok {
		return v, missing("version " + shown(c.path["version"]) + " of service " + shown(c.path["service"]))
	}
	return v, nil
}

func (d *door) listVersions(c *call) (any, error) {
	full, err := c.view("BASIC", "FULL")
	if err != nil {
		return nil, err
	}
	s, err := d.service(c)
	if err != nil {
		return nil, err
	}
	var all []app.Version
	for k, v := range d.Store.Wishes().Versions {
		if k.ServiceKey() == s.Key() {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b app.Version) int { return strings.Compare(a.Version, b.Version) })
	some, next, err := page(c, "pageSize", pageMax, all, func(v app.Version) string { return v.Version })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Versions []wireVersion `json:"versions,omitempty"`
		Next     string        `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, v := range some {
		answer.Versions = append(answer.Versions, d.version(v, full))
	}
	return answer, nil
}

func (d *door) getVersion(c *call) (any, error) {
	full, err := c.view("BASIC", "FULL")
	if err != nil {
		return nil, err
	}
	v, err := d.theVersion(c)
	if err != nil {
		return nil, err
	}
	return d.version(v, full), nil
}

func (d *door) deleteVersion(c *call) (any, error) {
	v, err := d.theVersion(c)
	if err != nil {
		return nil, err
	}
	o, err := d.Control.DeleteVersion(v.Key, c.by)
	return d.accepted(c, o, err)
}

// patchVersion changes what may change of a version: whether it serves, and how
// many instances it has.
func (d *door) patchVersion(c *call) (any, error) {
	v, err := d.theVersion(c)
	if err != nil {
		return nil, err
	}
	var w struct {
		ServingStatus string         `json:"servingStatus"`
		Manual        *wireManual    `json:"manualScaling"`
		Automatic     *wireAutomatic `json:"automaticScaling"`
	}
	masks, err := c.patch(&w)
	if err != nil {
		return nil, err
	}
	if slices.Contains(masks, "servingStatus") {
		if len(masks) > 1 {
			return nil, wrong("updateMask", "servingStatus is changed by itself")
		}
		var o app.Operation
		switch w.ServingStatus {
		case "SERVING":
			o, err = d.Control.StartVersion(v.Key, c.by)
		case "STOPPED":
			o, err = d.Control.StopVersion(v.Key, c.by)
		default:
			return nil, wrong("version.servingStatus", "%s: want SERVING or STOPPED", shown(w.ServingStatus))
		}
		return d.accepted(c, o, err)
	}
	s, err := scaled(v.Scaling, masks, w.Manual, w.Automatic)
	if err != nil {
		return nil, err
	}
	o, err := d.Control.SetScaling(v.Key, s, c.by)
	return d.accepted(c, o, err)
}

// scaled is the scaling after a change of what the masks name.
func scaled(s app.Scaling, masks []string, manual *wireManual, automatic *wireAutomatic) (app.Scaling, error) {
	if manual == nil {
		manual = &wireManual{}
	}
	if automatic == nil {
		automatic = &wireAutomatic{}
	}
	for _, m := range masks {
		if strings.HasPrefix(m, "automaticScaling") && s.Manual {
			return s, wrong("updateMask", "the version has manual scaling; deploy it with automatic_scaling to change that")
		}
		switch m {
		case "manualScaling", "manualScaling.instances":
			if !s.Manual {
				return s, wrong("updateMask", "the version has automatic scaling; deploy it with manual_scaling to change that")
			}
			s.Min, s.Max = manual.Instances, manual.Instances
		case "automaticScaling.minTotalInstances":
			s.Min = automatic.Min
		case "automaticScaling.maxTotalInstances":
			s.Max = automatic.Max
		case "automaticScaling.coolDownPeriod":
			d, err := time.ParseDuration(automatic.CoolDown)
			if err != nil {
				return s, wrong("version.automaticScaling.coolDownPeriod", "%s: want seconds, such as 120s", shown(automatic.CoolDown))
			}
			s.CoolDown = d
		case "automaticScaling.cpuUtilization", "automaticScaling.cpuUtilization.targetUtilization":
			if automatic.CPU == nil || math.IsNaN(automatic.CPU.Target) {
				return s, wrong("version.automaticScaling.cpuUtilization", "it is not there")
			}
			s.CPU = automatic.CPU.Target
		default:
			return s, wrong("updateMask", "%s cannot be changed: deploy a version that has it", shown(m))
		}
	}
	if len(masks) == 0 {
		return s, wrong("updateMask", "nothing is to be changed")
	}
	if err := appyaml.CheckScaling(s); err != nil {
		return s, wrong("version", "%v", err)
	}
	return s, nil
}

// text is a value that clients send as a string, a number or a boolean.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	*t = text(s)
	return nil
}
