// Package process is the driver that runs instances as processes of this
// machine. It knows how to start, hold, stop and find them again; it knows
// nothing of traffic or health, nor of how many there should be.
//
// # Who is who
//
// Each instance has a keeper: a small process of ours that outlives us.
//
//	holdfast ──► keeper ──► launch, becomes bash -c "exec COMMAND", becomes the app ──► ...
//
// The keeper has a session of its own, so that no terminal and no end of ours
// reaches it. It carries what the app writes into the log, waits for it,
// records how it ended, ends every descendant that is left, and goes. So logs
// survive our restart, exits are known that happened while we were away, and
// grandchildren go with their instance. When the keeper itself is killed, the
// kernel kills the app (Linux), and we sweep up what remains.
//
// # What lies on disk
//
//	Dir/lock                   held by the driver that has Dir, its pid inside
//	Dir/ID/instance.json       what List tells, written before anything runs
//	Dir/ID/alive               locked by the keeper as long as it lives
//	Dir/ID/spec.json           what to start; 0600, gone as soon as it has started
//	Dir/ID/keeper.json         keeper and app: pid and start time; written by the keeper
//	Dir/ID/exit.json           how and when the app ended; written by the keeper
//	Dir/ID/keeper.err          what a keeper says that fails
//	Dir/ID/app, Dir/ID/tmp     the working copy, and TMPDIR
//	Dir/ID/notice/draining     there once the instance drains: HOLDFAST_DRAIN_FILE
//	Dir/ID/warned              there once the app has been told so
//	Dir/ID/paused              there before a drill stops the app's processes, until they go on
//	Logs/ID.log                stays when the instance goes
//
// A lock cannot be left behind as a pid can be, and so "is its keeper alive?"
// is asked of the lock alone. A directory without keeper.json whose lock is
// free is half-made and removed at the next New.
//
// Start reading at New, Start and, for the other side, Main.
package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/driver"
)

// Grace is how long App Engine lets an app end after the polite signal; the
// usual value for Stop.
const Grace = 30 * time.Second

const (
	// startMax bounds the time from the start of a keeper to the start of its
	// app. It takes some 30 ms; a machine that thrashes takes longer.
	startMax = 20 * time.Second

	// forceMax bounds the wait for the end of what was killed. Only a process
	// that hangs in the kernel (a dead network disk) takes longer.
	forceMax = 10 * time.Second

	// idBytesMax keeps Dir/ID and Logs/ID.log.5 within every file system's names.
	idBytesMax = 128
)

// Config says where instances live and how they run.
type Config struct {
	Dir    string       // instances live in Dir/ID; one driver at a time has it
	Logs   string       // logs/ID.log
	User   string       // the user that apps run as; "" is who we are. Needs root
	Keeper []string     // the command that ends up in Main, e.g. {self, "keeper"}
	Hidden []string     // absolute folders that apps see nothing of, but for what is theirs; see CanConfine. None: what permissions leave open is open
	Log    *slog.Logger // nil: none
}

var (
	_ driver.Driver  = (*Driver)(nil)
	_ driver.Breaker = (*Driver)(nil)
)

// Driver runs instances as local processes.
type Driver struct {
	// Set by New, then constant.
	cfg    Config
	log    *slog.Logger
	lock   *os.File // holds Dir
	name   string   // of Dir, short; names its cgroups and marks its processes
	user   identity
	limits *limits

	mu        sync.Mutex // guards the following
	instances map[string]*instance
	watchers  map[*watcher]bool
	ports     ports
	treeRead  time.Time // when CPU times were last read from the process table
	closed    bool
}

