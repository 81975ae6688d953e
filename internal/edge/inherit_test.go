package edge

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// heirVariable makes this test binary the heir of listeners instead: it answers
// one connection on each, in order, and ends.
const heirVariable = "HOLDFAST_EDGE_TEST_HEIR"

func TestMain(m *testing.M) {
	if os.Getenv(heirVariable) != "" {
		if err := beHeir(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beHeir() error {
	all, err := Inherited()
	if err != nil {
		return err
	}
	if again, err := Inherited(); len(again) > 0 || err != nil || os.Getenv("LISTEN_FDS") != "" {
		return fmt.Errorf("inherited twice: %v, %v", again, err)
	}
	for i, l := range all {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintf(c, "heir of %d", i)
		c.Close()
		l.Close()
	}
	fmt.Printf("inherited %d", len(all))
	return nil
}

// heir starts one with files as systemd would: descriptors from 3 on, and the
// process id that the environment names is its own.
func heir(t *testing.T, environment string, files ...*os.File) (out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", environment+" exec "+self)
	cmd.Env = append(os.Environ(), heirVariable+"=1")
	cmd.ExtraFiles = files
	cmd.WaitDelay = 10 * time.Second
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// A port stays open from before its first server to after its second: nothing
// that connects is refused, and each is answered by the one that runs then.
func TestListenersAreHandedFromProcessToProcess(t *testing.T) {
	var files []*os.File
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		addrs = append(addrs, l.Addr().String())
		files = append(files, f)
		l.Close() // the port stays open: f is the same listener
	}
	for generation := range 2 {
		var conns []net.Conn
		for _, addr := range addrs { // before anybody accepts
			c, err := net.DialTimeout("tcp", addr, 10*time.Second)
			if err != nil {
				t.Fatalf("generation %d: %v", generation, err)
			}
			defer c.Close()
			conns = append(conns, c)
		}
		out, err := heir(t, "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b", files...)
		if err != nil || !strings.Contains(out, "inherited 2") {
			t.Fatalf("generation %d: %v: %s", generation, err, out)
		}
		for i, c := range conns {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprintf("heir of %d", i) {
				t.Errorf("generation %d, listener %d answers %q, %v", generation, i, got, err)
			}
		}
	}
}

func TestWhatIsNotInherited(t *testing.T) {
	if out, err := heir(t, ""); err != nil || out != "inherited 0" {
		t.Errorf("without a word of it: %q, %v", out, err)
	}
	if out, err := heir(t, "LISTEN_PID=1 LISTEN_FDS=1"); err != nil || out != "inherited 0" {
		t.Errorf("for another process: %q, %v", out, err)
	}
	if out, err := heir(t, "LISTEN_PID=$$ LISTEN_FDS=many"); err == nil || !strings.Contains(out, "LISTEN_FDS") {
		t.Errorf("for nonsense: %q, %v", out, err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if out, err := heir(t, "LISTEN_PID=$$ LISTEN_FDS=1", file); err == nil || !strings.Contains(out, "inherit listener 1 of 1") {
		t.Errorf("for a file: %q, %v", out, err)
	}
}
