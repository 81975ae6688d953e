package e2e

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// Somebody begins a drill in the console. Its page tells while it goes on whom it
// met: as many sockets as this test has opened, for the cause that they heard.
func TestDrillsInTheConsole(t *testing.T) {
	t.Parallel()
	b := browser(t)
	h := newHospice(t)
	cmd := exec.Command(program, "deploy", "../examples/echo", "--project=echo", "--version=v1", "--server="+h.admin, "--token-file="+filepath.Join(h.server.data, "token"))
	cmd.Env = command(h.server.data).Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("deploy: %v\n%s", err, out)
	}
	const sockets = 6
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	heard := make(chan websocket.StatusCode, sockets)
	for range sockets {
		conn, _, err := websocket.Dial(ctx, "ws://"+h.front+"/ws", &websocket.DialOptions{Host: "echo.localhost", HTTPClient: &http.Client{Transport: &http.Transport{}}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		go func() { // ends with the socket
			_, _, err := conn.Read(ctx)
			heard <- websocket.CloseStatus(err)
		}()
	}

	page := tab(t, b, h.admin+"/console/sign-in?to=/console/drills")
	run(t, page, chromedp.EmulateViewport(1280, 860), chromedp.SetValue("#token", h.token), chromedp.Click("button.primary"))
	says := func(selector, want string) {
		t.Helper()
		eventually(t, selector+" says "+want, func() bool { return strings.Contains(eval(t, page, text(selector)), want) })
	}
	says("h1", "Drills")
	run(t, page, chromedp.SetValue(`select[name="fault"]`, "instance-crash"))
	press(t, page, `form[action="/console/do/drill"] button`)
	run(t, page, chromedp.WaitVisible("dialog #f-seconds"))
	says("dialog", "6 sockets are open there")
	run(t, page, chromedp.SetValue("dialog #f-seconds", "3"), chromedp.SetValue("dialog #f-share", "100"), chromedp.Click("dialog .buttons button"))
	says("h1", "instance-crash")
	for range sockets {
		if code := <-heard; code != websocket.StatusServiceRestart {
			t.Errorf("a socket heard %v", code)
		}
	}
	says(".ended", "6")
	says(".ended", "crashed")
	says(".state", "done")
	axe := axeCore(t)
	fits(t, page, axe, "drill")
	run(t, page, chromedp.Navigate(h.admin+"/console/drills"))
	says("main", "Those that were")
	says("main", "instance-crash")
	fits(t, page, axe, "drills")
}
