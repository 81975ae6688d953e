package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/app"
)

// What every carrier has to do with real connections, in real time. The rules
// of socket.go to the millisecond are socket_test.go's, in fake time.

// world is a set, and what clients speak to it.
type world struct {
	*Set
	tls uint16 // the version; 0: none
}

// onEach runs a test with sets of either carrier, and with plain clients and
// such that speak TLS.
func onEach(t *testing.T, test func(t *testing.T, set world)) {
	for _, portable := range []bool{false, true} {
		for over, version := range map[string]uint16{"": 0, " TLS 1.2": tls.VersionTLS12, " TLS 1.3": tls.VersionTLS13} {
			t.Run(carrierName(portable)+over, func(t *testing.T) {
				t.Parallel()
				set := liveSet(t, Config{Portable: portable})
				set.tls = version
				test(t, set)
			})
		}
	}
}

// liveSet is a set that runs until the test is over, for plain clients.
func liveSet(t *testing.T, cfg Config) world {
	set := New(cfg, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- set.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return world{Set: set}
}

// long says that there is time for more than a quick look.
func long() bool { return os.Getenv("HOLDFAST_LONG") != "" }

func carrierName(portable bool) string {
	if portable {
		return "portable"
	}
	return "loops"
}

// wire is the far end of a real connection.
type wire struct {
	duplex
	raw net.Conn // beneath
	t   testing.TB
}

// duplex is a *net.TCPConn, a *net.UnixConn or a *tls.Conn.
type duplex interface {
	net.Conn
	CloseWrite() error
}

func plain(t testing.TB, c *net.TCPConn) wire { return wire{c, c, t} }

func (w wire) write(ps ...[]byte) {
	w.t.Helper()
	for _, p := range ps {
		if _, err := w.Write(p); err != nil {
			w.t.Fatalf("write %d bytes: %v", len(p), err)
		}
	}
}

func (w wire) want(p []byte) {
	w.t.Helper()
	b := make([]byte, len(p))
	if n, err := io.ReadFull(w, b); err != nil || !bytes.Equal(b, p) {
		w.t.Fatalf("got %.100q, %v; want %.100q", b[:n], err, p)
	}
}

func (w wire) wantClose(masked bool, code int, reason string) {
	w.t.Helper()
	g, err := readFrame(w)
	want := got{fin: true, masked: masked, op: 8, payload: string([]byte{byte(code >> 8), byte(code)}) + reason}
	if err != nil || g != want {
		w.t.Fatalf("got %+v, %v; want a Close frame %d %q", g, err, code, reason)
	}
}

func (w wire) wantEOF() {
	w.t.Helper()
	if n, err := w.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		w.t.Fatalf("Read = %d, %v; want the end of the stream", n, err)
	}
}

func (w wire) reset() {
	w.raw.(*net.TCPConn).SetLinger(0)
	w.raw.Close()
}

// realRig is one socket over TCP, or TLS over that.
type realRig struct {
	t                testing.TB
	client, instance wire
	ended            chan Ending
}

// patience is how long a test waits for what has to come, on a busy machine.
const patience = 20 * time.Second

func realJoin(t testing.TB, set world, sock Socket, early ...[]byte) *realRig {
	t.Helper()
	nearC, c := set.greet(t)
	nearI, i := tcpPair(t)
	return joinConns(t, set.Set, sock, nearC, c, nearI, i, early...)
}

func joinConns(t testing.TB, set *Set, sock Socket, nearC net.Conn, c wire, nearI, i *net.TCPConn, early ...[]byte) *realRig {
	t.Helper()
	r := &realRig{t: t, client: c, instance: plain(t, i), ended: make(chan Ending, 2)}
	t.Cleanup(func() { c.raw.Close(); i.Close() })
	c.SetDeadline(time.Now().Add(patience))
	i.SetDeadline(time.Now().Add(patience))
	if sock.Instance == "" {
		sock.Instance = "i1"
	}
	sock.Key, sock.Opened, sock.Done = testKey, time.Now(), func(e Ending) { r.ended <- e }
	early = append(early, nil, nil)
	if err := set.Join(sock, Unread(nearC, early[0]), Unread(nearI, early[1])); err != nil {
		t.Fatalf("Join: %v", err)
	}
	return r
}

func (r *realRig) wantEnd(by By, cause app.Cause, code int, reason string) Ending {
	r.t.Helper()
	select {
	case e := <-r.ended:
		if e.By != by || e.Cause != cause || e.Code != code || e.Reason != reason {
			r.t.Errorf("Ending = by %s, %s, %d %q; want by %s, %s, %d %q", e.By, e.Cause, e.Code, e.Reason, by, cause, code, reason)
		}
		return e
	case <-time.After(patience):
		r.t.Fatal("the socket did not end")
		return Ending{}
	}
}

