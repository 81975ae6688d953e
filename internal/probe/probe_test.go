package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/probe"
)

// instance is a fake app on a fake network: it answers whatever say returns.
// say gets the time since the app was born, and the path.
type instance struct {
	say func(age time.Duration, path string) string

	mu    sync.Mutex // guards the following
	born  time.Time
	asked map[string][]time.Duration // by path: when, since born
	heads []*http.Request
}

const (
	answerOK      = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	answer503     = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	answerNothing = ""       // takes the request, never answers
	answerRefuse  = "refuse" // nothing listens
)

func newInstance(say func(age time.Duration, path string) string) *instance {
	return &instance{say: say, born: time.Now(), asked: map[string][]time.Duration{}}
}

func (in *instance) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	age := time.Since(in.born)
	if in.say(age, "") == answerRefuse {
		in.asked["refused"] = append(in.asked["refused"], age)
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	client, server := net.Pipe()
	go in.serve(server) // ends when the client closes
	return client, nil
}

func (in *instance) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		in.note("tcp", nil)
		return
	}
	in.note(req.URL.Path, req)
	answer := in.say(time.Since(in.born), req.URL.Path)
	if answer == answerNothing {
		io.Copy(io.Discard, conn)
		return
	}
	io.WriteString(conn, answer)
}

func (in *instance) note(path string, req *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asked[path] = append(in.asked[path], time.Since(in.born))
	if req != nil {
		in.heads = append(in.heads, req)
	}
}

func (in *instance) times(path string) []time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]time.Duration(nil), in.asked[path]...)
}

// watched is what was reported, and when.
type watched struct {
	at time.Duration
	probe.Report
}

// watch lets the watch of in run for so long and returns its reports.
func watch(t *testing.T, in *instance, target probe.Target, long time.Duration) []watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	target.Addr, target.Born = "app.invalid:8080", in.born
	var mu sync.Mutex
	var reports []watched
	probe.Watch(ctx, in.dial, target, func(r probe.Report) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, watched{time.Since(in.born), r})
	})
	synctest.Wait() // the fake's goroutines have seen that their clients are gone
	return reports
}

// when finds the first report of a verdict, or fails.
func when(t *testing.T, reports []watched, kind probe.Kind, verdict probe.Verdict, after time.Duration) time.Duration {
	t.Helper()
	for _, r := range reports {
		if r.Kind == kind && r.Verdict == verdict && r.at >= after {
			return r.at
		}
	}
	t.Fatalf("no %v %v after %v in %v", kind, verdict, after, reports)
	return 0
}

// The documented defaults.
var (
	ready = app.Check{Path: "/ready", Timeout: 4 * time.Second, Interval: 5 * time.Second, Failures: 2, Successes: 2, Within: 5 * time.Minute}
	live  = app.Check{Path: "/live", Timeout: 4 * time.Second, Interval: 30 * time.Second, Failures: 4, Successes: 2, InitialDelay: 5 * time.Minute}
)

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s after %v, want %v to %v", what, got, low, high)
	}
}

func TestAStartIsNoticedAtMostATenthLate(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{0, 300 * time.Millisecond, time.Second, 8 * time.Second, 40 * time.Second, 4 * time.Minute} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newInstance(func(age time.Duration, path string) string {
					if age < takes {
						return answerRefuse
					}
					return answerOK
				})
				reports := watch(t, in, probe.Target{Ready: ready, Live: live}, takes*2+time.Minute)
				// Twice the pace: one question until the first pass, one for the second.
				pace := min(ready.Interval, max(100*time.Millisecond, takes/10))
				between(t, "ready", when(t, reports, probe.Readiness, probe.Pass, 0), takes, takes+3*pace)
			})
		})
	}
}

func TestReadinessSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sickAt, wellAt := 10*time.Minute, 20*time.Minute
		in := newInstance(func(age time.Duration, path string) string {
			if path == "/ready" && age >= sickAt && age < wellAt {
				return answer503
			}
			return answerOK
		})
		reports := watch(t, in, probe.Target{Ready: ready, Live: live}, 30*time.Minute)
		between(t, "unready", when(t, reports, probe.Readiness, probe.Fail, 0), sickAt+4500*time.Millisecond, sickAt+10*time.Second)
		between(t, "ready again", when(t, reports, probe.Readiness, probe.Pass, wellAt), wellAt+4500*time.Millisecond, wellAt+10*time.Second)
		for i, at := range in.times("/ready") {
			if i >= 3 { // past the quick pace of the start
				between(t, "question", at-in.times("/ready")[i-1], 4500*time.Millisecond, 5*time.Second)
			}
		}
		for _, r := range reports {
			if r.Kind == probe.Liveness && r.Verdict == probe.Fail {
				t.Errorf("liveness failed at %v, though only /ready did", r.at)
			}
		}
		if len(reports) > 8 {
			t.Errorf("%d reports, want only the changes: %v", len(reports), reports)
		}
	})
}

func TestLivenessCountsAfterTheInitialDelayOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(func(age time.Duration, path string) string {
			if path == "/live" {
				return answer503
			}
			return answerOK
		})
		reports := watch(t, in, probe.Target{Ready: ready, Live: live}, 20*time.Minute)
		// Four failures, 30 s apart, from 300 s on.
		between(t, "unhealthy", when(t, reports, probe.Liveness, probe.Fail, 0), 381*time.Second, 393*time.Second)
	})
}

func TestAHangingInstanceIsGivenTheTimeoutAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangsAt := time.Minute
		in := newInstance(func(age time.Duration, path string) string {
			if age >= hangsAt {
				return answerNothing
			}
			return answerOK
		})
		reports := watch(t, in, probe.Target{Ready: ready, Live: live}, 5*time.Minute)
		// The second question is asked within two intervals and takes 4 s to fail.
		between(t, "unready", when(t, reports, probe.Readiness, probe.Fail, 0), hangsAt+8*time.Second, hangsAt+14*time.Second)
		last := reports[len(reports)-1]
		if got, want := fmt.Sprint(last.Err), "GET /ready: no answer within 4s"; got != want {
			t.Errorf("says %q, want %q", got, want)
		}
	})
}

func TestPresumedReadyUntilTheProbeSaysOtherwise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(func(age time.Duration, path string) string { return answer503 })
		reports := watch(t, in, probe.Target{Ready: ready, Live: live, Presumed: true}, time.Minute)
		if first := reports[0]; first.Verdict != probe.Pass {
			t.Errorf("first report is %v, want the presumed pass with its error", first)
		}
		between(t, "unready", when(t, reports, probe.Readiness, probe.Fail, 0), 4500*time.Millisecond, 6*time.Second)
	})
}

func TestWithoutAPathAnAcceptedConnectionPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(func(age time.Duration, path string) string {
			if age < 2*time.Second {
				return answerRefuse
			}
			return answerNothing
		})
		check := ready
		check.Path = ""
		reports := watch(t, in, probe.Target{Ready: check, Live: live}, time.Minute)
		between(t, "ready", when(t, reports, probe.Readiness, probe.Pass, 0), 2*time.Second, 2600*time.Millisecond)
		if n := len(in.heads); n != 0 {
			t.Errorf("%d requests were sent, want none", n)
		}
	})
}

func TestWhatTheInstanceIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(func(age time.Duration, path string) string { return answerOK })
		check := ready
		check.Path, check.Host = "/ready?deep=1", "shop.example"
		watch(t, in, probe.Target{Ready: check, Live: live}, time.Second)
		req := in.heads[0]
		if req.Method != "GET" || req.RequestURI != "/ready?deep=1" || req.Host != "shop.example" ||
			req.UserAgent() != "GoogleHC/1.0" || !req.Close || req.Proto != "HTTP/1.1" {
			t.Errorf("asked %s %s %s, host %s, as %q, close %v", req.Method, req.RequestURI, req.Proto, req.Host, req.UserAgent(), req.Close)
		}
		in2 := newInstance(in.say)
		watch(t, in2, probe.Target{Ready: ready, Live: live}, time.Second)
		if got := in2.heads[0].Host; got != "app.invalid:8080" {
			t.Errorf("without a host, Host is %q, want the address", got)
		}
	})
}

func TestInstancesAreNotAskedInStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ends []time.Duration
		for range 2 {
			in := newInstance(func(age time.Duration, path string) string { return answerOK })
			watch(t, in, probe.Target{Ready: ready, Live: live}, 10*time.Minute)
			times := in.times("/ready")
			ends = append(ends, times[len(times)-1])
		}
		if ends[0] == ends[1] {
			t.Errorf("after ten minutes both were last asked at %v", ends[0])
		}
	})
}

