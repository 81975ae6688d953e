package console

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"strings"

	"github.com/coder/websocket"

	"holdfast/internal/auth"
)

// page is one kind of page. It is made of regions, each a template of its own,
// which are rendered again while the page is open.
type page struct {
	path  string // below Prefix, as http.ServeMux has it
	name  string // of its template
	nav   string // the entry of the navigation that it belongs to
	needs auth.Role
	title func(*visit) string
	look  func(*visit) (any, error) // what its regions show
	every int                       // seconds between two looks while it is open; 0: one

	// follow sends what comes as it comes, instead of looks, to a page that asks
	// for it; nil: it cannot. The second visit is the page's own.
	follow func(context.Context, *websocket.Conn, *visit, *visit) error
}

// frame is what the layout shows of a page.
type frame struct {
	Title   string
	Nav     string
	Who     auth.Caller
	Path    string // with the query; the page itself
	Live    bool
	Data    any
	Note    *note // what has just been asked for
	regions map[string]template.HTML
}

// MayAct says whether whoever looks may change what runs.
func (f frame) MayAct() bool { return f.Who.May(auth.Deployer) }

// MayAll says whether whoever looks may everything.
func (f frame) MayAll() bool { return f.Who.May(auth.Admin) }

// Region is a part of the page that stays true while the page is open.
func (f frame) Region(name string) template.HTML {
	return template.HTML(`<div data-region="`+name+`">`) + f.regions[name] + `</div>`
}

// regionPrefix begins the names of templates that are regions.
const regionPrefix = "region-"

// readTemplates reads every page's templates, each beside the layout.
func readTemplates() (map[string]*template.Template, error) {
	base, err := template.New("layout").Funcs(words).ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	all := map[string]*template.Template{}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		of, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if of, err = of.ParseFS(files, name); err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(path.Base(name), ".html")] = of
	}
	return all, nil
}

// show renders a page.
func (c *console) show(v *visit, p page) error {
	f, err := c.frame(v, p)
	if err != nil {
		return err
	}
	c.render(v, http.StatusOK, p.name, f)
	return nil
}

// frame looks at everything that a page shows.
func (c *console) frame(v *visit, p page) (frame, error) {
	if p.needs != "" {
		if err := auth.Need(v.who, p.needs); err != nil {
			return frame{}, err
		}
	}
	data, err := p.look(v)
	if err != nil {
		return frame{}, err
	}
	f := frame{Nav: p.nav, Live: true, Data: data}
	f.Who, f.Path = v.who, v.r.URL.RequestURI()
	f.Title = p.title(v)
	f.Note = c.noteOf(v)
	f.regions, err = c.regions(p.name, f)
	return f, err
}

// regions renders all regions of a page.
func (c *console) regions(name string, f frame) (map[string]template.HTML, error) {
	of := c.templates[name]
	all := map[string]template.HTML{}
	for _, t := range of.Templates() {
		region, is := strings.CutPrefix(t.Name(), regionPrefix)
		if !is {
			continue
		}
		var b bytes.Buffer
		if err := t.Execute(&b, f); err != nil {
			return nil, fmt.Errorf("render %s of %s: %w", region, name, err)
		}
		all[region] = template.HTML(b.String())
	}
	return all, nil
}

// render writes a page.
func (c *console) render(v *visit, status int, name string, f frame) {
	f.Who, f.Path = v.who, v.r.URL.RequestURI()
	f.regions = maps.Clone(f.regions)
	var b bytes.Buffer
	if err := c.templates[name].ExecuteTemplate(&b, "layout", f); err != nil {
		c.cfg.Log.Error("render", "page", name, "err", err)
		http.Error(v.w, "this page cannot be shown; the server's log says why", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // who has left sees nothing
}

// pages are all pages.
func (c *console) pages() []page {
	named := func(text string) func(*visit) string { return func(*visit) string { return text } }
	return []page{
		{path: "{$}", name: "overview", nav: "overview", title: named("Overview"), look: c.overview, every: 1},
		{path: "sockets", name: "sockets", nav: "sockets", title: named("Sockets"), look: c.sockets, every: 2},
		{path: "sockets/{id}", name: "socket", nav: "sockets", title: func(v *visit) string { return "Socket " + v.r.PathValue("id") }, look: c.socket, every: 1},
		{path: "services/{app}/{service}", name: "service", nav: "overview", title: func(v *visit) string { return serviceOf(v).String() }, look: c.service, every: 1},
		{path: "instances/{id}", name: "instance", nav: "overview", title: func(v *visit) string { return v.r.PathValue("id") }, look: c.instance, every: 2},
		{path: "timeline", name: "timeline", nav: "timeline", title: named("Timeline"), look: c.timeline, every: 1},
		{path: "logs", name: "logs", nav: "logs", title: named("Logs"), look: c.logs, every: 2, follow: c.tail},
		{path: "drills", name: "drills", nav: "drills", title: named("Drills"), look: c.drills, every: 1},
		{path: "drills/{id}", name: "drill", nav: "drills", title: named("Drill"), look: c.drill, every: 1},
		{path: "settings", name: "settings", nav: "settings", title: named("Settings"), look: c.settings, every: 5},
	}
}
