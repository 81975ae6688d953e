package e2e

import (
	"context"
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
		return eval(t, page, stateOf) == "open" && eval(t, page, instanceOf) != killed
	})
	took := eval(t, page, `document.querySelector("#timeline li").dataset.seconds`)
	if s, err := strconv.ParseFloat(took, 64); err != nil || s > backMax {
		t.Errorf("the page says that it was back after %q seconds, want at most %v", took, backMax)
	}
	if why := eval(t, page, `document.querySelector("#timeline").textContent`); !strings.Contains(why, "crashed") {
		t.Errorf("the page says %q, want the word crashed", why)
	}
}

// debianPython makes a Python app use Debian's packages instead of an index.
func debianPython(t *testing.T, dir string) {
	t.Helper()
	appendTo(t, filepath.Join(dir, "app.yaml"), `
build_env_variables:
  HOLDFAST_PYTHON_SYSTEM_PACKAGES: "1"
  HOLDFAST_SKIP_INSTALL: "1"
`)
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
	{"chat-python", func(t *testing.T) string {
		python3Has(t, map[string]string{"flask_sockets": "python3-flask-sockets", "geventwebsocket": "python3-gevent-websocket", "redis": "python3-redis"})
		dir := copyApp(t, "chat-python")
		debianPython(t, dir)
		return dir
	}},
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
