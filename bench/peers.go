//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// peer is one column of the table.
type peer struct {
	name   string
	what   string   // it is, for the page of results
	binary string   // the program; "" is this one
	about  []string // what makes it tell its version
	role   []string // this program's role and further arguments
	conf   string   // the template of its configuration, and the arguments that
	args   []string // name the file made of it
	env    []string
	tls    bool // can be measured with TLS at its edge
	http   bool // is there for plain HTTP alone
	bus    bool // is there for the bus alone
}

// workers is how many threads or processes each proxy gets.
const workers = 2

// The peers by name.
const (
	direct    = "no proxy"
	ours      = "holdfast"
	nginx     = "nginx"
	haproxy   = "haproxy"
	caddy     = "caddy"
	goProxy   = "reverseproxy"
	goProxyKA = "reverseproxy-256"
	redis     = "redis"
)

// peers lists the columns, from left to right.
func peers() []peer {
	two := fmt.Sprintf("GOMAXPROCS=%d", workers)
	return []peer{
		{name: direct, what: "the backend itself"},
		{name: nginx, binary: "nginx", about: []string{"-v"}, conf: "nginx.conf", args: []string{"-c"}, tls: true},
		{name: haproxy, binary: "haproxy", about: []string{"-v"}, conf: "haproxy.cfg", args: []string{"-f"}, tls: true},
		{name: caddy, binary: "caddy", about: []string{"version"}, conf: "Caddyfile", args: []string{"run", "--adapter", "caddyfile", "--config"}, env: []string{two}, tls: true},
		{name: goProxy, what: "httputil.ReverseProxy with http.DefaultTransport, no access log", role: []string{"reverseproxy", "default"}, env: []string{two}},
		{name: goProxyKA, what: fmt.Sprintf("the same, keeping %d connections to the instance", idleConns), role: []string{"reverseproxy", "tuned"}, env: []string{two}, http: true},
		{name: redis, binary: "redis-server", about: []string{"--version"}, conf: "redis.conf", bus: true},
		{name: ours, what: "edge, router and tunnels, access log on", role: []string{"holdfast"}, env: []string{two}, tls: true},
	}
}

// program finds a peer's program; Debian keeps some where only root looks.
func (p peer) program(self string) (string, error) {
	if p.binary == "" {
		return self, nil
	}
	if path, err := exec.LookPath(p.binary); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, p.binary)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on this machine", p.binary)
}

// version says which one it is, in a line.
func (p peer) version(self string) string {
	if p.binary == "" {
		return p.what
	}
	path, err := p.program(self)
	if err != nil {
		return err.Error()
	}
	out, _ := exec.Command(path, p.about...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	line, _, _ = strings.Cut(line, " - ")
	return line
}

// certs is what the harness made for TLS: paths.
type certs struct{ Cert, Key, Pair string }

//go:embed peers
var configurations embed.FS

// settings are what the templates of the configurations may say.
type settings struct {
	certs
	Dir, Listen, Port, Backend string
	Workers                    int
	TLS, Root                  bool
}

// process is a peer that runs.
type process struct {
	cmd    *exec.Cmd
	addr   string // where it listens
	exited chan struct{}
	errors *bytes.Buffer // what it wrote; read once it has exited
}

// readyWait is how long a peer has to accept connections after its start.
const readyWait = 10 * time.Second

// start runs p in front of backend with dir to itself, and waits until it
// serves.
func (p peer) start(ctx context.Context, self, dir, backend string, tls *certs, env []string) (*process, error) {
	path, err := p.program(self)
	if err != nil {
		return nil, err
	}
	proc := &process{exited: make(chan struct{}), errors: &bytes.Buffer{}}
	var args []string
	if p.conf != "" {
		if args, err = p.configure(proc, dir, backend, tls); err != nil {
			return nil, err
		}
	} else {
		args = append(args, p.role[0], backend)
		args = append(args, p.role[1:]...)
		if p.name == ours {
			args = append(args, dir)
			if tls != nil {
				args = append(args, tls.Cert, tls.Key)
			}
		}
	}
	proc.cmd = exec.Command(path, args...)
	proc.cmd.Dir = dir
	proc.cmd.Env = append(append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir), append(p.env, env...)...)
	proc.cmd.Stderr = proc.errors
	proc.cmd.WaitDelay = stopWait // nginx's workers hold the pipe, too
	// SIGTERM and not SIGKILL: nginx's master then takes its workers along.
	proc.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	var out io.ReadCloser
	if p.conf == "" {
		out, err = proc.cmd.StdoutPipe()
	} else {
		var log *os.File
		log, err = os.Create(filepath.Join(dir, "stdout"))
		proc.cmd.Stdout = log
		defer log.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := proc.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	if out != nil {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			proc.addr = strings.TrimSpace(line)
		}
	}
	go func() { proc.cmd.Wait(); close(proc.exited) }()
	if err := proc.awaitReady(ctx); err != nil {
		proc.stop()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return proc, nil
}

// configure writes the peer's configuration with a free port in it, and
// returns the arguments that name it.
func (p peer) configure(proc *process, dir, backend string, tls *certs) ([]string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	proc.addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(proc.addr)

	text, err := configurations.ReadFile("peers/" + p.conf)
	if err != nil {
		return nil, err
	}
	t, err := template.New(p.conf).Parse(string(text))
	if err != nil {
		return nil, err
	}
	s := settings{Dir: dir, Listen: proc.addr, Port: port, Backend: backend, Workers: workers, Root: os.Getuid() == 0}
	if tls != nil {
		s.TLS, s.certs = true, *tls
	}
	path := filepath.Join(dir, p.conf)
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(t.Execute(f, s), f.Close()); err != nil {
		return nil, err
	}
	return append(append([]string(nil), p.args...), path), nil
}

func (proc *process) awaitReady(ctx context.Context) error {
	bound := time.Now().Add(readyWait)
	for proc.addr != "" {
		c, err := net.Dial("tcp", proc.addr)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-proc.exited:
			return fmt.Errorf("ended at its start: %s", lastLine(proc.errors.String()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(bound) {
			return fmt.Errorf("does not listen after %v", readyWait)
		}
	}
	<-proc.exited
	return fmt.Errorf("ended at its start: %s", lastLine(proc.errors.String()))
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// stop ends the peer and all its processes, politely at first.
func (proc *process) stop() {
	all := tree(proc.cmd.Process.Pid)
	proc.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-proc.exited:
	case <-time.After(stopWait):
		for _, pid := range all {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		<-proc.exited
	}
}
