package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Every way in which a socket can end is provoked, and each of those who tell of
// it says the same: the Close frame, the log, the numbers, the timeline and the
// socket's page in the console.
func TestEverySocketTellsWhyItEnded(t *testing.T) {
	t.Parallel()
	h := newHospice(t)
	h.deploy("default", "")
	h.deploy("hour", "  holdfast.websocket_timeout: 3s\n")
	h.deploy("old", "  holdfast.max_age: 8s\n")
	h.deploy("even", "  holdfast.rebalance: gentle\n")

	for _, e := range []ending{
		{name: "deadline", service: "hour", by: "holdfast", cause: "deadline", code: 1001},
		{name: "aged", service: "old", by: "holdfast", cause: "aged", code: 1012},
		{name: "rebalanced", service: "even", by: "holdfast", cause: "rebalanced", code: 1012, provoke: func(h *hospice, _ *caller) {
			for range 9 { // one alone is even enough
				h.open("even", "/ws/crowd")
			}
			h.ask("PATCH", "apps/ends/services/even/versions/"+h.version("even")+"/scaling", `{"instances": 2}`)
		}},
	} {
		t.Run(e.name, func(t *testing.T) { h.expect(t, e) })
	}

	h.ask("DELETE", "apps/ends/services/old", "")

	// Of these each has the instance for itself, as some end it.
	for _, e := range []ending{
		{name: "client-closes", by: "client", cause: "closed", code: 4001, reason: "bye", provoke: func(_ *hospice, c *caller) {
			c.say(8, append([]byte{4001 >> 8, 4001 & 0xff}, "bye"...))
		}},
		{name: "client-vanishes", by: "client", cause: "lost", code: 1006, provoke: func(_ *hospice, c *caller) { c.vanish() }},
		{name: "instance-closes", by: "instance", cause: "closed", code: 4000, reason: "enough"},
		{name: "lost", by: "instance", cause: "lost", code: 1011, provoke: func(_ *hospice, c *caller) { c.say(1, []byte("now")) }},
		{name: "too-big", by: "holdfast", cause: "message-too-big", code: 1009, provoke: func(_ *hospice, c *caller) { c.say(1, make([]byte, 1001)) }},
		{name: "too-many", by: "holdfast", cause: "too-many-messages", code: 1008, provoke: func(_ *hospice, c *caller) {
			for range 21 {
				c.say(1, []byte("again"))
			}
		}},
		{name: "broken", by: "holdfast", cause: "protocol-error", code: 1002, provoke: func(_ *hospice, c *caller) { c.say(3, nil) }}, // a reserved opcode
		{name: "closed-by-operator", by: "holdfast", cause: "requested", code: 4000, reason: "because", provoke: func(h *hospice, c *caller) {
			h.ask("POST", "sockets/close", `{"filter": {"id": "`+h.socketID()+`"}, "code": 4000, "reason": "because"}`)
		}},
		{name: "restarted-by-operator", by: "holdfast", cause: "requested", code: 1012, provoke: func(h *hospice, _ *caller) {
			h.ask("POST", "instances/"+h.instance()+"/restart", "")
		}},
		{name: "crashed", by: "instance", cause: "crashed", code: 1012, provoke: func(h *hospice, _ *caller) { h.get("default", "/crash") }},
		{name: "unhealthy", by: "holdfast", cause: "unhealthy", code: 1012, provoke: func(h *hospice, _ *caller) { h.get("default", "/sicken") }},
		{name: "deployed", by: "holdfast", cause: "deployed", code: 1012, provoke: func(h *hospice, _ *caller) { h.deploy("default", "") }},
		{name: "scaled-down", by: "holdfast", cause: "scaled-down", code: 1012, provoke: func(h *hospice, c *caller) {
			// The one with fewer sockets leaves; so the other needs more than ours.
			h.ask("PATCH", "apps/ends/services/default/versions/"+h.version("default")+"/scaling", `{"instances": 2}`)
			h.ready("default", 2)
			for h.fewest() != c.instance {
				h.open("default", "/ws/crowd")
			}
			h.ask("PATCH", "apps/ends/services/default/versions/"+h.version("default")+"/scaling", `{"instances": 1}`)
		}},
		{name: "shutting-down", by: "holdfast", cause: "shutting-down", code: 1001, last: true, provoke: func(h *hospice, _ *caller) {
			go h.server.stop() // the log is what is left to read
		}},
	} {
		t.Run(e.name, func(t *testing.T) { h.expect(t, e) })
	}
}

