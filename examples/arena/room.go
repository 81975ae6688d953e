package main

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	playersMax = 40 // in a room, those asleep too; one more is told to come later
	botsUpTo   = 4  // bots come until so many play
	nameMax    = 20 // characters in a name
	keyBytes   = 16
	textsMax   = 32 // frames in words waiting for one page; fields do not wait, see person.field

	sleepMax   = 25 * time.Second       // a player without a page leaves the field; the score stays
	recordMax  = 3 * time.Minute        // and goes this long after that, or after its instance
	askMax     = 400 * time.Millisecond // a player nobody here knows: a peer that does has answered by then
	rosterWait = 200 * time.Millisecond // many who come at once are told of at once
	saveEvery  = 500 * time.Millisecond // what a crash can cost
)

// A room is the field and the people of this instance. It is the only one here:
// a page finds it again because session affinity leads it to this instance.
type room struct {
	me  identity
	log *slog.Logger

	tell    func(busMessage) // tells the peers; set before anybody joins, never blocks
	sockets sync.WaitGroup   // one for each serveSocket that has joined

	mu      sync.Mutex // guards the following
	w       *world
	players map[string]*player // by key; connected or asleep
	bots    []*player
	away    map[string]keptRecord    // left the field lately, by key; at most playersMax
	peers   map[string]peer          // by instance
	asked   map[string][]chan record // who waits for a player, by key
	rosters bool                     // a roster is on its way
	open    bool                     // the peers know us, or there are none
	moved   bool                     // handed over or stopping: nobody joins any more
}

// A player is somebody with a body on the field.
type player struct {
	record // its place and score are the body's while it is on the field
	body   *body
	conn   *person   // nil: asleep
	left   time.Time // since when
	heard  time.Time // when its page last steered
}

type keptRecord struct {
	record
	at time.Time
}

// A person is one open socket, as the room sees it.
type person struct {
	texts chan []byte // frames in words; filled under room.mu, never blocking
	field chan []byte // the latest field, at most one: a slow page sees fewer, not older ones
	leave func(reason)
}

// A reason is why the server ends a socket.
type reason struct {
	code int
	text string
}

// The reasons this game has of its own. A page shows them in words.
var (
	moving    = reason{1012, "moving"}    // the room is handed over; come back at once
	full      = reason{1013, "full"}      // playersMax reached
	tooSlow   = reason{1013, "too-slow"}  // not even the rosters are read
	tooFast   = reason{1008, "too-fast"}  // no person steers like this
	elsewhere = reason{4000, "elsewhere"} // the same player came on another socket
)

func newRoom(me identity, log *slog.Logger) *room {
	h := fnv.New64()
	h.Write([]byte(me.Instance))
	return &room{me: me, log: log, tell: func(busMessage) {}, w: newWorld(h.Sum64()), players: map[string]*player{},
		away: map[string]keptRecord{}, peers: map[string]peer{}, asked: map[string][]chan record{}}
}

// run ticks until ctx ends. A field without people rests.
func (r *room) run(ctx context.Context) {
	ticks := time.NewTicker(time.Second / ticksPerSecond)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			r.step()
		}
	}
}

func (r *room) step() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved || r.peopleLocked() == 0 {
		return
	}
	r.w.step()
	for _, p := range r.players {
		p.Best = max(p.Best, p.body.score)
		switch {
		case p.conn == nil && time.Since(p.left) > sleepMax:
			r.dropLocked(p)
		case time.Since(p.heard) > idleAfter: // its network went away without a word
			p.body.want = vec{}
		}
	}
	for _, p := range r.bots {
		p.Best = max(p.Best, p.body.score)
	}
	r.showLocked()
}

// showLocked sends everybody the field. Who has not taken the last one gets
// this one instead.
func (r *room) showLocked() {
	frame := r.w.frame()
	for _, p := range r.players {
		if p.conn == nil {
			continue
		}
		select {
		case <-p.conn.field:
		default:
		}
		p.conn.field <- frame // has room: only we send, under the lock
	}
}

