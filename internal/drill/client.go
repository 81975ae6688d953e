package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

const (
	// backoffFirst and backoffMost are how long a client that lost its place waits
	// before it tries again: about as the libraries of browsers do, doubled each
	// time, and jittered by half, so that a crowd does not come back in step.
	backoffFirst = 250 * time.Millisecond
	backoffMost  = 5 * time.Second

	// saidMax is how much of an answer is told, in bytes.
	saidMax = 120
)

// client is one probe at work. It is used by its own goroutines alone.
type client struct {
	n       int // which one, from 1
	probe   Probe
	base    string // URL without the path
	mark    string // begins its traces; 24 hex digits
	http    *http.Client
	r       *recorder
	ready   chan struct{} // closed when it was up for the first time
	lost    chan struct{} // closed when it was refused connectTries times before
	readied sync.Once
}

// act is what a client does by its probe: it connects, says up, and returns when
// it is connected no more, or could not. It returns nil when it was told goodbye,
// after which it is to come back, and otherwise what went wrong.
type act func(c *client, ctx context.Context) error

func (p Probe) act() act {
	switch p.Kind {
	case "ws":
		return (*client).socket
	case "poll":
		return (*client).poll
	case "sse":
		return (*client).events
	}
	return (*client).ask
}

// live is the life of a client: it comes, and comes back, until ctx ends.
func (c *client) live(ctx context.Context) {
	defer c.http.CloseIdleConnections()
	act := c.probe.act()
	for tries := 0; ctx.Err() == nil; tries++ {
		was := c.r.ups(c)
		err := act(c, ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.r.failed(c, err)
		}
		if tries+1 == connectTries && c.r.ups(c) == 0 {
			close(c.lost)
		}
		if c.r.ups(c) > was {
			tries = 0 // it was connected in between
		}
		wait := min(backoffMost, backoffFirst<<min(tries, 10))
		if rest(ctx, wait/2+rand.N(wait)) != nil {
			return
		}
	}
}

// up says that the client is connected, or was answered.
func (c *client) up() {
	c.r.up(c)
	c.readied.Do(func() { close(c.ready) })
}

// request is a request of this client's.
func (c *client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header = c.header()
	return req, nil
}

func (c *client) header() http.Header {
	return http.Header{
		"User-Agent":            {"holdfast-drill"},
		"X-Cloud-Trace-Context": {fmt.Sprintf("%s%08x/1", c.mark, rand.Uint32())},
	}
}

// trouble is an error of a client's, in words for people.
type trouble struct{ text string }

func (t *trouble) Error() string { return t.text }

func troubled(format string, args ...any) error { return &trouble{fmt.Sprintf(format, args...)} }

// refused is an answer that is none: its status, and what it says.
func refused(status int, body io.Reader) error {
	said, _ := io.ReadAll(io.LimitReader(body, 8*saidMax)) // what cannot be read is not told
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	// What is the same for all: pages begin with the status once more, and end with
	// the name of the request.
	what := strings.TrimSpace(strings.TrimPrefix(gist(string(said)), text))
	what, _, _ = strings.Cut(what, " request ")
	if what != "" {
		text += ": " + what
	}
	return &trouble{text}
}

// gist is the beginning of an answer, as one line without markup.
func gist(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		switch {
		case r == '<':
			inside = true
		case r == '>' && inside:
			inside = false
			b.WriteByte(' ')
		case inside:
		case r < ' ' || r == 0x7f || r == '\ufffd':
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	words := strings.Join(strings.Fields(b.String()), " ")
	if len(words) > saidMax {
		words = strings.ToValidUTF8(words[:saidMax], "") + "…"
	}
	return words
}

// plain says in a few words what went wrong with a connection.
func plain(err error) error {
	var said *trouble
	var timeout net.Error
	switch {
	case errors.As(err, &said):
		return said
	case errors.Is(err, errImpatient), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return &trouble{"no answer in time"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &trouble{"connection refused"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return &trouble{"the connection broke"}
	}
	return &trouble{gist(err.Error())}
}

// errImpatient is the cause where an answer took longer than the probe's patience.
var errImpatient = errors.New("no answer in time")

// patience bounds one step of a client.
func (c *client) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.probe.Patience, errImpatient)
}

// polite says whether a Close code is a goodbye, after which a client just comes
// back: the platform's 1001 and 1012, and an app's own 1000 and 1013.
func polite(code websocket.StatusCode) bool {
	return code == websocket.StatusNormalClosure || code == websocket.StatusGoingAway || code == websocket.StatusServiceRestart || code == websocket.StatusTryAgainLater
}

// parted notes how a WebSocket ended, and says what was wrong with it; nil for a
// goodbye.
func (c *client) parted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil // by us: the drill is over
	}
	var bye websocket.CloseError
	if !errors.As(err, &bye) {
		c.r.down(c, "no Close frame")
		return troubled("the socket ended without a Close frame")
	}
	text := fmt.Sprintf("%d %s", bye.Code, gist(bye.Reason))
	c.r.down(c, strings.TrimSpace(text))
	if polite(bye.Code) {
		return nil
	}
	return troubled("closed with %s", strings.TrimSpace(text))
}

// crowd is all clients of a drill.
type crowd struct {
	all  []*client
	over time.Duration // they come one after the other, the last one then
	busy sync.WaitGroup
}

func newCrowd(s Spec, r *recorder) *crowd {
	w := &crowd{over: min(connectSpread, s.For/10)}
	for i := range s.Clients {
		p := s.Probes[i%len(s.Probes)]
		c := &client{n: i + 1, probe: p, base: strings.TrimSuffix(s.Target.URL, "/"), mark: r.mark, r: r, ready: make(chan struct{}), lost: make(chan struct{})}
		// A transport of its own: clients are different people.
		transport := &http.Transport{DialContext: s.Target.dialer(), MaxIdleConnsPerHost: 4, DisableCompression: true}
		c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if p.Cookies == "yes" || p.Cookies == "half" && (i/len(s.Probes))%2 == 0 {
			c.http.Jar, _ = cookiejar.New(nil) // fails for no options
		}
		w.all = append(w.all, c)
		r.join(c)
	}
	return w
}

// begin has them come, over some time; they go on until ctx ends.
func (w *crowd) begin(ctx context.Context) {
	for i, c := range w.all {
		w.busy.Go(func() {
			if rest(ctx, w.over*time.Duration(i)/time.Duration(len(w.all))) == nil {
				c.live(ctx)
			}
		})
	}
}

func (w *crowd) wait() { w.busy.Wait() }

// connected waits until everybody is there.
func (w *crowd) connected(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	for _, c := range w.all {
		select {
		case <-c.ready:
			continue
		case <-c.lost:
		case <-bound.Done():
		}
		if ctx.Err() != nil {
			return interrupted(ctx.Err())
		}
		why := "nobody answers"
		if text := c.r.lastTrouble(c); text != "" {
			why = text
		}
		return fmt.Errorf("client %d cannot use %s before anything is broken: %s. Nothing was broken", c.n, c.probe, why)
	}
	return nil
}
