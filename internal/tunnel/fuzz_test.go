package tunnel

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
)

const fuzzStreamMax = 2 << 10 // bytes; more only makes it slow

// pour writes the stream in pieces, with pauses, then ends it.
func pour(f *fake, stream []byte, rng *rand.Rand) {
	for len(stream) > 0 {
		n := min(len(stream), 1+rng.IntN(200))
		if _, err := f.Write(stream[:n]); err != nil {
			return
		}
		stream = stream[n:]
		time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
	}
	f.CloseWrite()
}

// drink reads in pieces, with pauses, until the end.
func drink(f *fake, rng *rand.Rand, all chan<- []byte) {
	var out []byte
	for {
		p := make([]byte, 1+rng.IntN(300))
		n, err := f.Read(p)
		out = append(out, p[:n]...)
		if err != nil {
			all <- out
			return
		}
		time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
	}
}

// Whatever passes a tunnel, cut anywhere and with readers that stall, comes out
// as it went in; and when Holdfast says goodbye in the middle of it, what comes
// out is the beginning of what went in, followed by a Close frame only if it
// stands between two frames and has none yet.
func FuzzTunnel(f *testing.F) {
	up, down := streams(true), streams(false)
	for name := range up {
		if len(up[name]) < 1000 {
			f.Add(up[name], down[name], uint64(1), uint8(0))
			f.Add(up[name], down["fragments"], uint64(2), uint8(3))
			f.Add(up["fragments"], down[name], uint64(3), uint8(1))
		}
	}
	f.Fuzz(checkTunnel)
}

// The same for streams that a fuzzer would not find: many whole frames.
func TestTunnelOfRandomFrames(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 99))
		conversation := func(masked bool) (s []byte) {
			for range rng.IntN(20) {
				op := []byte{opText, opBinary, opPing, opPong, opContinuation}[rng.IntN(5)]
				s = append(s, frame(rng.IntN(3) > 0, op, masked, make([]byte, rng.IntN(180)))...)
			}
			if rng.IntN(3) == 0 {
				s = append(s, closing(masked, 1000, "bye")...)
			}
			return s
		}
		checkTunnel(t, conversation(true), conversation(false), seed, uint8(rng.IntN(60)))
	}
}

func checkTunnel(t *testing.T, up, down []byte, seed uint64, goodbyeAt uint8) {
	up, down = up[:min(len(up), fuzzStreamMax)], down[:min(len(down), fuzzStreamMax)]
	synctest.Test(t, func(t *testing.T) {
		rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
		set := newSet()
		r := &rig{t: t, set: set, ended: make(chan Ending, 1)}
		var nearC, nearI *fake
		r.client, nearC = fakes(100 + rng(0).IntN(1000))
		r.instance, nearI = fakes(100 + rng(1).IntN(1000))
		nearC.in.piece, nearI.in.piece = rng(2).IntN(50), rng(3).IntN(50)
		if err := set.Join(Socket{Instance: "i1", Opened: time.Now(), Done: func(e Ending) { r.ended <- e }}, nearC, nearI); err != nil {
			t.Fatal(err)
		}
		toClient, toInstance := make(chan []byte, 1), make(chan []byte, 1)
		var pouring sync.WaitGroup
		defer pouring.Wait()
		pouring.Go(func() { pour(r.client, up, rng(4)) })
		pouring.Go(func() { pour(r.instance, down, rng(5)) })
		go drink(r.client, rng(6), toClient)
		go drink(r.instance, rng(7), toInstance)
		if goodbyeAt > 0 {
			time.Sleep(time.Duration(goodbyeAt) * time.Millisecond / 2)
			set.Drain("i1", time.Time{}, app.Deployed)
		}
		gotUp, gotDown := <-toInstance, <-toClient
		e := r.end()
		if goodbyeAt == 0 {
			if !bytes.Equal(gotUp, up) || !bytes.Equal(gotDown, down) {
				t.Errorf("seed %d: %d bytes up became %d, %d bytes down became %d; %+v", seed, len(up), len(gotUp), len(down), len(gotDown), e)
			}
			return
		}
		checkGoodbye(t, "instance", gotUp, up, true)
		checkGoodbye(t, "client", gotDown, down, false)
	})
}

func checkGoodbye(t *testing.T, who string, out, in []byte, fromClient bool) {
	t.Helper()
	if bytes.HasPrefix(in, out) {
		return
	}
	size := len(closeFrame(1012, "deployed", fromClient))
	k := len(out) - size
	if k < 0 || k > len(in) || !bytes.Equal(out[:k], in[:k]) {
		t.Errorf("%s: got\n% x\nwhich is not the beginning of\n% x", who, out, in)
		return
	}
	g, err := readFrame(bytes.NewReader(out[k:]))
	if want := (got{fin: true, op: opClose, masked: fromClient, payload: "\x03\xf4deployed"}); err != nil || g != want {
		t.Errorf("%s: after %d bytes came %+v, %v", who, k, g, err)
	}
	before := parse(in[:k], fromClient)
	if before.Partial || k > 0 && !slices.Contains(before.Ends, k) {
		t.Errorf("%s: a Close frame came within another frame, after %d bytes of % x", who, k, in)
	}
	if before.Code != CodeAbnormal {
		t.Errorf("%s: a second Close frame came, after %d bytes of % x", who, k, in)
	}
}
