package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// client is somebody with a cookie jar, as a browser has.
type client struct {
	http *http.Client
	base string
}

func newClient(t *testing.T, base string) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{http: &http.Client{Jar: jar, Transport: transport, Timeout: patience}, base: base}
}

// instance asks which instance serves a request.
func (c *client) instance(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "text/plain")
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return nameIn(string(body)), nil
}

// socket opens a socket and returns it with the instance that it landed on,
// which the app names in a header of its 101.
func (c *client) socket(ctx context.Context) (*websocket.Conn, string, error) {
	conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.base, "http")+"/ws", &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		return nil, "", err
	}
	return conn, resp.Header.Get("Echo-Instance"), nil
}

// nameIn finds an instance's name in what the echo example answers.
func nameIn(body string) string { return instanceName.FindString(body) }

var instanceName = regexp.MustCompile(`[a-z0-9]+(-[a-z0-9]+)+`)

// echo sends a message and wants it back.
func echo(ctx context.Context, conn *websocket.Conn, text string) error {
	if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return err
	}
	_, got, err := conn.Read(ctx)
	if err == nil && string(got) != text {
		err = fmt.Errorf("got %q back, sent %q", got, text)
	}
	return err
}

// Without affinity 1,000 requests over two instances spread within 5 % of even,
// and so do 400 sockets that are opened 20 at a time and stay.
func TestRequestsAndSocketsSpreadEvenly(t *testing.T) {
	t.Parallel()
	h := start(t, "../examples/echo")
	even := func(what string, counts map[string]int) {
		t.Helper()
		total := 0
		for _, n := range counts {
			total += n
		}
		if len(counts) != 2 {
			t.Fatalf("%s: instances %v, want two", what, counts)
		}
		for name, n := range counts {
			if off := 2*n - total; 20*max(off, -off) > total {
				t.Errorf("%s: %s has %d of %d, more than 5 %% from even", what, name, n, total)
			}
		}
	}

	// One after the other: of many at a time the quicker instance rightly gets
	// more, and how quick each is depends on what else the machine does.
	asked := map[string]int{}
	c := newClient(t, h.url)
	for range 1000 {
		name, err := c.instance(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		asked[name]++
	}
	even("requests", asked)

	opened := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				conn, name, err := c.socket(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				opened[name]++
				t.Cleanup(func() { conn.CloseNow() })
				mu.Unlock()
			}
		})
	}
	all.Wait()
	even("sockets", opened)
}

