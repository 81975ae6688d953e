package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
)

// tlsBytes is what TLS may add to socketBytes: two ciphers of 0.8 KB, a
// tls.Conn of 0.9 KB, secrets.
const tlsBytes = 4500

// securePair is pair after a TLS handshake, and after that a message of n bytes:
// of the far end there is nothing but the descriptor.
func securePair(t testing.TB, n int) (near net.Conn, far int, message func()) {
	t.Helper()
	plain, far := pair(t)
	dup, err := unix.Dup(far)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), "far")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	nearTLS, farTLS, err := shake(plain, conn, serverConfig(), clientConfig(tls.VersionTLS13))
	if err != nil {
		t.Fatal(err)
	}
	return nearTLS, far, func() {
		if _, err := farTLS.Write(frame(true, opText, true, make([]byte, n))); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

// An idle socket over TLS costs no goroutine and no buffer, also after it has
// carried a large message.
func TestIdleTLSSocketsAreSmall(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	set := newSet()
	var far []int
	t.Cleanup(func() {
		for _, fd := range far {
			unix.Close(fd)
		}
		set.CloseAll(context.Background(), app.ShuttingDown)
	})
	joinAll := func(n int) {
		for range n {
			c, farC, message := securePair(t, 100_000)
			i, farI := pair(t)
			far = append(far, farC, farI)
			sock := Socket{ID: fmt.Sprintf("%032d", len(far)), Key: testKey, Instance: "i1", Client: fmt.Sprint("192.0.2.", len(far)), Opened: time.Now(), MaxAge: time.Hour}
			if err := set.Join(sock, c, i); err != nil {
				t.Fatal(err)
			}
			sent := make(chan struct{})
			go func() { message(); close(sent) }()
			swallow(farI, 100_000)
			<-sent
		}
	}
	joinAll(50)
	goroutines := runtime.NumGoroutine()
	n := 500
	far = append(make([]int, 0, 2*n+100), far...)
	before := heap()
	joinAll(n)
	each := (int64(heap()) - int64(before)) / int64(n)
	t.Logf("%d bytes of heap per idle socket", each)
	if each > socketBytes+tlsBytes {
		t.Errorf("an idle socket over TLS costs %d bytes of heap, want at most %d", each, socketBytes+tlsBytes)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines became %d with %d idle sockets", goroutines, now, n)
	}
}

// swallow reads at least n bytes.
func swallow(fd, n int) {
	unix.SetNonblock(fd, false)
	for b := make([]byte, 64<<10); n > 0; {
		k, _ := unix.Read(fd, b)
		if k <= 0 {
			return
		}
		n -= k
	}
}

// What crypto/tls keeps in its buffers can be given back; a Go that has others
// shows here.
func TestBuffersOfTLSAreKnown(t *testing.T) {
	for _, name := range []string{"rawInput", "hand"} {
		if buffer(&tls.Conn{}, name) == nil {
			t.Errorf("tls.Conn has no bytes.Buffer %s: idle sockets keep it, find out how it is called now", name)
		}
	}
}

// kept is the most that the set keeps for one reader, in bytes.
func kept(set *Set) (most int) {
	for _, s := range set.matching(Filter{}) {
		s.carrier.look([]*socket{s}, func(s *socket, _ instant) {
			for _, r := range s.rest {
				if r != nil {
					most = max(most, len(r.data))
				}
			}
		})
	}
	return most
}

// A reader that stalls costs at most loopBuffer, over TLS too.
func TestStallsAreBounded(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{0, tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(fmt.Sprint("TLS ", version), func(t *testing.T) {
			t.Parallel()
			set := liveSet(t, Config{})
			set.tls = version
			r := realJoin(t, set, Socket{})
			written := make(chan struct{})
			go func() { // ends with the connection
				defer close(written)
				r.instance.Write(frame(true, opBinary, false, make([]byte, 64<<20)))
			}()
			for deadline := time.Now().Add(patience); kept(set.Set) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the reader's kernel took all of it")
				}
			}
			for range 50 {
				time.Sleep(time.Millisecond)
				if n := kept(set.Set); n > loopBuffer {
					t.Fatalf("%d bytes are kept for a reader that stalls, want at most %d", n, loopBuffer)
				}
			}
			r.client.reset()
			r.instance.Close()
			r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
			<-written
		})
	}
}

// A client that wants new keys all the time and reads none of the answers is
// given up when they have become too many.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	set := liveSet(t, Config{})
	// Not TCP: where nobody reads and both ends write, it drops what carries its
	// acknowledgements, and waits for its timers.
	near, fd := pair(t)
	f := os.NewFile(uintptr(fd), "far")
	far, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	p, r := joinPeer(t, set.Set, Socket{}, near, far.(*net.UnixConn))
	go func() { // ends with the connection
		for b := make([]byte, 4<<10); ; {
			if _, err := r.instance.Read(b); err != nil {
				return
			}
		}
	}()
	ping := string(frame(true, opPing, true, nil))
	most := 0
	for k := range 20_000 {
		b := p.record(typeHandshake, keyUpdateAsked)
		p.out = p.out.next()
		b = append(b, p.record(typeData, ping)...)
		if _, err := p.Write(b); err != nil {
			break
		}
		if k%100 == 0 {
			most = max(most, kept(set.Set))
		}
	}
	if most == 0 || most > answersMax {
		t.Errorf("%d bytes of answers were kept, want some and at most %d", most, answersMax)
	}
	r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
}
