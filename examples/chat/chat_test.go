package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A visitor is a page without the page.
type visitor struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

func newChat(t *testing.T) (*room, *httptest.Server) {
	t.Helper()
	chat := newRoom(identity{Service: "default", Version: "v1", Instance: "a", Since: time.Now()}, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(newServer(chat))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeMax)
		defer cancel()
		if err := chat.goodbye(ctx); err != nil {
			t.Errorf("goodbye: %v", err)
		}
		srv.Close()
	})
	return chat, srv
}

// visit opens a socket and says hello.
func visit(t *testing.T, srv *httptest.Server, name string) *visitor {
	t.Helper()
	v := dial(t, srv)
	v.send(fromPage{Type: "hello", Name: name})
	return v
}

func dial(t *testing.T, srv *httptest.Server) *visitor {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, srv.URL+"/ws", nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	conn.SetReadLimit(8 << 20) // a welcome carries the history
	t.Cleanup(func() { conn.CloseNow() })
	return &visitor{t, conn, ctx}
}

func (v *visitor) send(m fromPage) {
	v.t.Helper()
	b, _ := json.Marshal(m)
	if err := v.conn.Write(v.ctx, websocket.MessageText, b); err != nil {
		v.t.Fatalf("send %+v: %v", m, err)
	}
}

// until reads frames up to the next one of the type.
func (v *visitor) until(kind string) toPage {
	v.t.Helper()
	for {
		f, err := v.read()
		if err != nil {
			v.t.Fatalf("waiting for %s: %v", kind, err)
		}
		if f.Type == kind {
			return f
		}
	}
}

func (v *visitor) read() (toPage, error) {
	f := toPage{identity: &identity{}}
	_, b, err := v.conn.Read(v.ctx)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
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

func TestPeopleHearEachOtherAndNewcomersTheHistory(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	ada, bob := visit(t, srv, "Ada"), visit(t, srv, "  Bob\n\x00 the  Builder ")
	if w := ada.until("welcome"); w.Instance != "a" || w.Version != "v1" || w.Service != "default" || w.Since.IsZero() {
		t.Errorf("welcome names %+v, want instance a of default/v1", w.identity)
	}
	bob.until("welcome")
	ada.send(fromPage{Type: "say", ID: "1", Text: " hello <b>Bob</b> "})
	for _, v := range []*visitor{ada, bob} {
		if m := v.until("message").Message; m.Name != "Ada" || m.Text != "hello <b>Bob</b>" || m.ID != "1" {
			t.Errorf("heard %+v, want Ada's hello", m)
		}
	}
	bob.send(fromPage{Type: "say", ID: "2", Text: "hello Ada"})
	if m := ada.until("message").Message; m.Name != "Bob the Builder" {
		t.Errorf("name is %q, want it tidied to %q", m.Name, "Bob the Builder")
	}
	eve := visit(t, srv, "")
	w := eve.until("welcome")
	if len(w.History) != 2 || w.History[0].ID != "1" || w.History[1].ID != "2" || w.Count != 3 {
		t.Errorf("newcomer's welcome has history %+v of %d people, want both messages and 3", w.History, w.Count)
	}
}

func TestARepeatedMessageIsShownOnce(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	ada, bob := visit(t, srv, "Ada"), visit(t, srv, "Bob")
	bob.until("welcome")
	for range 3 {
		ada.send(fromPage{Type: "say", ID: "same", Text: "once"})
		if m := ada.until("message").Message; m.ID != "same" {
			t.Fatalf("the sender heard %+v, want an answer to each repeat", m)
		}
	}
	ada.send(fromPage{Type: "say", ID: "next", Text: "twice"})
	if first, second := bob.until("message").Message.ID, bob.until("message").Message.ID; first != "same" || second != "next" {
		t.Errorf("the other heard %s, %s; want same, next", first, second)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	ada := visit(t, srv, "Ada")
	for name, m := range map[string]fromPage{
		"no id":    {Type: "say", Text: "x"},
		"long id":  {Type: "say", ID: strings.Repeat("x", idMax+1), Text: "x"},
		"no text":  {Type: "say", ID: "1", Text: " \n "},
		"too long": {Type: "say", ID: "1", Text: strings.Repeat("ä", textMax+1)},
	} {
		ada.send(m)
		if f := ada.until("refused"); f.Why == "" || f.ID != m.ID {
			t.Errorf("%s: refused with %+v, want its id and a reason", name, f)
		}
	}
	// What is not ours is passed over; what fits exactly passes.
	if err := ada.conn.Write(ada.ctx, websocket.MessageText, []byte(`{"type":`)); err != nil {
		t.Fatal(err)
	}
	ada.send(fromPage{Type: "dance"})
	ada.send(fromPage{Type: "say", ID: "1", Text: strings.Repeat("\x01", textMax)}) // each becomes six bytes of JSON
	if m := ada.until("message").Message; len(m.Text) != textMax {
		t.Errorf("the longest message came back with %d bytes, want %d", len(m.Text), textMax)
	}
	// More than any page sends ends the socket.
	ada.send(fromPage{Type: "say", ID: "2", Text: strings.Repeat("x", frameMax)})
	if e := ada.ending(); e.Code != websocket.StatusMessageTooBig {
		t.Errorf("a frame over the limit ended with %v, want 1009", e)
	}
}

func TestASocketSaysHelloFirst(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	v := dial(t, srv)
	v.send(fromPage{Type: "say", ID: "1", Text: "x"})
	if e := v.ending(); e.Code != websocket.StatusPolicyViolation {
		t.Errorf("ended with %v, want 1008", e)
	}
}

func TestAnotherSitesPageIsRefused(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	_, res, err := websocket.Dial(t.Context(), srv.URL+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}}})
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("dial from another origin: %v, %v; want 403", res, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRoom(identity{}, slog.New(slog.DiscardHandler))
	p := &person{queue: make(chan []byte, queueMax), leave: func(reason) {}}
	for i := range seenMax + historyMax {
		r.say(p, fmt.Sprint(i), "x")
	}
	if len(r.history) != historyMax || len(r.seen) != seenMax || len(r.order) != seenMax {
		t.Errorf("keeps %d messages and %d ids in %d, want %d and %d", len(r.history), len(r.seen), len(r.order), historyMax, seenMax)
	}
	if last := r.history[historyMax-1].ID; last != fmt.Sprint(seenMax+historyMax-1) {
		t.Errorf("the newest kept is %s", last)
	}
}

