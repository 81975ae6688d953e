package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// person is somebody in the Node chat, with the little of socket.io's protocol
// that it takes, and no cookie: so the router chooses an instance for each.
type person struct {
	conn     *websocket.Conn
	instance string
}

var welcomed = regexp.MustCompile(`"instance":"([^"]+)"`)

func join(t *testing.T, ctx context.Context, h *holdfast, name string) person {
	t.Helper()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	write(t, ctx, conn, fmt.Sprintf(`40{"name":%q}`, name))
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for the welcome of %s: %v", name, err)
		}
		if m := welcomed.FindSubmatch(text); m != nil {
			return person{conn, string(m[1])}
		}
	}
}

// apart joins people until two are on different instances.
func apart(t *testing.T, ctx context.Context, h *holdfast) (a, b person) {
	t.Helper()
	a = join(t, ctx, h, "first")
	for i := range 20 {
		if b = join(t, ctx, h, fmt.Sprint("other ", i)); b.instance != a.instance {
			return a, b
		}
	}
	t.Fatalf("21 people are all on %s", a.instance)
	return
}

// hears reads until a text was said, and that it is not said again before
// another one of the same speaker.
func (p person) hears(t *testing.T, ctx context.Context, text, after string) {
	t.Helper()
	n := 0
	for {
		_, got, err := p.conn.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		if string(got) == "2" { // engine.io's ping
			write(t, ctx, p.conn, "3")
		}
		n += strings.Count(string(got), text)
		if strings.Contains(string(got), after) {
			break
		}
	}
	if n != 1 {
		t.Errorf("on %s %q was heard %d times", p.instance, text, n)
	}
}

// both lets each speak and both hear, each message once.
func both(t *testing.T, ctx context.Context, a, b person, round string) {
	t.Helper()
	for i, p := range []person{a, b} {
		for _, word := range []string{"one", "two"} {
			id := fmt.Sprintf("%s-%d-%s", round, i, word)
			write(t, ctx, p.conn, fmt.Sprintf(`42["say",{"id":"id-%s","text":"text-%s."}]`, id, id))
		}
		one, two := fmt.Sprintf("text-%s-%d-one.", round, i), fmt.Sprintf("text-%s-%d-two.", round, i)
		a.hears(t, ctx, one, two)
		b.hears(t, ctx, one, two)
	}
}