// bye answers a goodbye at both ends, like a good client and app.
func (r *realRig) bye(code int, reason string) {
	r.t.Helper()
	r.client.wantClose(false, code, reason)
	r.instance.wantClose(true, code, reason)
	r.client.write(closing(true, code, ""))
	r.instance.write(closing(false, code, ""))
	r.instance.Close()
	r.client.wantEOF()
}

func TestCarry(t *testing.T) {
	t.Parallel()
	text := func(masked bool, s string) []byte { return frame(true, opText, masked, []byte(s)) }
	t.Run("both ways, and what was read ahead", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			up, down := text(true, "early up"), text(false, "early down")
			r := realJoin(t, set, Socket{}, up[:5], down[:3])
			r.client.write(up[5:])
			r.instance.write(down[3:])
			r.instance.want(up)
			r.client.want(down)
			for n := range 100 {
				m := frame(true, opBinary, true, make([]byte, n*37))
				r.client.write(m)
				r.instance.want(m)
			}
			r.client.write(closing(true, 1000, "done"))
			r.instance.want(closing(true, 1000, "done"))
			r.instance.write(closing(false, 1000, ""))
			r.instance.Close()
			r.client.want(closing(false, 1000, ""))
			r.client.wantEOF()
			r.client.Close()
			e := r.wantEnd(ByClient, app.Closed, 1000, "done")
			if e.FromClient.Text != 1 || e.FromClient.Binary != 100 || e.FromClient.Largest != 99*37 || e.FromInstance.Text != 1 {
				t.Errorf("Traffic = %+v, %+v", e.FromClient, e.FromInstance)
			}
		})
	})
	t.Run("half-closes", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{})
			r.client.write(text(true, "last"))
			r.client.CloseWrite()
			r.instance.want(text(true, "last"))
			r.instance.wantEOF()
			r.instance.write(text(false, "and you?"))
			r.client.want(text(false, "and you?"))
			r.instance.Close()
			r.client.wantEOF()
			r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		})
	})
	t.Run("a half-close by the instance", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{})
			r.instance.CloseWrite()
			r.client.wantEOF()
			r.client.write(text(true, "still there?"))
			r.instance.want(text(true, "still there?"))
			r.client.Close()
			r.instance.wantEOF()
			r.wantEnd(ByInstance, app.Lost, CodeAbnormal, "")
		})
	})
	t.Run("resets", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r, q := realJoin(t, set, Socket{}), realJoin(t, set, Socket{})
			r.client.reset()
			r.instance.wantEOF()
			r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
			q.instance.reset()
			q.client.wantClose(false, 1011, "lost")
			q.client.write(closing(true, 1011, ""))
			q.client.wantEOF()
			q.wantEnd(ByInstance, app.Lost, 1011, "lost")
		})
	})
	t.Run("a deadline", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{MaxAge: 50 * time.Millisecond})
			r.bye(1001, "deadline")
			if e := r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline"); e.Duration < 50*time.Millisecond || e.Duration > patience {
				t.Errorf("Duration = %v", e.Duration)
			}
		})
	})
	t.Run("a frame under way is completed", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{})
			m := frame(true, opBinary, false, make([]byte, 300))
			r.instance.write(m[:100])
			r.client.want(m[:100])
			set.Drain("i1", time.Time{}, app.Deployed)
			r.instance.wantClose(true, 1012, "deployed")
			r.instance.write(m[100:], text(false, "never seen"))
			r.client.want(m[100:])
			r.client.wantClose(false, 1012, "deployed")
			r.client.write(closing(true, 1012, ""))
			r.instance.write(closing(false, 1012, ""))
			r.instance.Close()
			r.wantEnd(ByHoldfast, app.Deployed, 1012, "deployed")
		})
	})
	t.Run("a crash", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{})
			r.instance.write(text(false, "last words"))
			r.instance.Close()
			set.Drain("i1", time.Time{}, app.Crashed)
			r.client.want(text(false, "last words"))
			r.client.wantClose(false, 1012, "crashed")
			r.client.write(closing(true, 1012, ""))
			r.client.wantEOF()
			r.wantEnd(ByInstance, app.Crashed, 1012, "crashed")
		})
	})
	t.Run("ends that do not answer are cut", func(t *testing.T) {
		t.Parallel()
		if !long() {
			t.Skip("it takes closeWait; TestGoodbyeWithoutAnswer has it in fake time")
		}
		onEach(t, func(t *testing.T, set world) {
			r := realJoin(t, set, Socket{})
			start := time.Now()
			set.Drain("i1", time.Time{}, app.Unhealthy)
			r.client.wantClose(false, 1012, "unhealthy")
			r.wantEnd(ByHoldfast, app.Unhealthy, 1012, "unhealthy")
			if d := time.Since(start); d < closeWait || d > closeWait+patience {
				t.Errorf("cut after %v, want %v", d, closeWait)
			}
		})
	})
	t.Run("all are closed", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, set world) {
			var rigs []*realRig
			for range 50 {
				rigs = append(rigs, realJoin(t, set, Socket{}))
			}
			closed := make(chan error)
			go func() { closed <- set.CloseAll(t.Context(), app.ShuttingDown) }()
			for _, r := range rigs {
				r.bye(1001, "shutting-down")
				r.wantEnd(ByHoldfast, app.ShuttingDown, 1001, "shutting-down")
			}
			if err := <-closed; err != nil {
				t.Errorf("CloseAll: %v", err)
			}
			nearC, c := tcpPair(t)
			nearI, i := tcpPair(t)
			if err := set.Join(Socket{Instance: "i1"}, nearC, nearI); !errors.Is(err, ErrClosed) {
				t.Errorf("Join after CloseAll: %v", err)
			}
			plain(t, c).wantEOF()
			plain(t, i).wantEOF()
			c.Close()
			i.Close()
		})
	})
}

