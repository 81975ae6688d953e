package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// browser starts headless Chromium, or skips the test where there is none.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium on this machine: apt-get install chromium")
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // the tests may run as root
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1000, 760),
	), more...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// tab opens a page in a tab of its own.
func tab(t *testing.T, browser context.Context, url string) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	// The tab lives as long as the context of its first Do, which must not be
	// the bounded one of a step.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Navigate(url))
	return ctx
}

func run(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// left is what a browser says when the page went elsewhere while it was asked.
var left = regexp.MustCompile(`navigated|[Cc]ontext (was destroyed|with specified id)|find context`)

// eval reads a JavaScript expression as text, of the next page if this one goes.
func eval(t *testing.T, ctx context.Context, expression string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	for err != nil && ctx.Err() == nil && left.MatchString(err.Error()) {
		text, err = chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	}
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return text
}

const (
	stateOf    = `document.querySelector("#status").dataset.state`
	instanceOf = `document.querySelector("#instance").textContent`
	whyOf      = `document.querySelector("#why").textContent`
	logOf      = `document.querySelector("#log").textContent`
)

// Two tabs chat on the only instance. It is killed; both say so, and are back within
// two seconds of its successor being ready.
func TestChatSurvivesItsInstance(t *testing.T) {
	t.Parallel()
	b := browser(t)
	h := start(t, "../examples/chat", "--instances=1")
	tabs := []context.Context{tab(t, b, h.url), tab(t, b, h.url)}
	for _, ctx := range tabs {
		eventually(t, "the page is connected", func() bool { return eval(t, ctx, stateOf) == "open" })
	}
	say := func(ctx context.Context, text string) {
		t.Helper()
		run(t, ctx, chromedp.SetValue("#text", text), chromedp.Click("#send"))
	}
	both := func(text string) {
		t.Helper()
		for i, ctx := range tabs {
			eventually(t, fmt.Sprintf("tab %d shows %q", i, text), func() bool { return strings.Contains(eval(t, ctx, logOf), text) })
			if n := strings.Count(eval(t, ctx, logOf), text); n != 1 {
				t.Errorf("tab %d shows %q %d times", i, text, n)
			}
		}
	}
	say(tabs[0], "hello from the left")
	both("hello from the left")
	say(tabs[1], "hello from the right")
	both("hello from the right")

	first := h.instances()[0]
	offset := h.out.Len()
	kill(t, h, first)
	h.awaitFrom(offset, regexp.MustCompile(`is ready`))
	ready := time.Now()
	for i, ctx := range tabs {
		eventually(t, "the page is connected again", func() bool { return eval(t, ctx, stateOf) == "open" })
		within(t, fmt.Sprintf("tab %d: coming back", i), time.Since(ready), 2*time.Second)
		if why := eval(t, ctx, whyOf); !strings.Contains(why, "crashed") {
			t.Errorf("tab %d says %q, want the word crashed", i, why)
		}
		if at := eval(t, ctx, instanceOf); strings.Contains(at, first) {
			t.Errorf("tab %d still names %s", i, first)
		}
	}
	say(tabs[1], "here we are again")
	both("here we are again")
	picture(t, tabs[0], "chat.png")
}

// picture keeps a screenshot where HOLDFAST_PICTURES says, for people to look at.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("HOLDFAST_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), png, 0o644); err != nil {
		t.Error(err)
	}
}

// The Python chat has the shape of App Engine's own sample. A 101 proves
// nothing there, so messages that come back are counted.
func TestChatInPython(t *testing.T) {
	t.Parallel()
	h := start(t, pythonChat(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var people []*websocket.Conn
	for i := range 3 {
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/chat", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		people = append(people, conn)
		write(t, ctx, conn, fmt.Sprintf(`{"type": "hello", "name": "person %d"}`, i))
		await(t, ctx, conn, `"welcome"`)
	}
	const messages = 60
	for i := range messages {
		text := fmt.Sprintf("message %d.", i)
		write(t, ctx, people[i%3], fmt.Sprintf(`{"type": "say", "id": "id-%d", "text": %q}`, i, text))
		for _, conn := range people {
			await(t, ctx, conn, text)
		}
	}
	if status, page := h.get("/"); status != 200 || !strings.Contains(page, "<html") {
		t.Errorf("GET / = %d, %d bytes", status, len(page))
	}
}

func write(t *testing.T, ctx context.Context, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// await reads until a message contains text.
func await(t *testing.T, ctx context.Context, conn *websocket.Conn, text string) {
	t.Helper()
	for {
		_, got, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		if strings.Contains(string(got), text) {
			return
		}
	}
}

// The Node chat begins with long polling, as socket.io does, and two tabs see
// each other.
func TestChatInNode(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: apt-get install nodejs npm", tool)
		}
	}
	b := browser(t)
	h := start(t, "../examples/chat-node")
	tabs := []context.Context{tab(t, b, h.url), tab(t, b, h.url)}
	for _, ctx := range tabs {
		eventually(t, "the page is connected", func() bool { return eval(t, ctx, stateOf) == "open" })
	}
	run(t, tabs[0], chromedp.SetValue("#text", "hello, Node"), chromedp.Click("#send"))
	for i, ctx := range tabs {
		eventually(t, fmt.Sprintf("tab %d shows the message", i), func() bool { return strings.Contains(eval(t, ctx, logOf), "hello, Node") })
	}
}
