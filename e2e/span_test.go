package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// backMax is how long a page may take to be back on another instance, seconds
// by its own clock, which a slow test does not slow down. It takes half a one.
const backMax = 3.0

// visitor opens a page with a cookie jar of its own, as another person would.
func visitor(t *testing.T, browser context.Context, url string) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Navigate(url))
	return ctx
}

func open(t *testing.T, page context.Context) {
	t.Helper()
	eventually(t, "the page is connected", func() bool { return eval(t, page, stateOf) == "open" })
}

// twoApart opens pages until two are served by different instances. What is
// called crowd makes the first one's instance full.
func twoApart(t *testing.T, browser context.Context, url string, crowd func()) (a, b context.Context) {
	t.Helper()
	a = visitor(t, browser, url)
	open(t, a)
	if crowd != nil {
		crowd()
	}
	for range 10 {
		b = visitor(t, browser, url)
		if open(t, b); eval(t, a, instanceOf) != eval(t, b, instanceOf) {
			return a, b
		}
	}
	t.Fatalf("eleven pages are all on %s", eval(t, a, instanceOf))
	return
}

// movedFrom waits until a page whose instance was killed is on another one, and
// looks at what the page says about it.
func movedFrom(t *testing.T, page context.Context, killed string) {
	t.Helper()
	eventually(t, "the page is on another instance", func() bool {
		return eval(t, page, stateOf) == "open" && eval(t, page, instanceOf) != killed &&
			eval(t, page, `document.querySelector("#timeline li")?.dataset.seconds`) != "undefined"
	})
	took := eval(t, page, `document.querySelector("#timeline li").dataset.seconds`)
	if s, err := strconv.ParseFloat(took, 64); err != nil || s > backMax {
		t.Errorf("the page says that it was back after %q seconds, want at most %v", took, backMax)
	}
}

// debianPython copies an example in Python, to use Debian's packages instead of
// an index.
func debianPython(t *testing.T, example string) (dir string) {
	t.Helper()
	dir = copyApp(t, example)
	appendTo(t, filepath.Join(dir, "app.yaml"), `
build_env_variables:
  HOLDFAST_PYTHON_SYSTEM_PACKAGES: "1"
  HOLDFAST_SKIP_INSTALL: "1"
`)
	return dir
}

// python3Has skips where Debian's Python lacks a module.
func python3Has(t *testing.T, packages map[string]string) {
	t.Helper()
	for module, name := range packages {
		if err := exec.Command("/usr/bin/python3", "-c", "import "+module).Run(); err != nil {
			t.Skipf("%s is missing: apt-get install %s", module, name)
		}
	}
	if _, err := os.Stat("/usr/bin/gunicorn"); err != nil {
		t.Skip("gunicorn is missing: apt-get install gunicorn")
	}
}

// chats are the three that share one page.
var chats = []struct {
	example string
	prepare func(t *testing.T) (dir string)
}{
	{"chat", func(*testing.T) string { return "../examples/chat" }},
	{"chat-node", func(t *testing.T) string { nodeIsHere(t); return "../examples/chat-node" }},
	{"chat-python", pythonChat},
}

func pythonChat(t *testing.T) (dir string) {
	t.Helper()
	python3Has(t, map[string]string{"flask_sockets": "python3-flask-sockets", "geventwebsocket": "python3-gevent-websocket", "redis": "python3-redis"})
	return debianPython(t, "chat-python")
}

// Two people on two instances hear each other. One instance is killed, then the
// other: whoever was there is elsewhere soon, nothing is lost and nothing shown
// twice, and who comes later hears of all of it from an instance that did not
// exist when it was said.
func TestChatsSpanInstances(t *testing.T) {
	t.Parallel()
	b := browser(t)
	for _, c := range chats {
		t.Run(c.example, func(t *testing.T) {
			h := start(t, c.prepare(t), "--instances=2")
			var crowd func()
			if c.example == "chat-node" {
				// Sessions of one address go to one instance until that has a
				// quarter more than its share, and eight.
				crowd = func() {
					for range 30 {
						h.get("/socket.io/?EIO=4&transport=polling")
					}
				}
			}
			left, right := twoApart(t, b, h.url, crowd)
			var said []string
			say := func(page context.Context, text string) {
				t.Helper()
				said = append(said, text)
				run(t, page, chromedp.SetValue("#text", text), chromedp.Click("#send"))
			}
			whole := func(pages ...context.Context) {
				t.Helper()
				for i, page := range pages {
					eventually(t, fmt.Sprintf("page %d shows %q", i, said), func() bool {
						log := eval(t, page, logOf)
						for _, text := range said {
							if !strings.Contains(log, text) {
								return false
							}
						}
						return eval(t, page, `document.querySelectorAll("#log .message[data-state=pending]").length`) == "0"
					})
					log := eval(t, page, logOf)
					for _, text := range said {
						if n := strings.Count(log, text); n != 1 {
							t.Errorf("page %d shows %q %d times", i, text, n)
						}
					}
				}
			}
			say(left, "hello from the left")
			say(right, "hello from the right")
			whole(left, right)
			eventually(t, "both count two people", func() bool {
				const peopleOf = `document.querySelector("#people").textContent`
				return eval(t, left, peopleOf) == eval(t, right, peopleOf) && eval(t, left, peopleOf) != "1"
			})

			for i, page := range []context.Context{left, right} {
				killed := eval(t, page, instanceOf)
				offset := h.out.Len()
				kill(t, h, killed)
				say(right, fmt.Sprintf("right speaks meanwhile, %d", i))
				say(left, fmt.Sprintf("left speaks meanwhile, %d", i))
				movedFrom(t, page, killed)
				whole(left, right)
				h.awaitFrom(offset, regexp.MustCompile(`is ready`))
			}
			late := visitor(t, b, h.url)
			open(t, late)
			whole(left, right, late)
			picture(t, left, "example-"+c.example+".png")
		})
	}
}

