package googleapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/internal/logs"
)

// Cloud Logging, as far as gcloud app logs uses it: what instances and requests
// wrote, as entries.

// entriesMax is how many entries one answer has at most.
const entriesMax = 1000

type wireEntry struct {
	InsertID  string       `json:"insertId"` // sorts by time
	LogName   string       `json:"logName"`
	Timestamp string       `json:"timestamp"`
	Severity  string       `json:"severity"`
	Resource  wireResource `json:"resource"`
	Labels    wireLabels   `json:"labels"`
	Request   *wireRequest `json:"httpRequest,omitempty"`
	Text      string       `json:"textPayload,omitempty"`

	level logs.Level
	time  time.Time
}

type wireResource struct {
	Type   string `json:"type"`
	Labels struct {
		Project string `json:"project_id"`
		Module  string `json:"module_id"`
		Version string `json:"version_id"`
		Zone    string `json:"zone"`
	} `json:"labels"`
}

type wireLabels struct {
	Instance string `json:"compute.googleapis.com/resource_name"`
}

type wireRequest struct {
	Method   string `json:"requestMethod"`
	URL      string `json:"requestUrl"`
	Status   int    `json:"status"`
	RemoteIP string `json:"remoteIp,omitempty"`
	Size     int64  `json:"responseSize,omitempty,string"`
	Latency  string `json:"latency,omitempty"`
}

// The logs' names below projects/PROJECT/logs/. What Holdfast remarks about an
// instance, above all how it ended, is what App Engine calls crash.log.
const (
	logOut     = "stdout"
	logErr     = "stderr"
	logSystem  = "appengine.googleapis.com%2Fcrash.log"
	logRequest = "appengine.googleapis.com%2Fnginx.request"
)

func (d *door) entry(e logs.Entry) wireEntry {
	w := wireEntry{Timestamp: stamp(e.Time), Severity: strings.ToUpper(e.Level.String()), Text: plain(e.Text), level: e.Level, time: e.Time}
	w.Resource.Type = "gae_app"
	w.Resource.Labels.Project, w.Resource.Labels.Module, w.Resource.Labels.Version = e.Key.App, e.Key.Service, e.Key.Version
	w.Resource.Labels.Zone, w.Labels.Instance = d.House.Place().Region, e.Instance
	name := logOut
	switch e.Stream {
	case logs.Err:
		name = logErr
	case logs.System:
		name = logSystem
	case logs.Request:
		name = logRequest
		var r struct {
			Method, Host, Path, Client string
			Status                     int
			Out                        int64
			Dur                        time.Duration
		}
		if json.Unmarshal([]byte(e.Text), &r) == nil && r.Method != "" && r.Status != 0 {
			w.Request = &wireRequest{r.Method, (&url.URL{Path: r.Path}).EscapedPath(), r.Status, r.Client, r.Out, fmt.Sprintf("%.6fs", r.Dur.Seconds())}
			w.Text = ""
		}
	}
	w.LogName = "projects/" + e.Key.App + "/logs/" + name
	return w
}

func (d *door) listEntries(c *call) (any, error) {
	var w struct {
		ResourceNames []string `json:"resourceNames"`
		Filter        string   `json:"filter"`
		OrderBy       string   `json:"orderBy"`
		PageSize      int      `json:"pageSize"`
		PageToken     string   `json:"pageToken"`
	}
	if err := c.body(&w); err != nil {
		return nil, err
	}
	if len(w.ResourceNames) != 1 || !strings.HasPrefix(w.ResourceNames[0], "projects/") {
		return nil, wrong("resourceNames", "want one project, as in projects/PROJECT")
	}
	newest := false
	switch strings.Join(strings.Fields(w.OrderBy), " ") {
	case "", "timestamp asc", "timestamp":
	case "timestamp desc":
		newest = true
	default:
		return nil, wrong("orderBy", "%s: want timestamp asc or timestamp desc", shown(w.OrderBy))
	}
	f, err := parseFilter(w.Filter)
	if err != nil {
		return nil, err
	}
	if w.PageSize < 0 {
		return nil, wrong("pageSize", "%d: want a number above zero", w.PageSize)
	}
	if w.PageSize == 0 || w.PageSize > entriesMax {
		w.PageSize = entriesMax
	}
	found, err := logs.Read(d.House.LogDir(), logs.Query{
		App: strings.TrimPrefix(w.ResourceNames[0], "projects/"), Service: f.service, Version: f.version,
		Level: logs.Any, Since: f.since, Requests: true,
	})
	if err != nil {
		return nil, err
	}
	var all []wireEntry
	same := 0 // so many were written at the same moment
	for i, e := range found {
		if e.Time.IsZero() {
			continue // the rest of a line that was cut off by a crash
		}
		if same++; i == 0 || !found[i-1].Time.Equal(e.Time) {
			same = 0
		}
		entry := d.entry(e)
		entry.InsertID = fmt.Sprintf("%016x%06x", e.Time.UnixMicro(), same)
		if f.meets(&entry) {
			all = append(all, entry)
		}
	}
	if newest {
		slices.Reverse(all)
	}
	if w.PageToken != "" {
		after, err := base64.RawURLEncoding.DecodeString(w.PageToken)
		if err != nil {
			return nil, wrong("pageToken", "%s is none of this server's", shown(w.PageToken))
		}
		all = slices.DeleteFunc(all, func(e wireEntry) bool {
			if newest {
				return e.InsertID >= string(after)
			}
			return e.InsertID <= string(after)
		})
	}
	answer := struct {
		Entries []wireEntry `json:"entries,omitempty"`
		Next    string      `json:"nextPageToken,omitempty"`
	}{Entries: all}
	if len(all) > w.PageSize {
		answer.Entries = all[:w.PageSize]
		answer.Next = base64.RawURLEncoding.EncodeToString([]byte(all[w.PageSize-1].InsertID))
	}
	return answer, nil
}
