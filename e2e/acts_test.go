package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
)

// Somebody signs in to a server's console and does there what can be done:
// tokens, traffic, versions, instances, logs. What the pages say is compared with
// what came of it.
func TestTheConsoleActs(t *testing.T) {
	t.Parallel()
	b := browser(t)
	h := newHospice(t)
	app := filepath.Join(h.dir, "echo")
	if err := os.CopyFS(app, os.DirFS("../examples/echo")); err != nil {
		t.Fatal(err)
	}
	yaml := "runtime: go\nenv: flex\nmanual_scaling:\n  instances: 1\nreadiness_check:\n  path: /ready\n  check_interval_sec: 2\n  timeout_sec: 1\nbeta_settings:\n  holdfast.drain: 1s\n"
	if err := os.WriteFile(filepath.Join(app, "app.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v1", "v2"} {
		cmd := exec.Command(program, "deploy", app, "--project=echo", "--version="+version, "--server="+h.admin, "--token-file="+filepath.Join(h.server.data, "token"))
		cmd.Env = command(h.server.data).Env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("deploy %s: %v\n%s", version, err, out)
		}
	}
	const host = "echo.localhost"
	get := func(path string, times int) {
		t.Helper()
		for range times {
			req, err := http.NewRequest(http.MethodGet, "http://"+h.front+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := (&http.Client{Timeout: patience}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	// What the pages are to count.
	const requests, failures, messages = 5, 2, 3
	get("/", requests)
	get("/status/500", failures)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+h.front+"/ws", &websocket.DialOptions{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for range messages {
		write(t, ctx, conn, "hello")
	}
	heard := make(chan error, 1)
	go func() { // ends with the socket
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				heard <- err
				return
			}
		}
	}()

	axe := axeCore(t)
	page := tab(t, b, h.admin+"/console/service")
	run(t, page, chromedp.EmulateViewport(1280, 860))
	says := func(selector, want string) {
		t.Helper()
		eventually(t, selector+" says "+want, func() bool { return strings.Contains(eval(t, page, text(selector)), want) })
	}
	open := func(path string) {
		t.Helper()
		run(t, page, chromedp.Navigate(h.admin+"/console"+path))
		eventually(t, path+" is live", func() bool { return eval(t, page, liveState) == "on" })
	}
	click := func(selector string) {
		t.Helper()
		press(t, page, selector)
	}
	// sure answers the question that a button leads to, and waits for the page that
	// comes then.
	sure := func(button string) {
		t.Helper()
		press(t, page, button)
		run(t, page, chromedp.WaitVisible(`dialog .buttons button`))
		eval(t, page, `document.body.dataset.before = "yes"`)
		click(`dialog .buttons button`)
		eventually(t, "the next page", func() bool {
			return eval(t, page, `document.body?.dataset.before !== "yes" && document.readyState === "complete"`) == "true"
		})
	}
	signIn := func(token string) {
		t.Helper()
		run(t, page, chromedp.Navigate(h.admin+"/console/sign-in"), chromedp.SetValue("#token", token), chromedp.Click("button.primary"))
	}
	signOut := func() {
		t.Helper()
		click(`form[action="/console/sign-out"] button`)
		run(t, page, chromedp.WaitVisible("#token"))
	}

	// Tokens: a wrong one, ours, one that is made here for somebody who may look.
	signIn("holdfast_wrong")
	says("main", "none of this server's tokens")
	signIn(h.token)
	says("h1", "Overview")
	open("/settings")
	click(`form[action="/console/do/add-token"] button`)
	run(t, page, chromedp.WaitVisible("dialog #f-name"), chromedp.SetValue("#f-name", "anna"), chromedp.SetValue("#f-role", "viewer"), chromedp.Click("dialog .buttons button"), chromedp.WaitVisible("#secret"))
	anna := eval(t, page, `document.querySelector("#secret").value`)
	if at := eval(t, page, `location.href`); anna == "" || strings.Contains(at, anna) || strings.Contains(h.server.log.String(), anna) {
		t.Errorf("the token is %q, at %s", anna, at)
	}
	open("/settings")
	says("main", "anna")
	fits(t, page, axe, "settings")
	signOut()
	signIn(anna)
	says("h1", "Overview")
	open("/services/echo/default")
	if n := eval(t, page, `document.querySelectorAll("main form").length`); n != "0" {
		t.Errorf("a viewer is offered %s forms", n)
	}
	signOut()
	signIn(h.token)
	says("h1", "Overview")
	open("/settings")
	sure(`button[aria-label="Remove anna"]`)
	signOut()
	signIn(anna)
	says("main", "none of this server's tokens")
	signIn(h.token)
	says("h1", "Overview")

	// The earlier version was stopped by the deploy, and starts again.
	open("/services/echo/default")
	row := `tr[data-key="echo/default/v1"]`
	sure(`button[aria-label="Start v1"]`)
	eventually(t, "v1 is ready again", func() bool {
		return eval(t, page, `document.querySelectorAll('`+row+` .cell.ready').length`) == "1"
	})

	// Traffic moves by typing, by keys and by dragging.
	open("/services/echo/default")
	traffic := func(want string) {
		t.Helper()
		eventually(t, "the bar says "+want, func() bool {
			return strings.Contains(eval(t, page, `document.querySelector(".bar").getAttribute("aria-label")`), want)
		})
		open("/services/echo/default")
	}
	version := func(name string) string { return fmt.Sprintf(`input[data-share=%q]`, name) }
	typeIn := func(name, share string) {
		t.Helper()
		run(t, page, chromedp.SetValue(version(name), share))
		eval(t, page, fmt.Sprintf(`document.querySelector(%q).dispatchEvent(new Event("input", {bubbles: true}))`, version(name)))
	}
	typeIn("v1", "25")
	typeIn("v2", "75")
	sure("form.traffic button.primary")
	traffic("v2 75 % v1 25 %")
	shares := func(want string) {
		t.Helper()
		if got := eval(t, page, `[...document.querySelectorAll("[data-share]")].map((i) => i.dataset.share + " " + i.value).join(", ")`); got != want {
			t.Errorf("the form says %s, want %s", got, want)
		}
	}
	shares("v2 75, v1 25")
	run(t, page, chromedp.Focus(".handle"), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
	shares("v2 73, v1 27")
	if said := eval(t, page, `document.querySelector(".handle").getAttribute("aria-valuetext")`); said != "v2 73 %, v1 27 %" {
		t.Errorf("the handle says %q", said)
	}
	place := func(expression string) float64 {
		t.Helper()
		at, err := strconv.ParseFloat(eval(t, page, expression), 64)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	run(t, page, chromedp.ScrollIntoView(".split"))
	left, wide := place(`document.querySelector(".split").getBoundingClientRect().left`), place(`document.querySelector(".split").getBoundingClientRect().width`)
	y := place(`document.querySelector(".split").getBoundingClientRect().top`) + 20
	run(t, page, chromedp.MouseEvent("mousePressed", left+wide*.73, y, chromedp.ButtonLeft))
	for _, share := range []float64{.6, .5, .4} {
		run(t, page, chromedp.MouseEvent("mouseMoved", left+wide*share, y, chromedp.ButtonLeft))
	}
	run(t, page, chromedp.MouseEvent("mouseReleased", left+wide*.4, y, chromedp.ButtonLeft))
	shares("v2 40, v1 60")
	sure("form.traffic button.primary")
	traffic("v1 60 % v2 40 %")
	fits(t, page, axe, "service")
	sure(`button[formaction="/console/do/rollback"]`)
	traffic("v2 75 % v1 25 %")

	// Versions stop, and are deleted.
	typeIn("v1", "0")
	sure("form.traffic button.primary")
	traffic("v2 100 %")
	sure(`button[aria-label="Stop v1"]`)
	says(row, "stopped")
	sure(`button[aria-label="Delete v1"]`)
	eventually(t, "v1 is gone", func() bool { return eval(t, page, `document.querySelector('`+row+`') === null`) == "true" })

	// Logs are followed, and wait while somebody reads.
	open("/logs?follow=on&requests=on&service=default&q=status/204")
	const lines, more = 150, 3
	listed := func() string { return eval(t, page, `document.querySelectorAll("[data-tail] li[data-key]").length`) }
	get("/status/204", lines)
	eventually(t, "every request is listed", func() bool { return listed() == strconv.Itoa(lines) })
	fits(t, page, axe, "logs")
	eval(t, page, `(document.querySelector("[data-tail]").scrollTop = 0, "")`)
	get("/status/204", more)
	says("[data-tail-said]", fmt.Sprintf("%d below", more))
	if n := listed(); n != strconv.Itoa(lines) {
		t.Errorf("%s lines are listed while somebody reads", n)
	}
	click("[data-tail-end]")
	eventually(t, "what waited is listed", func() bool { return listed() == strconv.Itoa(lines+more) })

	// The socket, its instance, and what draining that does to it.
	open("/sockets")
	click("tbody tr a")
	says("#from-client", fmt.Sprintf("%d messages, %d B", messages, messages*(6+len("hello"))))
	story := eval(t, page, `location.pathname`)
	click(`dd a[href^="/console/instances/"]`)
	says("#instance-sockets", "1")
	says("main", "readiness")
	says("main", "passes 200")
	if held := place(`document.querySelector("#instance-memory").textContent`); held < 1 || held > 600 {
		t.Errorf("the instance holds %v MiB", held)
	}
	sure(`button[formaction="/console/do/drain-instance"]`)
	if err := <-heard; websocket.CloseStatus(err) != websocket.StatusServiceRestart || !strings.Contains(err.Error(), "requested") {
		t.Errorf("the client heard %v", err)
	}
	open("/services/echo/default")
	eventually(t, "the hour has everything", func() bool {
		said := eval(t, page, `document.querySelector(".plot").getAttribute("aria-label")`)
		return said == fmt.Sprintf("In the last hour %d requests, %d errors, at most 1 socket open.", requests+failures+lines+more+1, failures)
	})

	// After a restart its story is in the log.
	if err := h.server.stop(); err != nil {
		t.Fatal(err)
	}
	again, err := startServer(h.dir, h.server.data, command(h.server.data).Env)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := again.stop(); err != nil {
			t.Error(err)
		}
	}()
	if h.admin, err = again.admin(); err != nil {
		t.Fatal(err)
	}
	signIn(h.token)
	says("h1", "Overview")
	open(strings.TrimPrefix(story, "/console"))
	says(".story", "Ended by Holdfast requested")
	says("main", "ended: requested")
}
