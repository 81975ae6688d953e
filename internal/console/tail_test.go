package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// follow opens a page's socket and hands out what it is sent.
func (w *world) follow(path string) (next func() fresh, conn *websocket.Conn) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.url, "http")+Prefix+"live", &websocket.DialOptions{HTTPClient: w.browser, HTTPHeader: http.Header{"Origin": {w.url}}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(8 << 20)
	if err := conn.Write(ctx, websocket.MessageText, []byte(Prefix+path)); err != nil {
		w.t.Fatal(err)
	}
	return func() fresh {
		w.t.Helper()
		_, text, err := conn.Read(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		var news fresh
		if err := json.Unmarshal(text, &news); err != nil {
			w.t.Fatal(err)
		}
		return news
	}, conn
}

var lineNumber = regexp.MustCompile(`line (\d+)<`)

// Who follows is sent each line that the filters leave, or is told how many were
// skipped; and goes on where the connection was cut.
func TestFollowingLosesNothingInSilence(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	k := app.Key{App: "shop", Service: "default", Version: "v1"}
	path := filepath.Join(w.dir, "aef-1.log")
	file, err := logs.Create(path, logs.Limit{Bytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := logs.Own(path, k); err != nil {
		t.Fatal(err)
	}
	wrote := 0
	write := func(n int) {
		for range n {
			wrote++
			for _, text := range []string{fmt.Sprintf("line %d", wrote), "noise"} {
				if err := file.Append(logs.Line{Time: time.Now(), Stream: logs.Out, Text: text}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	write(3)
	next, conn := w.follow("logs?follow=on&q=line&service=default&level=info")
	seen, skipped, html := 0, 0, ""
	read := func(until int) {
		t.Helper()
		for seen+skipped < until {
			news := next().Tail
			if news == nil {
				t.Fatal("something else than lines came")
			}
			html = news.HTML
			skipped += news.Skipped
			for _, m := range lineNumber.FindAllStringSubmatch(news.HTML, -1) {
				seen++
				if m[1] != fmt.Sprint(seen+skipped) {
					t.Fatalf("line %s came as number %d, after %d that were skipped", m[1], seen+skipped, skipped)
				}
			}
			if strings.Contains(news.HTML, "noise") {
				t.Fatal("a line came that the filter leaves out")
			}
		}
	}
	read(3)
	write(5000) // several files
	read(5003)
	if skipped == 0 || seen <= 3 {
		t.Errorf("%d lines came and %d were skipped, of many at once", seen, skipped)
	}
	write(1)
	read(5004)
	// It is cut, and asks for what came since.
	at := strings.Split(strings.Split(html, `datetime="`)[1], `"`)[0]
	conn.CloseNow()
	write(2)
	next, _ = w.follow("logs?follow=on&q=line&after=" + at)
	if news := next().Tail; !news.First || !strings.Contains(news.HTML, "line 5004<") || !strings.Contains(news.HTML, "line 5005<") || !strings.Contains(news.HTML, "line 5006<") {
		t.Errorf("after a cut: %+v", news)
	}
}

// Following ends with the session.
func TestFollowingEndsWithTheSession(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	next, conn := w.follow("logs?follow=on")
	if news := next(); news.Tail == nil || !news.Tail.First {
		t.Errorf("%+v", news)
	}
	w.post("sign-out", nil, nil)
	_, _, err := conn.Read(t.Context())
	if websocket.CloseStatus(err) != codeSignedOut {
		t.Errorf("%v", err)
	}
}
