package console

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"holdfast/docs"
)

var (
	hrefs   = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	anchors = regexp.MustCompile(` id="([^"]+)"`)
)

// Every page of the guide can be shown, and every link and picture in it leads to
// something that is shown as well.
func TestTheGuideLeadsNowhereElse(t *testing.T) {
	pages := map[string]string{}
	err := fs.WalkDir(docs.Pages, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".md" {
			return err
		}
		source, err := fs.ReadFile(docs.Pages, name)
		if err != nil {
			return err
		}
		title, body, err := guideHTML(name, source)
		if err != nil || title == "" {
			t.Errorf("%s: %q, %v", name, title, err)
		}
		pages[name] = string(body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 15 {
		t.Fatalf("there are %d pages", len(pages))
	}
	for name, body := range pages {
		if strings.Contains(body, "<script") || strings.Contains(body, "<!-- stays") {
			t.Errorf("%s shows HTML of its own", name)
		}
		if strings.Contains(body, `src=""`) {
			t.Errorf("%s shows a picture that the program does not carry: see docs.Pages", name)
		}
		for _, m := range hrefs.FindAllStringSubmatch(body, -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			file := name
			if to != "" {
				var ok bool
				if file, ok = strings.CutPrefix(to, guidePrefix); !ok {
					t.Errorf("%s leads to %s", name, to)
					continue
				}
			}
			if _, err := fs.Stat(docs.Pages, file); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if anchor == "" {
				continue
			}
			found := false
			for _, a := range anchors.FindAllStringSubmatch(pages[file], -1) {
				found = found || a[1] == anchor
			}
			if !found {
				t.Errorf("%s leads to %s, which has no part %s", name, file, anchor)
			}
		}
	}
	order, err := guideOrder("concepts.md")
	if err != nil || len(order) < 10 || !order[2].Here || order[2].Title != "Concepts" {
		t.Errorf("the order is %v, %v", order, err)
	}
	linked := map[string]bool{}
	for _, l := range order {
		linked[strings.TrimPrefix(l.Link, guidePrefix)] = true
	}
	for name := range pages {
		if name != guideFirst && !linked[name] {
			t.Errorf("%s is not among the pages that %s lists", name, guideFirst)
		}
	}
}
