package console

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"holdfast/docs"
	"holdfast/internal/app"
)

// The guide is what stands in docs/, shown to whoever is signed in, without a
// network. Its pages lead to each other as they do where the code is hosted;
// what they say of other files of the repository is not here, and stays text.

// guidePrefix is where it is, and guideFirst its first page.
const (
	guidePrefix = Prefix + "docs/"
	guideFirst  = "README.md"
)

// guidePage is one page of it.
type guidePage struct {
	Body  template.HTML
	Order []guideLink // all pages, in the order of reading
}

type guideLink struct {
	Title, Link string
	Here        bool
}

// markdown has what the pages use. HTML in them is left out: there are comments
// for tests, and nothing else.
var markdown = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// guide shows a page, or a picture of one.
func (c *console) guide(v *visit) error {
	name := v.r.PathValue("path")
	if name == "" {
		name = guideFirst
	}
	source, err := fs.ReadFile(docs.Pages, name)
	if err != nil {
		return fmt.Errorf("page %s of the guide: %w", name, app.ErrNotFound)
	}
	if path.Ext(name) != ".md" {
		v.w.Header().Set("Cache-Control", "private, max-age=3600")
		http.ServeFileFS(v.w, v.r, docs.Pages, name)
		return nil
	}
	title, body, err := guideHTML(name, source)
	if err != nil {
		return err
	}
	order, err := guideOrder(name)
	if err != nil {
		return err
	}
	c.render(v, http.StatusOK, "guide", frame{Title: title, Nav: "guide", Data: guidePage{body, order}})
	return nil
}

// guideHTML is a page of the guide and its title.
func guideHTML(name string, source []byte) (title string, body template.HTML, err error) {
	page := markdown.Parser().Parse(text.NewReader(source))
	var elsewhere []*ast.Link
	err = ast.Walk(page, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if n.Level == 1 && title == "" {
				title = textOf(n, source)
			}
		case *ast.Image:
			to, _ := guideTarget(name, string(n.Destination))
			n.Destination = []byte(to)
		case *ast.Link:
			to, here := guideTarget(name, string(n.Destination))
			if !here {
				elsewhere = append(elsewhere, n)
			}
			n.Destination = []byte(to)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return "", "", err
	}
	for _, l := range elsewhere { // only their words stay
		for c := l.FirstChild(); c != nil; c = l.FirstChild() {
			l.Parent().InsertBefore(l.Parent(), l, c)
		}
		l.Parent().RemoveChild(l.Parent(), l)
	}
	var b bytes.Buffer
	if err := markdown.Renderer().Render(&b, source, page); err != nil {
		return "", "", fmt.Errorf("render %s: %w", name, err)
	}
	// What is wider than a phone scrolls by itself.
	shown := strings.ReplaceAll(strings.ReplaceAll(b.String(), "<table>", `<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>`), "</table>", "</table></div>")
	shown = strings.ReplaceAll(shown, "<pre>", `<pre tabindex="0">`)
	return title, template.HTML(shown), nil
}

// guideTarget is where a link of a page leads here; false: it leads nowhere here.
func guideTarget(from, to string) (string, bool) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" {
		return to, err == nil
	}
	if u.Path == "" {
		return to, true // on the same page
	}
	file := path.Join(path.Dir(from), u.Path)
	if info, err := fs.Stat(docs.Pages, file); err != nil || info.IsDir() {
		return "", false
	}
	u.Path = guidePrefix + file
	return u.String(), true
}

// guideOrder is the order of reading, which the first page has.
func guideOrder(here string) (all []guideLink, err error) {
	source, err := fs.ReadFile(docs.Pages, guideFirst)
	if err != nil {
		return nil, err
	}
	page := markdown.Parser().Parse(text.NewReader(source))
	all = []guideLink{{Title: "The guide", Link: guidePrefix, Here: here == guideFirst}}
	err = ast.Walk(page, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if l, is := n.(*ast.Link); is && entering {
			if to, ok := guideTarget(guideFirst, string(l.Destination)); ok && strings.HasPrefix(to, guidePrefix) {
				all = append(all, guideLink{textOf(l, source), to, to == guidePrefix+here})
			}
		}
		return ast.WalkContinue, nil
	})
	return all, err
}

// textOf is what a node says, without its looks.
func textOf(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // no step of it fails
		if t, is := n.(*ast.Text); is && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}