// A reader that stalls stops its writer at a bound, and nobody else; what the
// writer sent goes on where it stopped.
func TestRealStall(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		r, other := realJoin(t, set, Socket{}), realJoin(t, set, Socket{})
		message := frame(true, opBinary, false, bytes.Repeat([]byte("0123456789"), 10_000))
		var sent int
		done := make(chan error, 1)
		const total = 400 // 40 MB: more than kernels keep
		moved := make(chan struct{}, 1)
		go func() {
			for range total {
				n, err := r.instance.Write(message)
				if sent += n; err != nil {
					done <- err
					return
				}
				select {
				case moved <- struct{}{}:
				default:
				}
			}
			done <- nil
		}()
		for stalled := false; !stalled; {
			select {
			case <-moved:
			case <-time.After(300 * time.Millisecond):
				stalled = true
			}
		}
		for range 100 {
			m := frame(true, opText, true, []byte("nobody else is affected"))
			other.client.write(m)
			other.instance.want(m)
			r.client.write(m)
			r.instance.want(m)
		}
		for n := range total {
			if g, err := readFrame(r.client); err != nil || len(g.payload) != 100_000 || g.payload[99_990:] != "0123456789" {
				t.Fatalf("message %d after the stall: %d bytes, %v", n, len(g.payload), err)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("writer: %v", err)
		}
		r.client.reset()
		e := r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		if e.FromInstance.Binary != total || e.FromClient.Text != 100 {
			t.Errorf("Traffic = %+v, %+v", e.FromInstance, e.FromClient)
		}
	})
}

// A goodbye to a reader that stalls ends at the bound for a frame under way.
func TestRealGoodbyeToAStalledReader(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		r := realJoin(t, set, Socket{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.instance.Write(frame(true, opBinary, false, make([]byte, 64<<20))) // more than any kernel keeps
		}()
		io.ReadFull(r.client, make([]byte, 10)) // the frame begins; it is never read to its end
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer stop()
		if err := set.CloseAll(ctx, app.ShuttingDown); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("CloseAll: %v", err)
		}
		r.wantEnd(ByHoldfast, app.ShuttingDown, CodeAbnormal, "")
		<-done
	})
}

