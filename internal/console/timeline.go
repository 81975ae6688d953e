package console

import (
	"net/url"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/journal"
)

// eventsShown is how many entries the timeline has on a page.
const eventsShown = 200

// timelinePage is what was decided, the latest first.
type timelinePage struct {
	Filter  journal.Filter
	Text    string
	Kinds   []journal.Kind
	Entries []journal.Entry
	Older   string // a link; "": there is nothing older
	Until   string
}

func (c *console) timeline(v *visit) (any, error) {
	q := v.r.URL.Query()
	p := timelinePage{Kinds: journal.Kinds(), Until: q.Get("until")}
	p.Filter = journal.Filter{
		Kind: journal.Kind(q.Get("kind")), Key: app.Key{App: q.Get("app"), Service: q.Get("service"), Version: q.Get("version")},
		Instance: q.Get("instance"), Operation: q.Get("operation"), Cause: app.Cause(q.Get("cause")), Text: strings.TrimSpace(q.Get("q")),
	}
	if p.Until != "" {
		at, err := momentOf(v.now, p.Until)
		if err != nil {
			return nil, err
		}
		p.Filter.Until = at
	}
	var more bool
	p.Entries, more = c.Journal.Entries(p.Filter, eventsShown)
	if more {
		p.Older = v.with("until", p.Entries[len(p.Entries)-1].Time.UTC().Format(time.RFC3339Nano))
	}
	return p, nil
}

// moment is the timeline as it was at an entry.
func moment(e journal.Entry) string {
	return Prefix + "timeline?until=" + url.QueryEscape(e.Time.UTC().Format(time.RFC3339Nano))
}