// join puts somebody on the field: where they were, if they are known here or
// to a peer. It reports why not, if not. It may take askMax.
func (r *room) join(ctx context.Context, p *person, key, name string) (*player, reason, bool) {
	if !isKey(key) {
		key = ""
	}
	known, ok := r.find(ctx, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved {
		return nil, moving, false
	}
	if !ok { // it may have come while we asked
		known, ok = r.knownLocked(key)
	}
	who := r.players[known.Key]
	switch {
	case ok && who != nil:
		if who.conn != nil {
			who.conn.leave(elsewhere)
		}
	case !r.roomForOneLocked():
		return nil, full, false
	case ok:
		who = r.placeLocked(known)
	default:
		who = r.placeLocked(record{Key: token(keyBytes), Hue: hues[rand.IntN(len(hues))], X: -1})
	}
	r.sockets.Add(1)
	r.takenLocked(who.Key)
	who.conn, who.body.asleep, who.body.safe = p, false, safeTicks
	who.Name = tidyName(name)
	r.botsLocked()
	r.sendLocked(p, words(toPage{Type: "welcome", identity: &r.me, Key: who.Key, You: int(who.body.id), Back: ok, Rules: r.w.rules(), Room: r.w.name}))
	r.sendLocked(p, r.rosterLocked())
	r.rosterSoonLocked()
	r.tell(busMessage{Type: "moved", Key: who.Key})
	return who, reason{}, true
}

// find looks for a player here, in what peers told, and by asking them.
func (r *room) find(ctx context.Context, key string) (record, bool) {
	if key == "" {
		return record{}, false
	}
	r.mu.Lock()
	if known, ok := r.knownLocked(key); ok || len(r.peers) == 0 || len(r.asked) >= playersMax {
		r.mu.Unlock()
		return known, ok
	}
	answer := make(chan record, 1)
	r.asked[key] = append(r.asked[key], answer)
	r.tell(busMessage{Type: "who", Key: key})
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked[key] = slices.DeleteFunc(r.asked[key], func(c chan record) bool { return c == answer })
		if len(r.asked[key]) == 0 {
			delete(r.asked, key)
		}
	}()
	select {
	case rec := <-answer:
		return rec, true
	case <-ctx.Done():
		return record{}, false
	}
}

// knownLocked is a player as far as this instance knows.
func (r *room) knownLocked(key string) (record, bool) {
	if p, ok := r.players[key]; ok {
		return p.now(), true
	}
	if k, ok := r.away[key]; ok && time.Since(k.at) < recordMax {
		return k.record, true
	}
	for _, peer := range r.peers {
		if rec, ok := peer.players[key]; ok {
			return rec, true
		}
	}
	return record{}, false
}

// now is the player's record as it stands on the field.
func (p *player) now() record {
	rec := p.record
	rec.X, rec.Y, rec.Score = p.body.pos.x, p.body.pos.y, p.body.score
	return rec
}

// placeLocked puts a record on the field, asleep; X below 0 is anywhere.
func (r *room) placeLocked(rec record) *player {
	p := &player{record: rec, body: r.w.spawn(false), left: time.Now()}
	if rec.X >= 0 {
		p.body.pos = vec{rec.X, rec.Y}
	}
	p.body.score, p.body.asleep = rec.Score, true
	r.players[rec.Key] = p
	return p
}

// roomForOneLocked lets who sleeps longest leave the field when it is full.
func (r *room) roomForOneLocked() bool {
	if len(r.players) < playersMax {
		return true
	}
	var oldest *player
	for _, p := range r.players {
		if p.conn == nil && (oldest == nil || p.left.Before(oldest.left)) {
			oldest = p
		}
	}
	if oldest != nil {
		r.dropLocked(oldest)
	}
	return oldest != nil
}

