package main

import (
	"bytes"
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

// A visitor is a page without the page, and without Yjs: updates are bytes.
type visitor struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

func newBoard(t *testing.T) (*room, *httptest.Server) {
	t.Helper()
	board := newRoom(identity{Service: "default", Version: "v1", Instance: "a"}, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(newServer(board))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeMax)
		defer cancel()
		if err := board.goodbye(ctx); err != nil {
			t.Errorf("goodbye: %v", err)
		}
		srv.Close()
	})
	return board, srv
}

func visit(t *testing.T, srv *httptest.Server, n int) *visitor {
	t.Helper()
	v := dial(t, srv)
	v.say(fmt.Sprintf(`{"type":"here","me":"%016x","name":"v%d","hue":3}`, n, n))
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
	conn.SetReadLimit(2 * logMax)
	t.Cleanup(func() { conn.CloseNow() })
	return &visitor{t, conn, ctx}
}

func (v *visitor) say(words string) {
	v.t.Helper()
	if err := v.conn.Write(v.ctx, websocket.MessageText, []byte(words)); err != nil {
		v.t.Fatalf("say %s: %v", words, err)
	}
}

func (v *visitor) send(kind byte, update string) {
	v.t.Helper()
	if err := v.conn.Write(v.ctx, websocket.MessageBinary, append([]byte{kind}, update...)); err != nil {
		v.t.Fatalf("send %c: %v", kind, err)
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

// bytes reads frames up to the next binary one of the kind.
func (v *visitor) bytes(kind byte) string {
	v.t.Helper()
	for {
		k, b, err := v.conn.Read(v.ctx)
		if err != nil {
			v.t.Fatalf("waiting for %c: %v", kind, err)
		}
		if k == websocket.MessageBinary && b[0] == kind {
			return string(b[1:])
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

func TestEditsReachOthersAndNewcomers(t *testing.T) {
	t.Parallel()
	_, srv := newBoard(t)
	ada, bob := visit(t, srv, 1), visit(t, srv, 2)
	if w := ada.until("welcome"); w.Instance != "a" || w.People < 1 {
		t.Errorf("welcome is %+v of %+v", w, w.identity)
	}
	bob.until("welcome")
	ada.send(frameUpdate, "first")
	ada.until("kept")
	if got := bob.bytes(frameUpdate); got != "first" {
		t.Errorf("Bob hears %q", got)
	}
	bob.send(frameUpdate, "first") // brought back by a page that cannot know
	bob.until("kept")
	bob.send(frameUpdate, "second")
	if got := ada.bytes(frameUpdate); got != "second" {
		t.Errorf("Ada hears %q, want the second alone", got)
	}
	eve := visit(t, srv, 3)
	if w := eve.until("welcome"); w.People != 3 || len(w.Here) != 3 {
		t.Errorf("a newcomer is welcomed with %d people, %v", w.People, w.Here)
	}
	if got := eve.bytes(frameLog); got != "\x05first\x06second" {
		t.Errorf("a newcomer gets %q", got)
	}
	ada.conn.Close(websocket.StatusNormalClosure, "")
	if g := eve.until("gone"); g.Me != fmt.Sprintf("%016x", 1) || g.People != 2 {
		t.Errorf("Ada's leaving is told as %+v", g)
	}
}

func TestAPageFoldsAndAnotherLooksAtIt(t *testing.T) {
	t.Parallel()
	board, srv := newBoard(t)
	told := make(chan busMessage, 10*foldEntries)
	board.tellBy(func(m busMessage) { told <- m })
	ada := visit(t, srv, 1)
	ada.until("welcome")
	board.mu.Lock()
	for i := range foldEntries {
		board.doc.add([]byte(fmt.Sprint(i)))
	}
	board.mu.Unlock()
	ada.send(frameFold, "nobody asked for this")
	ada.send(frameUpdate, "the last straw")
	ada.until("fold")
	bob := visit(t, srv, 2)
	bob.until("welcome")
	bob.send(frameFold, "Bob was not asked")
	bob.send(frameUpdate, "meanwhile")
	bob.until("kept")
	ada.send(frameFold, "all of it")
	if got := bob.bytes(frameFold); got != "all of it" {
		t.Errorf("the witness is shown %q", got)
	}
	bob.send(frameUpdate, "what the fold has not")
	bob.until("kept")
	eve := visit(t, srv, 3)
	if got := eve.bytes(frameLog); got != "\x09meanwhile\x09all of it\x15what the fold has not" {
		t.Errorf("a newcomer then gets %q", got)
	}
	for m := range told {
		if m.Type == "fold" {
			if string(m.Update) != "all of it" || len(m.IDs) != foldEntries+1 {
				t.Errorf("peers are told %q for %d updates", m.Update, len(m.IDs))
			}
			break
		}
	}
}

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	_, srv := newBoard(t)
	for name, first := range map[string]string{"not JSON": "hello", "something else": `{"type":"say"}`, "too long": `{"type":"here","name":"` + strings.Repeat("n", wordsMax) + `"}`} {
		v := dial(t, srv)
		v.say(first)
		if got := v.ending(); got.Code != websocket.StatusPolicyViolation {
			t.Errorf("%s first: closed with %d %s, want 1008", name, got.Code, got.Reason)
		}
	}
	big := visit(t, srv, 1)
	big.until("welcome")
	big.send(frameUpdate, strings.Repeat("x", frameMax))
	if got := big.ending(); got.Code != websocket.StatusMessageTooBig {
		t.Errorf("too big a frame: closed with %d %s, want 1009", got.Code, got.Reason)
	}
	fast := visit(t, srv, 2)
	fast.until("welcome")
	for range 4 * framesBurst {
		if fast.conn.Write(fast.ctx, websocket.MessageBinary, []byte("?")) != nil {
			break
		}
	}
	if got := fast.ending(); got.Code != websocket.StatusPolicyViolation || got.Reason != "too-fast" {
		t.Errorf("too many frames: closed with %d %s, want 1008 too-fast", got.Code, got.Reason)
	}
	good := visit(t, srv, 3)
	good.until("welcome")
	good.send('?', "unknown")
	good.send(frameUpdate, "") // nothing
	good.say(`{"type":"here","me":"0000000000000003","hue":-1}`)
	good.say(`{"type":"here","me":"ffffffffffffffff","name":"somebody else"}`)
	good.send(frameUpdate, "still here")
	good.until("kept")
}

func TestAFullDocumentSaysSo(t *testing.T) {
	t.Parallel()
	board, srv := newBoard(t)
	board.mu.Lock()
	for i := range logMax / updateMax {
		board.doc.add(bytes.Repeat([]byte{byte(i)}, updateMax))
	}
	board.mu.Unlock()
	v := visit(t, srv, 1)
	v.until("welcome")
	v.send(frameUpdate, "one more")
	if got := v.ending(); got.Code != 1013 || got.Reason != "document-full" {
		t.Errorf("closed with %d %s, want 1013 document-full", got.Code, got.Reason)
	}
}

func TestGoodbye(t *testing.T) {
	t.Parallel()
	board, srv := newBoard(t)
	board.alone()
	ada := visit(t, srv, 1)
	ada.until("welcome")
	done := make(chan error, 1)
	go func() { done <- board.goodbye(ada.ctx) }()
	if got := ada.ending(); got.Code != 1001 || got.Reason != "stopping" {
		t.Errorf("closed with %d %s, want 1001 stopping", got.Code, got.Reason)
	}
	if err := <-done; err != nil {
		t.Errorf("goodbye: %v", err)
	}
	if got := visit(t, srv, 2).ending(); got.Code != 1001 {
		t.Errorf("who comes later is closed with %d, want 1001", got.Code)
	}
	resp, err := http.Get(srv.URL + "/readyz")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz = %v, %v, want 503", resp, err)
	}
}

func TestThePageUsesNoNetworkButItsOwn(t *testing.T) {
	t.Parallel()
	_, srv := newBoard(t)
	for path, want := range map[string]string{"/": "text/html", "/board.js": "text/javascript", "/style.css": "text/css", "/vendor/yjs.js": "text/javascript"} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(got, want) {
			t.Errorf("GET %s = %d, %s, want %s", path, resp.StatusCode, got, want)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'") {
			t.Errorf("GET %s has the policy %q", path, csp)
		}
	}
}

func TestNamesAreTidied(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"  Ada\n\x00 L. ": "Ada L.", "": "Somebody", "\xff\xfe": "Somebody", strings.Repeat("ä", 50): strings.Repeat("ä", nameMax)} {
		if got := tidyName(in); got != want {
			t.Errorf("tidyName(%q) = %q, want %q", in, got, want)
		}
	}
}
