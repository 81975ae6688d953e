package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A medium is a bus of one room: it carries and stores nothing, in order, and
// loses what it is told to lose.
type medium struct {
	rooms map[string]*room
	queue []busMessage
	loses func() bool
}

func (m *medium) join(name string) *room {
	r := newRoom(identity{Instance: name}, slog.New(slog.DiscardHandler))
	r.tellBy(func(b busMessage) {
		b.From = name
		m.queue = append(m.queue, b)
	})
	m.rooms[name] = r
	return r
}

// settle carries until nobody says any more.
func (m *medium) settle(t *testing.T) {
	t.Helper()
	for n := 0; len(m.queue) > 0; n++ {
		if n > 10_000 {
			t.Fatal("the peers never stop talking")
		}
		wire, _ := json.Marshal(m.queue[0]) // as it goes over the bus
		m.queue = m.queue[1:]
		for _, r := range m.rooms {
			var b busMessage
			json.Unmarshal(wire, &b)
			if b.From != r.me.Instance && !m.loses() {
				r.hear(b)
			}
		}
	}
}

// digests lets every room say its digest, as it does every few seconds.
func (m *medium) digests() {
	for name, r := range m.rooms {
		d := r.digest()
		d.From = name
		m.queue = append(m.queue, d)
	}
}

// However much the bus loses, rooms have the same document once it works, and
// so has one that starts then.
func TestPeersAgreeAfterALossyBus(t *testing.T) {
	t.Parallel()
	for range 50 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 1))
		lossy := true
		m := &medium{rooms: map[string]*room{}, loses: func() bool { return lossy && rng.IntN(3) == 0 }}
		rooms := []*room{m.join("a"), m.join("b"), m.join("c")}
		total := 10 + rng.IntN(60)
		for i := range total {
			switch r := rooms[rng.IntN(3)]; rng.IntN(12) {
			case 0:
				m.digests()
			case 1:
				r.mu.Lock() // a page folds what the room has
				covers := r.doc.ids()
				update := []byte(fmt.Sprintf("fold %d", i))
				r.foldLocked(nil, update, covers)
				r.tell(busMessage{Type: "fold", Update: update, IDs: names(covers)})
				r.mu.Unlock()
			default:
				update := []byte(fmt.Sprintf("update %d", i))
				r.edit(nil, update)
				r.tell(busMessage{Type: "update", Update: update})
			}
			m.settle(t)
		}
		lossy = false
		m.digests()
		m.settle(t)
		fresh := m.join("d")
		if fresh.ready() {
			t.Fatal("a fresh instance is ready before it has heard anybody")
		}
		m.digests()
		m.settle(t)
		for name, r := range m.rooms {
			if got, want := r.digest().Digest, rooms[0].digest().Digest; got != want {
				t.Errorf("seed %d: %s has %s, want %s", seed, name, got, want)
			}
		}
		if !fresh.ready() {
			t.Errorf("seed %d: the fresh instance is not ready", seed)
		}
	}
}

// Peers send what no page would, if somebody breaks into one: nothing of it may
// hurt a room.
func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"type":"fold","from":"x","update":"AAAA","ids":["00","zz"]}`))
	f.Add([]byte(`{"type":"want","from":"x","to":"a","ids":["00000000000000000000000000000000"]}`))
	f.Add([]byte(`{"type":"here","from":"x","here":{"me":"0123456789abcdef","name":"n","hue":400}}`))
	f.Add([]byte(`{"type":"ids","from":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m busMessage
		if json.Unmarshal(b, &m) != nil {
			return
		}
		r := newRoom(identity{Instance: "a"}, slog.New(slog.DiscardHandler))
		r.edit(nil, []byte("one"))
		r.hear(m)
		if r.doc.bytes > logMax || len(r.doc.entries) > entriesMax {
			t.Errorf("%d bytes in %d updates", r.doc.bytes, len(r.doc.entries))
		}
	})
}

func TestPresenceFollowsSomebodyWhoMoves(t *testing.T) {
	t.Parallel()
	r := newRoom(identity{Instance: "a"}, slog.New(slog.DiscardHandler))
	who := presence{Me: strings.Repeat("0a", 8), Name: "Ada"}
	r.hear(busMessage{Type: "here", From: "b", Here: &who})
	r.hear(busMessage{Type: "here", From: "c", Here: &who})
	r.hear(busMessage{Type: "gone", From: "b", Me: who.Me}) // late
	if len(r.present) != 1 {
		t.Errorf("Ada moved to c, and %d people are present", len(r.present))
	}
	r.hear(busMessage{Type: "gone", From: "c", Me: who.Me})
	if len(r.present) != 0 {
		t.Error("Ada is still present")
	}
	if r.hear(busMessage{Type: "leaving", From: "b"}); len(r.peers) != 1 {
		t.Errorf("b left, and %d peers are known, want 1", len(r.peers))
	}
}

// The people and the peers of an instance that was killed are forgotten.
func TestTheUnheardOfAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(identity{Instance: "a"}, slog.New(slog.DiscardHandler))
		r.hear(busMessage{Type: "here", From: "b", Here: &presence{Me: strings.Repeat("0a", 8)}})
		time.Sleep(peerMax)
		if r.forget(); len(r.peers) != 1 || len(r.present) != 1 {
			t.Errorf("after %v: %d peers, %d people, want one of each", peerMax, len(r.peers), len(r.present))
		}
		time.Sleep(hereMax)
		if r.forget(); len(r.peers) != 0 || len(r.present) != 0 {
			t.Errorf("later: %d peers, %d people, want none", len(r.peers), len(r.present))
		}
	})
}

func TestWithoutABusAnInstanceIsAlone(t *testing.T) {
	t.Parallel()
	r := newRoom(identity{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runPeers(ctx, r, "", ""); err != nil || !r.ready() {
		t.Errorf("without a bus: %v, ready %v", err, r.ready())
	}
	if err := runPeers(ctx, r, "http://nonsense", ""); err == nil {
		t.Error("a URL that says nothing is no error")
	}
}
