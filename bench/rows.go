//go:build linux

package main

import (
	"fmt"
	"time"
)

// row is one line of the table.
type row struct {
	id     string
	title  string
	unit   string
	digits int  // after the point
	higher bool // more is better
	must   []bound
}

// bound is where Holdfast must stand: at most (or, where more is better, at
// least) times what of has. of may be best, the best of the peers, or nothing,
// when times is the bound itself.
type bound struct {
	times float64
	of    string
}

const best = "best"

// measures says whether p has figures in this group.
func (g group) measures(p peer) bool {
	switch {
	case g.bus:
		return p.bus || p.name == ours
	case p.bus, g.tls && !p.tls, p.http && !g.http:
		return false
	}
	return true
}

// group is what is measured in one go, on one stand.
type group struct {
	name    string
	tls     bool
	http    bool // carries plain HTTP alone
	bus     bool // carries an app's messages, and nothing else
	rows    []row
	measure func(*stand) error
}

// size is how much is measured.
type size struct {
	idle      []int // open sockets at which memory is read, growing
	watch     time.Duration
	start     time.Duration // rest before memory is read for the first time
	settle    time.Duration // and after each burst
	warm      time.Duration
	opened    int // handshakes
	echoing   int
	echoFor   time.Duration
	pushed    int // sockets pushed to
	pushes    int
	large     int // sockets that echo messages of largeMessage
	largeFor  time.Duration
	asking    int // connections with small requests
	askFor    time.Duration
	polls     int
	encrypted int // sockets idle with TLS

	subscribers int // of the bus
	messages    int // a second over the bus
	carryFor    time.Duration
}

var (
	full = size{
		idle: []int{1000, 4000, 9000}, watch: 5 * time.Second, start: startTime, settle: settleTime, warm: 300 * time.Millisecond,
		opened: 3000, echoing: 200, echoFor: 3 * time.Second,
		pushed: 2000, pushes: 20, large: 4, largeFor: 2 * time.Second,
		asking: 64, askFor: 2 * time.Second, polls: 2000, encrypted: 2000,
		subscribers: 100, messages: 10_000, carryFor: 5 * time.Second,
	}
	// quick shows that everything works. Its figures mean little.
	quick = size{
		idle: []int{50, 100, 200}, watch: 100 * time.Millisecond, start: 50 * time.Millisecond, settle: 50 * time.Millisecond, warm: 20 * time.Millisecond,
		opened: 100, echoing: 20, echoFor: 100 * time.Millisecond,
		pushed: 50, pushes: 3, large: 2, largeFor: 100 * time.Millisecond,
		asking: 8, askFor: 100 * time.Millisecond, polls: 50, encrypted: 50,
		subscribers: 5, messages: 500, carryFor: 200 * time.Millisecond,
	}
)

const (
	largeMessage = 1 << 20 // bytes

	// pushEvery is the pace of pushes: each finds everybody idle again, as
	// with a chat or a ticker, and a proxy that falls behind does so visibly.
	pushEvery = 100 * time.Millisecond
)

// descriptors is how many a proxy needs for the largest row, and some to spare.
func (s size) descriptors() int { return 2*s.idle[len(s.idle)-1] + 500 }