// The same as FuzzTunnel with the system's own connections, whose buffers are
// small, and either carrier.
func checkReal(t *testing.T, set world, up, down []byte, seed uint64, goodbyeAt uint8) {
	rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	nearTCP, farTCP := tcpPair(t)
	nearI, i := tcpPair(t)
	for _, conn := range []*net.TCPConn{nearTCP, farTCP, nearI, i} {
		conn.SetReadBuffer(64 << 10) // less than this, and TCP itself waits for its timers
		conn.SetWriteBuffer(8 << 10)
	}
	id := fmt.Sprint(seed, goodbyeAt, len(up), len(down))
	nearC, c := set.greetOver(t, nearTCP, farTCP)
	r := joinConns(t, set.Set, Socket{Instance: id}, nearC, c, nearI, i)
	toClient, toInstance := make(chan []byte, 1), make(chan []byte, 1)
	var pouring sync.WaitGroup
	defer pouring.Wait()
	pouring.Go(func() { pourReal(c, up, rng(4)) })
	pouring.Go(func() { pourReal(i, down, rng(5)) })
	go drinkReal(c, rng(6), toClient)
	go drinkReal(i, rng(7), toInstance)
	if goodbyeAt > 0 {
		time.Sleep(time.Duration(goodbyeAt) * 20 * time.Microsecond)
		set.Drain(id, time.Time{}, app.Deployed)
	}
	gotUp, gotDown := <-toInstance, <-toClient
	c.Close()
	i.Close()
	var e Ending
	select {
	case e = <-r.ended:
	case <-time.After(patience):
		t.Fatalf("seed %d: the socket did not end", seed)
	}
	if goodbyeAt == 0 {
		if !bytes.Equal(gotUp, up) || !bytes.Equal(gotDown, down) {
			t.Errorf("seed %d: %d bytes up became %d, %d bytes down became %d; %+v", seed, len(up), len(gotUp), len(down), len(gotDown), e)
		}
		return
	}
	checkGoodbye(t, "instance", gotUp, up, true)
	checkGoodbye(t, "client", gotDown, down, false)
}

func pourReal(w duplex, stream []byte, rng *rand.Rand) {
	for len(stream) > 0 {
		n := min(len(stream), 1+rng.IntN(8000))
		if _, err := w.Write(stream[:n]); err != nil {
			return
		}
		stream = stream[n:]
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Microsecond)
		}
	}
	w.CloseWrite()
}

func drinkReal(r io.Reader, rng *rand.Rand, all chan<- []byte) {
	var out []byte
	for {
		p := make([]byte, 1+rng.IntN(9000))
		n, err := r.Read(p)
		out = append(out, p[:n]...)
		if err != nil {
			all <- out
			return
		}
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Microsecond)
		}
	}
}

// conversation is a random stream of whole frames, some of them large.
func conversation(rng *rand.Rand, masked bool, frames, sizeMax int) (s []byte) {
	for range rng.IntN(frames) {
		op := []byte{opText, opBinary, opPing, opPong, opContinuation}[rng.IntN(5)]
		s = append(s, frame(rng.IntN(3) > 0, op, masked, noise(rng, rng.IntN(sizeMax)))...)
	}
	if rng.IntN(3) == 0 {
		s = append(s, closing(masked, 1000, "bye")...)
	}
	return s
}

// noise is a payload in which nothing can be lost or moved unnoticed.
func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, 0, n+8)
	for len(p) < n {
		p = binary.LittleEndian.AppendUint64(p, rng.Uint64())
	}
	return p[:n]
}

// Frames that are longer than any buffer of ours, which loops do not look into.
func TestRealLargeFrames(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		for seed := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, 99))
			checkReal(t, set, conversation(rng, true, 6, 400_000), conversation(rng, false, 6, 400_000), seed, uint8(max(0, rng.IntN(200)-60)))
		}
	})
}

func TestRealRandomFrames(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, set world) {
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 98))
			checkReal(t, set, conversation(rng, true, 20, 60_000), conversation(rng, false, 20, 60_000), seed, uint8(max(0, rng.IntN(200)-60)))
		}
	})
}

func FuzzTunnelOnLoops(f *testing.F) {
	up, down := streams(true), streams(false)
	for name := range up {
		if len(up[name]) < 1000 {
			f.Add(up[name], down[name], uint64(1), uint8(0))
			f.Add(up["fragments"], down[name], uint64(3), uint8(1))
		}
	}
	set := newSet()
	f.Fuzz(func(t *testing.T, up, down []byte, seed uint64, goodbyeAt uint8) {
		w := world{set, []uint16{0, tls.VersionTLS12, tls.VersionTLS13}[seed%3]}
		checkReal(t, w, up, down, seed, goodbyeAt)
	})
}

// Out of descriptors, a socket that has its two is carried all the same.
func TestJoinWithoutDescriptorsLeft(t *testing.T) {
	set := newSet()
	nearC, c := tcpPair(t)
	nearI, i := tcpPair(t)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Skip(err)
	}
	none := old
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Skip(err)
	}
	r := joinConns(t, set, Socket{}, nearC, plain(t, c), nearI, i)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	m := frame(true, opText, true, []byte("hello"))
	r.client.write(m)
	r.instance.want(m)
	r.client.reset()
	r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
}
