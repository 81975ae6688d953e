package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

var (
	consoleLink = regexp.MustCompile(`http://127\.0\.0\.1:\d+/console/enter\?code=\S+`)
	liveState   = `document.querySelector(".live").dataset.state`
)

// text is what an element of a page says, "" while it is not there.
func text(selector string) string {
	return fmt.Sprintf(`(document.querySelector(%q)?.textContent ?? "").replace(/\s+/g, " ").trim()`, selector)
}

// Somebody uses every page of the console before a real app with open sockets.
// What the pages count is what this test does, and axe finds nothing that keeps
// people from using them, in the light, in the dark and on a phone.
func TestTheConsole(t *testing.T) {
	t.Parallel()
	axe := axeCore(t)
	b := browser(t)
	h := start(t, "../examples/echo", "--instances=2")
	link := h.await(consoleLink)
	base := link[:strings.Index(link, "/enter")]
	page := tab(t, b, link)
	says := func(selector, want string) {
		t.Helper()
		eventually(t, selector+" says "+want, func() bool { return strings.Contains(eval(t, page, text(selector)), want) })
	}
	open := func(path string) {
		t.Helper()
		run(t, page, chromedp.Navigate(base+path))
		eventually(t, path+" is live", func() bool { return eval(t, page, liveState) == "on" })
	}
	fit := func(name string) { t.Helper(); fits(t, page, axe, name) }

	// Seven sockets, of which each sends three messages.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const sockets, messages = 7, 3
	ended := make(chan error, sockets)
	for range sockets {
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		for range messages {
			write(t, ctx, conn, "hello")
		}
		go func() { // ends with the socket
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	h.get("/")
	says("#total-sockets", strconv.Itoa(sockets))
	fit("overview")

	open("/sockets")
	says("#matching", strconv.Itoa(sockets))
	if rows := eval(t, page, `document.querySelectorAll("tbody tr").length`); rows != strconv.Itoa(sockets) {
		t.Errorf("the table has %s rows", rows)
	}
	fit("sockets")
	open("/sockets?q=nobody")
	says("#matching", "0")

	// One is closed by hand, and hears the code and the reason that were typed.
	open("/sockets?sort=age")
	press(t, page, `tbody tr a`)
	says("#from-client", fmt.Sprintf("%d messages, ", messages))
	press(t, page, `form[data-ask] button`)
	run(t, page, chromedp.WaitVisible(`dialog #f-code`), chromedp.SetValue(`#f-code`, "4000"), chromedp.SetValue(`#f-reason`, "seen enough"), chromedp.Click(`dialog button.danger`))
	if err := <-ended; websocket.CloseStatus(err) != 4000 || !strings.Contains(err.Error(), "seen enough") {
		t.Errorf("the client heard %v", err)
	}
	says(".story", "Close code 4000, reason \"seen enough\"")
	says(".story", "Ended by Holdfast requested")
	fit("socket")

	// An instance is restarted: what that did to its sockets is told.
	open("/")
	says("#total-sockets", strconv.Itoa(sockets-1))
	press(t, page, `.cells .cell`)
	says("#instance-sockets", "")
	eventually(t, "the instance has sockets", func() bool { return eval(t, page, text("#instance-sockets")) != "" })
	moved := eval(t, page, text("#instance-sockets"))
	fit("instance")
	press(t, page, `form[data-ask] button`)
	run(t, page, chromedp.WaitVisible(`dialog .primary, dialog .danger`), chromedp.Click(`dialog .buttons button`))
	says("main", "restart")
	open("/services/echo/default")
	says(".report .moved", moved+" on 1 instance")
	says(".report .ends", "requested "+moved)
	says(".report .lost", "0 of ")

	open("/timeline")
	for _, what := range []string{"deploy done", "restart done", "draining", "requested"} {
		says(".timeline", what)
	}
	fit("timeline")
	open("/timeline?kind=socket&q=seen+enough")
	says(".timeline", "requested")
	open("/logs?q=seen+enough&requests=on")
	says(".lines", "code 4000")
	says(".lines", "its story")
	open("/logs")
	says(".lines", "GET / from")
	// The guide, which needs no network.
	run(t, page, chromedp.Navigate(base+"/docs/"))
	says("h1", "The guide")
	run(t, page, chromedp.Click(`.pages a[href$="/sockets.md"]`))
	says("h1", "Sockets that survive deploys")
	fit("guide")
}

// press clicks on an element of a page once it is there and the page is live: its
// script asks in a dialog what would be a page of its own without it. A page that is kept true may
// exchange it meanwhile, which a click by its place does not forgive.
func press(t *testing.T, page context.Context, selector string) {
	t.Helper()
	eventually(t, selector+" is there", func() bool {
		return eval(t, page, fmt.Sprintf(`((e) => (e && document.querySelector(".live")?.dataset.state === "on" && setTimeout(() => e.click()) > 0) === true)(document.querySelector(%q))`, selector)) == "true"
	})
}

// axeCore is the script that looks for what keeps people from using a page.
func axeCore(t *testing.T) string {
	t.Helper()
	axe, err := os.ReadFile(filepath.Join(npmDir(t, "axe"), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(axe)
}

// fits looks at the page at two widths and in both themes: nothing keeps people
// from using it, and nothing is wider than the window.
func fits(t *testing.T, page context.Context, axe, name string) {
	t.Helper()
	for _, phone := range []bool{true, false} {
		width, height := int64(1280), int64(860)
		if phone {
			width, height = 390, 844
		}
		run(t, page, chromedp.EmulateViewport(width, height))
		for _, theme := range []string{"dark", "light"} {
			eval(t, page, fmt.Sprintf(`(document.documentElement.dataset.theme = %q, dispatchEvent(new Event("theme")), "")`, theme))
			if over, _ := strconv.Atoi(eval(t, page, `document.documentElement.scrollWidth - innerWidth`)); over > 0 {
				t.Errorf("%s is %d pixels wider than a window of %d", name, over, width)
			}
			eval(t, page, `(() => {`+axe+`
					window.found = "";
					axe.run(document).then((r) => { window.found = "done " + r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + ": " + v.nodes[0].html).join("; "); });
				})()`)
			eventually(t, "axe has looked", func() bool { return eval(t, page, `window.found`) != "" })
			if found := strings.TrimPrefix(eval(t, page, `window.found`), "done "); found != "" {
				t.Errorf("%s, %s, %d pixels wide: %s", name, theme, width, found)
			}
			switch {
			case phone && theme == "light":
				picture(t, page, "console-"+name+"-phone.png")
			case !phone && theme == "light":
				picture(t, page, "console-"+name+".png")
			case !phone:
				picture(t, page, "console-"+name+"-dark.png")
			}
		}
	}
}
