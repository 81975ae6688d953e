//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The generator and the backend are processes of their own, so that their cost
// is not counted as anybody else's. They take orders on standard input and
// report on standard output, a line of JSON each, one at a time.

// order is what such a process is to do. Which fields count depends on Do.
type order struct {
	Do        string
	Addr      string        // host:port
	TLS       bool          //
	N         int           // sockets, or whatever is counted
	AtOnce    int           // under way at a time
	Bytes     int           // of a message
	For       time.Duration // how long
	Every     time.Duration // how often
	Within    time.Duration // what has not happened by then has failed
	Hello     bool          // open: exchange a message with each socket
	KeepAlive bool          // ask: many requests on one connection
	Later     bool          // report at once; "await" brings what came of it
}

// report is what came of an order. Nothing that went wrong is left out of
// Failed: reasons, and how often.
type report struct {
	Addr    string `json:",omitempty"` // the backend's
	Done    int
	Failed  map[string]int `json:",omitempty"`
	Elapsed time.Duration
	P50     time.Duration
	P99     time.Duration
	Err     string `json:",omitempty"` // the order was not understood
}

// failures counts all that failed.
func (r report) failures() (n int) {
	for _, k := range r.Failed {
		n += k
	}
	return n
}

// tally is Failed in words.
func (r report) tally() string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(r.Failed)) {
		parts = append(parts, fmt.Sprintf("%s: %d", why, r.Failed[why]))
	}
	return strings.Join(parts, ", ")
}

// obey reads orders until there are no more and reports what do makes of each.
func obey(in io.Reader, out io.Writer, do func(order) report) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		switch err := dec.Decode(&o); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := enc.Encode(do(o)); err != nil {
			return err
		}
	}
}

// helper is a process that takes orders.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const (
	// orderSlack is how much later than an order's own bound its report may come.
	orderSlack = 10 * time.Second

	// stopWait is how long a process may take to go after SIGTERM.
	stopWait = 3 * time.Second
)

// startHelper starts this program in a role.
func startHelper(self, role string, args ...string) (*helper, error) {
	cmd := exec.Command(self, append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return &helper{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// do gives an order and waits for its report.
func (h *helper) do(ctx context.Context, o order) (report, error) {
	type outcome struct {
		r   report
		err error
	}
	got := make(chan outcome, 1)
	go func() { r, err := h.ask(o); got <- outcome{r, err} }()
	late := time.NewTimer(o.For + o.Within + orderSlack)
	defer late.Stop()
	select {
	case g := <-got:
		if g.err != nil {
			return report{}, fmt.Errorf("%s: %w", o.Do, g.err)
		}
		return g.r, nil
	case <-late.C:
		return report{}, fmt.Errorf("%s: no report in time", o.Do)
	case <-ctx.Done():
		return report{}, ctx.Err()
	}
}

// ask is do without a bound but the process's end.
func (h *helper) ask(o order) (r report, err error) {
	if err := json.NewEncoder(h.in).Encode(o); err != nil {
		return report{}, err
	}
	line, err := h.out.ReadBytes('\n')
	if err != nil {
		return report{}, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return report{}, err
	}
	if r.Err != "" {
		return report{}, errors.New(r.Err)
	}
	return r, nil
}

// stop ends the process; an ask under way ends with it.
func (h *helper) stop() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}
