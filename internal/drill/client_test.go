package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/app"
)

// patience bounds every wait for what does happen.
const patience = 60 * time.Second

// stage is a service without a server: an app in this process, and faults that are
// what the test makes of them.
type stage struct {
	mu     sync.Mutex // guards the following
	begun  func()     // called when something is to be broken
	refuse error
	ended  []string
	until  time.Time
	log    func(func([]byte))
}

func (s *stage) Begin(_ context.Context, _ app.Fault, _ float64, long time.Duration) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return Operation{}, s.refuse
	}
	s.until = time.Now().Add(long)
	if s.begun != nil {
		s.begun()
	}
	return Operation{ID: "op-1", Instances: []string{"a"}}, nil
}

func (s *stage) Operation(context.Context, string) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Operation{ID: "op-1", Done: time.Now().After(s.until)}, nil
}

func (s *stage) End(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
	return nil
}

func (s *stage) Instances(context.Context) ([]Instance, error) {
	return []Instance{{ID: "a", State: "ready"}}, nil
}

func (s *stage) Requests(ctx context.Context, fn func([]byte)) error {
	if s.log != nil {
		s.log(fn)
	}
	<-ctx.Done()
	return nil
}

// run does one drill of an app.
func run(t *testing.T, s *stage, h http.Handler, probe string, expect string, clients int) (Result, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	p, err := ParseProbe(probe)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseExpect(expect)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return Run(ctx, s, Spec{Fault: app.InstanceCrash, Clients: clients, Probes: []Probe{p}, For: ForLeast, Target: Target{URL: srv.URL}, Expect: e})
}

// sockets is an app that echoes, and whose sockets a test can end.
type sockets struct {
	mu    sync.Mutex // guards the following
	all   map[*websocket.Conn]bool
	mute  atomic.Bool  // says nothing any more
	twice atomic.Bool  // answers twice
	deny  atomic.Int32 // status of further handshakes; 0: none
}

func (a *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status := a.deny.Load(); status != 0 {
		http.Error(w, "not you again", int(status))
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	a.mu.Lock()
	if a.all == nil {
		a.all = map[*websocket.Conn]bool{}
	}
	a.all[conn] = true
	a.mu.Unlock()
	for {
		kind, text, err := conn.Read(r.Context())
		if err != nil {
			a.mu.Lock()
			delete(a.all, conn)
			a.mu.Unlock()
			return
		}
		if a.mute.Load() {
			continue
		}
		conn.Write(r.Context(), kind, text)
		if a.twice.Load() {
			conn.Write(r.Context(), kind, text)
		}
	}
}

// end ends all sockets by a Close frame, or without one where code is 0.
func (a *sockets) end(code websocket.StatusCode, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.all {
		if code == 0 {
			conn.CloseNow()
		} else {
			go conn.Close(code, reason)
		}
	}
}

func TestSocketProbe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, probe, expect string
		fault               func(a *sockets)
		missed              string // part of what was missed; "": nothing
		check               func(r Result) bool
	}{
		{"goodbyes are no errors", "ws:/,every=20ms,patience=20s", "errors=0,reconnect=20s", func(a *sockets) { a.end(websocket.StatusServiceRestart, "crashed") }, "",
			func(r Result) bool {
				return r.Recovery.N == 3 && r.Goodbyes[0] == Count{"1012 crashed", 3}
			}},
		{"echo", "ws:/,echo,every=20ms,patience=20s", "lost=0,doubled=0", nil, "", func(r Result) bool { return r.Messages.Answered > 10 && r.Recovery.N == 0 }},
		{"twice", "ws:/,echo,every=20ms", "doubled=0", func(a *sockets) { a.twice.Store(true) }, "doubled=0", nil},
		{"no Close frame", "ws:/,every=20ms", "errors=0", func(a *sockets) { a.end(0, "") }, "without a Close frame on ws:/ (clients 1, 2 and 3)", nil},
		{"thrown out", "ws:/,every=20ms", "errors=0", func(a *sockets) { a.end(4401, "who are you") }, "closed with 4401 who are you", nil},
		{"silence", "ws:/,echo,every=20ms,patience=300ms", "errors=0", func(a *sockets) { a.mute.Store(true) }, "a message had no answer within 300ms", nil},
		{"refused for good", "ws:/,every=20ms", "errors=0,reconnect=100ms", func(a *sockets) {
			a.deny.Store(403)
			a.end(websocket.StatusGoingAway, "shutting-down")
		}, "never came back: 403 Forbidden: not you again", func(r Result) bool { return r.Recovery.Away == 3 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := &sockets{}
			s := &stage{}
			if c.fault != nil {
				s.begun = func() { c.fault(a) }
			}
			r, err := run(t, s, a, c.probe, c.expect, 3)
			if err != nil {
				t.Fatal(err)
			}
			if why := strings.Join(r.Missed, "; "); !strings.Contains(why, c.missed) || r.Passed != (c.missed == "") {
				t.Errorf("passed %v, missed %q, want %q", r.Passed, why, c.missed)
			}
			if c.check != nil && !c.check(r) {
				t.Errorf("%+v", r)
			}
			if len(s.ended) > 0 {
				t.Errorf("%v were ended early", s.ended)
			}
		})
	}
}