// groups lists everything that is measured, in the order of the table.
func groups(s size) []group {
	var idleRows []row
	for _, n := range s.idle {
		idleRows = append(idleRows, row{
			id: idleRow(n), title: fmt.Sprintf("memory per idle WebSocket, %d open", n), unit: "bytes",
			must: []bound{{1.0 / 3, haproxy}},
		})
	}
	idleRows = append(idleRows, row{
		id: "idle-cpu", title: fmt.Sprintf("CPU with %d idle WebSockets", s.idle[len(s.idle)-1]), unit: "% of a core", digits: 2,
		must: []bound{{0.5, ""}},
	})
	us, ms := "us", "ms"
	return []group{
		{name: "idle", rows: idleRows, measure: idle},
		{name: "handshake", measure: handshakes("handshake", "life"), rows: []row{
			{id: "handshake", title: "CPU per handshake", unit: us, digits: 1, must: []bound{{1.3, nginx}, {0.5, caddy}}},
			{id: "life", title: "CPU per handshake, close and log line", unit: us, digits: 1},
		}},
		{name: "echo", measure: echoes("echo"), rows: []row{
			{id: "echo-cpu", title: fmt.Sprintf("CPU per echo of 128 bytes, %d sockets", s.echoing), unit: us, digits: 1, must: []bound{{1.05, best}}},
			{id: "echo-p50", title: "the same: p50", unit: ms, digits: 1},
			{id: "echo-p99", title: "the same: p99", unit: ms, digits: 1, must: []bound{{1.2, best}}},
		}},
		{name: "push", measure: pushes, rows: []row{
			{id: "push-cpu", title: fmt.Sprintf("CPU per message pushed to %d sockets", s.pushed), unit: us, digits: 1, must: []bound{{1.05, best}}},
		}},
		{name: "large", measure: largeMessages("large"), rows: []row{
			{id: "large-rate", title: "echo of 1 MiB messages", unit: "MB/s", higher: true, must: []bound{{0.9, best}}},
			{id: "large-cpu", title: "the same: CPU per message", unit: us},
		}},
		{name: "http", http: true, measure: requests("http", true), rows: []row{
			{id: "http-rate", title: "small requests, keep-alive", unit: "/s", higher: true, must: []bound{{2, goProxy}}},
			{id: "http-p99", title: "the same: p99", unit: ms, digits: 1},
			{id: "http-cpu", title: "the same: CPU per request", unit: us, digits: 1},
		}},
		{name: "http-close", http: true, measure: requests("http-close", false), rows: []row{
			{id: "http-close-rate", title: "small requests, a connection each", unit: "/s", higher: true},
			{id: "http-close-p99", title: "the same: p99", unit: ms, digits: 1},
			{id: "http-close-cpu", title: "the same: CPU per request", unit: us, digits: 1},
		}},
		{name: "poll", http: true, measure: longPolls, rows: []row{
			{id: "poll", title: fmt.Sprintf("memory per pending long poll, %d open", s.polls), unit: "bytes"},
		}},
		{name: "tls-idle", tls: true, measure: encrypted, rows: []row{
			{id: "tls-idle", title: fmt.Sprintf("TLS: memory per idle WebSocket, %d open", s.encrypted), unit: "bytes", must: []bound{{1, haproxy}}},
			{id: "tls-handshake", title: "TLS: CPU per handshake", unit: us},
		}},
		{name: "tls-echo", tls: true, measure: echoes("tls-echo"), rows: []row{
			{id: "tls-echo-cpu", title: fmt.Sprintf("TLS: CPU per echo of 128 bytes, %d sockets", s.echoing), unit: us, digits: 1},
			{id: "tls-echo-p50", title: "the same: p50", unit: ms, digits: 1},
			{id: "tls-echo-p99", title: "the same: p99", unit: ms, digits: 1},
		}},
		{name: "tls-large", tls: true, measure: largeMessages("tls-large"), rows: []row{
			{id: "tls-large-rate", title: "TLS: echo of 1 MiB messages", unit: "MB/s", higher: true},
			{id: "tls-large-cpu", title: "the same: CPU per message", unit: us},
		}},
		{name: "bus", bus: true, measure: messages, rows: busRows(s)},
	}
}

func idleRow(n int) string { return fmt.Sprintf("idle-%d", n) }

// idle opens more and more sockets, one message on each, and reads memory; then
// it watches what the last, all idle, cost, and that all of them still work.
func idle(s *stand) error {
	before, err := s.memory(s.size.start)
	if err != nil {
		return err
	}
	opened := 0
	for _, n := range s.size.idle {
		if _, err := s.do(order{Do: "open", N: n - opened, Hello: true, Bytes: smallMessage}); err != nil {
			return err
		}
		opened = n
		after, err := s.memory(s.size.settle)
		if err != nil {
			return err
		}
		s.figures[idleRow(n)] = (after - before) / float64(n)
	}
	proxy, load, err := s.spent(func() error { return s.pause(s.size.watch) })
	if err != nil {
		return err
	}
	s.figures["idle-cpu"] = 100 * proxy.Seconds() / s.size.watch.Seconds()
	s.costs["idle-cpu"] = 100 * load.Seconds() / s.size.watch.Seconds()
	_, err = s.do(order{Do: "echo", Bytes: smallMessage})
	return err
}

// handshakes measures the opening of sockets, and their whole lives without a
// message.
func handshakes(opening, life string) func(*stand) error {
	return func(s *stand) error {
		n := 0
		proxy1, load1, err := s.spent(func() error {
			r, err := s.do(order{Do: "open", N: s.size.opened})
			n = r.Done
			return err
		})
		if err != nil {
			return err
		}
		s.each(opening, n, proxy1, load1)
		proxy2, load2, err := s.spent(func() error {
			_, err := s.do(order{Do: "goodbye"})
			return err
		})
		if err != nil {
			return err
		}
		s.each(life, n, proxy1+proxy2, load1+load2)
		return nil
	}
}