// Two pages watch prices from two instances. Each instance is killed in turn:
// its page goes on after the last tick that it saw, and misses none.
func TestTickerSpansInstances(t *testing.T) {
	t.Parallel()
	python3Has(t, map[string]string{"flask": "python3-flask", "gevent": "python3-gevent", "redis": "python3-redis"})
	b := browser(t)
	h := start(t, debianPython(t, "ticker"), "--instances=2")
	left, right := twoApart(t, b, h.url, nil)
	last := func(page context.Context) int {
		t.Helper()
		n, err := strconv.Atoi(eval(t, page, `document.querySelector("#count").dataset.last`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	goOn := func() {
		t.Helper()
		for _, page := range []context.Context{left, right} {
			before := last(page)
			eventually(t, "prices go on", func() bool { return last(page) >= before+2 })
		}
	}
	goOn()
	// What both saw is the same: prices by tick.
	const prices = `JSON.stringify(past.map(t => [t.tick, t.prices.KELP]).slice(-4, -1))`
	eventually(t, "both pages show the same prices", func() bool { return eval(t, left, prices) == eval(t, right, prices) })
	for i, page := range []context.Context{left, right} {
		killed := eval(t, page, instanceOf)
		offset := h.out.Len()
		kill(t, h, killed)
		movedFrom(t, page, killed)
		goOn()
		for j, page := range []context.Context{left, right} {
			if got := eval(t, page, `["missing", "twice"].map(k => document.querySelector("#count").dataset[k])`); got != "0,0" {
				t.Errorf("after %d killings page %d has missing,twice = %s", i+1, j, got)
			}
		}
		h.awaitFrom(offset, regexp.MustCompile(`is ready`))
	}
	// Who comes now has the past from before both instances began.
	late := visitor(t, b, h.url)
	eventually(t, "a newcomer has the past", func() bool { return eval(t, late, "past[0]?.tick <= "+eval(t, left, "past[0].tick")) == "true" })
	picture(t, left, "example-ticker.png")
}

// One user's two devices are on two instances. Each instance is killed in turn
// while something is sent: both devices show all of it, once, what was read on
// one is read on the other, and a third device is told by instances that did
// not exist when it was sent.
func TestNotifySpansInstances(t *testing.T) {
	t.Parallel()
	nodeIsHere(t)
	b := browser(t)
	h := start(t, "../examples/notify", "--instances=2")
	left, right := twoApart(t, b, h.url+"/#ada", nil)
	var sent []string
	send := func(page context.Context, text string) {
		t.Helper()
		sent = append(sent, text)
		run(t, page, chromedp.SetValue("#to", "Ada"), chromedp.SetValue("#text", text), chromedp.Click("#send"))
		eventually(t, "it is sent", func() bool { return eval(t, page, `document.querySelector("#sent").dataset.state`) == "sent" })
	}
	const words = `JSON.stringify([...document.querySelectorAll("#notes .words")].map(el => el.textContent).reverse())`
	whole := func(pages ...context.Context) {
		t.Helper()
		want, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		for i, page := range pages {
			eventually(t, fmt.Sprintf("device %d shows %s", i, want), func() bool { return len(eval(t, page, words)) >= len(want) })
			if got := eval(t, page, words); got != string(want) {
				t.Errorf("device %d shows %s, want %s", i, got, want)
			}
		}
	}
	send(left, "from the left")
	send(right, "from the right")
	whole(left, right)
	for i, page := range []context.Context{left, right} {
		killed := eval(t, page, instanceOf)
		offset := h.out.Len()
		kill(t, h, killed)
		send(left, fmt.Sprintf("meanwhile from the left, %d", i))
		send(right, fmt.Sprintf("meanwhile from the right, %d", i))
		movedFrom(t, page, killed)
		whole(left, right)
		h.awaitFrom(offset, regexp.MustCompile(`is ready`))
	}
	run(t, left, chromedp.Click("#all"))
	late := visitor(t, b, h.url+"/#ada")
	open(t, late)
	whole(left, right, late)
	for i, page := range []context.Context{left, right, late} {
		eventually(t, fmt.Sprintf("on device %d all is read", i), func() bool {
			return eval(t, page, `document.querySelectorAll("#notes .note[data-read=false]").length`) == "0"
		})
	}
	other := visitor(t, b, h.url+"/#bob")
	open(t, other)
	if got := eval(t, other, words); got != "[]" {
		t.Errorf("another user is shown %s", got)
	}
	send(right, "Your boat is in")
	whole(left, right, late)
	picture(t, left, "example-notify.png")
}
