package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	frameMax     = 16 << 10         // bytes; textMax characters fit even when each is escaped
	writeTimeout = 10 * time.Second // a reader that takes nothing for so long is gone
	tickEvery    = 10 * time.Second // lets a page notice a connection that died silently
	helloTimeout = 10 * time.Second // a page says its name at once
)

// fromPage is what a page says to the server.
type fromPage struct {
	Type string `json:"type"` // hello, name or say
	Name string `json:"name"` // hello, name
	ID   string `json:"id"`   // say
	Text string `json:"text"` // say
}

// serveSocket is one person's stay: it returns when the socket has ended.
func (r *room) serveSocket(w http.ResponseWriter, req *http.Request) {
	// Accept compares Origin with Host, so that another site's page cannot
	// speak in a visitor's name. It works because the front end leaves Host as
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

	first, err := read(ctx, conn, helloTimeout)
	if err != nil || first.Type != "hello" {
		conn.Close(websocket.StatusPolicyViolation, "say hello first")
		return
	}
	left := make(chan reason, 1) // the first reason counts
	p := &person{
		name:  tidyName(first.Name),
		queue: make(chan []byte, queueMax),
		leave: func(why reason) {
			select {
			case left <- why:
			default:
			}
		},
	}
	if why, ok := r.join(p); !ok {
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
			r.log.Info("closed", "name", p.name, "code", why.code, "reason", why.text)
		}
	}()
	defer func() { <-written }()
	defer cancel()

	for {
		m, err := read(ctx, conn, 0)
		if err != nil {
			return
		}
		switch m.Type { // what is not ours is passed over
		case "say":
			r.say(p, m.ID, m.Text)
		case "name":
			r.rename(p, m.Name)
		}
	}
}

// read waits for one message; limit 0 means as long as it takes. What is not
// JSON is a message of no type. The error is the connection's.
func read(ctx context.Context, conn *websocket.Conn, limit time.Duration) (m fromPage, err error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	_, data, err := conn.Read(ctx)
	if err != nil {
		return m, err
	}
	if json.Unmarshal(data, &m) != nil {
		return fromPage{}, nil
	}
	return m, nil
}

// write sends what is queued until ctx ends, a write fails, or there is a
// reason to leave, which it returns.
func write(ctx context.Context, conn *websocket.Conn, queue <-chan []byte, left <-chan reason) (reason, bool) {
	send := func(b []byte) bool {
		bounded, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		return conn.Write(bounded, websocket.MessageText, b) == nil
	}
	ticks := time.NewTicker(tickEvery)
	defer ticks.Stop()
	tick := frame(toPage{Type: "tick"})
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
			next = tick
		case next = <-queue:
		}
		if !send(next) {
			return reason{}, false
		}
	}
}
