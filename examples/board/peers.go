package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// How instances agree
//
// The bus carries messages to whoever listens at that moment and stores
// nothing, so anything said on it may be missed: by an instance that starts, or
// while the bus is away. Therefore each instance says a digest of its log every
// digestEvery, and whenever it has subscribed. Who hears another digest than
// its own answers with the names of what it has; who gets these sends what the
// other lacks and asks for what it lacks itself. Updates said twice are known
// by their names.

const (
	digestEvery = 3 * time.Second
	peerMax     = 3*digestEvery + time.Second // a peer unheard of for so long has ended
	peersMax    = 50                          // App Engine's default bound is 20 instances
	tellMax     = 2 * entriesMax              // messages waiting for the bus, so a whole log too; what does not fit is made good by a digest
	retryEvery  = 500 * time.Millisecond      // to reach a bus that is away
	busTimeout  = 5 * time.Second             // for one message
)

// busMessage is what one instance says to the others. Type tells which fields
// count.
type busMessage struct {
	Type string `json:"type"` // digest, ids, want, done, update, fold, here, gone or leaving
	From string `json:"from"`
	To   string `json:"to,omitempty"` // ids, want, done: for this instance alone

	Digest string    `json:"digest,omitempty"` // digest
	Fresh  bool      `json:"fresh,omitempty"`  // digest: says so until somebody has answered
	IDs    []string  `json:"ids,omitempty"`    // ids: what From has. want: what it lacks. fold: what Update covers
	Update []byte    `json:"update,omitempty"` // update, fold
	Here   *presence `json:"here,omitempty"`   // here
	Me     string    `json:"me,omitempty"`     // gone
}

// runPeers keeps a room and its peers alike until ctx ends. Without a URL there
// are none. While the bus is away, it tries again; the only error is a URL that
// says nothing.
func runPeers(ctx context.Context, r *room, url, prefix string) error {
	if url == "" {
		r.log.Warn("REDIS_URL is not set: people on other instances will not see what is written here")
		r.alone()
		<-ctx.Done()
		return nil
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	opts.MaxRetries = -1 // an old message is worth less than the next digest
	client := redis.NewClient(opts)
	defer client.Close()
	channel := prefix + "board"

	out := make(chan busMessage, tellMax)
	r.tellBy(func(m busMessage) {
		select {
		case out <- m:
		default:
		}
	})
	said := make(chan struct{})
	go func() { // ends with ctx
		defer close(said)
		say(ctx, r, client, channel, out)
	}()
	defer func() { <-said }()

	// A bus that cannot be reached must not keep people out.
	impatient := time.AfterFunc(busTimeout, r.alone)
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

// say publishes what is told, and a digest now and then.
func say(ctx context.Context, r *room, client *redis.Client, channel string, out <-chan busMessage) {
	publish := func(m busMessage) {
		m.From = r.me.Instance
		b, err := json.Marshal(m)
		if err != nil {
			panic(err) // strings and bytes always marshal
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), busTimeout)
		defer cancel()
		if err := client.Publish(bounded, channel, b).Err(); err != nil {
			r.log.Warn("the bus is away", "err", err)
		}
	}
	digests := time.NewTicker(digestEvery)
	defer digests.Stop()
	for {
		select {
		case <-ctx.Done():
			for len(out) > 0 { // what the last people wrote
				publish(<-out)
			}
			publish(busMessage{Type: "leaving"})
			return
		case m := <-out:
			publish(m)
		case <-digests.C:
			r.forget()
			publish(r.digest())
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
		switch got := got.(type) {
		case *redis.Subscription: // also after a reconnection, with what was missed
			r.tell(r.digest())
			time.AfterFunc(aloneAfter, r.alone)
		case *redis.Message:
			var m busMessage
			if json.Unmarshal([]byte(got.Payload), &m) == nil {
				r.hear(m)
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("the bus is away", "err", err)
			}
			return
		}
	}
}

// tellBy sets how the room tells its peers.
func (r *room) tellBy(tell func(busMessage)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell = tell
}

// alone ends the waiting for peers.
func (r *room) alone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = true
}

func (r *room) digest() busMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return busMessage{Type: "digest", Digest: r.digestLocked(), Fresh: !r.heard}
}

func (r *room) digestLocked() string {
	d := r.doc.digest()
	return hex.EncodeToString(d[:])
}

// hear does what a peer's message asks for.
func (r *room) hear(m busMessage) {
	if m.From == r.me.Instance || m.To != "" && m.To != r.me.Instance {
		return
	}
	if m.Type == "update" {
		if len(m.Update) <= updateMax {
			r.edit(nil, m.Update)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peerLocked(m.From, m.Type == "leaving")
	switch m.Type {
	case "digest":
		if m.Fresh || m.Digest != r.digestLocked() {
			r.tell(busMessage{Type: "ids", To: m.From, IDs: names(r.doc.ids())})
		}
	case "ids":
		they, we := r.doc.missing(ids(m.IDs))
		for _, update := range they {
			r.tell(busMessage{Type: "update", Update: update})
		}
		if len(we) > 0 {
			r.tell(busMessage{Type: "want", To: m.From, IDs: names(we)})
		} else {
			r.heard = true
		}
	case "want":
		wanted := map[id]bool{}
		for _, name := range ids(m.IDs) {
			wanted[name] = true
		}
		for _, e := range r.doc.entries {
			if wanted[e.id] {
				r.tell(busMessage{Type: "update", Update: e.update})
			}
		}
		r.tell(busMessage{Type: "done", To: m.From}) // behind the updates
	case "done":
		r.heard = true
	case "fold":
		if len(m.Update) <= updateMax {
			r.foldLocked(nil, m.Update, ids(m.IDs))
		}
	case "here":
		if m.Here != nil && m.Here.valid() {
			r.seenLocked(nil, m.From, *m.Here)
		}
	case "gone":
		if r.present[m.Me].on == m.From { // not somebody who is elsewhere by now
			r.goneLocked(m.Me)
		}
	}
}

// peerLocked counts who else has the document.
func (r *room) peerLocked(name string, left bool) {
	_, known := r.peers[name]
	switch {
	case left && known:
		delete(r.peers, name)
	case left || !known && (name == "" || len(r.peers) >= peersMax):
		return
	default:
		r.peers[name] = time.Now()
	}
	if left || !known {
		r.tellPeersLocked()
	}
}

func names(all []id) []string {
	hexed := make([]string, len(all))
	for i, name := range all {
		hexed[i] = hex.EncodeToString(name[:])
	}
	return hexed
}

// ids are the names that are names, at most as many as a log has.
func ids(hexed []string) (all []id) {
	for _, s := range hexed[:min(len(hexed), entriesMax)] {
		if b, err := hex.DecodeString(s); err == nil && len(b) == len(id{}) {
			all = append(all, id(b))
		}
	}
	return all
}