func TestRequestProbe(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var cookies, bare atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("X-Cloud-Trace-Context"), ours) {
			t.Errorf("a request has no trace of ours: %v", r.Header)
		}
		if _, err := r.Cookie("known"); err == nil {
			cookies.Add(1)
		} else {
			bare.Add(1)
		}
		http.SetCookie(w, &http.Cookie{Name: "known", Value: "1"})
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "<h1>503 Service Unavailable</h1><p>Loading.</p>")
		}
	})
	s := &stage{begun: func() {
		broken.Store(true)
		time.AfterFunc(700*time.Millisecond, func() { broken.Store(false) })
	}}
	r, err := run(t, s, h, "http:/,every=20ms,cookies=half,patience=20s", "errors=0,reconnect=20s", 4)
	if err != nil {
		t.Fatal(err)
	}
	if r.Passed || r.Failures[0].What != "503 Service Unavailable: Loading." || r.Recovery.N < 1 || r.Recovery.N > 4 || r.Recovery.Away != 0 {
		t.Errorf("%+v, %+v", r.Failures, r.Recovery)
	}
	if cookies.Load() == 0 || bare.Load() < cookies.Load()/4 {
		t.Errorf("%d requests with a cookie, %d without, want half of the clients without", cookies.Load(), bare.Load())
	}
}