// What passes and what does not, against real connections.
func TestOnlyOneAnswerPasses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		want         string // "" passes
	}{
		{"200", answerOK, ""},
		{"200 without a length", "HTTP/1.1 200 OK\r\n\r\nok", ""},
		{"200 of HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", ""},
		{"200 after an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n" + answerOK, ""},
		{"200 with an endless body", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20), ""},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", "GET /ready: answered 204, only 200 passes"},
		{"302 is not followed", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n", "GET /ready: answered 302, only 200 passes"},
		{"404", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "GET /ready: answered 404, only 200 passes"},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "GET /ready: answered 101, only 200 passes"},
		{"interim answers only", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10), "GET /ready: too many interim answers"},
		{"a body cut short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "GET /ready: the connection was closed before the answer's end"},
		{"nothing at all", "", "GET /ready: the connection was closed before the answer's end"},
		{"an endless head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<15), "GET /ready: the answer's head is too long"},
		{"another protocol", "SSH-2.0-OpenSSH_9.9\r\n", `GET /ready: malformed HTTP response "SSH-2.0-OpenSSH_9.9"`},
		{"a long complaint is cut", strings.Repeat("z", 3000) + "\r\n", `GET /ready: malformed HTTP response "` + strings.Repeat("z", 200-len(`malformed HTTP response "`)) + "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := once(t, tt.answer); got != tt.want {
				t.Errorf("says %q, want %q", got, tt.want)
			}
		})
	}
}

// once asks a real listener that answers so, once, and returns what is said.
func once(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
				io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return first(t, nil, listener.Addr().String(), "/ready")
}

// first returns what the first report says.
func first(t *testing.T, dial probe.Dial, addr, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	said := make(chan string, 1)
	check := app.Check{Path: path, Timeout: 5 * time.Second, Interval: time.Second, Successes: 1, Failures: 1}
	quiet := app.Check{InitialDelay: time.Hour}
	probe.Watch(ctx, dial, probe.Target{Addr: addr, Born: time.Now(), Ready: check, Live: quiet}, func(r probe.Report) {
		text := ""
		if r.Err != nil {
			text = r.Err.Error()
		}
		select {
		case said <- text:
		default:
		}
		cancel()
	})
	select {
	case text := <-said:
		return text
	default:
		t.Fatal("nothing was said within 10 s")
		return ""
	}
}

func TestARealServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/odd path" || r.UserAgent() != "GoogleHC/1.0" {
			http.Error(w, "no", http.StatusTeapot)
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	if got := first(t, nil, addr, "odd path"); got != "" {
		t.Errorf("a 200 of net/http does not pass: %s", got)
	}
	if got := first(t, nil, addr, ""); got != "" {
		t.Errorf("an accepted connection does not pass: %s", got)
	}
	server.Close()
	if got, want := first(t, nil, addr, "/"), "nothing listens on its port"; got != want {
		t.Errorf("a closed port says %q, want %q", got, want)
	}
}

// Whatever an instance answers, it passes with status 200 only.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{answerOK, answer503, "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + answerOK, "HTTP/1.1 200\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 +200 OK\r\n\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		dial := func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { // ends when the client closes
				defer server.Close()
				if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
					io.WriteString(server, answer)
				}
			}()
			return client, nil
		}
		if said := first(t, dial, "app.invalid:1", "/"); said == "" && !strings.Contains(answer, "200") {
			t.Errorf("%q passed", answer)
		}
	})
}

// Each answer is told of, with what people want to see of it.
func TestEachAnswerIsToldOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInstance(func(age time.Duration, path string) string {
			switch {
			case age < time.Second:
				return answerRefuse
			case age < 20*time.Second:
				return answerOK
			case age < 40*time.Second: // its body never comes
				return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 900\r\n\r\nno database\xff"
			}
			return answerNothing
		})
		var mu sync.Mutex
		var all []probe.Answer
		reports := watch(t, in, probe.Target{Ready: ready, Live: live, Answered: func(a probe.Answer) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, a)
		}}, time.Minute)
		if len(all) <= len(reports) {
			t.Errorf("%d answers and %d reports", len(all), len(reports))
		}
		find := func(after time.Duration) probe.Answer {
			for _, a := range all {
				if a.Asked.Sub(in.born) >= after {
					return a
				}
			}
			t.Fatalf("no answer after %v", after)
			return probe.Answer{}
		}
		if a := find(0); a.Err == nil || a.Status != 0 || !strings.Contains(a.Err.Error(), "nothing listens") {
			t.Errorf("refused: %+v", a)
		}
		if a := find(10 * time.Second); a.Err != nil || a.Status != 200 || a.Body != "ok" {
			t.Errorf("well: %+v", a)
		}
		if a := find(20 * time.Second); a.Err == nil || a.Status != 503 || a.Body != "no database" || a.Took > time.Second {
			t.Errorf("503: %+v", a)
		}
		if a := find(40 * time.Second); a.Err == nil || a.Took != ready.Timeout {
			t.Errorf("silent: %+v", a)
		}
	})
}
