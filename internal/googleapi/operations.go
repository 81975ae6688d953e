package googleapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// Operations are control's, under Google's names: apps/PROJECT/operations/ID.

// operation is a long-running operation.
type operation struct {
	Name     string          `json:"name,omitempty"`
	Metadata any             `json:"metadata,omitempty"`
	Done     bool            `json:"done,omitempty"`
	Error    *operationError `json:"error,omitempty"`
	Response any             `json:"response,omitempty"`
}

type operationError struct {
	Code    int    `json:"code"` // of google.rpc.Code
	Message string `json:"message"`
}

type wireMetadata struct {
	Type       string   `json:"@type"`
	Method     string   `json:"method"`
	InsertTime string   `json:"insertTime"`
	EndTime    string   `json:"endTime,omitempty"`
	User       string   `json:"user,omitempty"`
	Target     string   `json:"target"`
	Warning    []string `json:"warning,omitempty"`
}

const typePrefix = "type.googleapis.com/"

// typed is a value with its type, as Google packs it into others. v must
// become a JSON object.
func typed(kind string, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values only
	}
	m := map[string]any{}
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	m["@type"] = typePrefix + kind
	return m
}

// empty is the answer of what has none.
func empty() any { return typed("google.protobuf.Empty", struct{}{}) }

// stamp is a time as Google's APIs write it: UTC, always as many digits, since
// gcloud compares them as texts.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// prefix is what the names of a request's types begin with.
func (c *call) prefix() string {
	if c.beta {
		return "google.appengine.v1beta."
	}
	return "google.appengine.v1."
}

// method is which of Google's methods an operation is.
func method(o app.Operation) string {
	switch o.Verb {
	case app.VerbDeploy:
		return "Versions.CreateVersion"
	case app.VerbTraffic, app.VerbRollback:
		return "Services.UpdateService"
	case app.VerbStart, app.VerbStop, app.VerbScale:
		return "Versions.UpdateVersion"
	case app.VerbDispatch, app.VerbChange:
		return "Applications.UpdateApplication"
	case app.VerbCreate:
		return "Applications.CreateApplication"
	case app.VerbRestart:
		return "Instances.DeleteInstance"
	case app.VerbDelete:
		switch {
		case o.Instance != "":
			return "Instances.DeleteInstance"
		case o.Target.Version != "":
			return "Versions.DeleteVersion"
		}
		return "Services.DeleteService"
	}
	return "Applications.RepairApplication"
}

// target is the name of what an operation is about.
func target(o app.Operation) string {
	name := "apps/" + o.Target.App
	if o.Target.Service != "" {
		name += "/services/" + o.Target.Service
	}
	if o.Target.Version != "" {
		name += "/versions/" + o.Target.Version
	}
	if o.Instance != "" {
		name += "/instances/" + o.Instance
	}
	return name
}

// operation is an operation as a request is told of it.
func (d *door) operation(c *call, o app.Operation) operation {
	meta := wireMetadata{
		Type: typePrefix + c.prefix() + "OperationMetadataV1", Method: c.prefix() + method(o),
		InsertTime: stamp(o.Asked), EndTime: stamp(o.Ended), User: o.By, Target: target(o),
	}
	if c.beta {
		meta.Type += "Beta"
	}
	w := operation{Name: "apps/" + o.Target.App + "/operations/" + o.ID, Done: o.Stage == app.StageDone}
	switch {
	case !w.Done:
		meta.Warning = d.news(o.ID)
	case o.Failure != nil:
		d.forget(o.ID)
		w.Error = failure(o)
	default:
		d.forget(o.ID)
		w.Response = d.result(c, o)
	}
	w.Metadata = meta
	return w
}

// result is what an operation that went well has brought, as it is by now.
func (d *door) result(c *call, o app.Operation) any {
	w := d.Store.Wishes()
	switch o.Verb {
	case app.VerbDeploy, app.VerbStart, app.VerbStop, app.VerbScale:
		if v, ok := w.Versions[o.Target]; ok {
			return typed(c.prefix()+"Version", d.version(v, false))
		}
	case app.VerbTraffic, app.VerbRollback:
		if s, ok := w.Services[o.Target.ServiceKey()]; ok {
			return typed(c.prefix()+"Service", serviceOf(s))
		}
	case app.VerbDispatch, app.VerbChange, app.VerbCreate:
		if a, ok := w.Apps[o.Target.App]; ok {
			return typed(c.prefix()+"Application", d.app(a))
		}
	}
	return empty()
}

