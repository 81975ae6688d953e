//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The test binary plays the roles, too.
func TestMain(m *testing.M) {
	if isRole(os.Args) {
		os.Exit(playRole(os.Args))
	}
	// Else each process under the race detector sleeps a second at its end.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// help starts a helper that ends with the test.
func help(t *testing.T, role string) *helper {
	t.Helper()
	h, err := startHelper(self(t), role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

// give gives an order that must be understood.
func give(t *testing.T, h *helper, o order) report {
	t.Helper()
	if o.Within == 0 {
		o.Within = 10 * time.Second
	}
	r, err := h.do(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pick(t *testing.T, list string) []peer {
	t.Helper()
	chosen, err := choose(peers(), list, func(p peer) string { return p.name })
	if err != nil {
		t.Fatal(err)
	}
	return chosen
}

func run(t *testing.T, peers []peer, groups []group) *results {
	t.Helper()
	r := &runner{self: self(t), dir: t.TempDir(), size: quick, rounds: 1, peers: peers, groups: groups, progress: t.Output()}
	results, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestEveryRowIsMeasured(t *testing.T) {
	t.Parallel()
	all := groups(quick)
	r := run(t, pick(t, direct+","+ours), all)
	for _, what := range r.failed {
		t.Error(what)
	}
	for _, g := range all {
		for _, row := range g.rows {
			for _, name := range []string{direct, ours} {
				if n := len(r.figures[cell{row.id, name}]); n != 1 && !(name == direct && (g.tls || g.bus)) {
					t.Errorf("%s of %s: %d figures, want 1", row.id, name, n)
				}
			}
		}
	}
	if table := r.table(); strings.Contains(table, "FAILED") || strings.Contains(table, "!") {
		t.Errorf("the table tells of failures:\n%s", table)
	}
}

func TestEveryPeerOfThisMachineServes(t *testing.T) {
	t.Parallel()
	for _, p := range peers() {
		if _, err := p.program(self(t)); err != nil {
			t.Log(err)
			continue
		}
		chosen, err := choose(groups(quick), "tls-echo,poll,bus", func(g group) string { return g.name })
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range run(t, []peer{p}, chosen).failed {
			t.Error(what)
		}
	}
}

func TestAPeerThatIsDownShowsAsFailed(t *testing.T) {
	t.Parallel()
	down := peer{name: "down", binary: "false", conf: "nginx.conf", args: []string{"-c"}}
	chosen, err := choose(groups(quick), "echo,http", func(g group) string { return g.name })
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, []peer{down}, chosen)
	if len(r.failed) != 2 {
		t.Errorf("failures %q, want one for each group", r.failed)
	}
	if table := r.table(); strings.Count(table, "FAILED") != 6 {
		t.Errorf("not every row failed:\n%s", table)
	}
}

func TestFailuresAreCountedWithTheirReasons(t *testing.T) {
	t.Parallel()
	const n = 20
	accept := func(w http.ResponseWriter, r *http.Request) *websocket.Conn {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		return c
	}
	cases := []struct {
		name    string
		handler http.HandlerFunc
		order   order
		reason  string
	}{
		{"refused upgrades", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
			order{Do: "open"}, "status 503"},
		{"an answer that is none", func(w http.ResponseWriter, r *http.Request) { hijack(t, w, "whatever\r\n\r\n") },
			order{Do: "open"}, errHead.Error()},
		{"a 101 for another key", func(w http.ResponseWriter, r *http.Request) {
			hijack(t, w, agreed+"AAAA\r\n\r\n")
		}, order{Do: "open"}, errAccept.Error()},
		{"another message", func(w http.ResponseWriter, r *http.Request) {
			c := accept(w, r)
			_, p, _ := c.Read(r.Context())
			p[7]++
			c.Write(r.Context(), websocket.MessageBinary, p)
			c.Read(r.Context())
		}, order{Do: "open", Hello: true, Bytes: 128}, errEcho.Error()},
		{"a connection that ends", func(w http.ResponseWriter, r *http.Request) {
			c := accept(w, r)
			c.Read(r.Context()) // unread, it would make a reset of the end
			c.CloseNow()
		}, order{Do: "open", Hello: true, Bytes: 128}, "ended by the other side"},
		{"no answer", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			order{Do: "open", AtOnce: n, Within: 200 * time.Millisecond}, "not within 200ms"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			h := help(t, "load")
			defer h.stop() // before the server, which waits for its connections
			c.order.Addr, c.order.N = srv.Listener.Addr().String(), n
			if c.order.AtOnce == 0 {
				c.order.AtOnce = 3
			}
			r := give(t, h, c.order)
			if r.Done != 0 || r.Failed[c.reason] != n {
				t.Errorf("done %d, failed %q, want %d times %q", r.Done, r.tally(), n, c.reason)
			}
		})
	}
}

func hijack(t *testing.T, w http.ResponseWriter, answer string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	c.Write([]byte(answer))
	c.Close()
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, tls := range []bool{false, true} {
		r := give(t, help(t, "load"), order{Do: "open", Addr: l.Addr().String(), TLS: tls, N: 10, AtOnce: 2})
		if r.Done != 0 || r.Failed[syscall.ECONNREFUSED.Error()] != 10 {
			t.Errorf("TLS %v: done %d, failed %q", tls, r.Done, r.tally())
		}
	}
}

func TestSocketsLostWhileIdleAreTold(t *testing.T) {
	t.Parallel()
	b, l := help(t, "backend"), help(t, "load")
	addr := give(t, b, order{Do: "count"}).Addr
	if r := give(t, l, order{Do: "open", Addr: addr, N: 10, AtOnce: 10}); r.Done != 10 {
		t.Fatalf("opened %d: %s", r.Done, r.tally())
	}
	b.stop()
	for bound := time.Now().Add(10 * time.Second); ; {
		r := give(t, l, order{Do: "goodbye"})
		if n := r.failures(); n > 0 {
			if n != 10 {
				t.Errorf("%d told, want 10: %s", n, r.tally())
			}
			return
		}
		if time.Now().After(bound) {
			t.Fatal("nothing is told")
		}
	}
}

func TestTheBackendKeepsToTheProtocol(t *testing.T) {
	t.Parallel()
	addr := give(t, help(t, "backend"), order{Do: "count"}).Addr
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(2 << 20)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		sent := bytes.Repeat([]byte("holdfast"), size/8+1)[:size]
		if err := c.Write(ctx, websocket.MessageText, sent); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageText || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes: %d came back as %v, %v", size, len(got), kind, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func TestCPUTimeIsThatOfTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read wait'; true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has counted
		t.Fatal(err)
	}
	pids := tree(cmd.Process.Pid)
	got, err := cpu(pids)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := pss(pids)
	if err != nil || memory < 10<<10 {
		t.Errorf("pss = %d, %v", memory, err)
	}
	in.Close()
	cmd.Wait()
	want := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if len(pids) != 2 || got > want+20*time.Millisecond || got < want/2 {
		t.Errorf("processes %v used %v, and %v by their end", pids, got, want)
	}
}

func TestNoProcessIsLeft(t *testing.T) {
	// Not parallel: it looks at all of this process's children.
	chosen, err := choose(groups(quick), "handshake", func(g group) string { return g.name })
	if err != nil {
		t.Fatal(err)
	}
	before := len(tree(os.Getpid()))
	some := []peer{}
	for _, p := range pick(t, direct+","+nginx+","+ours) { // nginx has workers
		if _, err := p.program(self(t)); err == nil {
			some = append(some, p)
		}
	}
	run(t, some, chosen)
	if after := tree(os.Getpid()); len(after) > before {
		t.Errorf("processes %v are left", after)
	}
}

func TestFramesAreFoundInAnyPieces(t *testing.T) {
	seed := rand.Uint64()
	for range 200 {
		checkPieces(t, seed)
		seed++
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(checkPieces)
}

// checkPieces cuts a stream of frames at random places: what is found must be
// what went in.
func checkPieces(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var stream, want, got []byte
	sizes := []int{0, 1, 125, 126, 127, 1000, 65535, 65536, 70000}
	for range 1 + rnd.IntN(6) {
		n := sizes[rnd.IntN(len(sizes))]
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		stream = appendHead(stream, opBinary, n, true)
		mask := [4]byte{}
		if rnd.IntN(2) == 0 {
			mask = [4]byte{1, 2, 3, byte(rnd.Uint32())}
			copy(stream[len(stream)-4:], mask[:])
		}
		for i, c := range payload {
			stream = append(stream, c^mask[i&3])
		}
		want = fmt.Appendf(want, "%d:%s;", n, payload)
	}
	var fr frames
	var message []byte
	for len(stream) > 0 {
		piece := stream[:1+rnd.IntN(min(len(stream), 1+rnd.IntN(80000)))]
		stream = stream[len(piece):]
		for piece = bytes.Clone(piece); len(piece) > 0; {
			part, at, rest, ended, err := fr.next(piece)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			fr.unmask(part, at)
			message = append(message, part...)
			if piece = rest; ended {
				got = fmt.Appendf(got, "%d:%s;", fr.length, message)
				message = nil
			}
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("seed %d: other frames came out than went in", seed)
	}
}
