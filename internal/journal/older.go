package journal

import (
	"encoding/json"
	"strconv"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// olderMax is how many endings that were read from the log stay in memory: a page
// that is open asks for its own each second.
const olderMax = 100

// SocketEnding is how a socket ended: from memory if it is among the latest, else
// from the log of requests as far as that goes back, which may take a tenth of a
// second.
func (j *Journal) SocketEnding(id string) (Entry, bool) {
	if e, ok := j.latestEnding(id); ok {
		return e, true
	}
	if _, err := strconv.ParseUint(id, 10, 64); err != nil || j.cfg.Requests == "" {
		return Entry{}, false
	}
	j.looking.Lock()
	defer j.looking.Unlock()
	if e, ok := j.older[id]; ok {
		return e, true
	}
	// The beginning of a record is the logger's: no client writes it.
	line, ok, err := logs.Find(j.cfg.Requests, `"msg":"socket","id":"`+id+`"`)
	if err != nil {
		j.cfg.Log.Warn("look for a socket's ending", "id", id, "err", err)
	}
	if !ok {
		return Entry{}, false
	}
	e, ok := endingOf(line)
	if !ok {
		return Entry{}, false
	}
	if len(j.older) >= olderMax {
		clear(j.older)
	}
	j.older[id] = e
	return e, true
}

// endingOf reads a socket's record as it stands in the log.
func endingOf(line logs.Entry) (Entry, bool) {
	var r struct {
		Time                                                 time.Time
		ID, Trace, Path, Client, Instance, By, Cause, Reason string
		Dur                                                  time.Duration
		Code                                                 int
		FromClient                                           Bytes `json:"from_client"`
		FromInstance                                         Bytes `json:"from_instance"`
	}
	if json.Unmarshal([]byte(line.Text), &r) != nil {
		return Entry{}, false
	}
	e := &Ending{
		ID: r.ID, Trace: r.Trace, Path: r.Path, Client: r.Client, Instance: r.Instance, Opened: r.Time.Add(-r.Dur), Duration: r.Dur,
		By: r.By, Cause: app.Cause(r.Cause), Code: r.Code, Reason: r.Reason, FromClient: r.FromClient, FromInstance: r.FromInstance,
	}
	return Entry{Time: r.Time, Kind: Socket, Key: line.Key, Instance: e.Instance, What: "ended", Cause: e.Cause, By: e.By, Ending: e}, true
}
