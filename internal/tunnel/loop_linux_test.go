package tunnel

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
)

// socketBytes is what an idle socket may cost of our own memory, all in all:
// the socket, its places in the set's and the loop's tables, and its strings. What
// Done keeps alive is the caller's.
const socketBytes = 700

// pair is a connection whose far end costs no memory but the kernel's.
func pair(t testing.TB) (near net.Conn, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "near")
	near, err = net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	return near, fds[1]
}

func TestIdleSocketsAreSmall(t *testing.T) {
	n := 2000
	if long() {
		n = 4500 // within 20,000 descriptors
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers and pools had
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var far []int
	set := newSet()
	t.Cleanup(func() {
		for _, fd := range far {
			unix.Close(fd)
		}
		set.CloseAll(context.Background(), app.ShuttingDown)
	})
	joinAll := func(n int) {
		for range n {
			c, farC := pair(t)
			i, farI := pair(t)
			far = append(far, farC, farI)
			sock := Socket{ID: fmt.Sprintf("%032d", len(far)), Key: testKey, Instance: "i1", Client: fmt.Sprint("192.0.2.", len(far)), Opened: time.Now(), MaxAge: time.Hour}
			if err := set.Join(sock, c, i); err != nil {
				t.Fatal(err)
			}
			m := frame(true, opText, true, []byte("one message each"))
			unix.Write(farC, m)
		}
		for len(set.Sockets(Filter{})) > 0 { // all have carried theirs
			rest := 0
			for _, s := range set.Sockets(Filter{}) {
				if s.FromClient.Text == 0 {
					rest++
				}
			}
			if rest == 0 {
				break
			}
		}
	}
	joinAll(100) // so that the loops have what they need
	goroutines := runtime.NumGoroutine()
	far = append(make([]int, 0, 2*n+200), far...)
	before := heap()
	joinAll(n)
	each := (int64(heap()) - int64(before)) / int64(n)
	t.Logf("%d bytes of heap per idle socket, of which its own %d", each, unsafe.Sizeof(socket{}))
	if each > socketBytes {
		t.Errorf("an idle socket costs %d bytes of heap, want at most %d", each, socketBytes)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines became %d with %d idle sockets", goroutines, now, n)
	}
}

// Carrying a message allocates nothing.
func TestLoopsDoNotAllocate(t *testing.T) {
	set := newSet()
	c, farC := pair(t)
	i, farI := pair(t)
	defer set.CloseAll(context.Background(), app.ShuttingDown)
	defer unix.Close(farC)
	defer unix.Close(farI)
	unix.SetNonblock(farI, false)
	if err := set.Join(Socket{Instance: "i1", Opened: time.Now()}, c, i); err != nil {
		t.Fatal(err)
	}
	m := frame(true, opText, true, make([]byte, 128))
	buf := make([]byte, len(m))
	if n := testing.AllocsPerRun(1000, func() {
		unix.Write(farC, m)
		for at := 0; at < len(m); {
			k, err := unix.Read(farI, buf[at:])
			if k <= 0 {
				t.Fatal(err)
			}
			at += k
		}
	}); n != 0 {
		t.Errorf("a message allocates %v times", n)
	}
}

// BenchmarkCarried is what a look at all open sockets costs who asks.
func BenchmarkCarried(b *testing.B) {
	set := newSet()
	var far []int
	for range 4000 { // within 20,000 descriptors
		c, farC := pair(b)
		i, farI := pair(b)
		far = append(far, farC, farI)
		if err := set.Join(Socket{Key: testKey, Instance: "i1", Opened: time.Now()}, c, i); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if n := set.Carried()[testKey].Sockets; n != 4000 {
			b.Fatalf("%d sockets", n)
		}
	}
	for _, fd := range far {
		unix.Close(fd)
	}
	set.CloseAll(context.Background(), app.ShuttingDown)
}
