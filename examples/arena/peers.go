package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// What instances tell each other
//
// The bus carries messages to whoever listens at that moment and stores
// nothing. So each instance says twice a second who plays in its room, where
// and with how many sparks, and the others remember it: when one is killed, its
// players come to them and are put back. One that drains hands its whole room
// over: to the emptiest of the others, which is as a rule its successor.

const (
	quietEvery = 2 * time.Second // a room without people speaks so often
	peerMax    = 3*quietEvery + time.Second
	peersMax   = 50  // App Engine's default bound is 20 instances
	tellMax    = 256 // messages waiting for the bus; more are left out
	retryEvery = 500 * time.Millisecond
	busTimeout = 2 * time.Second // for one message, and for handing over
)

// busMessage is what one instance says to the others. Type tells which fields
// count.
type busMessage struct {
	Type string `json:"type"` // state, who, record, moved or handover
	From string `json:"from"`
	To   string `json:"to,omitempty"` // record: for this instance alone. handover: this one takes the room

	Room   *roomState `json:"room,omitempty"`   // state, handover
	Key    string     `json:"key,omitempty"`    // who: somebody knows? moved: plays here now
	Record *record    `json:"record,omitempty"` // record

	sent chan struct{} // closed when it has been published, or could not be; may be nil
}

// A peer is another instance, as it was when it last spoke.
type peer struct {
	roomState
	players map[string]record
	heard   time.Time
	gone    bool // it has handed over, or has not spoken for peerMax
}

// runPeers connects a room to its peers until ctx ends. Without a URL there are
// none. While the bus is away, it tries again; the only error is a URL that
// says nothing.
func runPeers(ctx context.Context, r *room, url, prefix string) error {
	if url == "" {
		r.log.Warn("REDIS_URL is not set: nobody takes over when this instance ends")
		r.opens()
		<-ctx.Done()
		return nil
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	opts.MaxRetries = -1 // what a moment ago was the state is not any more
	client := redis.NewClient(opts)
	defer client.Close()
	channel := prefix + "arena"

	out := make(chan busMessage, tellMax)
	r.tellBy(func(m busMessage) {
		select {
		case out <- m:
		default:
			if m.sent != nil {
				close(m.sent)
			}
		}
	})
	said := make(chan struct{})
	go func() { // ends with ctx
		defer close(said)
		say(ctx, r, client, channel, out)
	}()
	defer func() { <-said }()

	// A bus that cannot be reached must not keep people out.
	impatient := time.AfterFunc(busTimeout, r.opens)
	defer impatient.Stop()
	for ctx.Err() == nil {
		hear(ctx, r, client, channel)
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// say publishes what is told, and the room's state.
func say(ctx context.Context, r *room, client *redis.Client, channel string, out <-chan busMessage) {
	publish := func(m busMessage) {
		m.From = r.me.Instance
		b, err := json.Marshal(m)
		if err != nil {
			panic(err) // strings and finite numbers always marshal
		}
		bounded, cancel := context.WithTimeout(ctx, busTimeout)
		defer cancel()
		if err := client.Publish(bounded, channel, b).Err(); err != nil && ctx.Err() == nil {
			r.log.Warn("the bus is away", "err", err)
		}
		if m.sent != nil {
			close(m.sent)
		}
	}
	saves := time.NewTicker(saveEvery)
	defer saves.Stop()
	var quiet time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-out:
			publish(m)
		case <-saves.C:
			state, ok := r.state(false)
			if !ok {
				continue
			}
			if quiet += saveEvery; state.People > 0 || quiet >= quietEvery {
				quiet = 0
				publish(busMessage{Type: "state", Room: &state})
			}
		}
	}
}

// hear listens until the subscription ends.
func hear(ctx context.Context, r *room, client *redis.Client, channel string) {
	sub := client.Subscribe(ctx, channel)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { sub.Close() })() // its reads do not look at ctx
	for {
		got, err := sub.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("the bus is away", "err", err)
			}
			return
		}
		switch got := got.(type) {
		case *redis.Subscription: // from here on a room may be handed to us, so let the peers know us
			r.introduce()
		case *redis.Message:
			var m busMessage
			if json.Unmarshal([]byte(got.Payload), &m) == nil {
				r.hear(m)
			}
		}
	}
}

// introduce tells the peers of us, and lets people in.
func (r *room) introduce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.introduceLocked()
	r.open = true
}

func (r *room) introduceLocked() {
	state := r.stateLocked(false)
	r.tell(busMessage{Type: "state", Room: &state})
}

// opens lets people in.
func (r *room) opens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = true
}

// tellBy sets how the room tells its peers.
func (r *room) tellBy(tell func(busMessage)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell = tell
}

// state is the room as peers are told of it; not once it has been handed over.
// It also forgets peers that have not been heard.
func (r *room) state(whole bool) (roomState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetPeersLocked()
	return r.stateLocked(whole), !r.moved
}

