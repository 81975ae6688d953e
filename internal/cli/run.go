package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/app"
	"holdfast/internal/appyaml"
	"holdfast/internal/build"
	"holdfast/internal/certs"
	"holdfast/internal/config"
	"holdfast/internal/edge"
	"holdfast/internal/server"
)

const (
	// appYAMLMax is how much of an app.yaml is read; the reader refuses more
	// than 1 MiB itself, with a message that says so.
	appYAMLMax = 1<<20 + 1

	// watchDrain is how long sockets are given to move away when a saved file
	// rolls over: a developer does not want to wait for holdfast.drain.
	watchDrain = 2 * time.Second

	// tailLines is how many of an app's last lines an error shows.
	tailLines = 20
)

// runOptions are the flags of run.
type runOptions struct {
	drillOptions
	dir       string
	instances int
	port      int
	host      string
	project   string
	region    string
	service   string
	env       []string
	user      string
	data      string
	redis     string
	tls       bool
	open      bool
	watch     bool
	drill     string // drills to do, instead of serving on; "": none
	nearest   bool
	debug     bool
}

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run DIR",
		Short: "Build the app in DIR, start its instances and serve it on this machine",
		Long: `Builds the app in DIR as its app.yaml says, starts its instances, waits until they
are ready, prints the address to open, and follows their logs. Ctrl-C says goodbye
to every socket and stops the app as App Engine would: SIGTERM, up to 30 seconds,
SIGKILL. A second Ctrl-C does it at once.`,
		Example: `  holdfast run examples/chat
  holdfast run examples/echo --instances=3 --port=9000
  holdfast run . --watch --env=GREETING=hello
  holdfast run . --drill=instance-crash,hang --probe=ws:/ws --expect=errors=0
  holdfast run examples/chat --tls`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return misuse{fmt.Errorf("run takes one folder, the one with the app.yaml; got %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if what, hint := config.CheckRedis(o.redis); what != "" {
				return misuse{fmt.Errorf("--redis: %s: %s", what, hint)}
			}
			o.dir = args[0]
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.instances, "instances", 0, "run so many instances, whatever app.yaml says about scaling")
	f.IntVar(&o.port, "port", 8080, "listen on this port; 0 takes a free one")
	f.StringVar(&o.host, "host", "127.0.0.1", "listen on this address; 0.0.0.0 lets other machines in")
	f.StringVar(&o.project, "project", "", "project id, for GOOGLE_CLOUD_PROJECT and host names (default: the folder's name)")
	f.StringVar(&o.region, "region", "local", "REGION_ID of the host names PROJECT.REGION_ID.r.localhost")
	f.StringVar(&o.service, "service", "", "service name (default: app.yaml's, else default)")
	f.StringArrayVar(&o.env, "env", nil, "set a variable of the app, KEY=VALUE; may be repeated, wins over app.yaml")
	f.StringVar(&o.user, "user", "", "run the instances as this user; needs root")
	f.StringVar(&o.data, "data", "", "keep builds, logs and state here (default: a folder of the app's own in your cache)")
	f.StringVar(&o.redis, "redis", "", "lead an app with holdfast.bus to this Redis, redis://HOST:PORT, instead of the bus in the box")
	f.BoolVar(&o.tls, "tls", false, "serve it over HTTPS, with certificates of a local authority that is made for you once")
	f.BoolVar(&o.open, "open", false, "open the address in your browser once it is served")
	f.BoolVar(&o.watch, "watch", false, "build and roll over when a file is saved")
	f.StringVar(&o.drill, "drill", "", "drill the app and stop: with all drills, or those of --drill=NAME,...; see holdfast drill --help")
	f.Lookup("drill").NoOptDefVal = allDrills
	o.drillOptions.flags(cmd)
	f.BoolVar(&o.nearest, "nearest-runtime", false, "take the nearest runtime version where this machine lacks the one asked for")
	f.BoolVar(&o.debug, "debug", false, "print what Holdfast decides and why")
	return cmd
}

// runner is one `holdfast run` at work.
type runner struct {
	runOptions
	overlay appyaml.Overlay // what the flags say beside app.yaml
	screen  *screen
	log     *slog.Logger
	builder *build.Builder
	server  *server.Server
	follow  *followers
	tree    *tree // nil: not watched

	authority *certs.Authority // nil: plain HTTP
	console   net.Listener     // where people look at it

	mu        sync.Mutex // guards the following
	announced bool       // the address has been printed
}

