// Package server puts the rooms together and runs them: the edge in front, the
// router and its tunnels behind it, control, the driver and what is kept on
// disk beside them, and the door for operators. It makes no decisions. Start at
// New and Run: wiring, and the order of goodbyes.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/build"
	"holdfast/internal/certs"
	"holdfast/internal/control"
	"holdfast/internal/driver/process"
	"holdfast/internal/edge"
	"holdfast/internal/journal"
	"holdfast/internal/logs"
	"holdfast/internal/router"
	"holdfast/internal/store"
	"holdfast/internal/traces"
	"holdfast/internal/tunnel"
)

const (
	// goodbyeTime bounds how long sockets get to answer our Close frames, and
	// requests under way to end, when Holdfast itself stops.
	goodbyeTime = 5 * time.Second

	// stopTime bounds a whole stop unless Config.StopWithin does: the goodbyes,
	// App Engine's 30 s between SIGTERM and SIGKILL, and some for the work itself.
	stopTime = 45 * time.Second
)

// Config is what a server is told once.
type Config struct {
	Data        string         // directory of everything this server keeps; made when absent
	Plain       []net.Listener // where requests arrive over plain HTTP; owned by the server from New on
	TLS         []net.Listener // where they arrive over TLS, as plain listeners; owned too. One at least of both
	Certs       certs.Config   // where the certificates for TLS come from; what is served is filled in
	Redirect    bool           // plain HTTP leads to TLS where a name has a certificate
	Limits      edge.Limits    // of strangers; zero values are the defaults
	BodyMax     int64          // bytes of a request's body, where its version says nothing; 0 is router.BodyMax
	AppOpen     int            // see router.Config.App
	HSTS        time.Duration  // see router.Config; so for the following two
	Trusted     []netip.Prefix
	TrustedUnix bool
	Domains     []string            // base domains of the host names
	Region      string              // REGION_ID of the host names
	App         string              // the project, and the service of it, that hosts
	Service     string              // lead to which name none, such as localhost
	User        string              // runs the instances, when we are root; "" is who we are
	Keeper      []string            // the command that keeps one instance
	Hidden      []string            // folders that apps see nothing of but what is theirs, where the system can; absolute
	Redis       string              // leads apps with a bus to this Redis; "": to a bus of ours
	Events      func(control.Event) // told of every change of an instance; must not block
	Log         *slog.Logger

	// Admin and AdminTLS are where operators arrive, as Plain and TLS have it;
	// owned by the server from New on. Without one, as for `run`, nobody does, and
	// what was asked for ends with us.
	Admin, AdminTLS []net.Listener

	// Console is where people look, where operators do not come; owned by the
	// server from New on. Else the console is at Admin and AdminTLS.
	Console net.Listener

	// The following are for a server with one of them alone.
	Program       string         // our version, for people
	KeepInstances bool           // Run leaves the instances running when it ends
	Maintenance   control.Window // when the weekly restarts may begin
	Nearest       bool           // build with the nearest runtime version that the machine has
	BuildsMax     int64          // bytes of disk for builds that nothing needs now
	SourcesMax    int64          // bytes of disk for sources that nothing needs now
	LogsMax       int64          // bytes of disk for logs; the oldest of instances that are gone go first. 0: no bound but their number
	LogsAge       time.Duration  // what was written longer ago is removed; 0: nothing is for its age
	Print         Print          // lines of logs that are written to standard output, too
	OTLP          string         // URL to which spans are posted; "": nothing is traced
	OTLPShare     float64        // of requests whose clients do not say whether they are traced, 0 to 1
	StopWithin    time.Duration  // bounds the end of Run; 0 means stopTime

	// Again prepares whoever calls Run to start this program again when it returns
	// ErrAgain: it keeps the listeners open. It is called once, while they still
	// are; its error ends Run. nil: we cannot be started again.
	Again func() error
}

// operated says whether operators may come.
func (c Config) operated() bool { return len(c.Admin)+len(c.AdminTLS) > 0 }

// Server is one running Holdfast.
type Server struct {
	cfg     Config
	started time.Time
	wishes  *store.Store
	keep    *keep        // nil: nothing is kept
	builder *builder     // nil: artifacts are made by others
	door    http.Handler // nil: operators do not come
	console http.Handler // nil: there is no place for it
	journal *journal.Journal
	invite  func(c auth.Caller, often bool) string // makes a code that leads into the console
	driver  *process.Driver
	bus     *messages
	tunnels *tunnel.Set
	router  *router.Router
	certs   *certs.Set
	spoken  *tls.Config // over every listener for TLS
	control *control.Controller
	access  *logs.File
	traces  *traces.Teller  // nil: nothing is traced
	again   chan struct{}   // an edge-restart drill wants us to start again; of capacity one
	deploys context.Context // ends when the server says goodbye
	goodbye context.CancelFunc
}

