package router

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the router takes and sends on means to two other parsers, Go's and
// Node's (llhttp), what it means to the router: one request, with that method,
// target, host and body. The seeds are the strange requests and handshakes.
func FuzzForwarded(f *testing.F) {
	if os.Getenv("HOLDFAST_LONG") == "" && flag.Lookup("test.fuzz").Value.String() == "" {
		f.Skip("it waits for silence, which a busy machine breaks late: HOLDFAST_LONG=1")
	}
	node := startNode(f)
	for _, c := range strange {
		if len(c.raw) < 4000 {
			f.Add([]byte(strings.ReplaceAll(c.raw, "HOST\r\n", "Host: localhost\r\n")))
		}
	}
	for _, s := range []string{
		hello + "\r\n",
		"GET //a//b?c HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /%2e%00?%zz HTTP/1.1\r\nHost: localhost\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Appengine-User-Id\r\n\r\n3\r\nabc\r\n0\r\nX-Appengine-User-Id: 1\r\nX: y\r\n\r\n",
		"PUT http://localhost//x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: Content-Length, Host\r\n\r\nabc",
	} {
		f.Add([]byte(s))
	}
	apps := newTaps(f)
	front := newTapped(f)
	front.routeTo(apps.addr)

	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4000 {
			return
		}
		apps.reset()
		conn, err := net.Dial("tcp", front.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(raw)
		// Who ends the stream has left, to net/http, and is not served. So the client
		// waits for silence.
		for p, err := make([]byte, 4<<10), error(nil); err == nil; {
			conn.SetReadDeadline(time.Now().Add(silence))
			_, err = conn.Read(p)
		}
		conn.Close()
		for _, sent := range apps.wait() {
			got, rest, err := readForwarded(sent)
			if err != nil {
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
					t.Fatalf("%q: forwarded as %q, of which Go says %v", raw, sent, err)
				}
				continue // the client did not say all, and so did we not
			}
			if len(rest) > 0 {
				t.Fatalf("%q: forwarded as %q, behind which Go finds %q", raw, sent, rest)
			}
			theirs, refused := node.read(t, sent)
			if refused {
				continue // it takes no method that it does not know
			}
			if len(theirs) != 1 || theirs[0].differs(got) {
				t.Fatalf("%q: forwarded as %q\n  Go:   %+v\n  Node: %+v", raw, sent, got, theirs)
			}
			if !front.meant.has(got) {
				t.Fatalf("%q: forwarded as %q\n  Go: %+v\n  the router meant one of %+v", raw, sent, got, front.meant.all)
			}
		}
	})
}

// silence is how long nothing comes any more from a router that has answered all.
// Where it is slower than that, less is compared.
const silence = 15 * time.Millisecond

// message is a request, as somebody read it.
type message struct {
	Method, Target, Body string // the body in base64
	Host                 string
	Headers, Trailers    []string // names and values in turn, in Latin-1 and lower case
}

// differs compares what two parsers read of the same bytes.
func (m message) differs(o message) bool {
	return m.Method != o.Method || m.Target != o.Target || m.Body != o.Body || m.Host != o.Host || !slices.Equal(m.Headers, o.Headers)
}

// readForwarded reads one request by Go's parser, and returns what is behind it.
func readForwarded(sent []byte) (m message, rest []byte, err error) {
	in := bufio.NewReader(bytes.NewReader(sent))
	req, err := http.ReadRequest(in)
	if err != nil {
		return m, nil, err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return m, nil, err
	}
	rest, _ = io.ReadAll(in)
	if req.Header["Upgrade"] != nil {
		rest = nil // no longer HTTP
	}
	m = message{Method: req.Method, Target: req.RequestURI, Host: req.Host, Body: base64.StdEncoding.EncodeToString(body)}
	for name, values := range req.Header {
		for _, v := range values {
			m.Headers = append(m.Headers, strings.ToLower(name)+": "+latin1(v))
		}
	}
	slices.Sort(m.Headers)
	return m, rest, nil
}

func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// node is llhttp, in a process that goes on.
type node struct {
	mu  sync.Mutex // guards the following
	in  io.Writer
	out *bufio.Reader
}

func startNode(f *testing.F) *node {
	path, err := exec.LookPath("node")
	if err != nil {
		f.Skip("node is not here: nodejs")
	}
	cmd := exec.Command(path, "testdata/llhttp.mjs")
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { in.Close(); cmd.Wait() })
	return &node{in: in, out: bufio.NewReader(out)}
}

