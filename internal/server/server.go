// Package server puts the rooms together and runs them: the edge in front, the
// router and its tunnels behind it, control and the driver beside them. It
// makes no decisions. Start at New and Run: wiring, and the order of goodbyes.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/control"
	"holdfast/internal/driver/process"
	"holdfast/internal/edge"
	"holdfast/internal/logs"
	"holdfast/internal/router"
	"holdfast/internal/store"
	"holdfast/internal/tunnel"
)

const (
	// goodbyeTime bounds how long sockets get to answer our Close frames, and
	// requests under way to end, when Holdfast itself stops.
	goodbyeTime = 5 * time.Second

	// stopTime bounds stopping the instances: App Engine's 30 s between SIGTERM
	// and SIGKILL, and some for the work itself.
	stopTime = 40 * time.Second
)

// Config is what a server is told once.
type Config struct {
	Data     string              // directory of everything this server keeps; made when absent
	Listener net.Listener        // where requests arrive; owned by the server from New on
	Domains  []string            // base domains of the host names
	Region   string              // REGION_ID of the host names
	App      string              // the project, and the service of it, that hosts
	Service  string              // lead to which name none, such as localhost
	User     string              // runs the instances, when we are root; "" is who we are
	Keeper   []string            // the command that keeps one instance
	Events   func(control.Event) // told of every change of an instance; must not block
	Log      *slog.Logger
}

// Server is one running Holdfast.
type Server struct {
	cfg     Config
	driver  *process.Driver
	tunnels *tunnel.Set
	router  *router.Router
	control *control.Controller
	access  *logs.File
	deploys context.Context // ends when the server says goodbye
	goodbye context.CancelFunc
}

// New opens the data directory and prepares every room. A data directory that
// another server uses is refused with an error that wraps app.ErrBusy.
func New(cfg Config) (*Server, error) {
	secret, err := openSecret(filepath.Join(cfg.Data, "secret"))
	if err != nil {
		return nil, err
	}
	drv, err := process.New(process.Config{
		Dir:    filepath.Join(cfg.Data, "instances"),
		Logs:   filepath.Join(cfg.Data, "logs"),
		User:   cfg.User,
		Keeper: cfg.Keeper,
		Log:    cfg.Log.With("room", "driver"),
	})
	if err != nil {
		return nil, err
	}
	access, err := logs.Create(filepath.Join(cfg.Data, "logs", "requests.log"), logs.Limit{})
	if err != nil {
		drv.Close()
		return nil, err
	}
	s := &Server{cfg: cfg, driver: drv, access: access}
	s.tunnels = tunnel.New(tunnel.Config{}, cfg.Log.With("room", "tunnel"))
	s.router = router.New(router.Config{
		Domains: cfg.Domains,
		Region:  cfg.Region,
		Secret:  secret,
		Sockets: socketsMax(),
		Access:  slog.New(slog.NewJSONHandler(access, nil)),
		Log:     cfg.Log.With("room", "router"),
	}, s.tunnels)
	s.control = control.New(drv, s.router, store.Memory(), control.Config{
		App:     cfg.App,
		Service: cfg.Service,
		Events:  cfg.Events,
		Log:     cfg.Log.With("room", "control"),
	})
	s.deploys, s.goodbye = context.WithCancel(context.Background())
	return s, nil
}

// Run serves until ctx ends, then says goodbye to every socket, stops every
// instance and returns when nothing is left. When hurry ends too, what is left
// is cut and killed at once.
func (s *Server) Run(ctx, hurry context.Context) error {
	defer s.access.Close()
	defer s.driver.Close()
	defer s.goodbye()

	// The rooms outlive ctx, and each other's failures: goodbyes need them.
	rooms, endRooms := context.WithCancel(context.WithoutCancel(ctx))
	defer endRooms()
	front, endFront := context.WithCancel(rooms)
	defer endFront()

	var g errgroup.Group
	failed := make(chan struct{}, 3) // one place for each room below
	start := func(run func() error) {
		g.Go(func() error {
			err := run()
			if err != nil {
				failed <- struct{}{}
			}
			return err
		})
	}
	start(func() error { return s.tunnels.Run(rooms) })
	start(func() error { return s.control.Run(rooms) })
	start(func() error {
		return edge.Serve(front, s.cfg.Listener, s.router, goodbyeTime, s.cfg.Log.With("room", "edge"))
	})

	select {
	case <-ctx.Done():
	case <-failed: // its error is told in the end
	}
	s.goodbye()
	err := s.stop(hurry, endFront)
	endRooms()
	return errors.Join(g.Wait(), err)
}

// stop is the order of goodbyes: sockets and requests first, while the app
// still runs to hear of them, then the app.
func (s *Server) stop(hurry context.Context, endFront func()) error {
	s.router.Close()
	endFront()
	polite, cancel := context.WithTimeout(hurry, goodbyeTime)
	defer cancel()
	// Sockets that do not answer in time are cut; that is no error of ours.
	_ = s.tunnels.CloseAll(polite, app.ShuttingDown)

	patient, cancel := context.WithTimeout(hurry, stopTime)
	defer cancel()
	if err := s.control.Shutdown(patient); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop the instances: %w", err)
	}
	return nil
}

// Deploy starts v, waits until enough instances are ready and moves its
// service's traffic to it; see control.Deploy. It returns the operation as it
// ended, well if its Failure is nil, or an error if v is refused or ctx ends
// before. It needs Run to be running.
func (s *Server) Deploy(ctx context.Context, v app.Version) (app.Operation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.deploys, cancel)()
	op, err := s.control.Deploy(control.Deployment{Version: v, Promote: true})
	if err == nil {
		op, err = s.control.Wait(ctx, op.ID)
	}
	if err == nil && op.Failure == nil {
		s.pruneLogs()
	}
	return op, err
}

// logsKept is how many logs of instances that are gone stay for people to
// read; each is bounded in itself.
const logsKept = 50

// pruneLogs removes the oldest logs of instances that are gone. What cannot be
// removed costs disk space and nothing else.
func (s *Server) pruneLogs() {
	busy := map[string]bool{"requests": true}
	for _, i := range s.control.Instances() {
		busy[i.ID] = true
	}
	if err := logs.Prune(s.LogDir(), logsKept, func(name string) bool { return busy[name] }); err != nil {
		s.cfg.Log.Warn("prune logs", "err", err)
	}
}

// Instances lists what runs.
func (s *Server) Instances() []control.Instance { return s.control.Instances() }

// Limits says what holds instances to their resources, in words for people.
func (s *Server) Limits() string { return s.driver.Limits() }

// Sockets counts the open sockets of an instance.
func (s *Server) Sockets(instance string) int { return s.tunnels.Count(instance) }

// LogDir is where the logs of instances and requests are kept.
func (s *Server) LogDir() string { return filepath.Join(s.cfg.Data, "logs") }

// LogPath is where an instance's log is kept.
func (s *Server) LogPath(instance string) string {
	return filepath.Join(s.LogDir(), instance+".log")
}

// descriptorsKept is how many descriptors sockets leave for everything else:
// listeners, logs, plain requests and their instances' connections.
const descriptorsKept = 1000

// socketsMax is how many sockets our descriptors carry, two for each. Go has
// raised the limit as far as it may be raised.
func socketsMax() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return max(1, (int(limit.Cur)-descriptorsKept)/2)
}
