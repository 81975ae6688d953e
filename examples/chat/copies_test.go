package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// TestTheChatsShareOnePage keeps the copies of the page alike: each example
// stands alone, so that it can be copied and deployed as it is.
func TestTheChatsShareOnePage(t *testing.T) {
	t.Parallel()
	link := func(s string) string { // what is the same for every transport
		before, _, _ := strings.Cut(s, "// ---- The connection")
		return before
	}
	same := func(s string) string { return s }
	for _, c := range []struct {
		ours, theirs string
		part         func(string) string
	}{
		{"static/style.css", "../chat-python/static/style.css", same},
		{"static/style.css", "../chat-node/public/style.css", same},
		{"static/chat.js", "../chat-python/static/chat.js", same},
		{"static/chat.js", "../chat-node/public/chat.js", link},
	} {
		ours, err := os.ReadFile(c.ours)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(c.theirs)
		if errors.Is(err, fs.ErrNotExist) {
			t.Skipf("%s is not here: this example was copied alone", c.theirs)
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.part(string(ours)) != c.part(string(theirs)) {
			t.Errorf("%s differs from %s", c.theirs, c.ours)
		}
	}
}
