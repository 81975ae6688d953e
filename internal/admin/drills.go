package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/app"
)

const (
	// reportMax bounds a drill's report: a minute of fifty clients is some 50 kB.
	reportMax = 1 << 20

	// reportsKept is how many reports stay, the latest.
	reportsKept = 100

	reportSuffix = ".report.json" // after the operation's id, beside its log
)

// Drill is what a drill breaks, for as long as its operation is under way.
type Drill struct {
	Drill     string   `json:"drill"`
	Share     float64  `json:"share,omitempty"` // of the ready instances or of the clients; 0: as the drill has it
	Seconds   float64  `json:"seconds"`
	Instances []string `json:"instances,omitempty"` // whom it meets
	More      int      `json:"more,omitempty"`      // so many more instances are wanted; fewer where negative
}

// DrillRequest asks for a drill.
type DrillRequest struct {
	Drill   string  `json:"drill"`
	Seconds float64 `json:"seconds"`         // how long something is broken
	Share   float64 `json:"share,omitempty"` // of the ready instances or of the clients, 0 to 1; 0: one instance, all clients
}

// DrillKind is a drill that there is.
type DrillKind struct {
	Drill   string `json:"drill"`
	What    string `json:"what"`
	Clients bool   `json:"clients"` // its share is one of clients, not of instances
}

type drillKinds struct {
	Drills []DrillKind `json:"drills"`
}

func drillOf(d *app.Drill) *Drill {
	if d == nil {
		return nil
	}
	return &Drill{Drill: string(d.Fault), Share: d.Share, Seconds: d.Long.Seconds(), Instances: d.Instances, More: d.More}
}

func (d *door) drills(*visit) (any, error) {
	var all drillKinds
	for _, f := range app.Faults() {
		all.Drills = append(all.Drills, DrillKind{string(f), f.Says(), f.OfClients()})
	}
	return all, nil
}

func (d *door) drill(a *visit) (any, error) {
	var w DrillRequest
	if err := a.body(&w, bodyMax); err != nil {
		return nil, err
	}
	long, ok := seconds(w.Seconds)
	if !ok {
		return nil, invalid("seconds is %v: want how long something is to be broken", w.Seconds)
	}
	return accepted(d.Control.Drill(a.key().ServiceKey(), app.Drill{Fault: app.Fault(w.Drill), Share: w.Share, Long: long}, a.by))
}

// report is what whoever ran a drill has left of it.
func (d *door) report(a *visit) (any, error) {
	id := a.PathValue("id")
	if err := d.drilled(id); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(d.reportPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing("report of operation", id)
	}
	return json.RawMessage(data), err
}

// keepReport keeps a report. What is in it is for those who wrote it to know.
func (d *door) keepReport(a *visit) (any, error) {
	id := a.PathValue("id")
	if err := d.drilled(id); err != nil {
		return nil, err
	}
	var report map[string]any
	if err := a.body(&report, reportMax); err != nil {
		return nil, err
	}
	leave, err := place(d.puts, "uploads")
	if err != nil {
		return nil, err
	}
	defer leave()
	text, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	if err := d.writeReport(id, text); err != nil {
		return nil, fmt.Errorf("keep the report of %s: %w", id, err)
	}
	return struct{}{}, nil
}

// drilled says why an operation has no report. Its id is the name of a file from
// there on.
func (d *door) drilled(id string) error {
	o, ok := d.Store.Wishes().Operations[id]
	if !ok {
		return missing("operation", id)
	}
	if o.Drill == nil {
		return invalid("operation %s is no drill", shown(id))
	}
	return nil
}

func (d *door) reportPath(id string) string {
	return filepath.Join(d.House.OperationLogDir(), id+reportSuffix)
}

// writeReport writes beside and renames, and lets the oldest go.
func (d *door) writeReport(id string, text []byte) error {
	dir := d.House.OperationLogDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	beside, err := os.CreateTemp(dir, ".report-")
	if err != nil {
		return err
	}
	_, err = beside.Write(text)
	if err = errors.Join(err, beside.Close()); err == nil {
		err = os.Rename(beside.Name(), d.reportPath(id))
	}
	if err != nil {
		os.Remove(beside.Name())
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), reportSuffix) })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(b.Name(), a.Name()) }) // ids sort by time
	for _, e := range entries[min(reportsKept, len(entries)):] {
		os.Remove(filepath.Join(dir, e.Name())) // what stays costs disk space and nothing else
	}
	return nil
}

// Drills lists the drills that there are.
func (c *Client) Drills(ctx context.Context) ([]DrillKind, error) {
	out, err := ask[drillKinds](ctx, c, call{method: http.MethodGet, path: []string{"drills"}})
	return out.Drills, err
}

// Drill breaks something of a service on purpose, for a while. Cancel ends it at
// once, and so does whatever else is asked of the service.
func (c *Client) Drill(ctx context.Context, k app.ServiceKey, d DrillRequest) (Operation, error) {
	return c.change(ctx, http.MethodPost, servicePath(k, "drills"), d)
}

// KeepReport leaves a drill's report with its operation. It is an object of JSON,
// at most 1 MiB.
func (c *Client) KeepReport(ctx context.Context, op string, report any) error {
	_, err := ask[struct{}](ctx, c, call{method: http.MethodPut, path: []string{"operations", op, "report"}, body: report})
	return err
}

// Report is what was left of a drill; app.ErrNotFound where nothing was.
func (c *Client) Report(ctx context.Context, op string) (json.RawMessage, error) {
	return ask[json.RawMessage](ctx, c, call{method: http.MethodGet, path: []string{"operations", op, "report"}})
}
