package router

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inside is set in the process that runs in a network namespace of its own.
const inside = "HOLDFAST_TEST_INSIDE"

// One instance can be given more sockets than one source address has ports. A
// network namespace of the test's own has 64 ports, and 300 sockets are opened.
func TestMoreSocketsThanPorts(t *testing.T) {
	if os.Getenv(inside) != "" {
		dialMany(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMoreSocketsThanPorts$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "=== RUN") {
		t.Skipf("no network namespace can be made here: %v", err)
	}
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
}

func dialMany(t *testing.T) {
	const ports, sockets = 64, 300
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "40000 %d", 40000+ports-1), 0); err != nil {
		t.Fatal(err)
	}
	raiseLoopback(t)
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c) // ends with its connection
		}
	}()
	s := newSources(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	from := map[string]int{}
	for i := range sockets {
		c, err := s.dial(ctx, l.Addr().String())
		if err != nil {
			t.Fatalf("socket %d: %v", i, err)
		}
		defer c.Close()
		host, _, _ := net.SplitHostPort(c.LocalAddr().String())
		from[host]++
		if i == 0 && host != "127.0.0.1" {
			t.Errorf("the first is dialled from %s; apps believe 127.0.0.1", host)
		}
	}
	t.Logf("sockets by source: %v", from)
	if len(from) < sockets/ports {
		t.Errorf("sources %v, want at least %d", from, sockets/ports)
	}
}

// raiseLoopback brings lo up: a new namespace has it down (netdevice(7)).
func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var req [40]byte // struct ifreq: a name of 16 bytes, then flags
	copy(req[:], "lo")
	*(*uint16)(unsafe.Pointer(&req[16])) = unix.IFF_UP | unix.IFF_RUNNING
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		t.Fatal(errno)
	}
}
