package bus

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// kind is one of the three ways to be subscribed. They share nothing: what is
// published to a sharded channel reaches only who subscribed to that.
type kind int

const (
	channel kind = iota
	pattern
	shard
	kinds
)

// subscribed and unsubscribed are how the answers are called.
func (k kind) subscribed() string { return [...]string{"subscribe", "psubscribe", "ssubscribe"}[k] }
func (k kind) unsubscribed() string {
	return [...]string{"unsubscribe", "punsubscribe", "sunsubscribe"}[k]
}

// space is all that the connections of one application share.
type space struct {
	app  string
	held atomic.Int64 // bytes: queued for its connections, and half read from them

	mu        sync.Mutex // guards the following, and every connection's names
	names     [kinds]map[string]map[*conn]struct{}
	total     int // subscriptions of all kinds
	conns     int
	published int64
	delivered int64
	cut       int64
}

func newSpace(app string) *space {
	s := &space{app: app}
	for k := range s.names {
		s.names[k] = map[string]map[*conn]struct{}{}
	}
	return s
}

func (s *space) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Connections:   s.conns,
		Channels:      len(s.names[channel]) + len(s.names[shard]),
		Patterns:      len(s.names[pattern]),
		Subscriptions: s.total,
		Published:     s.published,
		Delivered:     s.delivered,
		Cut:           s.cut,
	}
}

func (s *space) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= connsPerAppMax {
		return false
	}
	s.conns++
	return true
}

// dismiss is admit's opposite; cut says that the connection was.
func (s *space) dismiss(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if cut {
		s.cut++
	}
}

// hold counts n more bytes, or says that there is no room for them.
func (s *space) hold(n int) bool {
	if s.held.Add(int64(n)) > heldBytesMax {
		s.held.Add(int64(-n))
		return false
	}
	return true
}

func (s *space) release(n int) { s.held.Add(int64(-n)) }

// subscribe adds c to the subscribers of name and tells it so before any
// message can reach it. An error is for the client.
func (s *space) subscribe(c *conn, k kind, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, already := c.names[k][name]; !already {
		if refused := s.refuseLocked(c, k, name); refused != "" {
			return refused
		}
		subscribers := s.names[k][name]
		if subscribers == nil {
			subscribers = map[*conn]struct{}{}
			s.names[k][name] = subscribers
		}
		if c.names[k] == nil {
			c.names[k] = map[string]struct{}{}
		}
		subscribers[c] = struct{}{}
		c.names[k][name] = struct{}{}
		s.total++
	}
	c.tell(k.subscribed(), &name, c.count(k))
	c.pass()
	return ""
}

func (s *space) refuseLocked(c *conn, k kind, name string) string {
	bytesMax := nameBytesMax
	if k == pattern {
		bytesMax = patternBytesMax
	}
	switch {
	case len(name) > bytesMax:
		return fmt.Sprintf("ERR a name of %d bytes is too long here: at most %d", len(name), bytesMax)
	case c.count(channel)+c.count(shard) >= channelsPerConnMax:
		return fmt.Sprintf("ERR a connection may have %d subscriptions here", channelsPerConnMax)
	case s.total >= channelsPerAppMax:
		return fmt.Sprintf("ERR an application may have %d subscriptions here", channelsPerAppMax)
	case k == pattern && len(s.names[k]) >= patternsPerAppMax && s.names[k][name] == nil:
		return fmt.Sprintf("ERR an application may have %d patterns here", patternsPerAppMax)
	}
	return ""
}

// unsubscribe is subscribe's opposite; c need not be subscribed.
func (s *space) unsubscribe(c *conn, k kind, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(c, k, name)
	c.tell(k.unsubscribed(), &name, c.count(k))
}

// leave drops all subscriptions of c; afterwards no message reaches it.
func (s *space) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range kinds {
		for name := range c.names[k] {
			s.dropLocked(c, k, name)
		}
	}
}

func (s *space) dropLocked(c *conn, k kind, name string) {
	if _, ok := c.names[k][name]; !ok {
		return
	}
	delete(c.names[k], name)
	delete(s.names[k][name], c)
	if len(s.names[k][name]) == 0 {
		delete(s.names[k], name)
	}
	s.total--
}

// publish hands a message to everybody who is subscribed to it and returns how
// many that were. It never waits for any of them; all see messages in one order.
func (s *space) publish(k kind, name, payload []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published++
	n := 0
	if subscribers := s.names[k][string(name)]; len(subscribers) > 0 {
		m := message{kind: k, name: name, payload: payload}
		n += s.sendLocked(&m, subscribers)
	}
	if k == channel {
		for p, subscribers := range s.names[pattern] {
			if match(p, name) {
				m := message{kind: pattern, pattern: p, name: name, payload: payload}
				n += s.sendLocked(&m, subscribers)
			}
		}
	}
	s.delivered += int64(n)
	return n
}

func (s *space) sendLocked(m *message, to map[*conn]struct{}) int {
	for c := range to {
		c.push(m)
	}
	return len(to)
}

// subscribers counts who is subscribed to a name.
func (s *space) subscribers(k kind, name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names[k][name])
}

// patterns counts the different patterns, as PUBSUB NUMPAT does.
func (s *space) patterns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names[pattern])
}

// active lists the names that somebody is subscribed to, in no order.
func (s *space) active(k kind, like *string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for name := range s.names[k] {
		if like == nil || match(*like, []byte(name)) {
			all = append(all, name)
		}
	}
	return all
}

// message is one message to a set of subscribers, written out at most once in
// each protocol, whatever their number. Guarded by its space's lock; what was
// written out is shared and never changed.
type message struct {
	kind          kind
	pattern       string
	name, payload []byte
	wire          [2][]byte // RESP 2, RESP 3
}

func (m *message) in(proto int) []byte {
	if w := m.wire[proto-2]; w != nil {
		return w
	}
	w := make([]byte, 0, len(m.pattern)+len(m.name)+len(m.payload)+64)
	switch m.kind {
	case pattern:
		w = appendPush(w, proto, 4)
		w = appendBulk(w, "pmessage")
		w = appendBulk(w, m.pattern)
	case shard:
		w = appendPush(w, proto, 3)
		w = appendBulk(w, "smessage")
	default:
		w = appendPush(w, proto, 3)
		w = appendBulk(w, "message")
	}
	w = appendBulk(w, m.name)
	w = appendBulk(w, m.payload)
	m.wire[proto-2] = w
	return w
}
