package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/tunnel"
)

// act is one thing that may be asked for. It is asked for twice: the first time
// the answer is a question, which says what would happen.
type act struct {
	name  string
	needs auth.Role // "": to change what runs
	ask   func(*visit) (question, error)
	do    func(*visit) (done, error)
}

// question is what is asked before something is done.
type question struct {
	Title, Text, Button string
	Danger              bool
	Fields              []field // what is to be said besides
}

// field is an entry of a question.
type field struct {
	Name, Label, Value, Hint string
	Choices                  []string // nil: it is typed
}

// done is what came of it: an operation that goes on, or words.
type done struct {
	Operation string
	Text      string
	To        string // the page that is shown then; "": the one from where it was asked
	Secret    *secret
}

// secret is shown once, as the answer itself: it is in no address, and no page
// that is asked for again has it.
type secret struct{ Title, Text, Secret, From string }

// note is on a page after something was asked for on it.
type note struct {
	Text string
	Bad  bool
	Link string
}

// asked is what a question's form shows.
type asked struct {
	question
	Action string
	Hidden []field
	From   string
}

func (c *console) act(v *visit, a act) error {
	needs := a.needs
	if needs == "" {
		needs = auth.Deployer
	}
	if err := auth.Need(v.who, needs); err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return fmt.Errorf("the form cannot be read: %w", app.ErrInvalid)
	}
	from := own(v.r.PostForm.Get("from"))
	if v.r.PostForm.Get("sure") != "yes" {
		q, err := a.ask(v)
		if err != nil {
			return err
		}
		form := asked{question: q, Action: Prefix + "do/" + a.name, From: from}
		for name, values := range v.r.PostForm {
			if name != "from" {
				form.Hidden = append(form.Hidden, field{Name: name, Value: values[0]})
			}
		}
		c.render(v, http.StatusOK, "ask", frame{Title: q.Title, Data: form})
		return nil
	}
	d, err := a.do(v)
	if err != nil {
		return err
	}
	about := cmp.Or(d.Operation, v.r.PostForm.Get("name"))
	c.cfg.Log.Info("asked for", "by", v.who.Name, "what", a.name, "about", about)
	if d.To != "" {
		from = d.To
	}
	if d.Secret != nil {
		d.Secret.From = from
		c.render(v, http.StatusOK, "secret", frame{Title: d.Secret.Title, Nav: "settings", Data: d.Secret})
		return nil
	}
	u, _ := url.Parse(from) // own has
	q := u.Query()
	q.Del("op")
	q.Del("said")
	if d.Operation != "" {
		q.Set("op", d.Operation)
	} else if d.Text != "" {
		q.Set("said", a.name+":"+d.Text)
	}
	u.RawQuery = q.Encode()
	http.Redirect(v.w, v.r, u.String(), http.StatusSeeOther)
	return nil
}

// noteOf is what a page says of what was asked for on it.
func (c *console) noteOf(v *visit) *note {
	q := v.r.URL.Query()
	if id := q.Get("op"); id != "" {
		op, ok := c.Store.Wishes().Operations[id]
		if !ok {
			return nil
		}
		n := &note{Link: Prefix + "timeline?operation=" + url.QueryEscape(id), Text: fmt.Sprintf("%s %s: %s", op.Verb, about(op), op.Stage)}
		if op.Failure != nil {
			n.Bad = true
			n.Text = fmt.Sprintf("%s %s failed: %s. %s", op.Verb, about(op), op.Failure.Cause, op.Failure.Detail)
		}
		return n
	}
	// Only what one of ours can have said, so that nobody else's link has us say
	// something.
	if n, ok := cutNumber(q.Get("said"), "close-sockets:"); ok {
		return &note{Text: plural(n, "socket was", "sockets were") + " said goodbye."}
	}
	return nil
}

func cutNumber(text, before string) (int, bool) {
	if len(text) <= len(before) || text[:len(before)] != before {
		return 0, false
	}
	n, err := strconv.Atoi(text[len(before):])
	return n, err == nil && n >= 0
}

// about is what an operation is about, for people.
func about(op app.Operation) string {
	switch {
	case op.Instance != "":
		return op.Instance
	case op.Target.Version != "":
		return op.Target.String()
	}
	return op.Target.ServiceKey().String()
}

func (c *console) acts() []act {
	all := []act{{name: "close-sockets", ask: c.askClose, do: c.closeSockets}}
	return slices.Concat(all, c.serviceActs(), c.drillActs(), c.tokenActs())
}

func (c *console) askClose(v *visit) (question, error) {
	f, id, err := closeFilter(v)
	if err != nil {
		return question{}, err
	}
	n := 0
	for _, s := range c.Sockets.Sockets(tunnel.Filter{ID: id}) {
		if f.matches(&s) {
			n++
		}
	}
	if n == 0 {
		return question{}, fmt.Errorf("no open socket matches any more: %w", app.ErrNotFound)
	}
	return question{
		Title: "Close " + plural(n, "socket", "sockets"), Danger: true,
		Text:   "Both ends are sent a Close frame between two messages. Most clients connect again at once.",
		Button: "Close " + plural(n, "socket", "sockets"),
		Fields: []field{
			{Name: "code", Label: "Close code", Value: "1012", Hint: "1012 has clients come back; or 1000, 1001, 3000 to 4999"},
			{Name: "reason", Label: "Reason", Value: string(app.Requested), Hint: "up to 123 bytes, which both ends are told"},
		},
	}, nil
}

// closeFilter says which sockets a form is about.
func closeFilter(v *visit) (f socketFilter, id string, err error) {
	f, err = socketFilterOf(v.r.PostForm)
	return f, v.r.PostForm.Get("id"), err
}

func (c *console) closeSockets(v *visit) (done, error) {
	f, id, err := closeFilter(v)
	if err != nil {
		return done{}, err
	}
	code, err := strconv.Atoi(v.r.PostForm.Get("code"))
	if err != nil {
		return done{}, fmt.Errorf("close code %.20q: want a number: %w", v.r.PostForm.Get("code"), app.ErrInvalid)
	}
	reason, closed := v.r.PostForm.Get("reason"), 0
	if f.Exact() {
		exact := tunnel.Filter{ID: id, Key: app.Key{App: f.App, Service: f.Service, Version: f.Version}, Instance: f.Instance, Client: f.Client}
		closed, err = c.Sockets.CloseMatching(exact, app.Requested, code, reason)
	} else {
		for _, s := range c.Sockets.Sockets(tunnel.Filter{ID: id}) {
			if !f.matches(&s) {
				continue
			}
			n, err := c.Sockets.CloseMatching(tunnel.Filter{ID: s.ID}, app.Requested, code, reason)
			if err != nil {
				return done{}, err
			}
			closed += n
		}
	}
	if err != nil {
		return done{}, err
	}
	return done{Text: strconv.Itoa(closed)}, nil
}