// failure is why an operation failed, with the next step and the last lines
// that the app or the build wrote.
func failure(o app.Operation) *operationError {
	f := o.Failure
	e := &operationError{Code: 9} // FAILED_PRECONDITION
	switch f.Cause {
	case app.Cancelled:
		e.Code = 1
	case app.SlowStart:
		e.Code = 4 // DEADLINE_EXCEEDED
	case app.Superseded:
		e.Code = 10 // ABORTED
	case app.BuildFailed:
		e.Code = 3 // INVALID_ARGUMENT: the sources
	}
	var b strings.Builder
	b.WriteString(string(f.Cause))
	if f.Detail != "" {
		b.WriteString(": " + f.Detail)
	}
	if f.Instance != "" {
		fmt.Fprintf(&b, " (instance %s)", f.Instance)
	}
	b.WriteString(". Traffic has not moved.")
	if len(f.Tail) > 0 {
		b.WriteString("\nThe last lines were:")
		for _, l := range f.Tail {
			b.WriteString("\n  | " + l)
		}
	}
	if f.Next != "" {
		b.WriteString("\nNext: " + f.Next)
	}
	e.Message = plain(b.String())
	return e
}

// accepted answers with what control has accepted, once it is done or a while
// has passed.
func (d *door) accepted(c *call, o app.Operation, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return d.operation(c, d.wait(c, o, quickWait)), nil
}

const (
	// newsMax bounds how many pieces of news of one operation are told, and
	// newsBytes how long each is: who waits wants to see that it goes on, and the
	// log has the whole.
	newsMax   = 100
	newsBytes = 4 << 10

	// toldMax bounds of how many operations is remembered what was told.
	toldMax = 200
)

// progress is what was told of an operation that is polled: gcloud prints each
// warning of its metadata that it has not printed yet, in no order, so that
// each answer may have one more than the one before.
type progress struct {
	lines int // of the log that were told
	news  []string
}

// news are the pieces of an operation's log that were told and one more.
func (d *door) news(op string) []string {
	found, err := logs.Read(d.House.OperationLogDir(), logs.Query{Instance: op, Level: logs.Any})
	if err != nil {
		d.cfg.Log.Warn("read operation log", "operation", op, "err", err)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.told[op]
	if p == nil {
		if len(d.told) >= toldMax {
			clear(d.told) // those who still poll are told again
		}
		p = &progress{}
		d.told[op] = p
	}
	if len(found) > p.lines && len(p.news) < newsMax {
		var b strings.Builder
		fmt.Fprintf(&b, "[%s %d]", op, len(p.news)+1)
		for _, l := range found[p.lines:] {
			if b.Len()+len(l.Text) > newsBytes {
				b.WriteString("\n...")
				break
			}
			b.WriteString("\n" + l.Text)
		}
		p.lines = len(found)
		p.news = append(p.news, plain(b.String()))
	}
	return slices.Clone(p.news)
}

func (d *door) forget(op string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.told, op)
}

func (d *door) getOperation(c *call) (any, error) {
	o, ok := d.Store.Wishes().Operations[c.path["operation"]]
	if !ok || o.Target.App != c.path["app"] {
		return nil, missing("operation " + shown(c.path["operation"]))
	}
	if o.Stage != app.StageDone {
		o = d.wait(c, o, pollWait)
	}
	return d.operation(c, o), nil
}

func (d *door) listOperations(c *call) (any, error) {
	if _, err := d.application(c); err != nil {
		return nil, err
	}
	var keep func(app.Operation) bool
	switch filter := strings.ReplaceAll(c.query.Get("filter"), " ", ""); strings.ToLower(filter) {
	case "":
		keep = func(app.Operation) bool { return true }
	case "done:false", "done=false":
		keep = func(o app.Operation) bool { return o.Stage != app.StageDone }
	case "done:true", "done=true":
		keep = func(o app.Operation) bool { return o.Stage == app.StageDone }
	default:
		return nil, wrong("filter", "%s: want done:true or done:false", shown(filter))
	}
	var all []app.Operation
	for _, o := range d.Store.Wishes().Operations {
		if o.Target.App == c.path["app"] && keep(o) {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b app.Operation) int { return strings.Compare(a.ID, b.ID) })
	some, next, err := page(c, "pageSize", pageMax, all, func(o app.Operation) string { return o.ID })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Operations []operation `json:"operations,omitempty"`
		Next       string      `json:"nextPageToken,omitempty"`
	}{Next: next}
	for _, o := range some {
		answer.Operations = append(answer.Operations, d.operation(c, o))
	}
	return answer, nil
}