func TestASlowReaderIsDroppedAndTold(t *testing.T) {
	t.Parallel()
	r := newRoom(identity{}, slog.New(slog.DiscardHandler))
	left := make(chan reason, 1)
	slow := &person{queue: make(chan []byte, queueMax), leave: func(why reason) {
		select {
		case left <- why:
		default:
		}
	}}
	fast := &person{queue: make(chan []byte, 10*queueMax), leave: func(x reason) { t.Errorf("the fast one was dropped: %v", x) }}
	for _, p := range []*person{slow, fast} {
		if _, ok := r.join(p); !ok {
			t.Fatal("join refused")
		}
	}
	for i := range 2 * queueMax {
		r.say(fast, fmt.Sprint(i), "x")
	}
	select {
	case why := <-left:
		if why != tooSlow {
			t.Errorf("the slow one was told %v, want %v", why, tooSlow)
		}
	default:
		t.Error("the slow one was not dropped")
	}
}

func TestGoodbyeClosesEverySocketAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	chat, srv := newChat(t)
	var here []*visitor
	for i := range 20 {
		v := visit(t, srv, fmt.Sprint("v", i))
		v.until("welcome")
		here = append(here, v)
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeMax)
		defer cancel()
		done <- chat.goodbye(ctx)
	}()
	for _, v := range here {
		if e := v.ending(); e.Code != websocket.StatusGoingAway || e.Reason != "stopping" {
			t.Errorf("ended with %v, want 1001 stopping", e)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("goodbye: %v", err)
	}
	late := visit(t, srv, "late")
	if e := late.ending(); e.Code != websocket.StatusGoingAway {
		t.Errorf("a latecomer's socket ended with %v, want 1001", e)
	}
	res, err := http.Get(srv.URL + "/healthz")
	if err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health while closing: %v, %v; want 503", res, err)
	}
	res.Body.Close()
}

func TestThePageIsServed(t *testing.T) {
	t.Parallel()
	_, srv := newChat(t)
	for path, want := range map[string]string{"/": `id="log"`, "/chat.js": "use strict", "/style.css": "--accent", "/healthz": "ok"} {
		w := httptest.NewRecorder()
		srv.Config.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s: %d without %q", path, w.Code, want)
		}
	}
}
