package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	frameMax     = 1 << 10         // bytes of what a page says; steering takes three
	writeTimeout = 5 * time.Second // a page that takes nothing for so long is gone
	helloTimeout = 5 * time.Second
	silenceMax   = 15 * time.Second // a page steers at least once a second; one that does not is gone
	idleAfter    = 3 * time.Second  // and until then its player stops

	steersPerSecond = 40 // a page sends at most 30
	steersBurst     = 120
)

// serveSocket is one person's stay: it returns when the socket has ended.
func (r *room) serveSocket(w http.ResponseWriter, req *http.Request) {
	// Accept compares Origin with Host, so that another site's page cannot play
	// in a visitor's name. It works because the front end leaves Host as the
	// browser sent it.
	conn, err := websocket.Accept(w, req, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(frameMax)

	// The request's own context ends with its handler; leaving must not cut
	// the read below, which also waits for the answer to our Close frame.
	ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
	defer cancel()

	var hello fromPage
	kind, first, err := read(ctx, conn, helloTimeout)
	if err != nil || kind != websocket.MessageText || json.Unmarshal(first, &hello) != nil || hello.Type != "hello" {
		conn.Close(websocket.StatusPolicyViolation, "say hello first")
		return
	}
	left := make(chan reason, 1) // the first reason counts
	p := &person{
		texts: make(chan []byte, textsMax),
		field: make(chan []byte, 1),
		leave: func(why reason) {
			select {
			case left <- why:
			default:
			}
		},
	}
	who, why, ok := r.join(ctx, p, hello.Key, hello.Name)
	if !ok {
		conn.Close(websocket.StatusCode(why.code), why.text)
		return
	}
	defer r.part(p, who)

	written := make(chan struct{})
	go func() { // ends when the socket does or when p has to leave
		defer close(written)
		defer cancel()
		if why, ok := write(ctx, conn, p, left); ok {
			conn.Close(websocket.StatusCode(why.code), why.text) // bounded by the library
			r.log.Info("closed", "code", why.code, "reason", why.text)
		}
	}()
	defer func() { <-written }()
	defer cancel()

	steers := allowance{left: steersBurst, at: time.Now()}
	for {
		kind, b, err := read(ctx, conn, silenceMax)
		if err != nil {
			return
		}
		if !steers.take(time.Now()) {
			p.leave(tooFast) // and read on, for the answer to our Close frame
			continue
		}
		var m fromPage
		switch { // what is not ours is passed over
		case kind == websocket.MessageBinary && len(b) == 3:
			r.steer(p, who, vec{float64(int8(b[0])) / 127, float64(int8(b[1])) / 127}, b[2]&1 != 0)
		case kind == websocket.MessageText && json.Unmarshal(b, &m) == nil && m.Type == "name":
			r.rename(who, m.Name)
		}
	}
}

func read(ctx context.Context, conn *websocket.Conn, limit time.Duration) (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return conn.Read(ctx)
}

// write sends words and fields until ctx ends, a write fails, or there is a
// reason to leave, which it returns.
func write(ctx context.Context, conn *websocket.Conn, p *person, left <-chan reason) (reason, bool) {
	for {
		kind := websocket.MessageText
		var next []byte
		select { // words first: they say who is on the field
		case why := <-left:
			return why, true
		case next = <-p.texts:
		default:
			select {
			case why := <-left:
				return why, true
			case <-ctx.Done():
				return reason{}, false
			case next = <-p.texts:
			case next = <-p.field:
				kind = websocket.MessageBinary
			}
		}
		bounded, cancel := context.WithTimeout(ctx, writeTimeout)
		err := conn.Write(bounded, kind, next)
		cancel()
		if err != nil {
			return reason{}, false
		}
	}
}

// An allowance is how often a page may still speak.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) take(now time.Time) bool {
	a.left = min(steersBurst, a.left+now.Sub(a.at).Seconds()*steersPerSecond)
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