func (r *room) stateLocked(whole bool) roomState {
	s := roomState{Name: r.w.name, Seed: r.w.seed, People: r.peopleLocked(), Since: r.me.Since}
	for _, p := range r.players {
		s.Players = append(s.Players, p.now())
	}
	if whole {
		for _, k := range r.away {
			s.Players = append(s.Players, k.record)
		}
		for _, o := range r.w.sparks {
			gold := 0.0
			if o.gold {
				gold = 1
			}
			s.Sparks = append(s.Sparks, []float64{o.pos.x, o.pos.y, gold})
		}
	}
	return s
}

func (r *room) forgetPeersLocked() {
	for name, p := range r.peers {
		silent := time.Since(p.heard)
		switch {
		case silent > recordMax:
			delete(r.peers, name)
		case silent > peerMax && !p.gone:
			p.gone = true
			r.peers[name] = p
			r.rosterSoonLocked()
		}
	}
}

// handOver gives the room to the emptiest peer and sends the people away, who
// are put back wherever they come. It returns when the bus has it, or after
// busTimeout; a second call does nothing.
func (r *room) handOver(ctx context.Context) {
	r.mu.Lock()
	if r.moved {
		r.mu.Unlock()
		return
	}
	r.moved = true
	state := r.stateLocked(true)
	m := busMessage{Type: "handover", To: r.successorLocked(), Room: &state, sent: make(chan struct{})}
	peers := len(r.peers)
	r.tell(m)
	r.mu.Unlock()
	r.log.Info("hands over", "room", state.Name, "people", state.People, "to", m.To)

	if peers > 0 {
		select {
		case <-m.sent:
		case <-time.After(busTimeout):
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.players {
		if p.conn != nil {
			p.conn.leave(moving)
		}
	}
}

// successorLocked is the peer with the fewest people, the youngest of these;
// empty if there is none.
func (r *room) successorLocked() (name string) {
	for n, p := range r.peers {
		if best := r.peers[name]; !p.gone && (name == "" || p.People < best.People || p.People == best.People && p.Since.After(best.Since)) {
			name = n
		}
	}
	return name
}

// hear does what a peer's message asks for.
func (r *room) hear(m busMessage) {
	if m.From == r.me.Instance || m.From == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.Type {
	case "state", "handover":
		if m.Room != nil {
			r.heardLocked(m)
		}
	case "who":
		if rec, ok := r.knownLocked(m.Key); ok {
			r.tell(busMessage{Type: "record", To: m.From, Record: &rec})
		}
	case "record":
		if m.To != r.me.Instance || m.Record == nil || !m.Record.valid() {
			return
		}
		for _, c := range r.asked[m.Record.Key] {
			select {
			case c <- *m.Record:
			default: // the first answer counts
			}
		}
	case "moved":
		r.takenLocked(m.Key)
		if p, ok := r.players[m.Key]; ok && !r.moved {
			if p.conn != nil {
				p.conn.leave(elsewhere)
			}
			r.forgetLocked(p)
		}
	}
}

// takenLocked forgets what peers told of a player who plays somewhere now.
func (r *room) takenLocked(key string) {
	delete(r.away, key)
	for _, p := range r.peers {
		delete(p.players, key)
	}
}

func (r *room) heardLocked(m busMessage) {
	before, known := r.peers[m.From]
	if !known && len(r.peers) >= peersMax {
		return
	}
	p := peer{roomState: *m.Room, players: map[string]record{}, heard: time.Now(), gone: m.Type == "handover"}
	for _, rec := range m.Room.Players[:min(len(m.Room.Players), 2*playersMax)] {
		if _, here := r.players[rec.Key]; !here && rec.valid() {
			p.players[rec.Key] = rec
		}
	}
	p.Name = tidyName(p.Name)
	r.peers[m.From] = p
	if !known && !p.gone && !r.moved {
		r.introduceLocked() // it may not know us either
	}
	if p.gone && m.To == r.me.Instance && r.peopleLocked() == 0 && !r.moved {
		r.adoptLocked(p)
	}
	if !known || before.gone != p.gone || before.People != p.People || before.Name != p.Name {
		r.rosterSoonLocked()
	}
}

// adoptLocked makes a peer's room ours. Its players lie asleep where they were,
// until their pages come.
func (r *room) adoptLocked(p peer) {
	r.log.Info("takes over", "room", p.Name, "players", len(p.players))
	mine := r.players
	r.w, r.players, r.bots = newWorld(p.Seed), map[string]*player{}, nil
	r.w.sparks = nil
	for _, s := range p.Sparks[:min(len(p.Sparks), sparksMax)] {
		if len(s) == 3 && s[0] >= 0 && s[0] <= width && s[1] >= 0 && s[1] <= height {
			r.w.sparks = append(r.w.sparks, spark{vec{s[0], s[1]}, s[2] == 1})
		}
	}
	for _, other := range mine { // all asleep
		r.away[other.Key] = keptRecord{other.now(), time.Now()}
	}
	for key, rec := range p.players {
		if len(r.players) < playersMax {
			r.placeLocked(rec)
			delete(p.players, key)
		}
	}
}
