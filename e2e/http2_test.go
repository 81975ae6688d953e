package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// record is what a line of requests.log says of a request or a socket.
type record struct {
	Msg, ID, Proto, Method, Path, Client, Cause string
	Port, Status, Code                          int
}

// records are those of a data directory.
func records(t *testing.T, data string) (all []record) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "logs", "requests.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r record
		if json.Unmarshal([]byte(line), &r) == nil { // the last may be half written
			all = append(all, r)
		}
	}
	return all
}

// overTLS runs an app with `holdfast run --tls`, and returns its https address.
func overTLS(t *testing.T, args ...string) (h *holdfast, url string) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // where the local authority is kept
	h = launch(t, t.TempDir(), append(args, "--tls")...)
	return h, h.await(regexp.MustCompile(`https://localhost:\d+`))
}

// A browser opens the chat over HTTPS. It speaks HTTP/2, and the chat's socket is a
// stream of the connection that brought the page, which the server's own record
// says. When the instance is restarted, the page hears why, and is back.
func TestABrowsersSocketRunsOverHTTP2(t *testing.T) {
	h, url := overTLS(t, "../examples/chat", "--instances=1")
	b := browser(t, chromedp.Flag("ignore-certificate-errors", true)) // nobody has told it of the authority
	page := tab(t, b, url)
	eventually(t, "the page is connected", func() bool { return eval(t, page, stateOf) == "open" })
	if p := eval(t, page, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); p != "h2" {
		t.Fatalf("the page came over %q", p)
	}
	run(t, page, chromedp.SetValue("#text", "over one connection"), chromedp.Click("#send"))
	eventually(t, "the page shows what it said", func() bool { return strings.Contains(eval(t, page, logOf), "over one connection") })

	offset := h.out.Len()
	kill(t, h, h.instances()[0])
	h.awaitFrom(offset, regexp.MustCompile(`is ready`))
	eventually(t, "the page is connected again", func() bool { return eval(t, page, stateOf) == "open" })
	if why := eval(t, page, whyOf); !strings.Contains(why, "crashed") {
		t.Errorf("the page says %q, want the word crashed", why)
	}
	var first, handshake, socket record
	eventually(t, "the socket's record is there", func() bool {
		for _, r := range records(t, h.data) {
			switch {
			case r.Msg == "request" && r.Path == "/":
				first = r
			case r.Msg == "request" && r.Path == "/ws" && handshake.ID == "": // RFC 8441's CONNECT, as the app sees it
				handshake = r
			case r.Msg == "socket" && r.ID == handshake.ID:
				socket = r
			}
		}
		return socket.ID != ""
	})
	if first.Proto != "HTTP/2.0" || first.Port == 0 || handshake.Proto != "HTTP/2.0" || handshake.Status != http.StatusOK {
		t.Errorf("the page and its handshake:\n%+v\n%+v", first, handshake)
	}
	for _, r := range []record{handshake, socket} {
		if r.Client != first.Client || r.Port != first.Port {
			t.Errorf("the page came from %s:%d, and not over the same connection:\n%+v", first.Client, first.Port, r)
		}
	}
	if socket.Proto != "HTTP/2.0" || socket.Cause != "crashed" {
		t.Errorf("the socket: %+v", socket)
	}
}

// Others who speak HTTP/2 agree: curl, and h2load with ten times as many streams
// as one connection may have open, beside whom a socket and a client of HTTP/1.1
// go on as before.
func TestOthersSpeakHTTP2(t *testing.T) {
	_, url := overTLS(t, "../examples/echo", "--instances=2")
	curl := need(t, "curl")
	out, err := exec.Command(curl, "-sk", "--http2", "-o", os.DevNull, "-w", "%{http_version} %{http_code}", url+"/").CombinedOutput()
	if err != nil || string(out) != "2 200" {
		t.Errorf("curl: %v: %s", err, out)
	}
	load := need(t, "h2load")
	var asked context.CancelFunc
	ctx, asked := context.WithCancel(t.Context())
	defer asked()
	beside := make(chan int, 1)
	// Of a transport with a configuration of its own, net/http speaks HTTP/1.1.
	older := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/ws", &websocket.DialOptions{HTTPClient: older})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	go func() { // ends with ctx
		n := 0
		for ; ctx.Err() == nil; n++ {
			if conn.Write(ctx, websocket.MessageText, []byte("still here")) != nil {
				break
			}
			if _, _, err := conn.Read(ctx); err != nil {
				break
			}
		}
		beside <- n
	}()
	const requests = 8_000
	streams := 10 * 250 // of each of two connections
	out, err = exec.Command(load, "-n", strconv.Itoa(requests), "-c", "2", "-m", strconv.Itoa(streams), url+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("h2load: %v: %s", err, out)
	}
	for _, want := range []string{"Application protocol: h2", fmt.Sprintf("%d succeeded, 0 failed, 0 errored", requests), fmt.Sprintf("%d 2xx", requests)} {
		if !strings.Contains(string(out), want) {
			t.Errorf("h2load does not say %q:\n%s", want, out)
		}
	}
	asked()
	if n := <-beside; n < 2 {
		t.Errorf("a socket that was open had %d answers meanwhile", n)
	}
	resp, err := older.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 {
		t.Errorf("afterwards: %s %s", resp.Proto, resp.Status)
	}
}

// need is where a program is that a test uses, which is skipped without.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("without %s: e2e/needs.sh installs it", name)
	}
	return path
}