// With affinity on, 200 clients keep their instance across requests and
// sockets until that instance goes; then only its own move.
func TestClientsKeepTheirInstance(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	replaceIn(t, filepath.Join(dir, "app.yaml"), "session_affinity: false", "session_affinity: true")
	h := start(t, dir, "--instances=3")

	const clients = 200
	home := make([]string, clients)
	people := make([]*client, clients)
	sockets := make([]*websocket.Conn, clients)
	each := func(do func(i int) error) {
		t.Helper()
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				if err := do(i); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	each(func(i int) (err error) {
		people[i] = newClient(t, h.url)
		if home[i], err = people[i].instance(t.Context()); err != nil {
			return err
		}
		for range 3 {
			at, err := people[i].instance(t.Context())
			if err != nil || at != home[i] {
				return fmt.Errorf("was on %s, a request went to %s (%v)", home[i], at, err)
			}
		}
		conn, at, err := people[i].socket(t.Context())
		if err != nil || at != home[i] {
			return fmt.Errorf("was on %s, the socket went to %s (%v)", home[i], at, err)
		}
		sockets[i] = conn
		return echo(t.Context(), conn, "hello")
	})

	gone := home[0]
	kill(t, h, gone)
	each(func(i int) error {
		if home[i] != gone {
			if err := echo(t.Context(), sockets[i], "still here"); err != nil {
				return fmt.Errorf("lost its socket to %s, which lives: %v", home[i], err)
			}
			at, err := people[i].instance(t.Context())
			if err != nil || at != home[i] {
				return fmt.Errorf("was on %s, which lives, and went to %s (%v)", home[i], at, err)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, _, err := sockets[i].Read(ctx)
		if err := closedWith(err, websocket.StatusServiceRestart, "crashed"); err != nil {
			return err
		}
		moved, err := people[i].instance(ctx)
		if err != nil || moved == gone || moved == "" {
			return fmt.Errorf("moved to %q (%v), want another than %s", moved, err, gone)
		}
		again, err := people[i].instance(ctx)
		if err != nil || again != moved {
			return fmt.Errorf("moved to %s, then to %s (%v)", moved, again, err)
		}
		return nil
	})
	for _, c := range sockets {
		c.CloseNow()
	}
}

// closedWith wants err to be a Close frame with this code and reason.
func closedWith(err error, code websocket.StatusCode, reason string) error {
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return fmt.Errorf("ended with %v, want a Close frame", err)
	}
	if closed.Code != code || closed.Reason != reason {
		return fmt.Errorf("closed with %d %q, want %d %q", closed.Code, closed.Reason, code, reason)
	}
	return nil
}

// A saved file rolls over under load: 50 clients ask without a pause and not
// one request fails, each old socket ends with a frame and a reason, and new
// connections reach the new code.
func TestRollOverUnderLoad(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	h := start(t, dir, "--watch")

	var sockets []*websocket.Conn
	for range 40 {
		conn, _, err := newClient(t, h.url).socket(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		sockets = append(sockets, conn)
	}

	load, stop := context.WithCancel(t.Context())
	defer stop()
	var asked atomic.Int64
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			c := newClient(t, h.url)
			for load.Err() == nil {
				if _, err := c.instance(t.Context()); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				asked.Add(1)
			}
		})
	}

	old, _ := h.get("/headers")
	if old != http.StatusOK {
		t.Fatalf("GET /headers = %d", old)
	}
	offset := h.out.Len()
	appendTo(t, filepath.Join(dir, "main.go"), "\n// saved\nvar _ = 1\n")
	h.awaitFrom(offset, regexp.MustCompile(`new connections go to the new code`))
	for i, conn := range sockets {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, err := conn.Read(ctx)
		cancel()
		if err := closedWith(err, websocket.StatusServiceRestart, "deployed"); err != nil {
			t.Errorf("socket %d: %v", i, err)
		}
	}
	// The old instances are gone entirely before the load ends.
	h.awaitFrom(offset, regexp.MustCompile(`(?s)is stopped \(deployed\).*is stopped \(deployed\)`))
	stop()
	all.Wait()
	t.Logf("%d requests during the roll-over", asked.Load())
	if asked.Load() < 200 {
		t.Errorf("only %d requests were made: no load", asked.Load())
	}
}

// Code that does not build, and code that does not start, leave the old code
// serving; the next good save rolls over.
func TestABadSaveLeavesTheOldCodeServing(t *testing.T) {
	t.Parallel()
	dir := copyApp(t, "echo")
	h := start(t, dir, "--watch", "--instances=1")
	main := filepath.Join(dir, "main.go")
	good, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"does not build": "\nfunc broken( {\n",
		"does not start": "\nfunc init() { panic(\"no luck today\") }\n",
	} {
		offset := h.out.Len()
		if err := os.WriteFile(main, append(good, bad...), 0o644); err != nil {
			t.Fatal(err)
		}
		h.awaitFrom(offset, regexp.MustCompile(`the old code goes on serving`))
		if status, _ := h.get("/"); status != http.StatusOK {
			t.Errorf("%s: the old code answers %d", name, status)
		}
	}
	offset := h.out.Len()
	if err := os.WriteFile(main, append(good, "\nvar _ = 2\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	h.awaitFrom(offset, regexp.MustCompile(`new connections go to the new code`))
}

// kill ends an instance's app as a crash would, with SIGKILL.
func kill(t *testing.T, h *holdfast, instance string) {
	t.Helper()
	pid := appOf(t, h.data, instance)
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// within fails the test when took is longer than most.
func within(t *testing.T, what string, took, most time.Duration) {
	t.Helper()
	if took > most {
		t.Errorf("%s took %v, want at most %v", what, took, most)
	}
}
