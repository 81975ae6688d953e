package build

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/internal/app"
)

// TestSystemPackages runs the shape of App Engine's own WebSocket sample on
// Debian's packages.
func TestSystemPackages(t *testing.T) {
	if exec.Command(systemPython, "-c", "import gunicorn, flask_sockets, geventwebsocket").Run() != nil {
		t.Skip("not installed: gunicorn python3-flask python3-flask-sockets python3-gevent python3-gevent-websocket")
	}
	b := real(t)
	src := tree(t, map[string]string{
		"main.py":          "from flask import Flask\nfrom flask_sockets import Sockets\napp = Flask(__name__)\nSockets(app)\n@app.route('/')\ndef hello():\n    return 'hello'\n",
		"requirements.txt": "Flask\n",
	})
	r := app.Recipe{Runtime: "python", Entrypoint: "gunicorn -b 127.0.0.1:$PORT -k flask_sockets.worker main:app",
		RuntimeConfig: map[string]string{"python_version": "3"},
		Env:           map[string]string{systemPackagesVar: "1", skipInstallVar: "1"}}
	a, err := b.Build(t.Context(), src, r, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := start(t, a, "command -v gunicorn").CombinedOutput()
	if err == nil && !strings.HasPrefix(string(out), a.Env["VIRTUAL_ENV"]) {
		t.Errorf("gunicorn is %s, want the environment's own", out)
	}
	cmd := start(t, a, a.Command, "PORT=0")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	eventually(t, "gunicorn to boot a flask_sockets worker: "+log.String(), func() bool {
		return strings.Contains(log.String(), "Booting worker") || strings.Contains(log.String(), "rror")
	})
	if s := log.String(); strings.Contains(s, "rror") || !strings.Contains(s, "flask_sockets.worker") {
		t.Errorf("gunicorn wrote %s", s)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
