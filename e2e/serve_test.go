package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/rogpeppe/go-internal/testscript"
)

// served is one running `holdfast serve`.
type served struct {
	cmd  *exec.Cmd
	data string
	log  *output
	done chan struct{} // closed when the process has ended
}

// startServer starts `holdfast serve` on free ports with its state in data, and
// waits until commands find it. args come last and so win.
func startServer(dir, data string, environ []string, args ...string) (*served, error) {
	cmd := exec.Command(program, append([]string{"serve", "--data=" + data, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Env = dir, environ
	return startServing(cmd, data)
}

// startServing starts a command that becomes a server.
func startServing(cmd *exec.Cmd, data string) (*served, error) {
	s := &served{cmd: cmd, data: data, log: newOutput(), done: make(chan struct{})}
	// What a server that was killed left behind is not ours to wait for.
	os.Remove(filepath.Join(data, "admin.json"))
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		cmd.Wait()
		s.log.end()
		close(s.done)
	}()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := s.admin(); err == nil {
			return s, nil
		}
		select {
		case <-s.done:
			return nil, fmt.Errorf("holdfast serve has ended:\n%s", s.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.kill()
	return nil, fmt.Errorf("holdfast serve does not serve:\n%s", s.log)
}

// admin is the URL of its admin API.
func (s *served) admin() (string, error) {
	var place struct{ URL string }
	b, err := os.ReadFile(filepath.Join(s.data, "admin.json"))
	if err != nil {
		return "", err
	}
	return place.URL, errors.Join(json.Unmarshal(b, &place), missing(place.URL))
}

func missing(url string) error {
	if url == "" {
		return errors.New("no URL")
	}
	return nil
}

// router is the URL where requests arrive.
func (s *served) router() (string, error) {
	admin, err := s.admin()
	if err != nil {
		return "", err
	}
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodGet, admin+"/holdfast/v1/status", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	var status struct {
		Listeners []struct{ Name, Addr string }
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return "", err
	}
	for _, l := range status.Listeners {
		if l.Name == "http" {
			return "http://" + l.Addr, nil
		}
	}
	return "", errors.New("it listens nowhere")
}

// stop ends it as a service manager does, and waits.
func (s *served) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("holdfast serve exits with %d:\n%s", code, s.log)
		}
		return nil
	case <-time.After(patience):
		s.kill()
		return fmt.Errorf("holdfast serve did not stop:\n%s", s.log)
	}
}

// kill ends it as the machine's trouble does.
func (s *served) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// commands are what scripts can say besides testscript's own words:
//
//	serve [ARG...]            start a server in the folder's holdfast-data, or start it again
//	stop-server               SIGTERM, and wait for a good end
//	kill-server               SIGKILL
//	get HOST[/PATH] [STATUS]  ask the server, as a browser would; the body is stdout
//	until REGEXP COMMAND...   repeat a holdfast command until its output matches
//	capture NAME REGEXP       set a variable to what the parentheses match in stdout
//	socket NAME HOST[/PATH]   open a WebSocket, and keep it by a name
//	closed NAME CODE REASON   wait until the server closes it so
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"serve":       serveCommand,
	"stop-server": func(ts *testscript.TestScript, neg bool, args []string) { ts.Check(theServer(ts).stop()) },
	"kill-server": func(ts *testscript.TestScript, neg bool, args []string) { theServer(ts).kill() },
	"get":         getCommand,
	"until":       untilCommand,
	"capture":     captureCommand,
	"socket":      socketCommand,
	"closed":      closedCommand,
}

// serverKey is where a script's server is kept.
type serverKey struct{}

// box lets a script's commands share its server.
type box struct {
	dir     string
	environ []string
	server  *served // the latest
	sockets map[string]*websocket.Conn
}

// give lets the scripts of env start servers.
func give(env *testscript.Env) {
	env.Values[serverKey{}] = &box{dir: env.WorkDir, environ: slices.Clone(env.Vars), sockets: map[string]*websocket.Conn{}}
}

func theServer(ts *testscript.TestScript) *served {
	b := ts.Value(serverKey{}).(*box)
	if b.server == nil {
		ts.Fatalf("no server was started: serve")
	}
	return b.server
}

func serveCommand(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.Value(serverKey{}).(*box)
	first := b.server == nil
	s, err := startServer(b.dir, filepath.Join(b.dir, "holdfast-data"), b.environ, args...)
	ts.Check(err)
	b.server = s
	if !first {
		return
	}
	ts.Defer(func() {
		select {
		case <-b.server.done:
		default:
			if err := b.server.stop(); err != nil {
				ts.Logf("%v", err)
			}
		}
		ts.Logf("holdfast serve wrote:\n%s", b.server.log)
	})
}

func getCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: get HOST[/PATH] [STATUS]")
	}
	url, err := theServer(ts).router()
	ts.Check(err)
	host, path, _ := strings.Cut(args[0], "/")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/"+path, nil)
	ts.Check(err)
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	want := "200"
	if len(args) > 1 {
		want = args[1]
	}
	if got := fmt.Sprint(resp.StatusCode); (got == want) == neg {
		ts.Fatalf("get %s: status %s, want %s:\n%s", args[0], got, want, body)
	}
	fmt.Fprint(ts.Stdout(), string(body))
}

func untilCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		err := ts.Exec("holdfast", args[1:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("holdfast %s never printed %s", strings.Join(args[1:], " "), args[0])
}

func captureCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME REGEXP")
	}
	what, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	match := what.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) != 2 {
		ts.Fatalf("stdout has no one match of %s", args[1])
	}
	ts.Setenv(args[0], match[1])
}

func socketCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: socket NAME HOST[/PATH]")
	}
	url, err := theServer(ts).router()
	ts.Check(err)
	host, path, _ := strings.Cut(args[1], "/")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+"/"+path, &websocket.DialOptions{Host: host})
	ts.Check(err)
	ts.Defer(func() { conn.CloseNow() })
	ts.Value(serverKey{}).(*box).sockets[args[0]] = conn
}

func closedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: closed NAME CODE REASON")
	}
	conn := ts.Value(serverKey{}).(*box).sockets[args[0]]
	if conn == nil {
		ts.Fatalf("there is no socket %s", args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, _, err := conn.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			if fmt.Sprint(int(closed.Code)) != args[1] || closed.Reason != args[2] {
				ts.Fatalf("socket %s is closed with %d %q, want %s %q", args[0], closed.Code, closed.Reason, args[1], args[2])
			}
			return
		}
		ts.Check(err)
	}
}
