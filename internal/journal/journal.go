// Package journal remembers what has happened: what was decided about instances
// and operations and why, how sockets ended, what a deploy did to those who were
// connected, and how much each service carried over the last hour. It decides
// nothing and asks nobody; others tell it, and pages read it.
//
// Everything is bounded. Decisions and reports are kept on disk as well, so that
// they outlive a restart; each socket's ending is in the log of requests anyway.
// Start at Journal; tap.go is how the data plane's records get here, series.go
// the last hour's numbers, report.go what a deploy did.
package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

const (
	// decisionsMax is how many decisions are in memory: a fleet of 200 instances
	// that is deployed anew makes some 1000.
	decisionsMax = 10_000

	// endingsMax is how many sockets' endings are in memory, 300 bytes each: all
	// of a machine's may end within one deploy.
	endingsMax = 20_000

	// reportsMax is how many reports of deploys are kept.
	reportsMax = 200

	// sampleEvery is how often open sockets are counted.
	sampleEvery = time.Second
)

// Kind says what an entry is about.
type Kind string

// The kinds.
const (
	Instance  Kind = "instance"  // it entered a state
	Operation Kind = "operation" // it reached a stage
	Socket    Kind = "socket"    // it ended
)

// Kinds lists them.
func Kinds() []Kind { return []Kind{Instance, Operation, Socket} }

