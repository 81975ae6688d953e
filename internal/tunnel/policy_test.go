package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
)

// joinFakes joins a socket of fake connections.
func joinFakes(t *testing.T, set *Set, sock Socket) *rig {
	t.Helper()
	c, nearC := fakes(fakeBuffer)
	i, nearI := fakes(fakeBuffer)
	r := &rig{t: t, set: set, client: c, instance: i, opened: time.Now(), ended: make(chan Ending, 2)}
	sock.Instance, sock.Key, sock.Opened, sock.Done = "i1", testKey, r.opened, func(e Ending) { r.ended <- e }
	if err := set.Join(sock, nearC, nearI); err != nil {
		t.Fatalf("Join: %v", err)
	}
	return r
}

func TestPolicy(t *testing.T) {
	text := func(fin bool, op byte, n int) []byte { return frame(fin, op, true, make([]byte, n)) }
	cat := func(ps ...[]byte) []byte { return bytes.Join(ps, nil) }
	limit := Socket{MaxMessageBytes: 1000}
	rate := Socket{MaxMessagesPerSecond: 3}
	strict := Socket{StrictFrames: true}
	compressed := append([]byte{0xC1}, text(true, opText, 5)[1:]...)
	for name, test := range map[string]struct {
		sock   Socket
		passes []byte
		then   []byte // breaks the policy; nil: nothing does
		cause  app.Cause
		code   int
	}{
		"largest":                  {limit, text(true, opText, 1000), text(true, opText, 1001), app.TooBig, 1009},
		"announced beyond all":     {limit, nil, []byte{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, app.TooBig, 1009},
		"in fragments":             {limit, cat(text(false, opText, 600), text(true, opPing, 20), text(false, opContinuation, 400)), text(true, opContinuation, 1), app.TooBig, 1009},
		"many small":               {limit, bytes.Repeat(text(true, opText, 900), 5), nil, "", 0},
		"rate":                     {rate, cat(text(true, opText, 0), text(false, opBinary, 4), text(true, opContinuation, 4), text(true, opPing, 1), text(true, opText, 1)), text(true, opText, 1), app.TooMany, 1008},
		"unmasked":                 {strict, text(true, opText, 3), frame(true, opText, false, []byte("abc")), app.Broken, 1002},
		"long ping":                {strict, text(true, opPing, 125), text(true, opPing, 126), app.Broken, 1002},
		"reserved bit":             {strict, text(true, opText, 5), compressed, app.Broken, 1002},
		"extension":                {Socket{StrictFrames: true, Extended: true}, cat(compressed, compressed), text(true, opContinuation, 0), app.Broken, 1002},
		"broken but not strict":    {limit, cat(compressed, text(true, opPing, 126), frame(true, opText, false, []byte("abc"))), nil, "", 0},
		"strict and within bounds": {strict, cat(text(false, opText, 5), text(true, opPong, 0), text(true, opContinuation, 70000)), nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				live(t, func(t *testing.T, set *Set) {
					r := joinFakes(t, set, test.sock)
					stream := cat(test.passes, test.then)
					poured := make(chan struct{})
					go func() { // in pieces of any size
						defer close(poured)
						rng := rand.New(rand.NewPCG(seed, 5))
						for rest := stream; len(rest) > 0; {
							n := min(len(rest), 1+rng.IntN(1+rng.IntN(1500)))
							if _, err := r.client.Write(rest[:n]); err != nil {
								return
							}
							rest = rest[n:]
							time.Sleep(time.Microsecond)
						}
					}()
					wantFrame(t, "instance", r.instance, test.passes)
					if test.then == nil {
						<-poured
						r.client.Reset()
						wantEOF(t, "instance", r.instance)
						r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
						return
					}
					// Nothing of what broke it came through, not even its first byte.
					wantClose(t, "instance", r.instance, true, test.code, string(test.cause))
					wantClose(t, "client", r.client, false, test.code, string(test.cause))
					r.wantEnd(ByHoldfast, test.cause, test.code, string(test.cause))
					<-poured
				})
			}
		})
	}
}

func TestRateWindow(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := joinFakes(t, set, Socket{MaxMessagesPerSecond: 2})
		m := frame(true, opText, true, []byte("."))
		for range 20 {
			write(t, r.client, m, m)
			wantFrame(t, "instance", r.instance, append(m, m...))
			time.Sleep(rateWindow)
		}
		down := frame(true, opText, false, []byte("."))
		for range 20 { // the instance may
			write(t, r.instance, down)
			wantFrame(t, "client", r.client, down)
		}
		write(t, r.client, m, m, m)
		wantFrame(t, "instance", r.instance, append(m, m...))
		wantClose(t, "instance", r.instance, true, 1008, "too-many-messages")
		r.client.Close()
		r.instance.Close()
		r.end()
	})
}

