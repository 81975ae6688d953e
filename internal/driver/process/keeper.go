package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/logs"
)

// What Main is asked to be.
const (
	verbKeep   = "keep"
	verbLaunch = "launch"
)

const (
	// reapInterval is how often a keeper looks again for what it must end;
	// the end of its children wakes it earlier.
	reapInterval = 20 * time.Millisecond

	// drainMax bounds the wait for the last lines of an app that has ended.
	// Only who got the pipe and is no descendant can hold it open.
	drainMax = 2 * time.Second

	// pipeBytes is what one read takes from the app: a pipe's usual size.
	pipeBytes = 64 << 10
)

// Main is what a keeper process runs, with the arguments that follow the
// command in Config.Keeper. It returns the exit code. It shares nothing with
// the Driver but files and three descriptors, and must be called before
// anything else of the program is set up.
func Main(args []string) int {
	var err error
	switch {
	case len(args) == 2 && args[0] == verbKeep:
		err = keep(args[1])
	case len(args) == 3 && args[0] == verbLaunch:
		err = launch(args[1], args[2])
	default:
		err = errors.New("a keeper is started by holdfast itself, not by hand")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "holdfast keeper:", err)
		return 1
	}
	return 0
}

// keeperEnvironment is a keeper's whole environment: nothing that an app could
// read from it, and a runtime told to stay small. There are as many keepers as
// instances, and each has next to nothing to do.
func keeperEnvironment() []string {
	env := []string{"GOMAXPROCS=1", "GOGC=25", "PATH=" + defaultPath}
	if race, ok := os.LookupEnv("GORACE"); ok { // how the race detector behaves, where it is built in
		env = append(env, "GORACE="+race)
	}
	return env
}

// keeper is the process that holds one instance.
type keeper struct {
	spec     spec
	dir      string
	log      *logs.File
	app      int // its pid, which is its process group and session too
	outputs  sync.WaitGroup
	ended    bool // the app was waited for
	status   unix.WaitStatus
	signals  chan os.Signal
	children chan os.Signal // some child changed; capacity one
	stopping bool
}

// keep starts the instance in dir and holds it until it has ended.
func keep(dir string) error {
	// The kernel ties the app's life to the thread that started it.
	runtime.LockOSThread()
	k := &keeper{dir: dir, signals: make(chan os.Signal, 4), children: make(chan os.Signal, 1)}
	// Caught, not ignored: what is ignored stays ignored in the app.
	signal.Notify(k.signals, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	signal.Notify(k.children, unix.SIGCHLD)
	for _, fd := range []int{reportFD, aliveFD, holdFD} {
		unix.CloseOnExec(fd)
	}
	report := os.NewFile(reportFD, "report")
	defer report.Close()

	if err := k.begin(); err != nil {
		if k.log != nil {
			k.say("could not start: " + err.Error())
		}
		// For the case that who started us is gone and the next one asks.
		k.record("could not start: " + err.Error())
		fmt.Fprint(report, err)
		return err
	}
	fmt.Fprint(report, reportOK)
	report.Close()
	k.hold()
	k.finish()
	return nil
}

// begin starts the app.
func (k *keeper) begin() error {
	path := filepath.Join(k.dir, specFile)
	if err := readJSON(path, &k.spec); err != nil {
		return err
	}
	var err error
	if k.log, err = logs.Create(k.spec.Log, logs.Limit{}); err != nil {
		return err
	}
	for _, note := range k.spec.Notes {
		k.say(note)
	}
	if err := adoptOrphans(); err != nil {
		return err
	}
	us := keeperRecord{PID: os.Getpid(), Start: startTime(os.Getpid()), Boot: bootID()}
	if err := writeJSON(filepath.Join(k.dir, keeperFile), us); err != nil {
		return err
	}
	if err := k.launch(); err != nil {
		return err
	}
	us.App, us.AppStart = k.app, startTime(k.app)
	if err := writeJSON(filepath.Join(k.dir, keeperFile), us); err != nil {
		k.killAll()
		return err
	}
	os.Remove(path) // secrets are on the disk no longer than they must
	k.spec.Env = nil
	k.say("started pid " + strconv.Itoa(k.app))
	return nil
}

// launch starts the stage that becomes the app and waits until it has.
func (k *keeper) launch() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	var reads, writes []*os.File
	defer func() {
		for _, w := range writes {
			w.Close()
		}
	}()
	for range 3 { // stdout, stderr, and what went wrong
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		reads, writes = append(reads, r), append(writes, w)
	}
	argv := append(append([]string{}, k.spec.Keeper...), verbLaunch, k.dir, strconv.Itoa(os.Getpid()))
	files := []uintptr{null.Fd()}
	for _, w := range writes {
		files = append(files, w.Fd())
	}
	k.app, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   keeperEnvironment(),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	for _, w := range writes {
		w.Close()
	}
	for i, s := range []logs.Stream{logs.Out, logs.Err} {
		k.outputs.Go(func() { k.carry(reads[i], s) })
	}
	// It is closed by the execution of the app.
	failure, err := io.ReadAll(io.LimitReader(reads[2], 4096))
	reads[2].Close()
	if err == nil && len(failure) > 0 {
		err = errors.New(string(failure))
	}
	if err != nil {
		k.killAll()
	}
	return err
}

// carry brings what the app writes into the log, until nobody can write any
// more. A log that cannot be written loses lines; the app must not notice.
func (k *keeper) carry(r *os.File, s logs.Stream) {
	defer r.Close()
	stream := k.log.Stream(s)
	defer stream.Close()
	buf := make([]byte, pipeBytes)
	for {
		n, err := r.Read(buf)
		stream.Write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (k *keeper) say(text string) {
	k.log.Append(logs.Line{Time: time.Now(), Stream: logs.System, Text: text})
}

func (k *keeper) record(how string) {
	e := exitRecord{How: how, Ended: time.Now().UTC()}
	if err := writeJSON(filepath.Join(k.dir, exitFile), e); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast keeper: record exit:", err)
	}
}

// hold waits until the app has ended or must be ended by force.
func (k *keeper) hold() {
	tick := time.NewTicker(reapInterval)
	tick.Stop() // until there is something to look for
	defer tick.Stop()
	for {
		k.reap()
		if k.ended && !k.stopping {
			return
		}
		// Asked to end, everybody in the group was: some may take longer
		// than the one that we started.
		if k.ended && errors.Is(unix.Kill(-k.app, 0), unix.ESRCH) {
			return
		}
		select {
		case <-k.children:
		case <-tick.C:
		case sig := <-k.signals:
			switch sig {
			case unix.SIGTERM:
				if !k.stopping {
					k.stopping = true
					k.say("stop: sent SIGTERM")
					unix.Kill(-k.app, unix.SIGTERM)
					tick.Reset(reapInterval)
				}
			case unix.SIGUSR2:
				// Not yet waited for, its number is still its own.
				if !k.ended && !k.stopping {
					unix.Kill(k.app, unix.SIGUSR1)
					k.say("it drains: sent SIGUSR1")
				}
			case unix.SIGUSR1:
				k.stopping = true
				k.say("stop: sent SIGKILL")
				return
			}
		}
	}
}
