package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// As a service of systemd: the ports are handed to each server, the apps stay
// while one follows another, and who connects meanwhile waits instead of being
// refused.
func TestPortsStayOpenAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "holdfast-data")
	var files []*os.File
	var addrs []string
	for range 2 { // requests, then operators
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files, addrs = append(files, f), append(addrs, l.Addr().String())
		l.Close() // f is the same listener
	}
	// A short path: the kernel takes some hundred bytes.
	socketDir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(socketDir) })
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(socketDir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	told := func(want string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 100)
		n, err := manager.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("the manager is told %q, %v; want %s", b[:n], err, want)
		}
	}
	environ := append(command(data).Env, "HOME="+dir, "NOTIFY_SOCKET="+filepath.Join(socketDir, "notify"))
	serve := func(args ...string) *served {
		t.Helper()
		line := fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=2 exec %s serve --data=%s %s", program, data, strings.Join(args, " "))
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env, cmd.ExtraFiles = dir, environ, files
		s, err := startServing(cmd, data)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			select {
			case <-s.done:
			default:
				if err := s.stop(); err != nil {
					t.Error(err)
				}
			}
			if t.Failed() {
				t.Logf("holdfast serve wrote:\n%s", s.log)
			}
		})
		told("READY=1")
		return s
	}
	holdfast := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = dir, environ
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("holdfast %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	copied := filepath.Join(dir, "echo")
	if err := os.CopyFS(copied, os.DirFS("../examples/echo")); err != nil {
		t.Fatal(err)
	}

	first := serve("--keep-instances")
	if url, err := first.admin(); err != nil || url != "http://"+addrs[1] {
		t.Fatalf("operators are let in at %s, %v; want %s", url, err, addrs[1])
	}
	holdfast("deploy", "echo", "--instances=1")
	before := holdfast("instances", "--format=json")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")

	waiting, err := net.DialTimeout("tcp", addrs[0], patience)
	if err != nil {
		t.Fatalf("between two servers: %v", err)
	}
	defer waiting.Close()
	waiting.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(waiting, "GET / HTTP/1.1\r\nHost: echo.localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	serve() // without keep-instances, so that nothing is left behind
	resp, err := http.ReadResponse(bufio.NewReader(waiting), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("who waited is answered %v, %v", resp, err)
	}
	id := func(list string) string {
		_, rest, _ := strings.Cut(list, `"id": "`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	if after := holdfast("instances", "--format=json"); id(before) == "" || id(after) != id(before) {
		t.Errorf("the successor runs %s, before it ran %s", id(after), id(before))
	}
}
