package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	leakMax    = 64 << 10 // MiB in all: the machine should end it, not this
	lineMax    = 1 << 20  // bytes of a line to print
	spawnedFor = 600      // seconds a spawned process lives, should nobody end it
)

// switches make an instance misbehave. Each works on the instance that the
// request reached, which the answer names.
type switches struct {
	exit func(code int) // os.Exit but for tests

	slow      atomic.Int64 // nanoseconds before an answer
	unready   atomic.Bool
	unhealthy atomic.Bool

	hang chan struct{} // closed: nothing is answered any more
	once *sync.Once    // closes hang

	mu     sync.Mutex // guards leaked
	leaked [][]byte
}

func newSwitches() switches {
	return switches{exit: os.Exit, hang: make(chan struct{}), once: new(sync.Once)}
}

func (s *switches) hung() bool {
	select {
	case <-s.hang:
		return true
	default:
		return false
	}
}

// hangIfAsked returns at once, or when ctx ends if the instance hangs.
func (s *switches) hangIfAsked(ctx context.Context) {
	if s.hung() {
		<-ctx.Done() // that of a socket never is
	}
}

// misbehave goes before every request. The checks and the switches themselves
// stay quick when the rest is slow.
func (e *echo) misbehave(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.hung() {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // no answer, not even an empty one
		}
		w.Header().Set("Echo-Instance", e.Instance) // on a 101 too
		quick := r.URL.Path == "/ready" || r.URL.Path == "/live" || strings.HasPrefix(r.URL.Path, "/switch")
		if d := time.Duration(e.slow.Load()); d > 0 && !quick && !pause(r.Context(), d) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (e *echo) ready(w http.ResponseWriter, _ *http.Request) {
	verdict(w, !e.unready.Load() && e.stopping.Err() == nil)
}

func (e *echo) live(w http.ResponseWriter, _ *http.Request) {
	verdict(w, !e.unhealthy.Load())
}

func verdict(w http.ResponseWriter, well bool) {
	if !well {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// turn turns one switch.
func (e *echo) turn(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	on := valueOr(r, "on", "1") != "0"
	switch name {
	case "slow":
		ms, ok := number(w, r, "ms", 500, 0, int(waitMax.Milliseconds()))
		if !ok {
			return
		}
		e.slow.Store(int64(time.Duration(ms) * time.Millisecond))
	case "unready":
		e.unready.Store(on)
	case "unhealthy":
		e.unhealthy.Store(on)
	case "crash":
		code, ok := number(w, r, "code", 1, 0, 255)
		if !ok {
			return
		}
		fmt.Fprintln(os.Stderr, "echo: crashes with code", code)
		e.exit(code)
		return
	case "hang":
		fmt.Fprintln(os.Stderr, "echo: hangs, and hears no SIGTERM")
		e.once.Do(func() { close(e.hang) })
		panic(http.ErrAbortHandler)
	case "leak":
		mb, ok := number(w, r, "mb", 50, 1, leakMax)
		if !ok {
			return
		}
		if !e.leak(mb) {
			http.Error(w, "enough is leaked", http.StatusInsufficientStorage)
			return
		}
	case "spawn":
		pid, err := spawn()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Println("echo: spawned", pid)
		answer(w, map[string]any{"instance": e.Instance, "pid": pid})
		return
	case "print":
		line := valueOr(r, "text", "hello")
		if len(line) > lineMax {
			http.Error(w, "text: at most 1 MiB", http.StatusBadRequest)
			return
		}
		fmt.Fprintln(os.Stdout, line)
		fmt.Fprintln(os.Stderr, line)
	case "reset":
		e.slow.Store(0)
		e.unready.Store(false)
		e.unhealthy.Store(false)
		e.mu.Lock()
		e.leaked = nil
		e.mu.Unlock()
	default:
		http.Error(w, "no such switch; there are slow, unready, unhealthy, crash, hang, leak, spawn, print and reset", http.StatusNotFound)
		return
	}
	if name != "print" {
		fmt.Fprintln(os.Stderr, "echo: switch", name, r.URL.RawQuery)
	}
	e.showSwitches(w, r)
}

func (e *echo) showSwitches(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"instance":  e.Instance,
		"slow_ms":   time.Duration(e.slow.Load()).Milliseconds(),
		"unready":   e.unready.Load(),
		"unhealthy": e.unhealthy.Load(),
		"leaked_mb": e.leakedMB(),
	})
}

// leak takes memory for good, and touches it so that it counts.
func (e *echo) leak(mb int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.leaked)+mb > leakMax {
		return false
	}
	for range mb {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		e.leaked = append(e.leaked, block)
	}
	return true
}

func (e *echo) leakedMB() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.leaked)
}

// spawn starts a process that leaves our session and our family: a shell leads
// a new session, starts the process and ends. Returns the process's id.
func spawn() (int, error) {
	cmd := exec.Command("sh", "-c", fmt.Sprintf("sleep %d >/dev/null 2>&1 & echo $!", spawnedFor))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("spawn: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}
