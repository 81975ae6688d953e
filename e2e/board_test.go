package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const textOf = `document.querySelector("#text").value`

// types puts text at the end of a page's document, or at its beginning, as
// somebody at the keyboard does.
func types(t *testing.T, ctx context.Context, atEnd bool, text string) {
	t.Helper()
	eval(t, ctx, fmt.Sprintf(`(() => {
		const box = document.querySelector("#text"), at = %v ? box.value.length : 0;
		box.focus();
		box.setSelectionRange(at, at);
		return document.execCommand("insertText", false, %q);
	})()`, atEnd, text))
}

// agree waits until all pages show the same text with each of the words once.
func agree(t *testing.T, tabs []context.Context, words ...string) string {
	t.Helper()
	var first string
	eventually(t, fmt.Sprintf("all pages show %q", words), func() bool {
		first = eval(t, tabs[0], textOf)
		for _, w := range words {
			if !strings.Contains(first, w) {
				return false
			}
		}
		for _, ctx := range tabs[1:] {
			if eval(t, ctx, textOf) != first {
				return false
			}
		}
		return true
	})
	for _, w := range words {
		if n := strings.Count(first, w); n != 1 {
			t.Errorf("%q is there %d times, want once, in %q", w, n, first)
		}
	}
	return first
}

// whole waits until pages are connected and nothing waits in them.
func whole(t *testing.T, tabs ...context.Context) {
	t.Helper()
	for i, ctx := range tabs {
		eventually(t, fmt.Sprintf("page %d is whole", i), func() bool {
			return eval(t, ctx, stateOf) == "open" && eval(t, ctx, `document.querySelector("#saved").dataset.waiting`) == "0"
		})
	}
}

// Two browsers write one document, each on its own instance. Either goes
// offline and writes on; an instance is killed while somebody writes; then
// everything is there, once, and the same.
func TestBoardMerges(t *testing.T) {
	t.Parallel()
	b := browser(t)
	h := start(t, "../examples/board")
	tabs := []context.Context{tab(t, b, h.url), tab(t, b, h.url)}
	whole(t, tabs...)
	one, two := eval(t, tabs[0], instanceOf), eval(t, tabs[1], instanceOf)
	if one == two {
		t.Fatalf("both pages are on %s", one)
	}
	types(t, tabs[0], true, "Meet at **nine** by the crane.\n\n")
	agree(t, tabs, "by the crane.")
	types(t, tabs[1], true, "- [ ] bring rope\n")
	agree(t, tabs, "by the crane.", "bring rope")

	// Offline on both sides: what is written meanwhile is merged.
	for _, ctx := range tabs {
		run(t, ctx, chromedp.Click("#offline"))
		eventually(t, "the page is offline", func() bool { return eval(t, ctx, stateOf) == "paused" })
	}
	types(t, tabs[0], true, "- [ ] written ashore\n")
	types(t, tabs[1], true, "- [x] written at sea\n")
	types(t, tabs[1], false, "# Harbour day\n\n")
	if text := eval(t, tabs[0], textOf); strings.Contains(text, "at sea") {
		t.Errorf("a page that is offline shows %q", text)
	}
	for _, ctx := range tabs {
		run(t, ctx, chromedp.Click("#offline"))
	}
	agree(t, tabs, "# Harbour day", "by the crane.", "bring rope", "written ashore", "written at sea")
	whole(t, tabs...)

	// An instance is killed while both write.
	offset := h.out.Len()
	kill(t, h, one)
	types(t, tabs[0], true, "written while it fell\n")
	types(t, tabs[1], true, "written elsewhere\n")
	agree(t, tabs, "written while it fell", "written elsewhere", "bring rope")
	whole(t, tabs...)
	within(t, "being whole again", outage(t, tabs[0]), 3*time.Second)
	for i, ctx := range tabs {
		eventually(t, fmt.Sprintf("page %d shows each once", i), func() bool { return eval(t, ctx, `document.querySelectorAll("#names li").length`) == "2" })
	}
	picture(t, tabs[0], "example-board.png")

	// Its successor has the document from its peer: a newcomer there sees it.
	h.awaitFrom(offset, regexp.MustCompile(`is ready`))
	eventually(t, "a newcomer on the successor sees the document", func() bool {
		ctx := tab(t, b, h.url)
		whole(t, ctx)
		at := eval(t, ctx, instanceOf)
		return at != one && at != two && eval(t, ctx, textOf) == eval(t, tabs[1], textOf)
	})
	ends := time.Now()
	h.stop()
	within(t, "the end", time.Since(ends), 20*time.Second) // an app that does not heed SIGTERM would take 30 s and more
}

// outage is how long a page says that its latest disconnection took.
func outage(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	s := eval(t, ctx, `document.querySelector("#timeline li").dataset.seconds`)
	d, err := time.ParseDuration(s + "s")
	if err != nil {
		t.Fatalf("the latest disconnection took %q", s)
	}
	return d
}
