package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	historyMax = 100  // messages a newcomer sees
	seenMax    = 2000 // message ids remembered, to know a repeated one
	peopleMax  = 2000 // sockets on this instance; one more is told to come later
	queueMax   = 256  // frames waiting for one slow reader before it is dropped
	textMax    = 2000 // characters in a message
	nameMax    = 32   // characters in a name
	idMax      = 80   // bytes in a message id
	namesMax   = 50   // names told to everybody; beyond it only the count is

	peopleDelay = 200 * time.Millisecond // many who come at once are told of at once
)

// A message is one thing that somebody said.
type message struct {
	ID   string    `json:"id"` // chosen by the page that sent it, so that a repeat is known
	Name string    `json:"name"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// toPage is what the server says to a page. Type tells which fields count.
type toPage struct {
	Type string `json:"type"` // welcome, message, people, refused or tick

	*identity           // welcome: who serves
	History   []message `json:"history,omitempty"` // welcome: oldest first

	Message *message `json:"message,omitempty"` // message

	Names []string `json:"names,omitempty"` // welcome, people: at most namesMax
	Count int      `json:"count,omitempty"` // welcome, people: how many in all

	ID  string `json:"id,omitempty"`  // refused: which message
	Why string `json:"why,omitempty"` // refused: in words
}

// A room holds the people of this instance, and what people said lately on any.
type room struct {
	me  identity
	log *slog.Logger

	// publish tells every instance, this one too, and how many heard it. Nil
	// means that this one is alone.
	publish func(envelope) (heard int64, err error)

	sockets  sync.WaitGroup // one for each serveSocket that has joined
	settled  chan struct{}  // closed once what the other instances know is known here
	settling sync.Once

	mu        sync.Mutex // guards the following
	people    map[*person]struct{}
	elsewhere map[string]presence // by instance
	history   []message           // at most historyMax, oldest first
	seen      map[string]message  // at most seenMax
	order     []string            // the ids in seen, oldest first
	owing     bool                // something was said that others did not hear
	telling   bool                // tellPeople is on its way
	closed    bool                // goodbye was said; nobody joins any more
}

func newRoom(me identity, log *slog.Logger) *room {
	return &room{
		me: me, log: log, settled: make(chan struct{}),
		people: map[*person]struct{}{}, elsewhere: map[string]presence{}, seen: map[string]message{},
	}
}

// A person is one open socket, as the room sees it.
type person struct {
	name  string      // guarded by room.mu
	queue chan []byte // frames to write; filled under room.mu, never blocking
	leave func(reason)
}

// A reason is why the server ends a socket.
type reason struct {
	code int
	text string
}

// The reasons this chat has of its own. A page shows them in words.
var (
	stopping = reason{1001, "stopping"} // SIGTERM
	tooSlow  = reason{1013, "too-slow"} // the reader cannot keep up; on coming back it gets the history
	full     = reason{1013, "full"}     // peopleMax reached
)

// join lets p in and queues its welcome. It reports why not, if not.
func (r *room) join(p *person) (reason, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return stopping, false
	}
	if len(r.people) >= peopleMax {
		return full, false
	}
	r.people[p] = struct{}{}
	r.sockets.Add(1)
	names, count := r.everywhereLocked()
	r.sendLocked(p, frame(toPage{Type: "welcome", identity: &r.me, History: r.history, Names: names, Count: count}))
	r.peopleChangedLocked()
	return reason{}, true
}

// part is the end of what join began.
func (r *room) part(p *person) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.people, p)
	r.peopleChangedLocked()
	r.sockets.Done()
}

// rename gives p another name and tells everybody.
func (r *room) rename(p *person, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name = tidyName(name); p.name != name {
		p.name = name
		r.peopleChangedLocked()
	}
}

// say tells everybody what p says. A page repeats what it does not know to
// have arrived; a message whose id is known is only shown to that page again,
// which is all the answer it needs.
func (r *room) say(p *person, id, text string) {
	text = strings.TrimSpace(text)
	m := message{ID: id, Text: text, At: time.Now().UTC()}
	if !r.accept(p, &m) {
		return
	}
	// Every instance hears it from the bus, this one too: so all have the same
	// order, and what a page sees as sent is known wherever it may come back to.
	heard, err := int64(0), error(nil)
	if r.publish != nil {
		heard, err = r.publish(envelope{From: r.me.Instance, Said: &m})
	}
	if heard > 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hearLocked(m) // who is here, at least; the others by the next exchange
	if r.publish != nil {
		r.owing = true
		r.log.Warn("said here alone", "err", err)
	}
}

// accept looks at what p wants to say, puts p's name to it, and answers if that
// is the end of it.
func (r *room) accept(p *person, m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	refuse := func(why string) bool {
		r.sendLocked(p, frame(toPage{Type: "refused", ID: m.ID, Why: why}))
		return false
	}
	switch {
	case m.ID == "" || len(m.ID) > idMax:
		return refuse("a message needs an id of at most 80 bytes")
	case m.Text == "":
		return refuse("a message needs some text")
	case utf8.RuneCountInString(m.Text) > textMax:
		return refuse("a message has at most 2000 characters")
	}
	if known, ok := r.seen[m.ID]; ok {
		r.sendLocked(p, frame(toPage{Type: "message", Message: &known}))
		return false
	}
	m.Name = p.name
	return true
}

// hearLocked remembers and shows a message, once.
func (r *room) hearLocked(m message) {
	if _, known := r.seen[m.ID]; known {
		return
	}
	r.history = append(r.history, m)
	// Nearly always there already; not so what another instance tells later.
	slices.SortStableFunc(r.history, func(a, b message) int { return a.At.Compare(b.At) })
	if len(r.history) > historyMax {
		r.history = slices.Delete(r.history, 0, len(r.history)-historyMax)
	}
	r.seen[m.ID] = m
	if r.order = append(r.order, m.ID); len(r.order) > seenMax {
		delete(r.seen, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	all := frame(toPage{Type: "message", Message: &m})
	for p := range r.people {
		r.sendLocked(p, all)
	}
}

// sendLocked queues a frame for p. Who lets the queue fill up is dropped: one
// slow reader must neither stop the others nor cost memory without end.
func (r *room) sendLocked(p *person, frame []byte) {
	select {
	case p.queue <- frame:
	default:
		p.leave(tooSlow)
	}
}

// peopleChangedLocked lets everybody know soon who is here; what changes
// meanwhile is told in one.
func (r *room) peopleChangedLocked() {
	if !r.telling && !r.closed {
		r.telling = true
		time.AfterFunc(peopleDelay, r.tellPeople)
	}
}

func (r *room) tellPeople() {
	r.mu.Lock()
	r.telling = false
	if r.closed {
		r.mu.Unlock()
		return // nobody is left to care
	}
	r.showPeopleLocked()
	here := r.hereLocked()
	r.mu.Unlock()
	r.tell(envelope{People: &here})
}

func (r *room) showPeopleLocked() {
	names, count := r.everywhereLocked()
	all := frame(toPage{Type: "people", Names: names, Count: count})
	for p := range r.people {
		r.sendLocked(p, all)
	}
}

// hereLocked is who is on this instance.
func (r *room) hereLocked() presence {
	here := presence{Count: len(r.people)}
	for p := range r.people {
		if here.Names = append(here.Names, p.name); len(here.Names) == namesMax {
			break
		}
	}
	return here
}

// everywhereLocked is who is on any, as far as the others said so.
func (r *room) everywhereLocked() (names []string, count int) {
	here := r.hereLocked()
	names, count = here.Names, here.Count
	for _, there := range r.elsewhere {
		names, count = append(names, there.Names...), count+there.Count
	}
	names = names[:min(len(names), namesMax)]
	slices.Sort(names)
	return names, count
}

func (r *room) closing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// goodbye closes every socket with 1001 and returns when all have ended, or
// when ctx does. Nobody joins afterwards.
func (r *room) goodbye(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.log.Info("goodbye", "people", len(r.people))
	for p := range r.people {
		p.leave(stopping)
	}
	r.mu.Unlock()

	ended := make(chan struct{})
	go func() { // ends with the last socket, whose writes and closings are bounded
		r.sockets.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tidyName makes anything a name: one line, printable, short.
func tidyName(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return ' '
		}
		return c
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > nameMax {
		s = strings.TrimSpace(string(runes[:nameMax]))
	}
	if s == "" {
		return "Somebody"
	}
	return s
}

// frame is v as it goes over the wire.
func frame(v toPage) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and times always marshal
	}
	return b
}