// dropLocked takes a player off the field and keeps the record for a while.
func (r *room) dropLocked(p *player) {
	for key, k := range r.away {
		if len(r.away) >= playersMax || time.Since(k.at) > recordMax {
			delete(r.away, key)
		}
	}
	r.away[p.Key] = keptRecord{p.now(), time.Now()}
	r.forgetLocked(p)
}

func (r *room) forgetLocked(p *player) {
	r.w.remove(p.body)
	delete(r.players, p.Key)
	r.rosterSoonLocked()
}

// part is the end of what join began: the player sleeps where it is.
func (r *room) part(p *person, who *player) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if who.conn == p {
		who.conn, who.left = nil, time.Now()
		who.body.asleep, who.body.want = true, vec{}
		r.rosterSoonLocked()
	}
	r.sockets.Done()
}

// steer takes what p's page wants, while p is still the player's.
func (r *room) steer(p *person, who *player, want vec, dash bool) {
	if n := length(want); n > 1 {
		want = vec{want.x / n, want.y / n}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if who.conn == p {
		who.body.want, who.heard = want, time.Now()
		who.body.dash = who.body.dash || dash
	}
}

// rename gives who another name and tells everybody.
func (r *room) rename(who *player, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name = tidyName(name); who.Name != name {
		who.Name = name
		r.rosterSoonLocked()
	}
}

// botsLocked has as many bots play as people are missing.
func (r *room) botsLocked() {
	wanted := max(0, botsUpTo-r.peopleLocked())
	for len(r.bots) > wanted {
		last := r.bots[len(r.bots)-1]
		r.w.remove(last.body)
		r.bots = r.bots[:len(r.bots)-1]
	}
	for len(r.bots) < wanted {
		i := len(r.bots)
		r.bots = append(r.bots, &player{record: record{Name: []string{"Bolt", "Cog", "Rivet", "Sprocket"}[i], Hue: 215}, body: r.w.spawn(true)})
	}
}

func (r *room) peopleLocked() (n int) {
	for _, p := range r.players {
		if p.conn != nil {
			n++
		}
	}
	return n
}

// rosterSoonLocked lets everybody know soon who is here.
func (r *room) rosterSoonLocked() {
	if r.rosters || r.moved {
		return
	}
	r.rosters = true
	time.AfterFunc(rosterWait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rosters = false
		if r.moved {
			return
		}
		r.botsLocked()
		all := r.rosterLocked()
		for _, p := range r.players {
			if p.conn != nil {
				r.sendLocked(p.conn, all)
			}
		}
	})
}

func (r *room) rosterLocked() []byte {
	m := toPage{Type: "roster", Room: r.w.name, Players: []seat{}}
	for _, p := range r.players {
		m.Players = append(m.Players, seat{int(p.body.id), p.Name, p.Hue, p.Best, false})
	}
	for _, p := range r.bots {
		m.Players = append(m.Players, seat{int(p.body.id), p.Name, p.Hue, p.Best, true})
	}
	slices.SortFunc(m.Players, func(a, b seat) int { return a.ID - b.ID })
	for _, peer := range r.peers {
		if !peer.gone {
			m.Others = append(m.Others, otherRoom{peer.Name, peer.People})
		}
	}
	slices.SortFunc(m.Others, func(a, b otherRoom) int { return strings.Compare(a.Name, b.Name) })
	return words(m)
}

// sendLocked queues words for p. Who lets the queue fill up is dropped.
func (r *room) sendLocked(p *person, frame []byte) {
	select {
	case p.texts <- frame:
	default:
		p.leave(tooSlow)
	}
}

// ready says whether people may come.
func (r *room) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open && !r.moved
}

// waitForSockets returns when all have ended, or when ctx does.
func (r *room) waitForSockets(ctx context.Context) error {
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

// hues can be told apart, and from the sparks. Bots are grey.
var hues = []int{4, 24, 150, 172, 196, 224, 262, 288, 322, 345}

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
