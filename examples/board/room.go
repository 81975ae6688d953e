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
	peopleMax  = 200  // sockets on this instance; one more is told to come later
	presentMax = 1000 // people on all instances whose places are known
	toldMax    = 100  // of them are told to a newcomer
	queueMax   = 256  // frames waiting for one slow reader before it is dropped
	nameMax    = 32   // characters in a name
	placeMax   = 128  // bytes of a place in the text, as Yjs writes it, in base64

	witnesses   = 2                // pages that look whether a fold has all that they have
	foldTimeout = 10 * time.Second // a page that was asked to fold has answered by then, or another is asked
	hereMax     = 25 * time.Second // somebody unheard of for so long has gone; pages speak every 8 seconds
	aloneAfter  = time.Second      // a fresh instance that no peer answers has none
)

// A presence is one person and where their cursor is. The page chooses all of
// it; Me is the same when it comes back on another instance, so that nobody is
// there twice.
type presence struct {
	Me     string `json:"me"`
	Name   string `json:"name"`
	Hue    int    `json:"hue"`              // 0 to 359
	Anchor string `json:"anchor,omitempty"` // where the selection begins; empty: no cursor
	Head   string `json:"head,omitempty"`   // where it ends
}

// valid says whether p may be shown to others, and tidies its name.
func (p *presence) valid() bool {
	p.Name = tidyName(p.Name)
	return len(p.Me) == 16 && !strings.ContainsFunc(p.Me, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }) &&
		p.Hue >= 0 && p.Hue < 360 && len(p.Anchor) <= placeMax && len(p.Head) <= placeMax
}

// toPage is what the server says to a page in words; updates travel in binary
// frames. Type tells which fields count.
type toPage struct {
	Type string `json:"type"` // welcome, here, gone, kept, fold or tick

	*identity            // welcome: who serves
	Peers     int        `json:"peers"`            // welcome, tick: other instances that have the document
	Here      []presence `json:"here,omitempty"`   // welcome: at most toldMax. here: one
	Me        string     `json:"me,omitempty"`     // gone
	People    int        `json:"people,omitempty"` // welcome, here, gone: how many in all
}

// The first byte of a binary frame says what follows.
const (
	frameLog    = 'l' // to a page, once, after the welcome: see record.whole
	frameUpdate = 'u' // both ways: one update
	frameFold   = 'f' // from a page: the whole document as one update, as asked. To a witness: the same
)

// A room holds the document and the people of this instance.
type room struct {
	me  identity
	log *slog.Logger

	tell    func(busMessage) // tells the peers; set before anybody joins, never blocks
	sockets sync.WaitGroup   // one for each serveSocket that has joined

	mu      sync.Mutex // guards the following
	doc     record
	wholeAs []byte // doc.whole, while doc has not changed
	people  map[*person]struct{}
	present map[string]lastSeen // by presence.Me, of all instances; at most presentMax
	peers   map[string]time.Time
	folding *folding
	heard   bool // the peers have been asked for the document
	closed  bool // goodbye was said; nobody joins any more
}

type lastSeen struct {
	presence
	at time.Time
	on string  // the instance
	by *person // nil: on another instance
}

// A folding is under way: somebody was asked for the document in one update.
type folding struct {
	by     *person
	covers []id // what that page had been sent when it was asked
	since  time.Time
}

func newRoom(me identity, log *slog.Logger) *room {
	return &room{me: me, log: log, tell: func(busMessage) {}, people: map[*person]struct{}{},
		present: map[string]lastSeen{}, peers: map[string]time.Time{}}
}

// A person is one open socket, as the room sees it.
type person struct {
	me    string      // guarded by room.mu; empty before the first presence
	queue chan []byte // frames to write; filled under room.mu, never blocking
	leave func(reason)
}

// A reason is why the server ends a socket.
type reason struct {
	code int
	text string
}

// The reasons this board has of its own. A page shows them in words.
var (
	stopping = reason{1001, "stopping"}      // SIGTERM
	tooSlow  = reason{1013, "too-slow"}      // the reader cannot keep up; on coming back it gets the document
	full     = reason{1013, "full"}          // peopleMax reached
	docFull  = reason{1013, "document-full"} // errFull; the page keeps its edits and tries again, seldom
	tooFast  = reason{1008, "too-fast"}      // no person types like this
)

// join lets p in as who, and queues its welcome and the document. It reports
// why not, if not.
func (r *room) join(p *person, who presence) (reason, bool) {
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
	r.hereLocked(p, who)
	here := make([]presence, 0, min(len(r.present), toldMax))
	for _, seen := range r.present {
		if here = append(here, seen.presence); len(here) == toldMax {
			break
		}
	}
	if r.wholeAs == nil {
		r.wholeAs = r.doc.whole(frameLog)
	}
	r.sendLocked(p, frame(toPage{Type: "welcome", identity: &r.me, Peers: len(r.peers), Here: here, People: len(r.present)}))
	r.sendLocked(p, r.wholeAs)
	return reason{}, true
}

