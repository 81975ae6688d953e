package console

import (
	"fmt"
	"slices"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/journal"
	"holdfast/internal/logs"
	"holdfast/internal/tunnel"
)

const (
	// instanceSockets, instanceLines and instanceEvents are how much of each an
	// instance's page shows; the rest is a link away.
	instanceSockets = 10
	instanceLines   = 60
	instanceEvents  = 50
)

// instancePage is one instance.
type instancePage struct {
	ID      string
	Key     app.Key
	Live    *control.Instance // nil: it is gone
	Version app.Version
	History []journal.Entry
	Sockets []tunnel.Status
	More    int // sockets that are not among these
	Lines   []logs.Entry
	Checks  []control.Check // the latest first

	Memory int64 // bytes; 0: not known
}

// MemoryShare is how much of its limit an instance holds, from 0 to 1.
func (p instancePage) MemoryShare() float64 {
	if limit := p.Version.Resources.MemoryGB * (1 << 30); limit > 0 {
		return min(1, float64(p.Memory)/limit)
	}
	return 0
}

func (c *console) instance(v *visit) (any, error) {
	p := instancePage{ID: v.r.PathValue("id")}
	for _, i := range c.Control.Instances() {
		if i.ID == p.ID {
			p.Live, p.Key = &i, i.Key
		}
	}
	p.History, _ = c.Journal.Entries(journal.Filter{Instance: p.ID}, instanceEvents)
	if p.Live == nil {
		if len(p.History) == 0 {
			return nil, fmt.Errorf("instance %.80q: %w; it neither runs nor is in the journal", p.ID, app.ErrNotFound)
		}
		p.Key = p.History[0].Key
	}
	p.Version = c.Store.Wishes().Versions[p.Key]
	if p.Live != nil {
		all := c.Sockets.Sockets(tunnel.Filter{Instance: p.ID})
		p.Sockets = all[:min(len(all), instanceSockets)]
		p.More = len(all) - len(p.Sockets)
		p.Memory, _ = c.Memory(p.ID)
		p.Checks = c.Control.Checks(p.ID)
	}
	lines, err := logs.Read(c.LogDir, logs.Query{Instance: p.ID, Level: logs.Any, Limit: instanceLines})
	if err != nil {
		return nil, err
	}
	slices.Reverse(lines)
	p.Lines = lines
	return p, nil
}