// realRedis starts Debian's server, or skips.
func realRedis(t *testing.T) (url string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is missing: apt-get install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	redis := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Process.Signal(os.Interrupt); redis.Wait() })
	eventually(t, "redis-server listens", func() bool {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "redis://127.0.0.1:" + port
}

// The Node chat on two instances: what is said on one is heard on the other, by
// socket.io's Redis adapter over the bus in the box. When Holdfast is killed
// and started again, the instances go on and find the bus where it was.
func TestMessagesCrossInstances(t *testing.T) {
	t.Parallel()
	nodeIsHere(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	data := t.TempDir()
	h := launch(t, data, "../examples/chat-node")
	h.serving()
	a, b := apart(t, ctx, h)
	both(t, ctx, a, b, "first")

	port, err := os.ReadFile(filepath.Join(data, "bus.port"))
	if err != nil {
		t.Fatal(err)
	}
	h.cmd.Process.Kill()
	<-h.done
	h = launch(t, data, "../examples/chat-node")
	h.serving()
	if again, err := os.ReadFile(filepath.Join(data, "bus.port")); string(again) != string(port) || err != nil {
		t.Errorf("the bus was at port %s, and is at %s, %v", port, again, err)
	}
	c, d := apart(t, ctx, h)
	if c.instance != a.instance && c.instance != b.instance || d.instance != a.instance && d.instance != b.instance {
		t.Errorf("instances %s and %s did not outlive us: now %s and %s", a.instance, b.instance, c.instance, d.instance)
	}
	// redis connects again within seconds; until then a message is lost.
	for i := 0; ; i++ {
		mark := fmt.Sprintf("probe-%d.", i)
		write(t, ctx, c.conn, fmt.Sprintf(`42["say",{"id":"probe-%d","text":%q}]`, i, mark))
		if d.hearsWithin(t, ctx, mark, time.Second) {
			break
		}
		if i > 60 {
			t.Fatal("the bus is not found again")
		}
		d = join(t, ctx, h, "again") // its read was cut, and so its socket
		for d.instance == c.instance {
			d = join(t, ctx, h, "again")
		}
	}
	both(t, ctx, c, d, "second")
}

// hearsWithin says whether a text comes in time; else the socket is gone.
func (p person) hearsWithin(t *testing.T, ctx context.Context, text string, d time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		_, got, err := p.conn.Read(ctx)
		if err != nil {
			return false
		}
		if strings.Contains(string(got), text) {
			return true
		}
	}
}

// The same app, unchanged, over a Redis of the operator's.
func TestMessagesCrossInstancesOverARealRedis(t *testing.T) {
	t.Parallel()
	nodeIsHere(t)
	url := realRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h := start(t, "../examples/chat-node", "--redis="+url)
	a, b := apart(t, ctx, h)
	both(t, ctx, a, b, "real")
}

// Flask-SocketIO with its message queue: over the bus, and over a real Redis.
func TestFlaskSocketIOCrossesInstances(t *testing.T) {
	t.Parallel()
	python3Has(t, map[string]string{"flask_socketio": "python3-flask-socketio", "geventwebsocket": "python3-gevent-websocket", "redis": "python3-redis"})
	for name, more := range map[string]func(t *testing.T) []string{
		"bus":   func(*testing.T) []string { return nil },
		"redis": func(t *testing.T) []string { return []string{"--redis=" + realRedis(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"testdata/flask-socketio"}, more(t)...)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			h := start(t, args...)
			a, b := apart(t, ctx, h)
			// It subscribes when somebody is there first, at its leisure.
			a.reaches(t, ctx, b)
			b.reaches(t, ctx, a)
			both(t, ctx, a, b, name)
		})
	}
}

// reaches says something again and again until the other one hears it.
func (p person) reaches(t *testing.T, ctx context.Context, other person) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer cancel()
	mark := "from " + p.instance
	speaking.Go(func() { // ends with the waiting below
		for ctx.Err() == nil {
			err := p.conn.Write(context.WithoutCancel(ctx), websocket.MessageText, fmt.Appendf(nil, `42["say",{"id":%q,"text":%q}]`, mark, mark))
			if err != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	await(t, ctx, other.conn, mark)
}

// The chat in Go, by go-redis over a Redis of the operator's.
func TestGoChatCrossesInstancesOverARealRedis(t *testing.T) {
	t.Parallel()
	url := realRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h := start(t, "../examples/chat", "--redis="+url)
	enter := func() person {
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		conn.SetReadLimit(1 << 20)
		write(t, ctx, conn, `{"type":"hello","name":"somebody"}`)
		_, text, err := conn.Read(ctx)
		m := welcomed.FindSubmatch(text)
		if err != nil || m == nil {
			t.Fatalf("welcomed with %q, %v", text, err)
		}
		return person{conn, string(m[1])}
	}
	a, b := enter(), enter()
	if a.instance == b.instance {
		t.Fatalf("two people are both on %s", a.instance)
	}
	for i, p := range []person{a, b} {
		write(t, ctx, p.conn, fmt.Sprintf(`{"type":"say","id":"%d-one","text":"one of %d."}`, i, i))
		write(t, ctx, p.conn, fmt.Sprintf(`{"type":"say","id":"%d-two","text":"two of %d."}`, i, i))
		for _, q := range []person{a, b} {
			q.hears(t, ctx, fmt.Sprintf("one of %d.", i), fmt.Sprintf("two of %d.", i))
		}
	}
}

func nodeIsHere(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: apt-get install nodejs npm", tool)
		}
	}
}