// New opens the data directory and prepares every room. A data directory that
// another server uses is refused with an error that wraps app.ErrBusy.
func New(cfg Config) (_ *Server, err error) {
	s := &Server{cfg: cfg, started: time.Now(), wishes: store.Memory(), again: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	secret, err := openSecret(filepath.Join(cfg.Data, "secret"))
	if err != nil {
		return nil, err
	}
	if s.driver, err = process.New(process.Config{
		Dir:    filepath.Join(cfg.Data, "instances"),
		Logs:   filepath.Join(cfg.Data, "logs"),
		User:   cfg.User,
		Keeper: cfg.Keeper,
		Hidden: cfg.Hidden,
		Log:    cfg.Log.With("room", "driver"),
	}); err != nil {
		return nil, err
	}
	if cfg.operated() {
		if s.keep, err = openKeep(cfg.Data, cfg.Log.With("room", "store")); err != nil {
			return nil, err
		}
		s.wishes = s.keep.wishes
		s.builder = &builder{
			builds:     &build.Builder{Dir: cfg.Data, BytesMax: cfg.BuildsMax, Log: cfg.Log.With("room", "build")},
			sources:    s.keep.sources,
			sourcesMax: cfg.SourcesMax,
			dir:        filepath.Join(cfg.Data, "operations"),
			nearest:    cfg.Nearest,
			log:        cfg.Log.With("room", "server"),
		}
	}
	if s.access, err = logs.Create(filepath.Join(cfg.Data, "logs", "requests.log"), logs.Limit{}); err != nil {
		return nil, err
	}
	if err = s.openJournal(); err != nil {
		return nil, err
	}
	access := s.journal.Tap(slog.NewJSONHandler(s.access, nil))
	if cfg.OTLP != "" {
		s.traces = traces.New(traces.Config{Endpoint: cfg.OTLP, Program: cfg.Program, Log: cfg.Log.With("room", "traces")})
		access = s.traces.Tap(access)
	}
	s.tunnels = tunnel.New(tunnel.Config{}, cfg.Log.With("room", "tunnel"))
	s.router = router.New(router.Config{
		Domains:     cfg.Domains,
		Region:      cfg.Region,
		Secret:      secret,
		Sockets:     socketsMax(),
		App:         cfg.AppOpen,
		Body:        cfg.BodyMax,
		Stall:       cfg.Limits.StallTime,
		Secure:      s.secureAt(),
		HSTS:        cfg.HSTS,
		Trusted:     cfg.Trusted,
		TrustedUnix: cfg.TrustedUnix,
		Traced:      s.traces != nil,
		Sample:      cfg.OTLPShare,
		Access:      slog.New(access),
		Log:         cfg.Log.With("room", "router"),
	}, s.tunnels)
	if err = s.openCerts(); err != nil {
		return nil, err
	}
	settings := control.Config{
		App:         cfg.App,
		Service:     cfg.Service,
		Maintenance: cfg.Maintenance,
		Tail:        s.tail,
		Events:      s.event,
		Operations:  s.told,
		Log:         cfg.Log.With("room", "control"),
	}
	if s.builder != nil {
		settings.Builder = s.builder
	}
	if s.keep != nil {
		settings.Restarts = cfg.Again != nil
	}
	if s.bus, err = openBus(cfg.Data, cfg.Redis, secret, cfg.Log.With("room", "bus")); err != nil {
		return nil, err
	}
	s.control = control.New(instances{s.driver, s.bus}, s.router, s.wishes, settings)
	s.deploys, s.goodbye = context.WithCancel(context.Background())
	if cfg.operated() || cfg.Console != nil {
		if err = s.openDoors(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// close closes what New has opened, as far as it came.
func (s *Server) close() error {
	var errs []error
	if s.access != nil {
		errs = append(errs, s.access.Close())
	}
	if s.builder != nil {
		s.builder.builds.Close()
	}
	if s.keep != nil {
		errs = append(errs, s.keep.close())
	}
	if s.bus != nil {
		s.bus.close()
	}
	if s.driver != nil {
		errs = append(errs, s.driver.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then says goodbye to every socket, stops every
// instance unless they are kept, and returns when nothing is left. When hurry
// ends too, what is left is cut and killed at once.
func (s *Server) Run(ctx, hurry context.Context) error {
	defer s.close()
	defer s.goodbye()

	// The rooms outlive ctx, and each other's failures: goodbyes need them.
	rooms, endRooms := context.WithCancel(context.WithoutCancel(ctx))
	defer endRooms()
	front, endFront := context.WithCancel(rooms)
	defer endFront()

	var g errgroup.Group
	failed := make(chan struct{}, 12) // one place for each room below
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
	start(func() error { return s.bus.run(rooms) })
	start(func() error { return s.certs.Run(rooms) })
	start(func() error { return s.serveFront(front) })
	start(func() error { return s.journal.Run(rooms) })
	if s.traces != nil {
		start(func() error { return s.traces.Run(rooms) })
	}
	if s.cfg.Print.any() {
		start(func() error { return s.print(rooms) })
	}
	if s.cfg.Console != nil {
		start(func() error {
			return edge.Serve(front, []net.Listener{s.cfg.Console}, s.console, edge.Limits{}, goodbyeTime, s.cfg.Log.With("room", "console"))
		})
	}
	if s.keep != nil {
		start(func() error {
			return edge.Serve(front, s.adminListeners(), s.door, edge.Limits{}, goodbyeTime, s.cfg.Log.With("room", "admin"))
		})
		start(func() error { return s.tidy(rooms) })
		start(func() error { return s.giveCerts(rooms) })
	}

	var again error
	select {
	case <-ctx.Done():
	case <-failed: // its error is told in the end
	case <-s.again:
		if again = s.cfg.Again(); again == nil {
			again = ErrAgain
		}
	}
	s.goodbye()
	bound := cmp.Or(s.cfg.StopWithin, stopTime)
	hurry, cancel := context.WithTimeout(hurry, bound)
	defer cancel()
	err := s.stop(hurry, endFront, s.cfg.KeepInstances || again != nil)
	endRooms()
	return errors.Join(again, g.Wait(), err)
}

// ErrAgain is what Run returns when it has ended so that the program starts again,
// as a drill wants it. Instances go on.
var ErrAgain = errors.New("this Holdfast is to start again")

// told hears of operations, and has them remembered. An edge-restart that was
// begun before us has had its restart: this is it.
func (s *Server) told(op app.Operation) {
	s.journal.ToldOperation(op)
	if s.keep == nil || op.Drill == nil || op.Drill.Fault != app.EdgeRestart || op.Stage != app.StageDrilling || op.Asked.Before(s.started) {
		return
	}
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// serveFront lets requests in once it is known where they lead. Those that come
// before wait in the listener's queue: after a restart of ours nobody shall be
// told that an app which runs is not here.
func (s *Server) serveFront(ctx context.Context) error {
	all := s.frontListeners()
	select {
	case <-s.router.Routed():
	case <-ctx.Done():
		var errs []error
		for _, l := range all {
			errs = append(errs, l.Close())
		}
		return errors.Join(errs...)
	}
	limits := s.cfg.Limits
	limits.Trusts = s.router.Trusts
	return edge.Serve(ctx, all, front{s.router, s.certs}, limits, goodbyeTime, s.cfg.Log.With("room", "edge"))
}

// stop is the order of goodbyes: sockets and requests first, while the app
// still runs to hear of them, then the app.
func (s *Server) stop(hurry context.Context, endFront func(), keep bool) error {
	s.router.Close()
	endFront()
	polite, cancel := context.WithTimeout(hurry, goodbyeTime)
	defer cancel()
	// Sockets that do not answer in time are cut; that is no error of ours.
	_ = s.tunnels.CloseAll(polite, app.ShuttingDown)
	if keep {
		return nil
	}
	if err := s.control.Shutdown(hurry); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop the instances: %w", err)
	}
	return nil
}

// tidy removes what nobody needs from the disk, until ctx ends.
func (s *Server) tidy(ctx context.Context) error {
	// A version may be deleted while instances of it still drain, which run from
	// its artifact.
	artifacts := map[app.Key]string{}
	return s.builder.run(ctx, s.wishes, func() (running []string) {
		s.pruneLogs()
		for k, v := range s.wishes.Wishes().Versions {
			artifacts[k] = v.Artifact.ID
		}
		used := map[app.Key]string{}
		for _, i := range s.control.Instances() {
			if id := artifacts[i.Key]; id != "" {
				used[i.Key] = id
				running = append(running, id)
			}
		}
		artifacts = used
		return running
	})
}

// tail is the last lines that an instance wrote.
func (s *Server) tail(instance string) (texts []string) {
	lines, err := logs.Tail(s.LogPath(instance), tailLines)
	if err != nil {
		return nil
	}
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	return texts
}

// tailLines is how many of an app's last lines an operation's failure tells.
const tailLines = 20

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
	if err == nil && op.Failure == nil && s.keep == nil {
		s.pruneLogs()
	}
	return op, err
}

// logsKept is how many logs of instances that are gone stay for people to
// read; each is bounded in itself.
const logsKept = 200

// pruneLogs removes the oldest logs of instances that are gone. What cannot be
// removed costs disk space and nothing else.
func (s *Server) pruneLogs() {
	busy := map[string]bool{"requests": true}
	for _, i := range s.control.Instances() {
		busy[i.ID] = true
	}
	keep := logs.Keep{Logs: logsKept, Bytes: s.cfg.LogsMax, Age: s.cfg.LogsAge}
	if err := logs.Prune(s.LogDir(), keep, time.Now(), func(name string) bool { return busy[name] }); err != nil {
		s.cfg.Log.Warn("prune logs", "err", err)
	}
}

// Drill breaks something of a service on purpose; see control.
func (s *Server) Drill(k app.ServiceKey, d app.Drill) (app.Operation, error) {
	return s.control.Drill(k, d, "")
}

// Operation is one that was asked for, as it is now.
func (s *Server) Operation(id string) (op app.Operation, known bool) {
	op, known = s.wishes.Wishes().Operations[id]
	return op, known
}

// Cancel ends an operation that is under way.
func (s *Server) Cancel(id string) error {
	_, err := s.control.Cancel(id, "")
	return err
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
