package edge

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder names the program that listens on a TCP port of this machine and its
// process id, or returns "" when that cannot be seen, as with another user's.
func holder(port int) string {
	inode := listenerInode(port)
	if inode == "" {
		return ""
	}
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != want {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return ""
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}

// listenerInode finds the socket in the kernel's tables (proc_net_tcp(5)):
// columns are sl, local address, remote address, state, ..., inode at 9.
func listenerInode(port int) string {
	const listening = "0A"
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		defer f.Close()
		for scan := bufio.NewScanner(f); scan.Scan(); {
			col := strings.Fields(scan.Text())
			if len(col) < 10 || col[3] != listening {
				continue
			}
			_, hex, _ := strings.Cut(col[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
				return col[9]
			}
		}
	}
	return ""
}