func TestStrictInstance(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := joinFakes(t, set, Socket{StrictFrames: true})
		good := frame(true, opText, false, []byte("fine"))
		write(t, r.instance, good, frame(true, opText, true, []byte("masked")))
		wantFrame(t, "client", r.client, good)
		wantClose(t, "client", r.client, false, 1002, "protocol-error")
		wantClose(t, "instance", r.instance, true, 1002, "protocol-error")
		r.client.Close()
		r.instance.Close()
		r.wantEnd(ByHoldfast, app.Broken, 1002, "protocol-error")
	})
}

// pong answers the ping that comes next.
func pong(t *testing.T, r *rig) []byte {
	t.Helper()
	g, err := readFrame(r.client)
	if err != nil || g.op != opPing || !g.fin || g.masked || len(g.payload) != pingSize {
		t.Fatalf("client got %+v, %v; want a ping", g, err)
	}
	return frame(true, opPong, true, []byte(g.payload))
}

func TestPing(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := joinFakes(t, set, Socket{PingInterval: 10 * time.Second})
		text := frame(true, opText, true, []byte("hello"))
		foreign := frame(true, opPong, true, []byte("8 bytes!"))
		for n := range 3 {
			answer := pong(t, r)
			elapsed(t, "ping", r.opened, time.Duration(n+1)*10*time.Second)
			time.Sleep(70 * time.Millisecond)
			// The app's own conversation passes beside it, also in pieces.
			write(t, r.client, text, foreign, answer[:9])
			synctest.Wait()
			write(t, r.client, answer[9:], text[:3])
			synctest.Wait()
			write(t, r.client, text[3:])
			wantFrame(t, "instance", r.instance, slices.Concat(text, foreign, text))
			if s := set.Sockets(Filter{})[0]; s.RoundTrip != 70*time.Millisecond {
				t.Errorf("RoundTrip = %v", s.RoundTrip)
			}
		}
		r.client.Close()
		r.instance.Close()
		r.end()
	})
}

// A ping waits for the end of a frame, and a client that answers none keeps
// its socket: only the app knows what that means.
func TestPingBetweenFrames(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := joinFakes(t, set, Socket{PingInterval: time.Second})
		m := frame(true, opText, false, make([]byte, 100))
		write(t, r.instance, m[:50])
		wantFrame(t, "client", r.client, m[:50])
		time.Sleep(10 * time.Second)
		write(t, r.instance, m[50:])
		wantFrame(t, "client", r.client, m[50:])
		pong(t, r)
		for range 5 {
			pong(t, r)
		}
		if n := set.Count("i1"); n != 1 {
			t.Errorf("Count = %d", n)
		}
		write(t, r.client, closing(true, 1000, ""))
		wantFrame(t, "instance", r.instance, closing(true, 1000, ""))
		write(t, r.instance, closing(false, 1000, ""))
		r.instance.Close()
		r.client.Close()
		r.wantEnd(ByClient, app.Closed, 1000, "")
	})
}

func TestRealPing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		r := realJoin(t, set, Socket{PingInterval: 20 * time.Millisecond})
		m := frame(true, opText, true, []byte("hello"))
		for range 5 {
			g, err := readFrame(r.client)
			if err != nil || g.op != opPing {
				t.Fatalf("client got %+v, %v; want a ping", g, err)
			}
			answer := frame(true, opPong, true, []byte(g.payload))
			r.client.write(m, answer[:1])
			r.instance.want(m)
			r.client.write(answer[1:], m)
			r.instance.want(m)
		}
		if s := set.Sockets(Filter{}); len(s) != 1 || s[0].RoundTrip <= 0 || s[0].RoundTrip > patience {
			t.Errorf("Sockets = %+v", s)
		}
		r.client.reset()
		r.instance.wantEOF()
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
	})
}

// What a careful socket passes on is what came, but for an unfinished header at
// the end and for the pongs that answer it.
func FuzzCareful(f *testing.F) {
	for _, stream := range streams(true) {
		if len(stream) < 1000 {
			f.Add(stream, uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newSocket(newSet(), Socket{PingInterval: time.Hour})
		c := s.careful
		c.pings = 4
		var with []byte
		before := parse(stream, true)
		at := 0
		for _, end := range append([]int{0}, before.Ends...) {
			with = append(with, stream[at:end]...)
			at = end
			for range rng.IntN(3) {
				with = append(with, frame(true, opPong, true, binary.BigEndian.AppendUint64(nil, c.nonce+1+rng.Uint64N(4)))...)
			}
		}
		with = append(with, stream[at:]...)

		var out []byte
		for rest := with; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(1+rng.IntN(100)))
			buf := append(make([]byte, headroom), rest[:n]...)
			out = append(out, s.took(client, buf, 1)...)
			rest = rest[n:]
		}
		kept := len(stream) - len(out)
		if !bytes.HasPrefix(stream, out) || kept > heldMax || kept > 0 && !before.Partial {
			t.Errorf("seed %d: of\n% x\ncame\n% x", seed, stream, out)
		}
	})
}