// ending is one way in which a socket ends, and what is said of it.
type ending struct {
	name    string
	service string // "": default
	provoke func(h *hospice, c *caller)
	by      string
	cause   string // in the log, the metric, and the Close frame unless reason says else
	code    int    // 1006: there is no Close frame
	reason  string
	last    bool // nobody can be asked any more afterwards
}

// expect opens a socket, has it end, and reads what is said.
func (h *hospice) expect(t *testing.T, e ending) {
	of := *h
	of.t, h = t, &of
	service, reason := e.service, e.reason
	if service == "" {
		service = "default"
	}
	if reason == "" && e.code != 1006 {
		reason = e.cause
	}
	if e.name == "rebalanced" {
		// Any of the crowd may be the one that moves.
		defer h.expectNumbers(t, e, service, h.count(e, service))
		e.provoke(h, nil)
		h.shown(t, e, h.logged(t, e, "/ws/crowd", reason))
		return
	}
	h.ready(service, 1)
	before := 0.0
	if !e.last {
		before = h.count(e, service)
	}
	c := h.open(service, "/ws/"+e.name)
	if service == "default" && !e.last {
		c.instance = h.instanceOf("/ws/" + e.name)
	}
	if e.provoke != nil {
		e.provoke(h, c)
	}
	if e.code != 1006 && e.by != "client" {
		if code, why, err := c.farewell(); err != nil || code != e.code || why != reason {
			t.Errorf("the Close frame says %d %q, %v; want %d %q", code, why, err, e.code, reason)
		}
	}
	id := h.logged(t, e, "/ws/"+e.name, reason)
	if !e.last {
		h.shown(t, e, id)
		h.expectNumbers(t, e, service, before)
	}
}

// logged reads the socket's line, found by its path, and returns the socket's id.
func (h *hospice) logged(t *testing.T, e ending, path, reason string) (id string) {
	t.Helper()
	var line map[string]any
	eventually(t, "a line about the socket of "+path, func() bool {
		for _, l := range h.lines("socket") {
			if l["path"] == path && (path != "/ws/crowd" || l["cause"] == e.cause) {
				line = l
			}
		}
		return line != nil
	})
	if line["by"] != e.by || line["cause"] != e.cause || line["code"] != float64(e.code) || line["reason"] != reason {
		t.Errorf("the log says by %v, %v, %v %q; want by %s, %s, %d %q", line["by"], line["cause"], line["code"], line["reason"], e.by, e.cause, e.code, reason)
	}
	id, _ = line["id"].(string)
	return id
}

// shown reads what a person sees of the socket in the console.
func (h *hospice) shown(t *testing.T, e ending, id string) {
	t.Helper()
	by := map[string]string{"holdfast": "Holdfast", "client": "the client", "instance": "the instance"}[e.by]
	eventually(t, "the socket's page says that it ended by "+by+": "+e.cause, func() bool {
		page := h.page("sockets/" + id)
		return strings.Contains(page, "ended: "+e.cause+"<") && strings.Contains(page, "<dd>"+by+"</dd>") &&
			strings.Contains(page, fmt.Sprintf("<dd>%d", e.code))
	})
	eventually(t, "the timeline tells of the socket", func() bool {
		return strings.Contains(h.page("timeline?kind=socket&cause="+e.cause), id)
	})
}

func (h *hospice) expectNumbers(t *testing.T, e ending, service string, before float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("one more socket of %s ended by %s, %s in the numbers", service, e.by, e.cause), func() bool { return h.count(e, service) > before })
}
