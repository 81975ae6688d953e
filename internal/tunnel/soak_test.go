package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/app"
)

const soakInstances = 7

// soaker plays both ends of sockets, at random.
type soaker struct {
	t     *testing.T
	set   *Set
	stop  time.Time
	bad   atomic.Int32
	count [9]atomic.Int32 // of the ways to end that were taken
	tls   atomic.Int32    // sockets whose clients spoke it
}

// Sockets, plain and over TLS, that talk, stall, half-close, reset and are closed by us leave
// nothing behind, and every ending has an explanation that fits what was done.
func TestSoak(t *testing.T) {
	n, length := 2000, 2*time.Second
	if long() {
		length = 5 * time.Minute
	}
	if testing.Short() {
		n = 200
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	descriptors := openDescriptors(t)
	goroutines := runtime.NumGoroutine()
	set := newSet()
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- set.Run(ctx) }()
	s := &soaker{t: t, set: set, stop: time.Now().Add(length)}
	var all sync.WaitGroup
	for k := range n {
		all.Go(func() { // ends after s.stop
			rng := rand.New(rand.NewPCG(seed, uint64(k)))
			for lives := 0; lives == 0 || time.Now().Before(s.stop); lives++ {
				s.life(fmt.Sprintf("%d.%d", k, lives), rng)
			}
		})
	}
	all.Go(func() { // the operator
		rng := rand.New(rand.NewPCG(seed, 1<<40))
		causes := []app.Cause{app.Deployed, app.Crashed, app.Unhealthy, app.Requested}
		for time.Now().Before(s.stop) {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
			id := fmt.Sprint("i", rng.IntN(soakInstances))
			switch rng.IntN(4) {
			case 0:
				set.Drain(id, time.Now().Add(time.Duration(rng.IntN(1000))*time.Millisecond), causes[rng.IntN(len(causes))])
			case 1:
				set.CloseMatching(Filter{Instance: id}, app.Requested, 4000+rng.IntN(900), "so")
			default:
				for _, row := range set.Sockets(Filter{Instance: id}) {
					if row.Instance != id || row.Idle < 0 || row.Key != testKey {
						t.Errorf("row = %+v", row)
					}
				}
			}
		}
	})
	all.Wait()
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if left := set.Sockets(Filter{}); len(left) != 0 {
		t.Errorf("%d sockets are left", len(left))
	}
	for k := range s.count {
		t.Logf("ending %d: %d", k, s.count[k].Load())
	}
	t.Logf("over TLS: %d", s.tls.Load())
	settle := time.Now().Add(patience)
	for openDescriptors(t) > descriptors || runtime.NumGoroutine() > goroutines {
		if time.Now().After(settle) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d descriptors and %d goroutines became %d and %d\n%s", descriptors, goroutines,
				openDescriptors(t), runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openDescriptors is how many there are; where that cannot be told, zero.
func openDescriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(all)
}

// life is one socket's, from the handshake to the end.
func (s *soaker) life(id string, rng *rand.Rand) {
	nearC, c, err := s.greet(rng)
	if err != nil {
		s.t.Error(err)
		return
	}
	nearI, i, err := dialPair()
	if err != nil {
		s.t.Error(err)
		nearC.Close()
		c.Close()
		return
	}
	ended := make(chan Ending, 2)
	sock := Socket{ID: id, Key: testKey, Instance: fmt.Sprint("i", rng.IntN(soakInstances)), Opened: time.Now(), Done: func(e Ending) { ended <- e }}
	if rng.IntN(4) == 0 {
		sock.MaxAge = time.Duration(1+rng.IntN(1000)) * time.Millisecond
	}
	if rng.IntN(4) == 0 {
		sock.PingInterval = time.Duration(1+rng.IntN(300)) * time.Millisecond
		sock.MaxMessageBytes = 100_000
	}
	if err := s.set.Join(sock, nearC, nearI); err != nil {
		s.t.Errorf("Join: %v", err)
		c.Close()
		i.Close()
		return
	}
	bound := time.Now().Add(patience)
	c.SetDeadline(bound)
	i.SetDeadline(bound)
	var ends sync.WaitGroup
	stallI, stallC := stall(rng), stall(rng)
	ends.Go(func() { answer(plain(s.t, i), false, stallI) })
	ends.Go(func() { answer(c, true, stallC) })

	// The client talks for a while, then ends it in one of the ways there are;
	// meanwhile the operator may.
	for range rng.IntN(10) {
		size := rng.IntN(300)
		if rng.IntN(20) == 0 {
			size = rng.IntN(400_000)
		}
		c.Write(frame(true, opBinary, true, make([]byte, size)))
		time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
	}
	way := rng.IntN(len(s.count))
	s.count[way].Add(1)
	switch way {
	case 0: // the client says goodbye
		c.Write(closing(true, 1000, "bye"))
	case 1: // and the instance
		i.Write(closing(false, 1001, "bye"))
	case 2: // half-closes
		c.CloseWrite()
	case 3:
		i.CloseWrite()
	case 4: // resets
		c.reset()
	case 5:
		i.SetLinger(0)
		i.Close()
	case 6: // the middle of a frame
		c.Write(frame(true, opText, true, make([]byte, 500))[:100])
		c.Close()
	case 7: // and of a record, if it has any
		c.raw.Write([]byte{typeData, 3, 3, 1, 0, 1, 2, 3})
		c.raw.Close()
	case 8: // the operator's doing
		s.set.CloseMatching(Filter{ID: id}, app.Requested, 4000, "enough")
	}
	var e Ending
	select {
	case e = <-ended:
	case <-time.After(2 * patience):
		s.t.Errorf("socket %s, ended by way %d, did not end: %+v", id, way, s.set.Sockets(Filter{ID: id}))
	}
	c.raw.Close()
	i.Close()
	ends.Wait()
	if len(ended) != 0 {
		s.t.Errorf("socket %s: Done was called twice", id)
	}
	if problem := explained(e); problem != "" && s.bad.Add(1) < 10 {
		s.t.Errorf("socket %s, ended by way %d: %s: %+v", id, way, problem, e)
	}
}

// greet is a client's connection: near is ours.
func (s *soaker) greet(rng *rand.Rand) (near net.Conn, far wire, err error) {
	n, f, err := dialPair()
	if err != nil {
		return nil, wire{}, err
	}
	often := 8 // handshakes cost more than all the rest
	if long() {
		often = 3
	}
	if rng.IntN(often) > 0 {
		return n, plain(s.t, f), nil
	}
	s.tls.Add(1)
	nearTLS, farTLS, err := shake(n, f, serverConfig(), clientConfig([]uint16{tls.VersionTLS12, tls.VersionTLS13}[rng.IntN(2)]))
	if err != nil {
		n.Close()
		return nil, wire{}, err
	}
	return nearTLS, wire{farTLS, f, s.t}, nil
}

// stall is how long an end does not read; most always do.
func stall(rng *rand.Rand) time.Duration {
	if rng.IntN(6) > 0 {
		return 0
	}
	return time.Duration(rng.IntN(1500)) * time.Millisecond
}

// answer plays an end: it echoes for the instance, answers a Close, and ends
// its stream with the other's. After its first frame it stalls.
func answer(conn wire, isClient bool, stall time.Duration) {
	for n := 0; ; n++ {
		if n == 1 {
			time.Sleep(stall)
		}
		g, err := readFrame(conn)
		if err != nil {
			conn.CloseWrite()
			return
		}
		switch {
		case g.op == opClose:
			conn.Write(closing(isClient, 1000, ""))
			conn.CloseWrite()
			io.Copy(io.Discard, conn)
			return
		case g.op == opPing && isClient:
			// Not from this goroutine in the middle of a frame that the other one
			// writes: clients that stall and talk do not answer pings here.
		case !isClient && g.op == opBinary && len(g.payload) < 100_000:
			conn.Write(frame(true, opBinary, false, []byte(g.payload)))
		}
	}
}

// explained says what is wrong with the story of an ending.
func explained(e Ending) string {
	switch {
	case e.By == "" || e.Cause == "" || e.Code == 0:
		return "no story"
	case e.Duration <= 0 || e.Duration > time.Hour:
		return "no such duration"
	}
	switch e.Cause {
	case app.Closed:
		if e.By == ByHoldfast || e.Code != 1000 && e.Code != 1001 {
			return "nobody closed so"
		}
	case app.Lost:
		if e.By == ByHoldfast {
			return "Holdfast lost nothing"
		}
	case app.Deadline, app.Deployed, app.Unhealthy, app.Requested, app.TooBig, app.ShuttingDown:
		if e.Code == CodeNone {
			return "Holdfast always gives a code"
		}
	case app.Crashed:
		if e.By != ByInstance {
			return "a crash is the instance's doing"
		}
	default:
		return "no such cause"
	}
	return ""
}

// dialPair is tcpPair for many at a time.
func dialPair() (near, far *net.TCPConn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	f, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	n, err := l.Accept()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return n.(*net.TCPConn), f.(*net.TCPConn), nil
}
