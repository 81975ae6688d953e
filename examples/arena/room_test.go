package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A bus of one test: it carries to whoever has joined, in order, and stores
// nothing.
type medium struct {
	mu    sync.Mutex
	rooms []*room
	queue chan func()
}

func newMedium(t *testing.T) *medium {
	t.Helper()
	m := &medium{queue: make(chan func(), 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { // ends with the test
		for {
			select {
			case <-ctx.Done():
				return
			case carry := <-m.queue:
				carry()
			}
		}
	}()
	return m
}

func (m *medium) join(name string, r *room) {
	r.tellBy(func(b busMessage) {
		b.From = name
		wire, _ := json.Marshal(b) // as it goes over the bus
		m.queue <- func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, other := range m.rooms {
				var got busMessage
				json.Unmarshal(wire, &got)
				other.hear(got)
			}
			if b.sent != nil {
				close(b.sent)
			}
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rooms = append(m.rooms, r)
}

// leave is a crash: the room is not heard any more and hears nothing.
func (m *medium) leave(r *room) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rooms {
		if m.rooms[i] == r {
			m.rooms = append(m.rooms[:i:i], m.rooms[i+1:]...)
			break
		}
	}
	r.tellBy(func(busMessage) {})
}

// settle returns when all that was told so far has been heard.
func (m *medium) settle() {
	done := make(chan struct{})
	m.queue <- func() { close(done) }
	<-done
}

// save lets a room tell its state, as it does twice a second.
func save(r *room) {
	if s, ok := r.state(false); ok {
		r.mu.Lock()
		tell := r.tell
		r.mu.Unlock()
		tell(busMessage{Type: "state", Room: &s})
	}
}

func newArena(t *testing.T, name string, m *medium) (*room, *httptest.Server) {
	t.Helper()
	r := newRoom(identity{Service: "default", Version: "v1", Instance: name, Since: time.Now()}, slog.New(slog.DiscardHandler))
	if m != nil {
		m.join(name, r)
	}
	r.introduce()
	srv := httptest.NewServer(newServer(r))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.run(ctx) }()
	t.Cleanup(func() {
		if m != nil {
			m.leave(r)
		}
		bounded, done := context.WithTimeout(context.Background(), goodbyeMax)
		defer done()
		r.handOver(bounded)
		if err := r.waitForSockets(bounded); err != nil {
			t.Errorf("%s: sockets stay: %v", name, err)
		}
		cancel()
		<-ended
		srv.Close()
	})
	return r, srv
}

// A visitor is a page without the page.
type visitor struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
	toPage
}

func visit(t *testing.T, srv *httptest.Server, key, name string) *visitor {
	t.Helper()
	v := dial(t, srv)
	hello, _ := json.Marshal(fromPage{Type: "hello", Key: key, Name: name})
	v.say(string(hello))
	v.toPage = v.until("welcome")
	return v
}

func dial(t *testing.T, srv *httptest.Server) *visitor {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, srv.URL+"/ws", nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &visitor{t: t, conn: conn, ctx: ctx}
}

func (v *visitor) say(words string) {
	v.t.Helper()
	if err := v.conn.Write(v.ctx, websocket.MessageText, []byte(words)); err != nil {
		v.t.Fatalf("say %s: %v", words, err)
	}
}

// until reads frames up to the next one of the type.
func (v *visitor) until(kind string) (f toPage) {
	v.t.Helper()
	for {
		k, b, err := v.conn.Read(v.ctx)
		if err != nil {
			v.t.Fatalf("waiting for %s: %v", kind, err)
		}
		f = toPage{identity: &identity{}}
		if k == websocket.MessageText && json.Unmarshal(b, &f) == nil && f.Type == kind {
			return f
		}
	}
}

// field reads frames up to the next field.
func (v *visitor) field() []byte {
	v.t.Helper()
	for {
		k, b, err := v.conn.Read(v.ctx)
		if err != nil {
			v.t.Fatalf("waiting for a field: %v", err)
		}
		if k == websocket.MessageBinary {
			return b
		}
	}
}

// ending reads on until the socket ends and returns how.
func (v *visitor) ending() websocket.CloseError {
	v.t.Helper()
	for {
		_, _, err := v.conn.Read(v.ctx)
		if err == nil {
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) {
			v.t.Fatalf("the socket ended with %v, want a Close frame", err)
		}
		return ce
	}
}

// give puts a player somewhere with some sparks.
func give(r *room, key string, x, y float64, score int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.players[key]
	p.body.pos, p.body.score, p.body.v = vec{x, y}, score, vec{}
	r.w.sparks = nil // or it may catch one
}

// has says what a room knows of a player on its field.
func has(r *room, key string) (record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.players[key]; ok {
		return p.now(), true
	}
	return record{}, false
}

func wantAt(t *testing.T, r *room, key string, x, y float64, score int) {
	t.Helper()
	// A tick or two has passed, in which a bot may have pushed.
	if got, ok := has(r, key); !ok || got.Score < score-loseAtMost || got.Score > score+goldWorth || dist(vec{got.X, got.Y}, vec{x, y}) > 150 {
		t.Errorf("%s has the player as %+v, %v, want %d sparks at %v, %v", r.me.Instance, got, ok, score, x, y)
	}
}

func TestPeopleSeeEachOtherMove(t *testing.T) {
	t.Parallel()
	r, srv := newArena(t, "a", nil)
	ada, bob := visit(t, srv, "", "  Ada\n "), visit(t, srv, "", "")
	if ada.Back || !isKey(ada.Key) || ada.Key == bob.Key || ada.You == bob.You || ada.Instance != "a" || len(ada.Rules.Pillars) == 0 {
		t.Errorf("welcomes are %+v and %+v", ada.toPage, bob.toPage)
	}
	names := map[string]bool{}
	for len(names) < 4 { // two people, two bots
		for _, s := range bob.until("roster").Players {
			names[s.Name] = true
		}
	}
	if !names["Ada"] || !names["Somebody"] {
		t.Errorf("the roster has %v", names)
	}
	before, _ := has(r, ada.Key)
	ada.conn.Write(ada.ctx, websocket.MessageBinary, []byte{129, 0, 1}) // dashes left
	for range 5 {
		bob.field()
	}
	if after, _ := has(r, ada.Key); after.X == before.X && after.Y == before.Y {
		t.Errorf("Ada stays at %v, %v", after.X, after.Y)
	}
}

func TestReconnectingPutsThePlayerBack(t *testing.T) {
	t.Parallel()
	r, srv := newArena(t, "a", nil)
	ada := visit(t, srv, "", "Ada")
	give(r, ada.Key, 500, 400, 42)
	ada.conn.CloseNow()
	again := visit(t, srv, ada.Key, "Ada")
	if !again.Back || again.You != ada.You {
		t.Errorf("Ada comes back as %+v", again.toPage)
	}
	wantAt(t, r, ada.Key, 500, 400, 42)

	other := visit(t, srv, ada.Key, "Ada") // the same player in another window
	if got := again.ending(); got.Code != 4000 || got.Reason != "elsewhere" {
		t.Errorf("the first window is closed with %d %s", got.Code, got.Reason)
	}
	other.field()
	if s, _ := r.state(false); len(s.Players) != 1 {
		t.Errorf("%v are there, want Ada alone", s.Players)
	}
	if stranger := visit(t, srv, strings.Repeat("0", 32), "Eve"); stranger.Back {
		t.Error("a key that nobody gave is known")
	}
}

func TestADrainingRoomGoesToItsSuccessor(t *testing.T) {
	t.Parallel()
	m := newMedium(t)
	a, srvA := newArena(t, "a", m)
	b, srvB := newArena(t, "b", m)
	c, srvC := newArena(t, "c", m) // the youngest, and empty
	ada, bob := visit(t, srvA, "", "Ada"), visit(t, srvA, "", "Bob")
	cy := visit(t, srvB, "", "Cy")
	for _, r := range []*room{a, b, c} {
		save(r)
	}
	m.settle()
	give(a, ada.Key, 300, 300, 42)
	give(a, bob.Key, 900, 700, 7)
	roomOf := func(r *room) string { s, _ := r.state(false); return s.Name }
	name := roomOf(a)
	a.handOver(t.Context())
	for _, v := range []*visitor{ada, bob} {
		if got := v.ending(); got.Code != 1012 || got.Reason != "moving" {
			t.Errorf("a page is closed with %d %s, want 1012 moving", got.Code, got.Reason)
		}
	}
	if got := dial(t, srvA); true {
		got.say(`{"type":"hello"}`)
		if end := got.ending(); end.Reason != "moving" {
			t.Errorf("who still comes is closed with %s", end.Reason)
		}
	}
	if roomOf(c) != name || roomOf(b) == name {
		t.Errorf("room %s went to b (%s) or c (%s), want c", name, roomOf(b), roomOf(c))
	}
	back := visit(t, srvC, ada.Key, "Ada")
	if !back.Back || back.Room != name {
		t.Errorf("Ada comes back as %+v", back.toPage)
	}
	wantAt(t, c, ada.Key, 300, 300, 42)
	stray := visit(t, srvB, bob.Key, "Bob") // led to the other one
	if !stray.Back {
		t.Errorf("Bob comes back as %+v", stray.toPage)
	}
	wantAt(t, b, bob.Key, 900, 700, 7)
	m.settle()
	if _, twice := has(c, bob.Key); twice {
		t.Error("Bob is in two rooms")
	}
	cy.field() // plays on
}

func TestACrashCostsHalfASecond(t *testing.T) {
	t.Parallel()
	m := newMedium(t)
	a, srvA := newArena(t, "a", m)
	b, srvB := newArena(t, "b", m)
	ada := visit(t, srvA, "", "Ada")
	give(a, ada.Key, 700, 500, 30)
	save(a)
	m.settle()
	m.leave(a)
	back := visit(t, srvB, ada.Key, "Ada")
	if !back.Back {
		t.Errorf("Ada comes back as %+v", back.toPage)
	}
	wantAt(t, b, ada.Key, 700, 500, 30)

	// One that starts afterwards knows nobody, and asks.
	c, srvC := newArena(t, "c", m)
	save(b)
	m.settle()
	again := visit(t, srvC, ada.Key, "Ada")
	if !again.Back {
		t.Errorf("Ada comes to the fresh instance as %+v", again.toPage)
	}
	wantAt(t, c, ada.Key, 700, 500, 30)
	if got := back.ending(); got.Reason != "elsewhere" {
		t.Errorf("the other page is closed with %s", got.Reason)
	}
	m.settle()
	if _, twice := has(b, ada.Key); twice {
		t.Error("Ada is in two rooms")
	}
}

func TestARoomHasBounds(t *testing.T) {
	t.Parallel()
	r, srv := newArena(t, "a", nil)
	first := visit(t, srv, "", "first")
	for range playersMax - 1 {
		visit(t, srv, "", "n")
	}
	v := dial(t, srv)
	v.say(`{"type":"hello"}`)
	if got := v.ending(); got.Code != 1013 || got.Reason != "full" {
		t.Errorf("one more is closed with %d %s, want 1013 full", got.Code, got.Reason)
	}
	first.conn.Close(websocket.StatusNormalClosure, "")
	for asleep := false; !asleep; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		asleep = r.players[first.Key].conn == nil
		r.mu.Unlock()
	}
	visit(t, srv, "", "in the place of who sleeps")
	if rec, ok := r.find(t.Context(), first.Key); !ok || rec.Key != first.Key {
		t.Error("who made room is forgotten")
	}
}

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	_, srv := newArena(t, "a", nil)
	for name, first := range map[string]string{"not JSON": "hello", "something else": `{"type":"name"}`} {
		v := dial(t, srv)
		v.say(first)
		if got := v.ending(); got.Code != websocket.StatusPolicyViolation {
			t.Errorf("%s first: closed with %d, want 1008", name, got.Code)
		}
	}
	big := visit(t, srv, "", "")
	big.say(strings.Repeat("x", frameMax+1))
	if got := big.ending(); got.Code != websocket.StatusMessageTooBig {
		t.Errorf("too big a frame: closed with %d, want 1009", got.Code)
	}
	fast := visit(t, srv, "", "")
	for range 4 * steersBurst {
		if fast.conn.Write(fast.ctx, websocket.MessageBinary, []byte{0, 0, 0}) != nil {
			break
		}
	}
	if got := fast.ending(); got.Reason != "too-fast" {
		t.Errorf("too many frames: closed with %d %s, want 1008 too-fast", got.Code, got.Reason)
	}
	good := visit(t, srv, "not a key", "\x00")
	good.conn.Write(good.ctx, websocket.MessageBinary, []byte{128, 128, 255})
	good.conn.Write(good.ctx, websocket.MessageBinary, []byte("more than three"))
	good.say(`{"type":"name","name":"` + strings.Repeat("w", 500) + `"}`)
	for named := false; !named; {
		for _, s := range good.until("roster").Players {
			named = named || s.Name == strings.Repeat("w", nameMax)
		}
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"type":"handover","from":"x","to":"a","room":{"seed":"1","players":[{"key":"00000000000000000000000000000000","x":-1}],"sparks":[[1],[1e9,1,1]]}}`))
	f.Add([]byte(`{"type":"state","from":"x","room":{"seed":"1","players":[{"key":"00000000000000000000000000000000","x":1,"y":1,"score":3}]}}`))
	f.Add([]byte(`{"type":"record","from":"x","to":"a","record":null}`))
	f.Add([]byte(`{"type":"moved","from":"x","key":"?"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m busMessage
		if json.Unmarshal(b, &m) != nil {
			return
		}
		r := newRoom(identity{Instance: "a"}, slog.New(slog.DiscardHandler))
		r.hear(m)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.w.step()
		r.w.frame()
		if len(r.players) > playersMax || len(r.w.sparks) > sparksMax {
			t.Errorf("%d players, %d sparks", len(r.players), len(r.w.sparks))
		}
	})
}

func TestThePageUsesNoNetworkButItsOwn(t *testing.T) {
	t.Parallel()
	r, srv := newArena(t, "a", nil)
	for path, want := range map[string]string{"/": "text/html", "/arena.js": "text/javascript", "/style.css": "text/css", "/readyz": "text/plain"} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(got, want) {
			t.Errorf("GET %s = %d, %s, want %s", path, resp.StatusCode, got, want)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); path != "/readyz" && !strings.HasPrefix(csp, "default-src 'self'") {
			t.Errorf("GET %s has the policy %q", path, csp)
		}
	}
	r.handOver(t.Context())
	if resp, err := http.Get(srv.URL + "/readyz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after handing over /readyz = %v, %v, want 503", resp, err)
	}
}
