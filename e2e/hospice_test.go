package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hospice is a server for sockets that end, with services of the app in
// testdata/endings.
type hospice struct {
	t      *testing.T
	server *served
	dir    string
	front  string // host:port
	admin  string // URL
	token  string

	deploys int
	browser *http.Client // signed in to the console
}

func newHospice(t *testing.T) *hospice {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s, err := startServer(dir, data, command(data).Env)
	if err != nil {
		t.Fatal(err)
	}
	h := &hospice{t: t, server: s, dir: dir}
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
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	h.token = strings.TrimSpace(string(token))
	if h.admin, err = s.admin(); err != nil {
		t.Fatal(err)
	}
	front, err := s.router()
	if err != nil {
		t.Fatal(err)
	}
	h.front = strings.TrimPrefix(front, "http://")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.browser = &http.Client{Jar: jar, Timeout: patience}
	form, err := http.NewRequest("POST", h.admin+"/console/sign-in", strings.NewReader(url.Values{"token": {h.token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	form.Header.Set("Origin", h.admin)
	form.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := h.browser.Do(form)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("sign in to the console: %s", res.Status)
	}
	return h
}

// deploy deploys the app as a service, with more beta_settings.
func (h *hospice) deploy(service, settings string) {
	h.t.Helper()
	h.deploys++
	dir := filepath.Join(h.dir, "app-"+service)
	if err := os.CopyFS(dir, os.DirFS("testdata/endings")); err != nil && h.deploys <= 4 {
		h.t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/endings/app.yaml")
	if err != nil {
		h.t.Fatal(err)
	}
	text = append([]byte("service: "+service+"\n"), append(text, settings...)...)
	if err := os.WriteFile(filepath.Join(dir, "app.yaml"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(program, "deploy", dir, "--project=ends", fmt.Sprint("--version=v", h.deploys), "--server="+h.admin, "--token-file="+filepath.Join(h.server.data, "token"))
	cmd.Env = command(h.server.data).Env
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("deploy %s: %v\n%s", service, err, out)
	}
}

// ask asks the admin API, and returns the answer.
func (h *hospice) ask(method, path, body string) []byte {
	h.t.Helper()
	code, answer := h.tell(method, h.admin+"/holdfast/v1/"+path, body)
	if code != http.StatusOK {
		h.t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}
	return answer
}

func (h *hospice) tell(method, url, body string) (int, []byte) {
	h.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, answer
}

// page is one of the console's.
func (h *hospice) page(path string) string {
	h.t.Helper()
	res, err := h.browser.Get(h.admin + "/console/" + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(body)
}

// get asks the app; its answer may be none.
func (h *hospice) get(service, path string) {
	req, err := http.NewRequest("GET", "http://"+h.front+path, nil)
	if err != nil {
		h.t.Error(err)
		return
	}
	req.Host = host(service)
	if res, err := (&http.Client{Timeout: patience}).Do(req); err == nil {
		res.Body.Close()
	}
}

func host(service string) string { return service + "-dot-ends.localhost" }

type runner struct {
	ID, Service, Version, State string
	Sockets                     int
}

func (h *hospice) instances() (all []runner) {
	h.t.Helper()
	var list struct{ Instances []runner }
	if err := json.Unmarshal(h.ask("GET", "instances", ""), &list); err != nil {
		h.t.Fatal(err)
	}
	return list.Instances
}

// ready waits until so many of a service's instances are ready, and no other is there.
func (h *hospice) ready(service string, want int) {
	h.t.Helper()
	eventually(h.t, fmt.Sprint(want, " ready instances of ", service), func() bool {
		ready, others := 0, 0
		for _, i := range h.instances() {
			switch {
			case i.Service != service || i.State == "stopped":
			case i.State == "ready":
				ready++
			case i.State != "draining":
				others++
			}
		}
		return ready == want && others == 0
	})
}

// instance is the ready one of the default service.
func (h *hospice) instance() string {
	h.t.Helper()
	for _, i := range h.instances() {
		if i.Service == "default" && i.State == "ready" {
			return i.ID
		}
	}
	h.t.Fatal("no instance is ready")
	return ""
}

// fewest is the ready instance of the default service with the fewest sockets; ""
// while there is not one alone.
func (h *hospice) fewest() (id string) {
	h.t.Helper()
	least := -1
	for _, i := range h.instances() {
		switch {
		case i.Service != "default" || i.State != "ready":
		case least < 0 || i.Sockets < least:
			id, least = i.ID, i.Sockets
		case i.Sockets == least:
			id = ""
		}
	}
	return id
}

func (h *hospice) version(service string) string {
	h.t.Helper()
	for _, i := range h.instances() {
		if i.Service == service && i.State == "ready" {
			return i.Version
		}
	}
	h.t.Fatalf("%s has no version that is ready", service)
	return ""
}

// socketID is the id of the one open socket of the default service.
func (h *hospice) socketID() string {
	h.t.Helper()
	var list struct{ Sockets []struct{ ID string } }
	if err := json.Unmarshal(h.ask("GET", "sockets?service=default", ""), &list); err != nil || len(list.Sockets) != 1 {
		h.t.Fatalf("sockets: %v, %v", list, err)
	}
	return list.Sockets[0].ID
}

// lines are the records of the request log with that message, the oldest first.
func (h *hospice) lines(msg string) (all []map[string]any) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.server.data, "logs", "requests.log"))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var record map[string]any
		if json.Unmarshal(line, &record) == nil && record["msg"] == msg {
			all = append(all, record)
		}
	}
	return all
}

// instanceOf is the instance that a path's handshake came to.
func (h *hospice) instanceOf(path string) (id string) {
	h.t.Helper()
	eventually(h.t, "a line about "+path, func() bool {
		for _, l := range h.lines("request") {
			if l["path"] == path {
				id, _ = l["instance"].(string)
			}
		}
		return id != ""
	})
	return id
}

// count is how many such endings the numbers tell of, over all versions.
func (h *hospice) count(e ending, service string) (sum float64) {
	h.t.Helper()
	code, page := h.tell("GET", h.admin+"/metrics", "")
	if code != http.StatusOK {
		h.t.Fatalf("metrics: %d %s", code, page)
	}
	row := regexp.MustCompile(fmt.Sprintf(`(?m)^holdfast_sockets_ended_total{app="ends",by="%s",cause="%s",service="%s",[^}]*} (\S+)$`, e.by, e.cause, service))
	for _, m := range row.FindAllSubmatch(page, -1) {
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			h.t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// caller is a client that says exactly what a test wants.
type caller struct {
	conn     *net.TCPConn
	in       *bufio.Reader
	instance string // that it is with, where that was looked up

	mu sync.Mutex // guards writing
}

// open opens a WebSocket.
func (h *hospice) open(service, path string) *caller {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.front)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, host(service))
	c := &caller{conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		h.t.Fatalf("open %s of %s: %v, %v", path, service, res, err)
	}
	return c
}

// say sends one frame, masked with zeros. That it does not arrive is seen later.
func (c *caller) say(opcode byte, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		f = append(f, 0x80|byte(n))
	} else {
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	}
	c.conn.Write(append(append(f, 0, 0, 0, 0), payload...))
}

// vanish breaks the connection, as a machine that loses its power does not even do.
func (c *caller) vanish() {
	c.conn.SetLinger(0)
	c.conn.Close()
}

// farewell reads until a Close frame, answers it and says what it says.
func (c *caller) farewell() (code int, reason string, err error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return 0, "", err
		}
		if head[1] > 125 {
			return 0, "", fmt.Errorf("a frame that begins with %x, which the app does not send", head)
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return 0, "", err
		}
		if head[0]&0xf != 8 {
			continue
		}
		c.say(8, payload)
		if len(payload) < 2 {
			return 1005, "", nil
		}
		return int(binary.BigEndian.Uint16(payload)), string(payload[2:]), nil
	}
}