// New takes Dir, finds the instances that earlier drivers left there and clears
// away what is left of dead ones. It starts nothing. A Dir that another driver
// has is app.ErrBusy, and the text names the process. Close gives Dir back.
func New(cfg Config) (*Driver, error) {
	d := &Driver{
		cfg:       cfg,
		log:       cfg.Log,
		instances: map[string]*instance{},
		watchers:  map[*watcher]bool{},
		ports:     newPorts(),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.prepare(); err != nil {
		return nil, fmt.Errorf("process driver: %w", err)
	}
	if err := d.adopt(); err != nil {
		unlockDir(d.lock)
		return nil, fmt.Errorf("process driver: %w", err)
	}
	return d, nil
}

// prepare checks the configuration and takes Dir.
func (d *Driver) prepare() (err error) {
	if d.cfg.Dir == "" || d.cfg.Logs == "" || len(d.cfg.Keeper) == 0 {
		return fmt.Errorf("no directory, logs or keeper configured: %w", app.ErrInvalid)
	}
	// Keepers run with / as their directory.
	for _, p := range []*string{&d.cfg.Dir, &d.cfg.Logs} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	keeper, err := exec.LookPath(d.cfg.Keeper[0])
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if keeper, err = filepath.Abs(keeper); err != nil {
		return err
	}
	d.cfg.Keeper = append([]string{keeper}, d.cfg.Keeper[1:]...)

	if d.user, err = lookUp(d.cfg.User); err != nil {
		return err
	}
	mode := os.FileMode(0o700)
	if d.user.other() {
		mode = 0o711 // the app's user passes through, and sees nothing
	}
	if err := os.MkdirAll(d.cfg.Dir, mode); err != nil {
		return err
	}
	if err := os.MkdirAll(d.cfg.Logs, 0o700); err != nil {
		return err
	}
	// One directory has one name, however it was reached.
	if d.cfg.Dir, err = filepath.EvalSymlinks(d.cfg.Dir); err != nil {
		return err
	}
	if dir := d.user.barrier(d.cfg.Dir); dir != "" {
		return fmt.Errorf("user %s cannot enter %s, which leads to the instances in %s: allow it (chmod o+x %s) or choose another directory",
			d.user.Name, dir, d.cfg.Dir, dir)
	}
	d.name = shortName(d.cfg.Dir)
	if d.lock, err = lockDir(d.cfg.Dir); err != nil {
		return err
	}
	d.limits = findLimits(d.name)
	return nil
}

// Limits says how CPU and memory of instances are held to their resources:
// "cgroup v1", "cgroup v2", or "none: " and the reason. It does not change.
func (d *Driver) Limits() string { return d.limits.text }

// Close gives Dir to whoever comes next. Instances go on; the driver must not
// be used any more. A driver whose process ends needs no Close.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return unlockDir(d.lock)
}

// instance is one that is listed.
type instance struct {
	record  record             // constant
	dir     string             // Dir/ID
	started chan struct{}      // closed when Start is over, successful or not
	cancel  context.CancelFunc // ends a start that is under way

	// Guarded by Driver.mu.
	stop *stop // the Stop that is under way

	warning sync.Mutex // held by the Warn that is under way, around the others

	mu     sync.Mutex // guards the following; never held together with Driver.mu
	alive  *os.File   // asks the keeper's lock; nil until the keeper has started
	keeper keeperRecord
	child  *os.Process // the keeper while it is our child and not yet waited for
	exit   *exitRecord // once it has ended

	metered bool          // meter has been looked for
	meter   string        // the file that counts its CPU time; "": none does
	cpu     time.Duration // as last measured

	pausing sync.Mutex  // held by the Pause or Resume that is under way, around mu
	paused  atomic.Bool // the file says so
}

// adopted is a channel that is closed already: what an earlier driver started
// has started.
func adopted(dir string, r record) *instance {
	in := &instance{record: r, dir: dir, started: make(chan struct{}), cancel: func() {}}
	close(in.started)
	return in
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Running, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	d.mu.Lock()
	all := make([]*instance, 0, len(d.instances))
	for _, in := range d.instances {
		all = append(all, in)
	}
	d.mu.Unlock()
	list := make([]driver.Running, 0, len(all))
	d.measure(all)
	for _, in := range all {
		r := driver.Running{ID: in.record.ID, Key: in.record.Key, Addr: in.record.Addr, Born: in.record.Born}
		if e := d.settle(in); e != nil {
			r.Exited, r.Exit, r.Ended = true, e.How, e.Ended
		}
		in.mu.Lock()
		r.CPU = in.cpu
		in.mu.Unlock()
		r.Paused = in.paused.Load() && !r.Exited
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b driver.Running) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// settle looks whether the instance has ended, and returns how; nil while it
// runs. It is what turns a keeper's end into an exit, whoever noticed first.
func (d *Driver) settle(in *instance) *exitRecord {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.exit != nil || in.alive == nil || !lockFree(in.alive) {
		return in.exit
	}
	if in.child != nil {
		in.child.Wait() // its lock is free, so it ends now: this only reaps
		in.child = nil
	}
	e := new(exitRecord)
	err := readJSON(filepath.Join(in.dir, exitFile), e)
	if err != nil {
		// The keeper records an exit before it ends. It did not get to that.
		d.sweep([]*instance{in})
		*e = exitRecord{How: "its keeper was killed", Ended: time.Now().UTC()}
		if in.keeper.Boot != "" && in.keeper.Boot != bootID() {
			e.How = "the machine was restarted"
		}
		if said := lastWords(filepath.Join(in.dir, stderrFile)); said != "" {
			d.log.Error("a keeper failed", "instance", in.record.ID, "said", said)
		}
		if err := writeJSON(filepath.Join(in.dir, exitFile), e); err != nil {
			d.log.Warn("record exit", "instance", in.record.ID, "err", err)
		}
		logSystem(in.record.Log, e.How+": the app ended with it")
	}
	in.exit = e
	return e
}