func TestEventProbe(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var resumed atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if last := r.Header.Get("Last-Event-ID"); last != "" {
			fmt.Sscan(last, &n)
			resumed.Store(true)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			n++
			fmt.Fprintf(w, "id: %d\ndata: x\n\n", n)
			http.NewResponseController(w).Flush()
			if broken.CompareAndSwap(true, false) {
				panic(http.ErrAbortHandler)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	r, err := run(t, &stage{begun: func() { broken.Store(true) }}, h, "sse:/,patience=20s", "errors=0,lost=0,doubled=0,reconnect=20s", 1)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed || !resumed.Load() || r.Recovery.N != 1 || r.Messages.Answered < 10 {
		t.Errorf("missed %v, resumed %v, %+v, %+v", r.Missed, resumed.Load(), r.Recovery, r.Messages)
	}
}

// sessions is an app that speaks engine.io 4, as far as the probe needs it.
type sessions struct {
	mu       sync.Mutex // guards the following
	known    map[string]chan string
	next     int
	upgrades int
}

func (a *sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	sid := q.Get("sid")
	a.mu.Lock()
	if sid == "" {
		a.next++
		sid = fmt.Sprint("sid-", a.next)
		if a.known == nil {
			a.known = map[string]chan string{}
		}
		a.known[sid] = make(chan string, 16)
		a.mu.Unlock()
		fmt.Fprintf(w, `0{"sid":%q,"upgrades":["websocket"],"pingInterval":200,"pingTimeout":5000}`, sid)
		return
	}
	packets := a.known[sid]
	a.mu.Unlock()
	switch {
	case packets == nil:
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"code":1,"message":"Session ID unknown"}`)
	case q.Get("transport") == "websocket":
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		if _, text, err := conn.Read(r.Context()); err != nil || string(text) != probePing {
			return
		}
		conn.Write(r.Context(), websocket.MessageText, []byte(probePong))
		if _, text, err := conn.Read(r.Context()); err != nil || string(text) != packetUpgrade {
			return
		}
		a.mu.Lock()
		a.upgrades++
		a.mu.Unlock()
		for {
			if conn.Write(r.Context(), websocket.MessageText, []byte("2")) != nil {
				return
			}
			if _, text, err := conn.Read(r.Context()); err != nil || string(text) != packetPong {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	case r.Method == http.MethodPost:
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "ok")
	default:
		select {
		case p := <-packets:
			io.WriteString(w, p)
		case <-time.After(200 * time.Millisecond):
			io.WriteString(w, "2")
		case <-r.Context().Done():
		}
	}
}

func (a *sessions) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = nil
}

func TestPollProbe(t *testing.T) {
	t.Parallel()
	for _, probe := range []string{"poll:/socket.io/,every=50ms,patience=20s", "poll:/socket.io/,every=50ms,patience=20s,upgrade"} {
		t.Run(probe, func(t *testing.T) {
			t.Parallel()
			a := &sessions{}
			upgrade := strings.Contains(probe, "upgrade")
			s := &stage{begun: a.forget}
			r, err := run(t, s, a, probe, "errors=0,reconnect=20s", 3)
			if err != nil {
				t.Fatal(err)
			}
			if upgrade { // sessions that are over are not asked for any more
				if !r.Passed || a.upgrades != 3 {
					t.Errorf("missed %v, %d upgrades", r.Missed, a.upgrades)
				}
				return
			}
			if r.Passed || !strings.Contains(r.Failures[0].What, "Session ID unknown") || r.Recovery.N != 3 || r.Recovery.Away != 0 {
				t.Errorf("passed %v, %+v, %+v", r.Passed, r.Failures, r.Recovery)
			}
		})
	}
}

// Nothing is broken where the clients cannot connect, and what is broken is mended
// when the drill does not come to its end.
func TestDrillThatDoesNotHappen(t *testing.T) {
	t.Parallel()
	s := &stage{begun: func() { t.Error("something was broken") }}
	p, _ := ParseProbe("ws:/")
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	spec := Spec{Fault: app.Hang, Clients: 1, Probes: []Probe{p}, For: ForLeast, Target: Target{URL: srv.URL}}
	time.AfterFunc(500*time.Millisecond, cancel) // connectTime is long
	if _, err := Run(ctx, s, spec); err == nil {
		t.Error("a drill without clients went well")
	}

	refused := errors.New("not here")
	if _, err := run(t, &stage{refuse: refused}, &sockets{}, "ws:/", "", 1); !errors.Is(err, refused) {
		t.Errorf("a drill that the server refuses: %v", err)
	}

	begun := make(chan struct{})
	s = &stage{begun: func() { close(begun) }}
	srv = httptest.NewServer(&sockets{})
	defer srv.Close()
	spec.Target.URL = srv.URL
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := Run(ctx, s, spec); !errors.Is(err, context.Canceled) || !slices.Equal(s.ended, []string{"op-1"}) {
		t.Errorf("interrupted: %v, ended %v", err, s.ended)
	}

	for _, bad := range []Spec{{}, {Probes: spec.Probes, Clients: ClientsMost + 1}, {Probes: spec.Probes, For: time.Second}, {Probes: spec.Probes, For: time.Hour}} {
		if _, err := Run(t.Context(), s, bad); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%+v: %v, want it refused", bad, err)
		}
	}
}

func TestGist(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"plain\n text":                   "plain text",
		"<h1>Not\there</h1>\n<p>now</p>": "Not here now",
		"a < b":                          "a",
		"\x00\xff bad":                   "bad",
		strings.Repeat("é", 100):         strings.Repeat("é", 60) + "…",
	} {
		if got := gist(text); got != want {
			t.Errorf("gist(%q) = %q, want %q", text, got, want)
		}
	}
}
