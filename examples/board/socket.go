package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	frameMax     = updateMax + 1
	wordsMax     = 2 << 10          // bytes of a frame that is no update
	writeTimeout = 15 * time.Second // a reader that takes nothing for so long is gone; the document may be logMax long
	tickEvery    = 10 * time.Second // lets a page notice a connection that died silently
	helloTimeout = 10 * time.Second // a page says who it is at once

	// A page sends what is typed every 60 ms and its cursor every 80 ms, and
	// now and then a whole document.
	framesPerSecond = 40
	framesBurst     = 200
	bytesPerSecond  = 64 << 10
	bytesBurst      = 2 * updateMax
)

// fromPage is what a page says to the server in words; it begins with one.
type fromPage struct {
	Type string `json:"type"` // here
	presence
}

// serveSocket is one person's stay: it returns when the socket has ended.
func (r *room) serveSocket(w http.ResponseWriter, req *http.Request) {
	// Accept compares Origin with Host, so that another site's page cannot
	// write in a visitor's name. It works because the front end leaves Host as
	// the browser sent it.
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

	hello, done := context.WithTimeout(ctx, helloTimeout)
	kind, first, err := conn.Read(hello)
	done()
	who, ok := words(first)
	if err != nil || kind != websocket.MessageText || !ok {
		conn.Close(websocket.StatusPolicyViolation, "say hello first")
		return
	}
	left := make(chan reason, 1) // the first reason counts
	p := &person{
		queue: make(chan []byte, queueMax),
		leave: func(why reason) {
			select {
			case left <- why:
			default:
			}
		},
	}
	if why, ok := r.join(p, who); !ok {
		conn.Close(websocket.StatusCode(why.code), why.text)
		return
	}
	defer r.part(p)

	written := make(chan struct{})
	go func() { // ends when the socket does or when p has to leave
		defer close(written)
		defer cancel()
		if why, ok := write(ctx, conn, p.queue, left); ok {
			conn.Close(websocket.StatusCode(why.code), why.text) // bounded by the library
			r.log.Info("closed", "code", why.code, "reason", why.text)
		}
	}()
	defer func() { <-written }()
	defer cancel()

	frames, bytes := newAllowance(framesPerSecond, framesBurst), newAllowance(bytesPerSecond, bytesBurst)
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if now := time.Now(); !frames.take(now, 1) || !bytes.take(now, len(data)) {
			p.leave(tooFast) // and read on, for the answer to our Close frame
			continue
		}
		switch { // what is not ours is passed over
		case kind == websocket.MessageText:
			if who, ok := words(data); ok {
				r.here(p, who)
			}
		case len(data) > 1 && data[0] == frameUpdate:
			r.edit(p, data[1:])
		case len(data) > 1 && data[0] == frameFold:
			r.folded(p, data[1:])
		}
	}
}

// words reads what a page says in a text frame.
func words(data []byte) (presence, bool) {
	var m fromPage
	if len(data) > wordsMax || json.Unmarshal(data, &m) != nil || m.Type != "here" {
		return presence{}, false
	}
	return m.presence, true
}

// write sends what is queued until ctx ends, a write fails, or there is a
// reason to leave, which it returns.
func write(ctx context.Context, conn *websocket.Conn, queue <-chan []byte, left <-chan reason) (reason, bool) {
	send := func(b []byte) bool {
		bounded, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		kind := websocket.MessageBinary
		if b[0] == '{' {
			kind = websocket.MessageText
		}
		return conn.Write(bounded, kind, b) == nil
	}
	ticks := time.NewTicker(tickEvery)
	defer ticks.Stop()
	for {
		select { // before what is queued: whoever is slow has a full queue
		case why := <-left:
			return why, true
		default:
		}
		var next []byte
		select {
		case why := <-left:
			return why, true
		case <-ctx.Done():
			return reason{}, false
		case <-ticks.C:
			next = []byte(`{"type":"pulse"}`)
		case next = <-queue:
		}
		if !send(next) {
			return reason{}, false
		}
	}
}

// An allowance is what somebody may use up: so much a second, and a burst.
type allowance struct {
	perSecond, burst, left float64
	at                     time.Time
}

func newAllowance(perSecond, burst int) *allowance {
	return &allowance{perSecond: float64(perSecond), burst: float64(burst), left: float64(burst)}
}

func (a *allowance) take(now time.Time, n int) bool {
	if !a.at.IsZero() {
		a.left = min(a.burst, a.left+now.Sub(a.at).Seconds()*a.perSecond)
	}
	a.at = now
	if a.left < float64(n) {
		return false
	}
	a.left -= float64(n)
	return true
}