// read is what llhttp makes of the bytes, or that it refuses them, which misleads
// nobody.
func (n *node) read(t *testing.T, sent []byte) (all []message, refused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintln(n.in, base64.StdEncoding.EncodeToString(sent))
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Error    string
		Requests []message
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatalf("node: %s: %v", line, err)
	}
	for _, m := range answer.Requests {
		var headers []string
		for i := 0; i+1 < len(m.Headers); i += 2 {
			switch name := strings.ToLower(m.Headers[i]); name {
			case "host":
				m.Host = m.Headers[i+1]
			case "transfer-encoding", "trailer": // which Go keeps elsewhere
			default:
				headers = append(headers, name+": "+m.Headers[i+1])
			}
		}
		slices.Sort(headers)
		m.Headers = headers
		all = append(all, m)
	}
	return all, len(all) == 0 && strings.HasPrefix(answer.Error, "HPE_")
}

// taps is an app that keeps the bytes it is sent, a connection at a time.
type taps struct {
	addr string

	mu     sync.Mutex // guards the following
	sent   [][]byte
	open   int
	served sync.Cond // open has become less
}

func newTaps(f *testing.F) *taps {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	a := &taps{addr: l.Addr().String()}
	a.served.L = &a.mu
	go func() { // ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.open++
			a.mu.Unlock()
			go a.serve(conn) // ends by its deadline
		}
	}()
	return a
}

// serve answers one request and keeps what came, also behind it.
func (a *taps) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * silence)) // one that was dialled in vain is kept for a while
	var sent bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &sent))
	if req, err := http.ReadRequest(in); err == nil {
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			conn.(*net.TCPConn).CloseWrite()
		}
	}
	io.Copy(io.Discard, in)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = append(a.sent, sent.Bytes())
	a.open--
	a.served.Broadcast()
}

func (a *taps) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = nil
}

// wait returns what came, when nothing more will.
func (a *taps) wait() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.open > 0 {
		a.served.Wait()
	}
	return a.sent
}

// meant is what the router was asked of late, as it was told: what one client sent
// may reach the app when the next has begun.
type meant struct {
	mu  sync.Mutex // guards the following
	all []asked
}

// asked is one such request, and its body as far as it was read by now: an app has
// it whole before the router is done.
type asked struct {
	message
	body *tap
}

const meantMax = 200

// has tells whether a request that an app got is one that the router was asked.
func (m *meant) has(got message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.all, func(one asked) bool {
		target := one.Target
		if _, rest, ok := strings.Cut(target, "://"); ok && target[0] != '/' { // the absolute form is for proxies
			if target = "/"; strings.ContainsAny(rest, "/?") {
				target = rest[strings.IndexAny(rest, "/?"):]
			}
			if target[0] == '?' {
				target = "/" + target
			}
		}
		same := got.Target == target || strings.HasPrefix(target, "//") // which may be encoded otherwise
		host := one.Host == "" || strings.EqualFold(one.Host, got.Host) // HTTP/1.0 need not say one, and HTTP/1.1 has to
		return same && host && one.Method == got.Method && base64.StdEncoding.EncodeToString(one.body.bytes()) == got.Body
	})
}

// tapped is a front that notes what it is asked.
type tapped struct {
	*front
	meant *meant
}

func newTapped(f *testing.F) *tapped {
	m := &meant{}
	return &tapped{meant: m, front: openFront(f, Config{Response: 2 * time.Second, Stall: time.Second}, func(r *Router) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { m.ask(r, w, req) })
	})}
}

// ask notes a request on its way.
func (m *meant) ask(r *Router, w http.ResponseWriter, req *http.Request) {
	one := asked{message{Method: req.Method, Target: req.RequestURI, Host: req.Host}, &tap{ReadCloser: req.Body}}
	if req.ContentLength != 0 {
		req.Body = one.body
	}
	m.mu.Lock()
	m.all = append(m.all[max(0, len(m.all)-meantMax):], one)
	m.mu.Unlock()
	r.ServeHTTP(w, req)
}

// tap keeps what is read.
type tap struct {
	io.ReadCloser

	mu   sync.Mutex // guards the following
	read []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = append(t.read, p[:n]...)
	return n, err
}

func (t *tap) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.read
}
