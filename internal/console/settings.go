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
	Certs  []certLine
	Tokens []auth.Named // for those who may everything
	Apps   []app.Application
}

// certLine is a certificate, and how urgent it is.
type certLine struct {
	Cert
	Left time.Duration // 0: it has ended, or there is none
	Late bool          // it should have been renewed by now
}

// certLate is how long before its end a certificate should have a successor, as
// in our alert rules.
const certLate = 14 * 24 * time.Hour

// Days says how long a certificate lasts, as people count it.
func (l certLine) Days() string {
	switch days := int(l.Left / (24 * time.Hour)); {
	case l.Until.IsZero():
		return "none yet"
	case l.Left <= 0:
		return "ended"
	case days == 0:
		return "less than a day"
	default:
		return plural(days, "day", "days")
	}
}

func (c *console) settings(v *visit) (any, error) {
	p := settingsPage{About: c.About()}
	if v.who.May(auth.Admin) {
		p.Tokens = c.Tokens.List()
	}
	for _, cert := range c.Certs() {
		left := max(0, cert.Until.Sub(v.now))
		p.Certs = append(p.Certs, certLine{Cert: cert, Left: left, Late: left < certLate})
	}
	// What is wrong or ends soon comes first.
	slices.SortStableFunc(p.Certs, func(a, b certLine) int { return cmp.Compare(a.Left, b.Left) })
	for _, a := range c.Store.Wishes().Apps {
		p.Apps = append(p.Apps, a)
	}
	slices.SortFunc(p.Apps, func(a, b app.Application) int { return cmp.Compare(a.ID, b.ID) })
	return p, nil
}

func (c *console) tokenActs() []act {
	name := func(v *visit) string { return v.r.PostForm.Get("name") }
	roles := make([]string, 0, 3)
	for _, r := range auth.Roles() {
		roles = append(roles, string(r))
	}
	return []act{{
		name: "add-token", needs: auth.Admin,
		ask: func(v *visit) (question, error) {
			return question{Title: "Make a token", Text: "Whoever has it may do what its role says, here and at the admin API. It is shown once.", Button: "Make it", Fields: []field{
				{Name: "name", Label: "Name", Hint: "whose it is, as anna or ci@example.com"},
				{Name: "role", Label: "Role", Hint: "a viewer looks, a deployer changes what runs, an admin may everything", Choices: roles},
			}}, nil
		},
		do: func(v *visit) (done, error) {
			token, err := c.Tokens.Add(name(v), auth.Role(v.r.PostForm.Get("role")))
			return done{Secret: &secret{Title: "The token of " + name(v), Text: "Keep it now: only its hash is kept here, and it is not shown again.", Secret: token}}, err
		},
	}, {
		name: "remove-token", needs: auth.Admin,
		ask: func(v *visit) (question, error) {
			return question{Title: "Remove the token " + name(v), Text: "Whoever has it is let in no more, here and at the admin API.", Button: "Remove", Danger: true}, nil
		},
		do: func(v *visit) (done, error) { return done{}, c.Tokens.Remove(name(v)) },
	}}
}
