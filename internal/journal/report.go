package journal

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/app"
)

const (
	// settleAfter is how long after its last instance has gone a deploy is still
	// watched for clients that come back: the slowest of their libraries wait half
	// a minute between tries.
	settleAfter = time.Minute

	// awayMax bounds how many clients are waited for at once, over all deploys.
	awayMax = 50_000

	// giveUp is when a deploy is settled whatever is missing, after its end: no
	// drain is longer than an hour.
	giveUp = 2 * time.Hour
)

// Report is what a deploy, or another move of traffic, did to those who were
// connected.
type Report struct {
	Operation string         `json:"operation"`
	Verb      app.Verb       `json:"verb"`
	Key       app.Key        `json:"key"`
	By        string         `json:"by,omitempty"`
	Asked     time.Time      `json:"asked"`
	Ended     time.Time      `json:"ended,omitzero"`
	Failure   app.Cause      `json:"failure,omitempty"`
	Settled   time.Time      `json:"settled,omitzero"` // zero: it is still watched
	Instances int            `json:"instances"`        // that left because of it
	Sockets   int            `json:"sockets"`          // open on them when each began to leave
	Endings   map[string]int `json:"endings"`          // of these, by cause
	Back      int            `json:"back"`             // clients that were seen again at the service
	BackHalf  time.Duration  `json:"back_half"`        // half of them were back within this
	BackMost  time.Duration  `json:"back_most"`        // all of them
	Requests  int64          `json:"requests"`         // to the service meanwhile
	Lost      int64          `json:"lost"`             // of these, those that we could not have answered by an instance
}

type report struct {
	Report
	leaving map[string]bool        // instances that are not gone yet
	left    map[string]bool        // all that left
	away    map[string][]time.Time // by client's address: since when, for each socket that ended
	waiting int                    // of away
	back    []time.Duration
	before  Totals
	quiet   time.Time // since when nothing leaves any more
}

func (j *Journal) reportOperationLocked(e Entry, op app.Operation) {
	switch op.Verb {
	case app.VerbDeploy, app.VerbTraffic, app.VerbRollback, app.VerbStop, app.VerbRestart:
	default:
		return
	}
	i := slices.IndexFunc(j.reports, func(r *report) bool { return r.Operation == op.ID })
	if i < 0 {
		r := &report{
			Report:  Report{Operation: op.ID, Verb: op.Verb, Key: op.Target, By: op.By, Asked: op.Asked, Endings: map[string]int{}},
			leaving: map[string]bool{}, left: map[string]bool{}, away: map[string][]time.Time{},
			before: j.Totals(op.Target.ServiceKey()),
		}
		j.reports = append(j.reports, r)
		j.reports = j.reports[max(0, len(j.reports)-reportsMax):]
		i = len(j.reports) - 1
	}
	r := j.reports[i]
	if r.Key.Version == "" {
		r.Key = op.Target
	}
	if op.Stage == app.StageDone && r.Settled.IsZero() {
		r.Ended, r.quiet = e.Time, time.Now()
		if op.Failure != nil {
			r.Failure = op.Failure.Cause
		}
	}
}

// openLocked is the latest operation of a service that is still watched.
func (j *Journal) openLocked(k app.ServiceKey) *report {
	for _, r := range slices.Backward(j.reports) {
		if r.Settled.IsZero() && r.Key.ServiceKey() == k {
			return r
		}
	}
	return nil
}

func (j *Journal) reportInstanceLocked(e Entry, i app.Instance) {
	switch i.State {
	case app.Draining:
		// What an instance leaves for otherwise is no deploy's doing.
		if i.Cause != app.Deployed && i.Cause != app.Requested {
			return
		}
		if r := j.openLocked(i.Key.ServiceKey()); r != nil && !r.left[i.ID] {
			r.leaving[i.ID], r.left[i.ID] = true, true
			r.Instances++
			r.Sockets += e.Sockets
		}
	case app.Stopped:
		for _, r := range j.reports {
			if r.leaving[i.ID] {
				delete(r.leaving, i.ID)
				r.quiet = time.Now()
			}
		}
	}
}

