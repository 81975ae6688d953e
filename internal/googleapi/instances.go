package googleapi

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/control"
)

// Instances.

type wireInstance struct {
	Name           string `json:"name"`
	ID             string `json:"id"`
	Availability   string `json:"availability"`
	StartTime      string `json:"startTime"`
	Requests       int    `json:"requests"`
	VMName         string `json:"vmName"`
	VMZoneName     string `json:"vmZoneName"`
	VMStatus       string `json:"vmStatus"`
	VMIP           string `json:"vmIp"`
	VMLiveness     string `json:"vmLiveness"`
	VMDebugEnabled bool   `json:"vmDebugEnabled"`
}

func (d *door) instance(i control.Instance) wireInstance {
	w := wireInstance{
		Name: "apps/" + i.Key.App + "/services/" + i.Key.Service + "/versions/" + i.Key.Version + "/instances/" + i.ID, ID: i.ID,
		Availability: "DYNAMIC", StartTime: stamp(i.Born), Requests: i.Requests + i.Sockets,
		VMName: i.ID, VMZoneName: d.House.Place().Region, VMStatus: "RUNNING", VMLiveness: "HEALTHY",
	}
	w.VMIP, _, _ = net.SplitHostPort(i.Addr)
	switch i.State {
	case app.Starting:
		w.VMStatus, w.VMLiveness = "STAGING", "UNHEALTHY"
	case app.Unready:
		w.VMLiveness = "UNHEALTHY"
	case app.Draining:
		w.VMStatus, w.VMLiveness = "STOPPING", "DRAINING"
	}
	w.VMDebugEnabled = slices.Contains(d.Store.Wishes().Apps[i.Key.App].Debugged, i.ID)
	return w
}

// running are the instances of the version that a request is about.
func (d *door) running(c *call) ([]control.Instance, error) {
	v, err := d.theVersion(c)
	if err != nil {
		return nil, err
	}
	var all []control.Instance
	for _, i := range d.Control.Instances() {
		if i.Key == v.Key && i.State != app.Stopped {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b control.Instance) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

func (d *door) theInstance(c *call) (control.Instance, error) {
	all, err := d.running(c)
	if err != nil {
		return control.Instance{}, err
	}
	for _, i := range all {
		if i.ID == c.path["instance"] {
			return i, nil
		}
	}
	return control.Instance{}, missing("instance " + shown(c.path["instance"]))
}

func (d *door) listInstances(c *call) (any, error) {
	all, err := d.running(c)
	if err != nil {
		return nil, err
	}
	some, next, err := page(c, "pageSize", pageMax, all, func(i control.Instance) string { return i.ID })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Instances []wireInstance `json:"instances,omitempty"`
		Next      string         `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, i := range some {
		answer.Instances = append(answer.Instances, d.instance(i))
	}
	return answer, nil
}

func (d *door) getInstance(c *call) (any, error) {
	i, err := d.theInstance(c)
	if err != nil {
		return nil, err
	}
	return d.instance(i), nil
}

func (d *door) deleteInstance(c *call) (any, error) {
	i, err := d.theInstance(c)
	if err != nil {
		return nil, err
	}
	o, err := d.Control.DeleteInstance(i.ID, c.by)
	return d.accepted(c, o, err)
}

// debugMax bounds how many of an application's instances are looked into at once.
const debugMax = 100

// debugInstance has control leave an instance as it is, so that somebody can look
// into it: as a process of the server's machine, where whoever may logs in
// anyway. disable-debug deletes it. A key for SSH, which instances ssh sends, is
// refused.
func (d *door) debugInstance(c *call) (any, error) {
	i, err := d.theInstance(c)
	if err != nil {
		return nil, err
	}
	var w struct {
		SSHKey string `json:"sshKey"`
	}
	if c.ContentLength != 0 {
		if err := c.body(&w); err != nil {
			return nil, err
		}
	}
	if w.SSHKey != "" {
		return nil, refusedPath([]string{"compute"})
	}
	there := map[string]bool{}
	for _, i := range d.Control.Instances() {
		there[i.ID] = i.State != app.Stopped
	}
	o, err := d.Control.ChangeApplication(i.Key.App, c.by, func(a *app.Application) error {
		debugged := slices.DeleteFunc(slices.Clone(a.Debugged), func(id string) bool { return !there[id] || id == i.ID })
		if len(debugged) >= debugMax {
			return fmt.Errorf("%d instances are looked into, which is the most: %w", debugMax, app.ErrInvalid)
		}
		a.Debugged = append(debugged, i.ID)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.wait(c, o, quickWait)
	told := d.instance(i)
	return d.done(c, "Instances.DebugInstance", told.Name, typed(c.prefix()+"Instance", told)), nil
}
