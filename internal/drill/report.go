package drill

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// The JSON of reports. Times of day are RFC 3339 in UTC, all others seconds since
// the drill began.

// Report is drills of one service, and whether it kept to what was expected.
type Report struct {
	Service string    `json:"service"` // app/service
	Server  string    `json:"server"`  // where it was, for people
	By      string    `json:"by,omitempty"`
	Began   time.Time `json:"began"`
	Expect  string    `json:"expect,omitempty"` // "": nothing was
	Passed  bool      `json:"passed"`           // nothing that was expected was missed
	Drills  []Result  `json:"drills"`
}

// Result is what one drill was like.
type Result struct {
	Drill     string    `json:"drill"`
	What      string    `json:"what"`
	Skipped   string    `json:"skipped,omitempty"` // why it was not done; the rest is empty then
	Operation string    `json:"operation,omitempty"`
	Instances []string  `json:"instances,omitempty"` // whom it met
	Share     float64   `json:"share,omitempty"`
	Began     time.Time `json:"began,omitzero"`
	Seconds   float64   `json:"seconds"`
	Broke     float64   `json:"broke"`  // when something was broken
	Mended    float64   `json:"mended"` // when it was not any more
	CutShort  string    `json:"cut_short,omitempty"`

	Clients int      `json:"clients"`
	Probes  []string `json:"probes"`

	Errors   int       `json:"errors"`             // that clients met
	Failures []Failure `json:"failures,omitempty"` // the same by kind, the most frequent first
	Goodbyes []Count   `json:"goodbyes,omitempty"` // how sockets and streams ended
	Recovery Recovery  `json:"recovery"`
	Outages  []Outage  `json:"outages,omitempty"`
	Messages Messages  `json:"messages"`
	Before   Evenness  `json:"before"`
	After    Evenness  `json:"after"`
	Real     Real      `json:"real"` // what clients met that are not the drill's

	Samples []Sample `json:"samples,omitempty"`
	Moments []Moment `json:"moments,omitempty"`

	Judged bool     `json:"judged"` // something was expected
	Passed bool     `json:"passed"` // and kept to; true where nothing was expected
	Missed []string `json:"missed,omitempty"`
}

// Failure is one kind of error, and who met it.
type Failure struct {
	Probe   string  `json:"probe"`
	What    string  `json:"what"`
	N       int     `json:"n"`
	Clients []int   `json:"clients"`
	First   float64 `json:"first"`
}

// Count is how often something was.
type Count struct {
	What string `json:"what"`
	N    int    `json:"n"`
}

// Outage is a time in which a client was not connected, or not answered.
type Outage struct {
	Client  int     `json:"client"`
	Probe   string  `json:"probe"`
	At      float64 `json:"at"`
	Seconds float64 `json:"seconds"` // until it was back, or until the drill's end
	Back    bool    `json:"back"`
}

// Recovery is how long clients needed to be back.
type Recovery struct {
	N    int     `json:"n"`   // outages
	P50  float64 `json:"p50"` // of those who came back
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Away int     `json:"away"` // clients that were still away in the end
}

// Messages is what became of numbered messages and events, where the probes can
// tell.
type Messages struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	Lost     int `json:"lost"`
	Doubled  int `json:"doubled"`
}

// Evenness is how sockets are spread over the ready instances.
type Evenness struct {
	Sockets []Count `json:"sockets,omitempty"` // by instance
	Uneven  float64 `json:"uneven"`            // so much more than its share has the fullest: 0.25 is a quarter
}

// Real is what other clients met, as the access log tells.
type Real struct {
	Records int     `json:"records"` // requests and sockets that ended
	Met     []Count `json:"met,omitempty"`
}

// Sample is one look.
type Sample struct {
	At       float64           `json:"at"`
	Sockets  map[string]int    `json:"sockets,omitempty"` // by instance; none where nobody could be asked
	States   map[string]string `json:"states,omitempty"`
	Served   map[string]int    `json:"served,omitempty"` // requests since the last look, by instance
	Errors   int               `json:"errors,omitempty"` // since the last look
	Goodbyes int               `json:"goodbyes,omitempty"`
	Returns  int               `json:"returns,omitempty"`
}

// Moment is a change of an instance.
type Moment struct {
	At       float64 `json:"at"`
	Instance string  `json:"instance"`
	State    string  `json:"state"`
	Cause    string  `json:"cause,omitempty"`
	Detail   string  `json:"detail,omitempty"`
}

// Skip is the result of a drill that was not done.
func Skip(s Spec, why string) Result {
	return Result{Drill: string(s.Fault), What: s.Fault.Says(), Skipped: why, Passed: true}
}