func (o runOptions) run(ctx context.Context) error {
	r := &runner{runOptions: o, screen: newScreen(os.Stdout), log: slog.New(slog.DiscardHandler)}
	if o.debug {
		r.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if err := edge.OfferSockets(); err != nil { // before anything is opened: it may start us again
		r.log.Warn("run", "warning", err)
	}
	if err := r.check(); err != nil {
		return err
	}
	defer r.builder.Close()
	v, err := r.read()
	if err != nil {
		return err
	}
	if r.watch {
		// From before the build on: what is saved during it counts.
		if r.tree, err = watchTree(r.dir); err != nil {
			return err
		}
		defer r.tree.watcher.Close()
	}
	listener, err := r.listen()
	if err != nil {
		return err
	}
	if err := r.prepare(v, listener); err != nil {
		listener.Close()
		return err
	}
	return r.serve(ctx, v, listener.Addr().(*net.TCPAddr).Port)
}

func (r *runner) listen() (net.Listener, error) {
	return listen(net.JoinHostPort(r.host, strconv.Itoa(r.port)), fmt.Sprintf("--port=%d", r.port+1), "--port=0", "--port=8080")
}

// listen opens a listener. The words for people are flags: another port, one
// that is found, and one that needs no root.
func listen(addr, another, any, harmless string) (net.Listener, error) {
	l, err := edge.Listen(addr)
	var taken *edge.PortTakenError
	if errors.As(err, &taken) {
		return nil, &problem{
			what: taken.Error(), err: err,
			next: fmt.Sprintf("Choose another with %s, or let one be found with %s.", another, any),
		}
	}
	if errors.Is(err, syscall.EACCES) {
		return nil, &problem{what: err.Error(), err: err, next: fmt.Sprintf("Ports below 1024 need root; choose one above with %s.", harmless)}
	}
	return l, err
}

// prepare makes the server.
func (r *runner) prepare(v app.Version, l net.Listener) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	plain, secure, from := []net.Listener{l}, []net.Listener(nil), certs.Config{}
	if r.tls {
		if r.authority, err = openAuthority(); err != nil {
			return err
		}
		plain, secure, from.Local = nil, plain, r.authority
	}
	// Beside the app, on a port of its own, and for this machine alone.
	if r.console, err = edge.Listen("127.0.0.1:0"); err != nil {
		return err
	}
	r.follow = newFollowers(r.screen)
	r.server, err = server.New(server.Config{
		Data:    r.data,
		Plain:   plain,
		TLS:     secure,
		Certs:   from,
		Domains: []string{"localhost"},
		Region:  r.region,
		App:     v.App,
		Service: v.Service,
		User:    r.user,
		Redis:   r.redis,
		Keeper:  []string{self, keeper},
		Console: r.console,
		Program: version(),
		Events:  r.event,
		Log:     r.log,
	})
	if err != nil {
		r.console.Close()
	}
	if errors.Is(err, app.ErrBusy) {
		return &problem{what: strings.TrimSuffix(err.Error(), ": "+app.ErrBusy.Error()), err: err,
			next: "To run the app twice, keep the state of the second apart with --data=DIR."}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", shorten(r.data), err)
	}
	return nil
}

// serve runs the server until the person ends it or the first deploy fails.
func (r *runner) serve(ctx context.Context, v app.Version, port int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hurry, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	go heedSignals(ctx, hurry, func() {
		r.screen.say("\nStopping: a goodbye to every socket, then up to 30 s for the app. Ctrl-C again does it at once.")
	}, stop, cut)

	served := make(chan error, 1)
	go func() { served <- r.server.Run(ctx, hurry) }()

	err := r.deploy(ctx, v)
	if err == nil {
		r.announce(v, port)
		if r.drill == "" {
			err = r.attend(ctx)
		} else {
			err = r.drills(ctx, v, port)
		}
	}
	r.screen.fail()
	interrupted := ctx.Err() != nil
	stop()
	if serveErr := <-served; serveErr != nil {
		return serveErr
	}
	r.follow.wait()
	if interrupted {
		r.screen.say("Stopped.")
		return nil
	}
	return err
}
