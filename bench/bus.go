//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/bus"
)

// The bus has one peer, redis-server, and a stand without a backend: messages
// go from the generator's publishers to its subscribers.

const (
	busApp    = "bench"
	busSecret = "of the bench, on loopback, for a minute"

	messageBytes = 100 // of a message, as a chat's

	// paceKept is how much of the pace has to be carried: the rest is the
	// generator's own lateness.
	paceKept = 0.99
)

// busMain is the role "bus": the endpoint as the server wires it. Its arguments
// are nothing and a directory.
func busMain(args []string) error {
	profiled, err := profile()
	if err != nil {
		return err
	}
	listener, _, err := bus.Listen(filepath.Join(args[1], "port"))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	defer profiled()
	return theBus().Run(ctx, listener)
}

func theBus() *bus.Bus {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return bus.New(bus.Config{Secret: []byte(busSecret), Log: log})
}

// busStand starts p and a generator for it.
func (r *runner) busStand(ctx context.Context, p peer, dir string, env []string) (s *stand, err error) {
	s = &stand{ctx: ctx, size: r.size, figures: map[string]float64{}, costs: map[string]float64{}}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	url := "redis://"
	if p.name == ours {
		p.role = []string{"bus"}
	}
	if s.peer, err = p.start(ctx, r.self, dir, "", nil, env); err != nil {
		return nil, err
	}
	s.profiled = len(env) > 0
	if url += s.peer.addr; p.name == ours {
		at, err := net.ResolveTCPAddr("tcp", s.peer.addr)
		if err != nil {
			return nil, err
		}
		url = theBus().URL(at, busApp)
	}
	s.addr = url
	s.load, err = startHelper(r.self, "busload")
	return s, err
}

// messages measures messages at a pace to subscribers, all of them on one
// channel.
func messages(s *stand) error {
	if _, err := s.do(order{Do: "subscribe", N: s.size.subscribers, Bytes: messageBytes}); err != nil {
		return err
	}
	carry := order{Do: "carry", N: s.size.messages, Bytes: messageBytes, For: s.size.warm}
	if _, err := s.do(carry); err != nil {
		return err
	}
	carry.For = s.size.carryFor
	var r report
	proxy, load, err := s.spent(func() (err error) {
		r, err = s.do(carry)
		return err
	})
	if err != nil {
		return err
	}
	s.each("bus-cpu", r.Done, proxy, load)
	s.figures["bus-rate"] = float64(r.Done) / r.Elapsed.Seconds()
	s.figures["bus-p50"], s.figures["bus-p99"] = millis(r.P50), millis(r.P99)
	memory, err := s.memory(s.size.settle)
	s.figures["bus-memory"] = memory / 1e6
	return err
}

func busRows(s size) []row {
	pace := fmt.Sprintf("%s messages/s to %d subscribers", number(float64(s.messages), 0), s.subscribers)
	return []row{
		{id: "bus-rate", title: "bus: " + pace, unit: "/s", higher: true, must: []bound{{paceKept * float64(s.messages), ""}}},
		{id: "bus-cpu", title: "the same: CPU per message", unit: "us"},
		{id: "bus-p50", title: "the same: p50", unit: "ms", digits: 1},
		{id: "bus-p99", title: "the same: p99", unit: "ms", digits: 1},
		{id: "bus-memory", title: "the same: memory of the process after it", unit: "MB", digits: 1},
	}
}

// burst is how often publishers publish: what is due by then, at once.
const burst = time.Millisecond
