package bus

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkMessages publishes from four connections, 16 messages of 100 bytes at
// a time, to 100 subscribers: to us and to a real Redis.
func BenchmarkMessages(b *testing.B) {
	b.Run("bus", func(b *testing.B) {
		w := newWorld(b)
		carry(b, func() *client { return w.join("shop") })
	})
	b.Run("redis", func(b *testing.B) {
		addr := realRedis(b)
		carry(b, func() *client { return dial(b, addr) })
	})
}

func carry(b *testing.B, join func() *client) {
	const subscribers, publishers, together = 100, 4, 16
	publish := bytes.Repeat(wire("PUBLISH", "news", strings.Repeat("x", 100)), together)
	answers := int64(together * len(":100\r\n"))
	rounds := max(1, b.N/together/publishers)
	m := message{name: []byte("news"), payload: bytes.Repeat([]byte("x"), 100)}
	total := int64(rounds*together*publishers) * int64(len(m.in(2)))
	var all sync.WaitGroup
	for range subscribers {
		c := join()
		c.net.SetDeadline(time.Time{})
		c.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
		all.Go(func() {
			if n, err := io.CopyN(io.Discard, c.net, total); err != nil {
				b.Errorf("%d bytes of %d: %v", n, total, err)
			}
		})
	}
	began := time.Now()
	for range publishers {
		p := join()
		p.net.SetDeadline(time.Time{})
		all.Go(func() {
			for range rounds {
				p.net.Write(publish)
				if _, err := io.CopyN(io.Discard, p.net, answers); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(rounds*together*publishers)/time.Since(began).Seconds(), "messages/s")
}

// What people type works, and what libraries send.
func TestRedisCLI(t *testing.T) {
	t.Parallel()
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("redis-cli is missing: apt-get install redis-tools")
	}
	w := newWorld(t)
	_, port, _ := net.SplitHostPort(w.addr.String())
	s := w.join("shop")
	s.want(`*["subscribe" "news" :1]`, "SUBSCRIBE", "news")
	for _, proto := range []string{"-2", "-3"} {
		out, err := exec.CommandContext(t.Context(), cli, "-p", port, proto, "--user", "shop", "--pass", w.bus.Password("shop"), "--no-auth-warning", "PUBLISH", "news", "by hand").CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != "1" || err != nil {
			t.Errorf("redis-cli %s publish: %q, %v", proto, got, err)
		}
		s.gets(`*["message" "news" "by hand"]`)
	}
	out, _ := exec.CommandContext(t.Context(), cli, "-u", w.bus.URL(w.addr, "shop"), "--no-auth-warning", "GET", "x").CombinedOutput()
	if !strings.Contains(string(out), "messages only") {
		t.Errorf("redis-cli get: %s", out)
	}
}

// The Python library, whose queue Flask-SocketIO uses, over the URL as apps get it.
func TestRedisPy(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // Debian's, which sees its packages
	if err := exec.Command(python, "-c", "import redis").Run(); err != nil {
		t.Skip("python3-redis is missing: apt-get install python3-redis")
	}
	w := newWorld(t)
	script := fmt.Sprintf(`
import redis
for again in range(2):
    r = redis.Redis.from_url(%q)
    p = r.pubsub()
    p.subscribe("flask-socketio")
    p.psubscribe("f*")
    assert p.get_message(timeout=9)["type"] == "subscribe"
    assert p.get_message(timeout=9)["type"] == "psubscribe"
    assert r.publish("flask-socketio", b"\x00\r\n") == 2
    assert p.get_message(timeout=9)["data"] == b"\x00\r\n"
    assert p.get_message(timeout=9)["pattern"] == b"f*"
    assert r.pubsub_numsub("flask-socketio") == [(b"flask-socketio", 1)]
    p.close()
try:
    r.get("x")
except redis.ResponseError as e:
    assert "messages only" in str(e), e
`, w.bus.URL(w.addr, "shop"))
	if out, err := exec.CommandContext(t.Context(), python, "-c", script).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
