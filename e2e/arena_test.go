package e2e

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// playing lets a page's player run after sparks, by its keys, until stopped.
const playing = `(() => {
	const keys = {ArrowLeft: false, ArrowRight: false, ArrowUp: false, ArrowDown: false};
	const press = (code, down) => {
		if (keys[code] === down) return;
		keys[code] = down;
		dispatchEvent(new KeyboardEvent(down ? "keydown" : "keyup", {code, bubbles: true, cancelable: true}));
	};
	const timer = setInterval(() => {
		const id = Number(document.querySelector("#field").dataset.id);
		const me = arena.players().find((p) => p.id === id);
		if (!me) return;
		const far = (s) => Math.hypot(s.x - me.x, s.y - me.y);
		const to = arena.sparks().sort((a, b) => far(a) - far(b))[0] ?? {x: 800, y: 500};
		press("ArrowLeft", to.x < me.x - 10); press("ArrowRight", to.x > me.x + 10);
		press("ArrowUp", to.y < me.y - 10); press("ArrowDown", to.y > me.y + 10);
	}, 40);
	globalThis.rest = () => { clearInterval(timer); for (const code in keys) press(code, false); };
	return true;
})()`

// lastOutage is what a page says of its latest disconnection.
func lastOutage(t *testing.T, ctx context.Context, field string) string {
	t.Helper()
	return eval(t, ctx, fmt.Sprintf(`document.querySelector("#timeline li")?.dataset[%q] ?? ""`, field))
}

// cameBack checks that a page's player is as it was before its latest
// disconnection, which must have been for a reason and short.
func cameBack(t *testing.T, ctx context.Context, who, reason string) {
	t.Helper()
	if got := lastOutage(t, ctx, "reason"); got != reason {
		t.Errorf("%s was disconnected with %q, want %q", who, got, reason)
	}
	within(t, who+" coming back", outage(t, ctx), 3*time.Second)
	had, kept := number(t, lastOutage(t, ctx, "score")), number(t, lastOutage(t, ctx, "keptScore"))
	if math.Abs(had-kept) > 8 { // what one hit or a golden spark changes in the half second that a crash may cost
		t.Errorf("%s had %v sparks and came back with %v", who, had, kept)
	}
	x0, y0, _ := strings.Cut(lastOutage(t, ctx, "place"), ",")
	x1, y1, _ := strings.Cut(lastOutage(t, ctx, "keptPlace"), ",")
	if d := math.Hypot(number(t, x0)-number(t, x1), number(t, y0)-number(t, y1)); d > 300 { // of 1600
		t.Errorf("%s was at %s, %s and came back %v away", who, x0, y0, d)
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Two pages play in one room. Their instance is restarted, and later another
// one is killed: each time both are back with their sparks, where they were.
func TestArenaKeepsItsPlayers(t *testing.T) {
	t.Parallel()
	b := browser(t)
	f := newFleet(t)
	f.start()
	f.up()
	f.do("deploy", "../examples/arena", "--project=arena", "--version=v1")
	_, port, _ := strings.Cut(f.front, ":")
	url := "http://arena.localhost:" + port + "/"
	names := []string{"Ada", "Bob"}
	var tabs []context.Context
	for _, name := range names {
		ctx := tab(t, b, url)
		tabs = append(tabs, ctx)
		eventually(t, "the page is connected", func() bool { return eval(t, ctx, stateOf) == "open" })
		run(t, ctx, chromedp.SetValue("#name", name))
		eval(t, ctx, `document.querySelector("#name").dispatchEvent(new Event("change"))`)
	}
	first := eval(t, tabs[0], instanceOf)
	if second := eval(t, tabs[1], instanceOf); second != first {
		t.Fatalf("affinity led to %s and %s", first, second)
	}
	where := func(ctx context.Context, name string) string {
		return eval(t, ctx, fmt.Sprintf(`arena.players().filter((p) => p.name === %q).map((p) => p.x + "," + p.y).join(" and ")`, name))
	}
	for i, ctx := range tabs {
		other := names[1-i]
		var at string
		eventually(t, names[i]+" sees "+other, func() bool { at = where(ctx, other); return at != "" })
		eval(t, tabs[1-i], playing)
		eventually(t, names[i]+" sees "+other+" move", func() bool { return where(ctx, other) != at })
	}
	for i, ctx := range tabs {
		eventually(t, names[i]+" has three sparks", func() bool { return number(t, eval(t, ctx, `document.querySelector("#score").textContent`)) >= 3 })
	}
	picture(t, tabs[0], "example-arena.png")
	for _, ctx := range tabs {
		eval(t, ctx, `rest()`)
	}

	back := func(i int, from, reason string) {
		t.Helper()
		eventually(t, names[i]+" is back", func() bool {
			return eval(t, tabs[i], stateOf) == "open" && eval(t, tabs[i], instanceOf) != from && lastOutage(t, tabs[i], "seconds") != ""
		})
		cameBack(t, tabs[i], names[i], reason)
	}
	began := time.Now()
	f.do("instances", "restart", first)
	within(t, "the restart", time.Since(began), 20*time.Second) // an app that does not heed SIGTERM would take 30 s and more
	for i := range tabs {
		back(i, first, "moving")
	}

	// A moment later the peers know how things are, and nothing is lost with an
	// instance that is killed.
	f.settled()
	gone := eval(t, tabs[0], instanceOf)
	together := gone == eval(t, tabs[1], instanceOf)
	eventually(t, "the peers know", func() bool {
		return eval(t, tabs[0], `performance.now() - (globalThis.since ??= performance.now()) > 1200`) == "true"
	})
	kill(t, &holdfast{t: t, data: f.data}, gone)
	back(0, gone, "crashed")
	if together {
		back(1, gone, "crashed")
	}
	for i, ctx := range tabs {
		eventually(t, names[i]+" is there once", func() bool {
			at := where(ctx, names[i])
			return at != "" && !strings.Contains(at, " and ")
		})
	}
}
