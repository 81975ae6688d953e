package process

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

// The files of an instance; the package comment says who writes which.
const (
	recordFile = "instance.json"
	specFile   = "spec.json"
	keeperFile = "keeper.json"
	exitFile   = "exit.json"
	aliveFile  = "alive"
	stderrFile = "keeper.err"
	appDir     = "app"
	tmpDir     = "tmp"
	noticeDir  = "notice"
	warnedFile = "warned"
	pausedFile = "paused"
)

// trashPrefix marks what is being removed: it is no instance any more, even
// when we are interrupted in the middle of it.
const trashPrefix = ".gone-"

// stateBytesMax bounds a state file; the largest holds an app's environment.
const stateBytesMax = 16 << 20

// record is what List tells of an instance.
type record struct {
	ID       string    `json:"id"`
	Key      app.Key   `json:"key"`
	Addr     string    `json:"addr"`
	Port     int       `json:"port"`
	Born     time.Time `json:"born"`
	Log      string    `json:"log"`
	MemoryMB int       `json:"memory_mb"`
	Groups   []string  `json:"groups"` // its cgroups, as directories

	DrainSignal bool `json:"drain_signal"` // the app wants to hear SIGUSR1 when it drains
}

// spec is what a keeper starts. It holds the app's environment, and so is
// readable by us alone and removed once it was read.
type spec struct {
	record
	Keeper  []string `json:"keeper"` // the command that ends up in Main
	Shell   string   `json:"shell"`
	Command string   `json:"command"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"` // where the app begins
	User    identity `json:"user"`
	Notes   []string `json:"notes"` // for the log, before anything else

	Hidden []string `json:"hidden"` // see confine; so for the following
	Reads  []string `json:"reads"`
	Writes []string `json:"writes"`
}

// keeperRecord names the processes of an instance. The start times tell them
// from others that got their number later; 0 means not known.
type keeperRecord struct {
	PID      int    `json:"pid"`
	Start    int64  `json:"start"`
	App      int    `json:"app"` // 0: not started yet
	AppStart int64  `json:"app_start"`
	Boot     string `json:"boot"` // of the machine; "" means not known
}

// exitRecord is how an instance ended.
type exitRecord struct {
	How   string    `json:"how"`
	Ended time.Time `json:"ended"`
}

// shortName is a name for the path of a directory, short enough for cgroups.
func shortName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:6])
}

// mark is the value of HOLDFAST_INSTANCE in every process of an instance.
func (d *Driver) mark(id string) string { return d.name + "/" + id }

const markVariable = "HOLDFAST_INSTANCE"

// checkID refuses what cannot be the name of a directory and a log, or would
// be one of ours.
func checkID(id string) error {
	if id == "" {
		return fmt.Errorf("no id: %w", app.ErrInvalid)
	}
	if len(id) > idBytesMax {
		return fmt.Errorf("id of %d bytes, more than %d: %w", len(id), idBytesMax, app.ErrInvalid)
	}
	for i, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.') {
			return fmt.Errorf("id %q: may hold letters, digits, '-', '_' and '.', and begins with a letter or digit: %w", id, app.ErrInvalid)
		}
	}
	if id == lockFile {
		return fmt.Errorf("id %q is taken: %w", id, app.ErrInvalid)
	}
	return nil
}

// writeJSON replaces the file at path whole: written beside, synced, renamed.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, data, true)
}

// writeSpec writes what only processes that live now will read: it need not
// survive the machine, and is not waited for until it is on the disk.
func writeSpec(path string, s spec) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(path, data, false)
}

func writeFile(path string, data []byte, sync bool) (err error) {
	const mode = 0o600
	beside := path + ".new"
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		os.Remove(beside)
	}
	return err
}

func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > stateBytesMax {
		return fmt.Errorf("%s: %d bytes, more than %d", path, info.Size(), stateBytesMax)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

const lockFile = "lock"

// lockDir takes a directory for one driver, as long as the file stays open.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		who := "another process"
		// The first one writes its pid after it has the lock: it may not be there yet.
		if data, err := os.ReadFile(path); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
				who = fmt.Sprintf("process %d", pid)
			}
		}
		return nil, fmt.Errorf("%s is in use by %s: stop that one first, or choose another directory: %w", dir, who, app.ErrBusy)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// unlockDir gives the directory up. Closing alone would not: a child that is
// being started elsewhere in this process has the descriptor, too, until it
// executes its program.
func unlockDir(f *os.File) error {
	return errors.Join(flock(f, unix.LOCK_UN), f.Close())
}

// flock is unix.Flock, again after signals.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err
		}
	}
}

// lockFree says whether nobody else holds the lock of f. Asking shares the lock
// for a moment, so that askers do not meet.
func lockFree(f *os.File) bool {
	if flock(f, unix.LOCK_SH|unix.LOCK_NB) != nil {
		return false
	}
	flock(f, unix.LOCK_UN)
	return true
}

// lastWords is the beginning of what a keeper wrote to its standard error: the stack
// of a crash, as a rule nothing.
func lastWords(path string) string {
	const most = 4 << 10 // a stack's first frames, which name the culprit
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data[:min(len(data), most)]))
}

// logSystem adds one remark of ours to a log that nobody else writes now.
func logSystem(path, text string) {
	f, err := logs.Create(path, logs.Limit{})
	if err != nil {
		return
	}
	f.Append(logs.Line{Time: time.Now(), Stream: logs.System, Text: text})
	f.Close()
}

// discard removes an instance's directory in a way that can be interrupted.
func discard(dir string) error {
	trash := filepath.Join(filepath.Dir(dir), trashPrefix+filepath.Base(dir))
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	if err := os.Rename(dir, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}
