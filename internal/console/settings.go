package console

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/auth"
)

// settingsPage is what holds for the server and its applications.
type settingsPage struct {
	About  About
	Up     time.Duration
	Tokens []auth.Named // for those who may everything
	Apps   []appSettings
	Roles  []auth.Role
}

type appSettings struct {
	app.Application
	Certs []certLine
}

type certLine struct {
	app.Certificate
	Left time.Duration
}

func (c *console) settings(v *visit) (any, error) {
	p := settingsPage{About: c.About(), Roles: auth.Roles()}
	p.Up = v.now.Sub(p.About.Started)
	if v.who.May(auth.Admin) {
		p.Tokens = c.Tokens.List()
	}
	for _, a := range c.Store.Wishes().Apps {
		one := appSettings{Application: a}
		for _, cert := range a.Certificates {
			one.Certs = append(one.Certs, certLine{cert, cert.Until.Sub(v.now)})
		}
		p.Apps = append(p.Apps, one)
	}
	slices.SortFunc(p.Apps, func(a, b appSettings) int { return cmp.Compare(a.ID, b.ID) })
	return p, nil
}

func (c *console) tokenActs() []act {
	return []act{{
		name: "remove-token", needs: auth.Admin,
		ask: func(v *visit) (question, error) {
			return question{Title: "Remove the token " + v.r.PostForm.Get("name"), Text: "Whoever has it is let in no more, here and at the admin API.", Button: "Remove", Danger: true}, nil
		},
		do: func(v *visit) (done, error) { return done{}, c.Tokens.Remove(v.r.PostForm.Get("name")) },
	}}
}