// Entry is one thing that happened.
type Entry struct {
	Seq       int64     `json:"seq"` // in the order in which they were told
	Time      time.Time `json:"time"`
	Kind      Kind      `json:"kind"`
	Key       app.Key   `json:"key"` // parts that it is not about are ""
	Instance  string    `json:"instance,omitempty"`
	Operation string    `json:"operation,omitempty"`
	What      string    `json:"what"` // the state, the stage or "ended"
	Cause     app.Cause `json:"cause,omitempty"`
	By        string    `json:"by,omitempty"`
	Verb      app.Verb  `json:"verb,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Sockets   int       `json:"sockets,omitempty"` // of an instance that begins to leave: open then

	Ending *Ending `json:"-"` // of a socket; it is in the log of requests
}

// Config is what a journal is told once; the zero value keeps nothing.
type Config struct {
	Dir  string                        // where decisions and reports are kept; "": in memory only
	Open func(instance string) int     // counts an instance's open sockets; nil: nobody knows
	All  func() map[app.ServiceKey]int // counts each service's; nil: nobody knows
	Log  *slog.Logger

	Requests string // the directory of the log of requests, where older endings are; "": there is none
}

// Journal remembers. Its methods may be called from several goroutines, and none
// of them blocks for long.
type Journal struct {
	cfg    Config
	began  time.Time  // endings from before are not in memory
	file   *logs.File // nil: nothing is kept
	series sync.Map   // app.ServiceKey → *series

	looking sync.Mutex       // held while the log of requests is read, so that it is read for one at a time; guards the following
	older   map[string]Entry // by id

	mu        sync.Mutex // guards the following
	seq       int64
	decisions ring
	endings   ring
	ended     map[string]int64 // sockets' ids → seq of their endings
	stages    map[string]app.Stage
	reports   []*report // in the order of their beginning
	fresh     []Entry   // to be written
	changed   chan struct{}
}

// Open makes a journal and reads what an earlier one kept.
func Open(cfg Config) (*Journal, error) {
	j := &Journal{
		cfg:       cfg,
		began:     time.Now(),
		decisions: ring{most: decisionsMax},
		endings:   ring{most: endingsMax},
		ended:     map[string]int64{},
		older:     map[string]Entry{},
		stages:    map[string]app.Stage{},
		changed:   make(chan struct{}),
	}
	if cfg.Dir == "" {
		return j, nil
	}
	path := filepath.Join(cfg.Dir, "decisions.log")
	j.read(path)
	var err error
	if j.file, err = logs.Create(path, logs.Limit{}); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.readReports()
	return j, nil
}

// read takes in the decisions of a file and the one rotated before it. What
// cannot be read, as after a crash in the middle of a write, is passed over.
func (j *Journal) read(path string) {
	for _, name := range []string{path + ".1", path} {
		text, err := os.ReadFile(name) // bounded by its writer
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var e Entry
			if json.Unmarshal([]byte(line), &e) == nil && e.Seq > j.seq {
				j.seq = e.Seq
				j.decisions.add(e)
			}
		}
	}
}

// Run counts sockets and writes what is to be kept until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		now := time.Now()
		if j.cfg.All != nil {
			for k, n := range j.cfg.All() {
				j.seriesOf(k).sample(now, n)
			}
		}
		j.settle(now)
		j.write()
	}
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// write writes the fresh entries; one that cannot be is told of once and gone.
func (j *Journal) write() {
	j.mu.Lock()
	fresh := j.fresh
	j.fresh = nil
	j.mu.Unlock()
	if j.file == nil || len(fresh) == 0 {
		return
	}
	for _, e := range fresh {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = j.file.Write(append(text, '\n'))
		}
		if err != nil {
			j.cfg.Log.Warn("write the journal", "err", err)
			return
		}
	}
}

// ToldInstance notes that an instance entered a state.
func (j *Journal) ToldInstance(at time.Time, i app.Instance, detail string) {
	e := Entry{Time: at, Kind: Instance, Key: i.Key, Instance: i.ID, What: i.State.String(), Cause: i.Cause, Detail: detail}
	if i.State == app.Draining && j.cfg.Open != nil {
		e.Sockets = j.cfg.Open(i.ID)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.decideLocked(e)
	j.reportInstanceLocked(e, i)
}

// ToldOperation notes how far an operation has come.
func (j *Journal) ToldOperation(op app.Operation) {
	e := Entry{Time: op.Asked, Kind: Operation, Key: op.Target, Instance: op.Instance, Operation: op.ID, What: string(op.Stage), By: op.By, Verb: op.Verb}
	if op.Stage == app.StageDone {
		e.Time = op.Ended
	} else if j.stageOf(op.ID) != "" {
		e.Time = time.Now()
	}
	if f := op.Failure; f != nil {
		e.Cause, e.Detail = f.Cause, f.Detail
	}
	if op.Drill != nil {
		e.Detail = strings.TrimPrefix(e.Detail+", "+string(op.Drill.Fault), ", ")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stages[op.ID] == op.Stage {
		return
	}
	j.stages[op.ID] = op.Stage
	if op.Stage == app.StageDone {
		delete(j.stages, op.ID)
	}
	j.decideLocked(e)
	j.reportOperationLocked(e, op)
}

func (j *Journal) stageOf(op string) app.Stage {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stages[op]
}

func (j *Journal) decideLocked(e Entry) {
	j.seq++
	e.Seq = j.seq
	j.decisions.add(e)
	if j.file != nil {
		j.fresh = append(j.fresh, e)
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// Filter says which entries are meant: those that have all of what is not empty.
type Filter struct {
	Kind      Kind // "": what was decided, without sockets
	Key       app.Key
	Instance  string
	Operation string
	Cause     app.Cause
	Text      string    // somewhere in it, in any case
	Until     time.Time // not after; zero: up to now
}

func (f Filter) matches(e *Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(string(f.Kind), string(e.Kind)) && is(f.Instance, e.Instance) && is(f.Operation, e.Operation) && is(string(f.Cause), string(e.Cause)) &&
		is(f.Key.App, e.Key.App) && is(f.Key.Service, e.Key.Service) && is(f.Key.Version, e.Key.Version) &&
		(f.Until.IsZero() || !e.Time.After(f.Until)) && (f.Text == "" || e.has(strings.ToLower(f.Text)))
}

func (e *Entry) has(text string) bool {
	words := []string{e.Key.String(), e.Instance, e.Operation, e.What, string(e.Cause), e.By, string(e.Verb), e.Detail}
	if e.Ending != nil {
		words = append(words, e.Ending.ID, e.Ending.Client, e.Ending.Reason, e.Ending.Path)
	}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(w), text) })
}

// Entries are the latest that match, the latest first, at most so many, and
// whether there are more.
func (j *Journal) Entries(f Filter, most int) (found []Entry, more bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := &j.decisions
	if f.Kind == Socket {
		from = &j.endings
	}
	for i := len(from.all) - 1; i >= 0; i-- {
		e := from.back(len(from.all) - 1 - i)
		if !f.matches(e) {
			continue
		}
		if len(found) == most {
			return found, true
		}
		found = append(found, *e)
	}
	return found, false
}

// Remembers says whether the endings of all sockets since then are in memory: none
// from before our start is, and of very many the oldest have gone.
func (j *Journal) Remembers(since time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := &j.endings; len(r.all) == r.most {
		return r.back(r.most - 1).Time.Before(since)
	}
	return !since.Before(j.began)
}

// Changed is closed when there is another decision; it is taken before Entries.
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// ring keeps the latest entries.
type ring struct {
	most int
	all  []Entry // the oldest is at next once it is full
	next int
}

// add returns the entry that had to go, nil for none.
func (r *ring) add(e Entry) (gone *Entry) {
	if len(r.all) < r.most {
		r.all = append(r.all, e)
		return nil
	}
	old := r.all[r.next]
	r.all[r.next] = e
	r.next = (r.next + 1) % r.most
	return &old
}

// back is the n-th entry before the latest.
func (r *ring) back(n int) *Entry {
	return &r.all[(r.next+len(r.all)-1-n)%len(r.all)]
}
