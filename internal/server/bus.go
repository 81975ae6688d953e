package server

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"path/filepath"

	"holdfast/internal/app"
	"holdfast/internal/bus"
	"holdfast/internal/driver/process"
)

// The names under which an app finds the bus, beside the one it asks for.
const (
	busURL    = "REDIS_URL"
	busPrefix = "REDIS_PREFIX" // what an app may put before its names where it is not alone
)

// messages is what leads apps to a bus: ours, or a Redis of the operator's.
type messages struct {
	redis string // "": ours

	// Of ours alone.
	bus      *bus.Bus
	listener net.Listener
}

// openBus prepares the bus. Ours listens from here on, at the port where it was
// before: instances that outlived us look for it there.
func openBus(data, redis string, secret []byte, log *slog.Logger) (*messages, error) {
	if redis != "" {
		return &messages{redis: redis}, nil
	}
	l, moved, err := bus.Listen(filepath.Join(data, "bus.port"))
	if err != nil {
		return nil, err
	}
	if moved {
		log.Warn("the bus's port is taken by another program: instances that run already have no bus until they restart", "addr", l.Addr())
	}
	return &messages{bus: bus.New(bus.Config{Secret: secret, Log: log}), listener: l}, nil
}

// run serves until ctx ends; a Redis of the operator's needs nobody.
func (m *messages) run(ctx context.Context) error {
	if m.bus == nil {
		return nil
	}
	return m.bus.Run(ctx, m.listener)
}

// close frees the port where run was never called; else it does nothing.
func (m *messages) close() {
	if m.listener != nil {
		m.listener.Close()
	}
}

// lead is v with all that its instances need to find the bus, if it asks for
// one. What the app says under these names wins.
func (m *messages) lead(v app.Version) app.Version {
	if !v.Bus {
		return v
	}
	address := m.redis
	if m.bus != nil {
		address = m.bus.URL(m.listener.Addr(), v.App)
	}
	env := map[string]string{busURL: address, busPrefix: v.App + ":"}
	if v.BusEnv != "" {
		env[v.BusEnv] = address
	}
	maps.Copy(env, v.Env)
	v.Env = env
	return v
}

// instances is the driver, and beside it the bus that instances are told of.
type instances struct {
	*process.Driver
	messages *messages
}

// Start is the driver's own, for a version that knows the bus.
func (i instances) Start(ctx context.Context, id string, v app.Version) error {
	return i.Driver.Start(ctx, id, i.messages.lead(v))
}

// Messages tells what each application does with the bus; nil when that is a
// Redis of the operator's, which tells by itself.
func (s *Server) Messages() map[string]bus.Stats {
	if s.bus.bus == nil {
		return nil
	}
	return s.bus.bus.Stats()
}
