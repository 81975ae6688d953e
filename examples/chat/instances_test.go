package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// A wire stands for the bus: all rooms on it get all envelopes in one order, as
// they would come over the network. One that is cut off publishes nothing and
// gets nothing.
type wire struct {
	rooms []*room
	away  map[*room]bool
}

func (w *wire) join(name string) *room {
	r := newRoom(identity{Instance: name}, slog.New(slog.DiscardHandler))
	r.publish = func(e envelope) (int64, error) {
		if w.away[r] {
			return 0, errors.New("the bus is away")
		}
		text, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		heard := int64(0)
		for _, other := range slices.Clone(w.rooms) {
			if w.away[other] {
				continue
			}
			var copy envelope
			if err := json.Unmarshal(text, &copy); err != nil {
				return heard, err
			}
			heard++
			other.heard(copy)
		}
		return heard, nil
	}
	w.rooms = append(w.rooms, r)
	r.exchange() // as when it has subscribed
	return r
}

// guest is somebody in a room who only listens.
func guest(t *testing.T, r *room, name string) *person {
	t.Helper()
	p := &person{name: name, queue: make(chan []byte, queueMax), leave: func(why reason) { t.Errorf("%s had to leave: %v", name, why) }}
	if why, ok := r.join(p); !ok {
		t.Fatalf("%s was refused: %v", name, why)
	}
	return p
}

// shown are the texts of the messages that were sent to a page, in that order.
func shown(t *testing.T, p *person) (texts []string) {
	t.Helper()
	for {
		select {
		case b := <-p.queue:
			f := toPage{identity: &identity{}}
			if err := json.Unmarshal(b, &f); err != nil {
				t.Fatal(err)
			}
			if f.Type == "message" {
				texts = append(texts, f.Message.Text)
			}
		default:
			return texts
		}
	}
}

func wantShown(t *testing.T, who string, p *person, want ...string) {
	t.Helper()
	if got := shown(t, p); !slices.Equal(got, want) {
		t.Errorf("%s saw %q, want %q", who, got, want)
	}
}

func TestInstancesHearEachOther(t *testing.T) {
	t.Parallel()
	w := &wire{away: map[*room]bool{}}
	a, b := w.join("a"), w.join("b")
	ada, bob := guest(t, a, "Ada"), guest(t, b, "Bob")
	a.say(ada, "1", "hello")
	b.say(bob, "2", "hello yourself")
	// A page that lost its instance says again what it said there.
	b.say(bob, "1", "hello")
	wantShown(t, "Ada", ada, "hello", "hello yourself")
	wantShown(t, "Bob", bob, "hello", "hello yourself", "hello")

	a.beat()
	b.beat()
	names, count := a.everywhereLocked()
	if count != 2 || !slices.Equal(names, []string{"Ada", "Bob"}) {
		t.Errorf("a counts %d people, %q", count, names)
	}
	b.elsewhere["a"] = presence{Count: 1, at: time.Now().Add(-2 * goneAfter)}
	b.beat()
	if _, count := b.everywhereLocked(); count != 1 {
		t.Errorf("b counts %d people, one of them on an instance that is gone", count)
	}
}

func TestANewInstanceHearsWhatWasSaid(t *testing.T) {
	t.Parallel()
	w := &wire{away: map[*room]bool{}}
	a := w.join("a")
	ada := guest(t, a, "Ada")
	for i := range 2 * historyMax {
		a.say(ada, fmt.Sprint(i), "x")
	}
	b := w.join("b")
	if len(b.history) != historyMax || b.history[historyMax-1].ID != a.history[historyMax-1].ID {
		t.Errorf("the newcomer knows %d messages, want the last %d", len(b.history), historyMax)
	}
	for _, r := range []*room{a, b} {
		select {
		case <-r.settled:
		default:
			t.Errorf("%s does not know that it knows what there is to know", r.me.Instance)
		}
	}
}

// While the bus is away people hear who is on their own instance. When it is
// back, all hear all, once.
func TestTheBusGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	w := &wire{away: map[*room]bool{}}
	a, b, c := w.join("a"), w.join("b"), w.join("c")
	ada, bob, cat := guest(t, a, "Ada"), guest(t, b, "Bob"), guest(t, c, "Cat")
	w.away[a] = true
	a.say(ada, "1", "alone")
	b.say(bob, "2", "together")
	wantShown(t, "Ada", ada, "alone")
	wantShown(t, "Bob", bob, "together")
	w.away[a] = false
	a.beat() // which owes something; a new subscription does the same
	wantShown(t, "Ada", ada, "together")
	wantShown(t, "Bob", bob, "alone")
	wantShown(t, "Cat", cat, "together", "alone")
	for _, r := range []*room{a, b, c} {
		if len(r.history) != 2 || r.history[0].ID != "1" {
			t.Errorf("%s remembers %+v, want both in the order they were said in", r.me.Instance, r.history)
		}
	}
}