// echoes measures small messages that go back and forth on a few sockets, all
// of them busy.
func echoes(name string) func(*stand) error {
	return func(s *stand) error {
		if _, err := s.do(order{Do: "open", N: s.size.echoing}); err != nil {
			return err
		}
		if _, err := s.do(order{Do: "echo", Bytes: smallMessage, For: s.size.warm}); err != nil {
			return err
		}
		var r report
		proxy, load, err := s.spent(func() (err error) {
			r, err = s.do(order{Do: "echo", Bytes: smallMessage, For: s.size.echoFor})
			return err
		})
		if err != nil {
			return err
		}
		s.each(name+"-cpu", r.Done, proxy, load)
		s.figures[name+"-p50"], s.figures[name+"-p99"] = millis(r.P50), millis(r.P99)
		return nil
	}
}

// pushes measures messages from the backend to many sockets.
func pushes(s *stand) error {
	if _, err := s.do(order{Do: "open", N: s.size.pushed, Hello: true, Bytes: smallMessage}); err != nil {
		return err
	}
	var r report
	proxy, load, err := s.spent(func() error {
		if _, err := s.do(order{Do: "receive", Later: true, N: s.size.pushed * s.size.pushes, Bytes: smallMessage}); err != nil {
			return err
		}
		sent, err := s.backend.do(s.ctx, order{Do: "push", N: s.size.pushes, Bytes: smallMessage, Every: pushEvery, For: time.Duration(s.size.pushes) * pushEvery, Within: jobTime})
		if err != nil {
			return err
		}
		if sent.Done != s.size.pushed*s.size.pushes {
			s.problems = append(s.problems, fmt.Sprintf("push: the backend sent %d messages instead of %d", sent.Done, s.size.pushed*s.size.pushes))
		}
		r, err = s.do(order{Do: "await"})
		return err
	})
	if err != nil {
		return err
	}
	s.each("push-cpu", r.Done, proxy, load)
	return nil
}

func largeMessages(name string) func(*stand) error {
	return func(s *stand) error {
		if _, err := s.do(order{Do: "open", N: s.size.large}); err != nil {
			return err
		}
		if _, err := s.do(order{Do: "echo", Bytes: largeMessage, For: s.size.warm}); err != nil {
			return err
		}
		var r report
		proxy, load, err := s.spent(func() (err error) {
			r, err = s.do(order{Do: "echo", Bytes: largeMessage, For: s.size.largeFor})
			return err
		})
		if err != nil {
			return err
		}
		s.figures[name+"-rate"] = float64(r.Done) * largeMessage / 1e6 / r.Elapsed.Seconds()
		s.each(name+"-cpu", r.Done, proxy, load)
		return nil
	}
}

func requests(name string, keepAlive bool) func(*stand) error {
	return func(s *stand) error {
		ask := order{Do: "ask", AtOnce: s.size.asking, For: s.size.warm, KeepAlive: keepAlive}
		if _, err := s.do(ask); err != nil {
			return err
		}
		ask.For = s.size.askFor
		var r report
		proxy, load, err := s.spent(func() (err error) {
			r, err = s.do(ask)
			return err
		})
		if err != nil {
			return err
		}
		s.figures[name+"-rate"] = float64(r.Done) / r.Elapsed.Seconds()
		s.figures[name+"-p99"] = millis(r.P99)
		s.each(name+"-cpu", r.Done, proxy, load)
		return nil
	}
}

// longPolls measures requests that wait for their answer.
func longPolls(s *stand) error {
	before, err := s.memory(s.size.start)
	if err != nil {
		return err
	}
	r, err := s.do(order{Do: "poll", N: s.size.polls})
	if err != nil {
		return err
	}
	if err := s.arrived(r.Done); err != nil {
		return err
	}
	after, err := s.memory(s.size.settle)
	if err != nil {
		return err
	}
	s.figures["poll"] = (after - before) / float64(r.Done)
	if _, err := s.do(order{Do: "answers", Later: true, N: r.Done}); err != nil {
		return err
	}
	if _, err := s.backend.do(s.ctx, order{Do: "release", Within: jobTime}); err != nil {
		return err
	}
	_, err = s.do(order{Do: "await"})
	return err
}

// encrypted measures idle sockets with TLS at the proxy's edge, and what their
// opening costs.
func encrypted(s *stand) error {
	before, err := s.memory(s.size.start)
	if err != nil {
		return err
	}
	n := 0
	proxy, load, err := s.spent(func() error {
		r, err := s.do(order{Do: "open", N: s.size.encrypted})
		n = r.Done
		return err
	})
	if err != nil {
		return err
	}
	s.each("tls-handshake", n, proxy, load)
	if _, err := s.do(order{Do: "echo", Bytes: smallMessage}); err != nil {
		return err
	}
	after, err := s.memory(s.size.settle)
	if err != nil {
		return err
	}
	s.figures["tls-idle"] = (after - before) / float64(n)
	_, err = s.do(order{Do: "echo", Bytes: smallMessage})
	return err
}
