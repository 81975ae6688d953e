//go:build linux

package main

import "time"

// What the generator can be told to do. Each begins on the loop and ends by
// counting everything that was asked of it as done or failed.

// openSockets opens N WebSockets, AtOnce at a time, and holds them; with Hello
// each exchanges one message of Bytes.
func (g *generator) openSockets(j *job) {
	o := j.order
	j.left = o.N
	next := g.dialer(j, asSocket)
	j.opened = func(c *client) {
		if !o.Hello {
			g.went(j)
			next()
			return
		}
		c.compose(o.Bytes)
		if err := c.send(); err != nil {
			c.fail(err)
		}
	}
	j.message = func(c *client) {
		if !c.echoed() {
			c.fail(errEcho)
			return
		}
		c.frame = nil // a held socket costs little here too
		g.went(j)
		next()
	}
	j.ended = func(*client) bool { next(); return false }
}

// openPolls opens N connections, AtOnce at a time, sends a request on each
// that is not answered yet, and holds them.
func (g *generator) openPolls(j *job) {
	j.left = j.order.N
	next := g.dialer(j, asPoll)
	j.opened = func(c *client) {
		g.open[c] = struct{}{}
		g.went(j)
		next()
	}
	j.ended = func(*client) bool { next(); return false }
}

// dialer dials the first connections of a job and returns what dials one more,
// up to N in all.
func (g *generator) dialer(j *job, k kind) (next func()) {
	begun := 0
	next = func() {
		if begun < j.order.N {
			begun++
			g.dial(k, j.order)
		}
	}
	for range j.order.AtOnce {
		next()
	}
	return next
}

// awaitAnswers waits for the answers to N polls.
func (g *generator) awaitAnswers(j *job) {
	j.left = j.order.N
	j.answered = func(c *client, _ bool) {
		c.leave()
		g.went(j)
	}
}

// echo has every open socket send a message of Bytes and send again when it has
// come back, until For is over. Done counts messages.
func (g *generator) echo(j *job) {
	until := j.started.Add(j.order.For)
	j.left = len(g.open)
	j.message = func(c *client) {
		if !c.echoed() {
			c.fail(errEcho)
			return
		}
		now := time.Now()
		j.took(now.Sub(c.began))
		j.report.Done++
		if now.After(until) {
			g.less(j)
		} else if err := c.send(); err != nil {
			c.fail(err)
		}
	}
	if j.left == 0 {
		j.report.Failed["no socket is open"]++
		g.finish(j)
	}
	for c := range g.open {
		c.compose(j.order.Bytes)
		if err := c.send(); err != nil {
			c.fail(err)
		}
	}
}

// receive waits for N messages, on whichever sockets.
func (g *generator) receive(j *job) {
	j.left = j.order.N
	j.message = func(c *client) {
		if int(c.frames.length) != j.order.Bytes {
			c.fail(errEcho)
			return
		}
		g.went(j)
	}
}

// ask sends small requests on AtOnce connections, the next when the one before
// was answered, until For is over: with KeepAlive on the same connection as
// long as it lasts, else each on its own. Done counts answers, whose time
// begins with the connection where that is new.
func (g *generator) ask(j *job) {
	o := j.order
	until := j.started.Add(o.For)
	request := []byte(lastRequest)
	if o.KeepAlive {
		request = []byte(smallRequest)
	}
	j.left = o.AtOnce
	j.opened = func(c *client) {
		if err := c.write(request); err != nil {
			c.fail(err)
		}
	}
	j.answered = func(c *client, keep bool) {
		now := time.Now()
		j.took(now.Sub(c.began))
		j.report.Done++
		over := now.After(until)
		if !over && keep && o.KeepAlive {
			c.began = now
			if err := c.write(request); err != nil {
				c.fail(err)
			}
			return
		}
		c.leave()
		if over {
			g.less(j)
		} else {
			g.dial(asRequests, o)
		}
	}
	// A connection that fails is counted, and another takes its place.
	j.ended = func(*client) bool {
		if time.Now().Before(until) {
			j.left++
			g.dial(asRequests, o)
		}
		return false
	}
	for range o.AtOnce {
		g.dial(asRequests, o)
	}
}

// goodbye sends a Close frame on every open socket and waits for the other
// side to answer and to end the connection.
func (g *generator) goodbye(j *job) {
	frame := appendHead(nil, opClose, 2, true)
	frame = append(frame, 0x03, 0xe8) // 1000, a normal closure
	j.left = len(g.open)
	j.ended = func(c *client) bool {
		if c.frames.op != opClose {
			return false
		}
		g.went(j)
		return true
	}
	for c := range g.open {
		if err := c.write(frame); err != nil {
			c.fail(err)
		}
	}
	if len(g.open) == 0 {
		g.finish(j)
	}
}
