//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

// generator is what all proxies have in front of them. One loop does all of
// it; only TLS handshakes run on goroutines of their own.
type generator struct {
	loop   *loop
	buf    []byte // what is read, one at a time
	tls    *tls.Config
	dials  uint32
	stamps uint64

	later *job // begun by an order with Later; owned by do

	open map[*client]struct{} // WebSockets and polls that are held
	job  *job                 // the order under way; never nil
	lost map[string]int       // held ones that ended while nobody looked; told with the next report
}

// job is an order under way: what its progress means. All of it runs on the loop.
type job struct {
	order    order
	left     int // things that are to go well or fail before it reports
	report   report
	times    []time.Duration
	started  time.Time
	reported chan report // of capacity one
	over     bool

	opened   func(*client)       // connected and, as a WebSocket, upgraded
	message  func(*client)       // a whole message has come
	answered func(*client, bool) // a whole answer has come; true: the connection may be used again
	ended    func(*client) bool  // a connection ended; true: as it was meant to
}

// generatorMain is the role "load": it obeys.
func generatorMain([]string) error {
	g, err := newGenerator()
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- g.loop.run() }()
	obeyed := make(chan error, 1)
	go func() { obeyed <- obey(os.Stdin, os.Stdout, g.do) }()
	select {
	case err := <-ran:
		return err
	case err := <-obeyed:
		return err
	}
}

func newGenerator() (*generator, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &generator{
		loop: l,
		buf:  make([]byte, readBytes),
		tls: &tls.Config{
			// The certificate was made a moment ago by the harness.
			InsecureSkipVerify: true,
			ServerName:         "localhost",
			// The same work for every proxy: Go's own servers would take the
			// post-quantum exchange that Debian's OpenSSL does not know.
			CurvePreferences:   []tls.CurveID{tls.X25519},
			ClientSessionCache: nil, // every handshake is a full one
		},
		open: map[*client]struct{}{},
		job:  &job{over: true, opened: (*client).leave},
		lost: map[string]int{},
	}, nil
}

// do obeys one order and reports when it is done or its time is over.
func (g *generator) do(o order) report {
	if o.Do == "await" && g.later != nil {
		j := g.later
		g.later = nil
		return g.await(j, o)
	}
	begin := map[string]func(*job){
		"open":    g.openSockets,
		"poll":    g.openPolls,
		"answers": g.awaitAnswers,
		"echo":    g.echo,
		"receive": g.receive,
		"ask":     g.ask,
		"goodbye": g.goodbye,
	}[o.Do]
	if begin == nil {
		return report{Err: fmt.Sprintf("unknown order %q", o.Do)}
	}
	j := &job{order: o, reported: make(chan report, 1)}
	begun := make(chan struct{})
	g.loop.post(func() {
		j.started = time.Now()
		j.report.Failed = g.lost
		g.lost = map[string]int{}
		g.job = j
		begin(j)
		close(begun)
	})
	if o.Later {
		<-begun
		g.later = j
		return report{}
	}
	return g.await(j, o)
}

// await waits for a job's report, but no longer than o allows.
func (g *generator) await(j *job, o order) report {
	late := time.NewTimer(o.For + o.Within)
	defer late.Stop()
	select {
	case r := <-j.reported:
		return r
	case <-late.C:
		g.loop.post(func() {
			if !j.over {
				j.report.Failed[fmt.Sprintf("not within %v", o.For+o.Within)] += j.left
			}
			g.finish(j)
		})
		return <-j.reported
	}
}

// less notes that one thing less is left.
func (g *generator) less(j *job) {
	if j.left--; j.left == 0 {
		g.finish(j)
	}
}

func (g *generator) finish(j *job) {
	if j.over {
		return
	}
	j.over = true
	// What comes now is too late, or was not asked for.
	j.opened, j.message, j.answered, j.ended = (*client).leave, nil, nil, nil
	j.report.Elapsed = time.Since(j.started)
	slices.Sort(j.times)
	if n := len(j.times); n > 0 {
		j.report.P50, j.report.P99 = j.times[n/2], j.times[n*99/100]
	}
	j.reported <- j.report
}

// went counts one of those that are left, which went well.
func (g *generator) went(j *job) {
	j.report.Done++
	g.less(j)
}

// took notes how long something took.
func (j *job) took(d time.Duration) { j.times = append(j.times, d) }

// failed is told of every connection that ended without our doing.
func (g *generator) failed(c *client, err error) {
	delete(g.open, c)
	j := g.job
	if !j.over && j.ended != nil && j.ended(c) {
		return
	}
	if j.over {
		g.lost["lost while idle: "+reason(err)]++
		return
	}
	j.report.Failed[reason(err)]++
	g.less(j)
}

// reason is an error as it is counted: without what differs each time.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, io.EOF):
		return "ended by the other side"
	case errors.As(err, &errno):
		return errno.Error()
	default:
		return err.Error()
	}
}