func (j *Journal) reportEndingLocked(k app.ServiceKey, e *Ending, at time.Time) {
	waiting := 0
	for _, r := range j.reports {
		waiting += r.waiting
	}
	for _, r := range j.reports {
		if !r.left[e.Instance] || !r.Settled.IsZero() || r.Key.ServiceKey() != k {
			continue
		}
		r.Endings[string(e.Cause)]++
		if waiting < awayMax {
			r.away[e.Client] = append(r.away[e.Client], at)
			r.waiting++
		}
		return
	}
}

// opened notes that a client has a new socket. Where it had lost one to a deploy,
// it is back. Clients are told apart by their addresses: several behind one are
// taken for each other, in the order in which they left.
func (j *Journal) opened(k app.ServiceKey, client string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.reports {
		since := r.away[client]
		if len(since) == 0 || r.Key.ServiceKey() != k {
			continue
		}
		if r.away[client] = since[1:]; len(since) == 1 {
			delete(r.away, client)
		}
		r.waiting--
		r.back = append(r.back, max(0, at.Sub(since[0])))
		return
	}
}

// settle ends the watch over deploys whose effects are over, and keeps their
// reports.
func (j *Journal) settle(now time.Time) {
	j.mu.Lock()
	changed := false
	for _, r := range j.reports {
		if !r.Settled.IsZero() || r.Ended.IsZero() {
			continue
		}
		over := len(r.leaving) == 0 && now.Sub(r.quiet) > settleAfter
		if over || now.Sub(r.Ended) > giveUp {
			r.Report = j.tellLocked(r)
			r.Settled, changed = now, true
			r.leaving, r.left, r.away, r.back, r.waiting = nil, nil, nil, nil, 0
		}
	}
	var text []byte
	if changed {
		var all []Report
		for _, r := range j.reports {
			if !r.Settled.IsZero() {
				all = append(all, r.Report)
			}
		}
		text, _ = json.Marshal(all) // plain values
	}
	j.mu.Unlock()
	if text != nil && j.file != nil {
		if err := writeBeside(j.reportsPath(), text); err != nil {
			j.cfg.Log.Warn("write the reports", "err", err)
		}
	}
}

// tellLocked is a report as it stands.
func (j *Journal) tellLocked(r *report) Report {
	told := r.Report
	told.Endings = maps.Clone(r.Endings)
	if !r.Settled.IsZero() {
		return told
	}
	back := slices.Sorted(slices.Values(r.back))
	if told.Back = len(back); told.Back > 0 {
		told.BackHalf, told.BackMost = back[(len(back)-1)/2], back[len(back)-1]
	}
	now := j.Totals(r.Key.ServiceKey())
	told.Requests, told.Lost = now.Requests-r.before.Requests, now.Lost-r.before.Lost
	return told
}

// Reports are those of a service, the latest first.
func (j *Journal) Reports(k app.ServiceKey) (all []Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.reports {
		if r.Key.ServiceKey() == k {
			all = append(all, j.tellLocked(r))
		}
	}
	slices.SortStableFunc(all, func(a, b Report) int { return cmp.Compare(b.Operation, a.Operation) })
	return all
}

func (j *Journal) reportsPath() string { return filepath.Join(j.cfg.Dir, "reports.json") }

func (j *Journal) readReports() {
	text, err := os.ReadFile(j.reportsPath()) // bounded by its writer
	var all []Report
	if err != nil || json.Unmarshal(text, &all) != nil {
		return // there are none yet, or none any more: nothing depends on them
	}
	for _, r := range all {
		j.reports = append(j.reports, &report{Report: r})
	}
}

// writeBeside writes a file beside its place and renames it there.
func writeBeside(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".reports-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(text)
	if err := cmp.Or(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