// Add adds a result to the report.
func (r *Report) Add(res Result) {
	if len(r.Drills) == 0 {
		r.Passed = true
	}
	r.Drills = append(r.Drills, res)
	r.Passed = r.Passed && res.Passed
}

// finish works out what follows from the rest, and judges.
func (r *Result) finish(e Expect) {
	var back []float64
	away := map[int]bool{}
	for _, o := range r.Outages {
		if o.Back {
			back = append(back, o.Seconds)
		} else {
			away[o.Client] = true
		}
	}
	slices.Sort(back)
	r.Recovery = Recovery{N: len(r.Outages), P50: quantile(back, 0.5), P99: quantile(back, 0.99), Max: quantile(back, 1), Away: len(away)}
	for _, s := range r.Samples {
		if s.Sockets == nil {
			continue
		}
		if s.At <= r.Broke {
			r.Before = evenness(s)
		}
		r.After = evenness(s)
	}
	r.judge(e)
}

// quantile of sorted values; 0 for none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// evenness of the ready instances of a look.
func evenness(s Sample) (e Evenness) {
	total, most := 0, 0
	for id, n := range s.Sockets {
		if s.States[id] == "ready" {
			e.Sockets = append(e.Sockets, Count{id, n})
			total += n
			most = max(most, n)
		}
	}
	slices.SortFunc(e.Sockets, func(a, b Count) int { return strings.Compare(a.What, b.What) })
	if total > 0 {
		e.Uneven = math.Round(1000*(float64(most*len(e.Sockets))/float64(total)-1)) / 1000
	}
	return e
}

// judge compares the result with what was expected. Each miss names its reason.
func (r *Result) judge(e Expect) {
	miss := func(format string, args ...any) { r.Missed = append(r.Missed, fmt.Sprintf(format, args...)) }
	r.Judged = e.text != ""
	if !r.Judged {
		r.Passed = true
		return
	}
	if e.Errors != nil && r.Errors > *e.Errors {
		text := fmt.Sprintf("errors=%d: clients met %d", *e.Errors, r.Errors)
		for i, f := range r.Failures[:min(2, len(r.Failures))] {
			text += fmt.Sprintf("%s %d× %s on %s (%s)", []string{":", ";"}[i], f.N, f.What, f.Probe, whom(f.Clients))
		}
		miss("%s", text)
	}
	if e.Recover != nil {
		limit := e.Recover.Seconds()
		switch {
		case r.Recovery.Away > 0:
			var who []int
			for _, o := range r.Outages {
				if !o.Back {
					who = append(who, o.Client)
				}
			}
			slices.Sort(who)
			miss("reconnect=%v: %s never came back%s", *e.Recover, whom(who), r.because(who))
		case r.Recovery.Max > limit:
			miss("reconnect=%v: the slowest client needed %s", *e.Recover, long(r.Recovery.Max))
		}
	}
	if e.Median != nil && r.Recovery.P50 > e.Median.Seconds() {
		miss("p50=%v: half of the clients needed more than %s", *e.Median, long(r.Recovery.P50))
	}
	if e.Lost != nil && r.Messages.Lost > *e.Lost {
		miss("lost=%d: %d of %d messages had no answer", *e.Lost, r.Messages.Lost, r.Messages.Sent)
	}
	if e.Doubled != nil && r.Messages.Doubled > *e.Doubled {
		miss("doubled=%d: %d messages were answered twice", *e.Doubled, r.Messages.Doubled)
	}
	if e.Evenness != nil && r.After.Uneven > *e.Evenness {
		miss("uneven=%g%%: the fullest instance has %.0f%% more than its share", *e.Evenness*100, r.After.Uneven*100)
	}
	r.Passed = len(r.Missed) == 0
}

// because is what the clients who stayed away met most.
func (r *Result) because(who []int) string {
	best, most := "", 0
	for _, f := range r.Failures {
		n := 0
		for _, c := range f.Clients {
			if _, there := slices.BinarySearch(who, c); there {
				n++
			}
		}
		if n > most {
			best, most = f.What, n
		}
	}
	if best == "" {
		return ""
	}
	return ": " + best
}

// whomMost is how many clients are named.
const whomMost = 4

// whom names clients.
func whom(clients []int) string {
	if len(clients) == 1 {
		return fmt.Sprintf("client %d", clients[0])
	}
	if len(clients) > whomMost {
		return fmt.Sprintf("%d clients", len(clients))
	}
	var names []string
	for _, c := range clients {
		names = append(names, fmt.Sprint(c))
	}
	return "clients " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// long is a number of seconds for people.
func long(s float64) string {
	switch {
	case s == 0:
		return "0s"
	case s < 1:
		return fmt.Sprintf("%.0fms", s*1000)
	case s < 10:
		return fmt.Sprintf("%.1fs", s)
	}
	return fmt.Sprintf("%.0fs", s)
}