// part is the end of what join began.
func (r *room) part(p *person) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.people, p)
	if r.folding != nil && r.folding.by == p {
		r.folding = nil
	}
	// Somebody who is back already, on whatever instance, has not gone.
	if r.present[p.me].by == p {
		r.goneLocked(p.me)
		r.tell(busMessage{Type: "gone", Me: p.me})
	}
	r.sockets.Done()
}

// edit takes an update from p, or from a peer where p is nil. It belongs to the
// room from here on.
func (r *room) edit(p *person, update []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news, err := r.doc.add(update)
	switch {
	case err != nil && p != nil:
		p.leave(docFull)
		return
	case err != nil:
		r.log.Warn("an update of a peer does not fit", "err", err)
		return
	}
	if p != nil {
		r.sendLocked(p, frame(toPage{Type: "kept"}))
	}
	if news {
		r.wholeAs = nil
		r.everybodyLocked(p, append([]byte{frameUpdate}, update...))
		if p != nil {
			r.tell(busMessage{Type: "update", Update: update})
		}
	}
	r.askToFoldLocked() // also after an old one: the page that was asked may have failed
}

// askToFoldLocked asks one page for the document in one update, when there are
// many: only a page can, for only Yjs knows what they mean.
func (r *room) askToFoldLocked() {
	if !r.doc.crowded() || r.folding != nil && time.Since(r.folding.since) < foldTimeout {
		return
	}
	for p := range r.people { // whichever comes first: the order is random
		r.folding = &folding{by: p, covers: r.doc.ids(), since: time.Now()}
		r.sendLocked(p, frame(toPage{Type: "fold"})) // behind all that it covers
		return
	}
}

// folded takes p's answer to askToFoldLocked.
func (r *room) folded(p *person, update []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.folding == nil || r.folding.by != p {
		return // nobody asked, or too late
	}
	covers := r.folding.covers
	r.folding = nil
	r.log.Info("folded", "updates", len(covers), "bytes", r.doc.bytes, "into", len(update))
	if r.foldLocked(p, update, covers) {
		r.tell(busMessage{Type: "fold", Update: update, IDs: names(covers)})
	}
}

// foldLocked puts a fold of p, or of a peer's person where p is nil, in the
// place of what it covers. It may have been made by somebody who wishes us ill,
// and we cannot read it: so a few others look at it, and send again what they
// miss there.
func (r *room) foldLocked(p *person, update []byte, covers []id) bool {
	known, err := r.doc.fold(update, covers)
	if err != nil {
		r.log.Warn("a fold does not fit", "err", err)
		return false
	}
	r.wholeAs = nil
	if !known { // it brings news
		r.everybodyLocked(p, append([]byte{frameUpdate}, update...))
	}
	asked := 0
	for other := range r.people {
		if other != p && asked < witnesses {
			r.sendLocked(other, append([]byte{frameFold}, update...))
			asked++
		}
	}
	return true
}

// here tells everybody who p is and where.
func (r *room) here(p *person, who presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hereLocked(p, who)
}

func (r *room) hereLocked(p *person, who presence) {
	if !who.valid() || p.me != "" && p.me != who.Me {
		return // one page, one person
	}
	p.me = who.Me
	r.seenLocked(p, r.me.Instance, who)
	r.tell(busMessage{Type: "here", Here: &who})
}

// seenLocked remembers where somebody is and tells the people here; p is nil for
// one on another instance.
func (r *room) seenLocked(p *person, instance string, who presence) {
	if _, known := r.present[who.Me]; !known && len(r.present) >= presentMax {
		return
	}
	r.present[who.Me] = lastSeen{who, time.Now(), instance, p}
	r.everybodyLocked(p, frame(toPage{Type: "here", Here: []presence{who}, People: len(r.present)}))
}

func (r *room) goneLocked(me string) {
	delete(r.present, me)
	r.everybodyLocked(nil, frame(toPage{Type: "gone", Me: me, People: len(r.present)}))
}

// everybodyLocked queues a frame for everybody here but one, who may be nil.
func (r *room) everybodyLocked(but *person, frame []byte) {
	for p := range r.people {
		if p != but {
			r.sendLocked(p, frame)
		}
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

// forget lets those go who have not been heard of: the people and the peers of
// an instance that was killed could not say goodbye.
func (r *room) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for me, seen := range r.present {
		if time.Since(seen.at) > hereMax {
			r.goneLocked(me)
		}
	}
	before := len(r.peers)
	for peer, at := range r.peers {
		if time.Since(at) > peerMax {
			delete(r.peers, peer)
		}
	}
	if len(r.peers) != before {
		r.tellPeersLocked()
	}
}

// tellPeersLocked lets pages know how many instances have the document.
func (r *room) tellPeersLocked() {
	r.everybodyLocked(nil, frame(toPage{Type: "tick", Peers: len(r.peers)}))
}

// ready says whether people may come: the peers have been heard, or there are
// none.
func (r *room) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed && r.heard
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
	slices.SortFunc(v.Here, func(a, b presence) int { return strings.Compare(a.Me, b.Me) })
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and times always marshal
	}
	return b
}
