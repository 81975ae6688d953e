package server

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/auth"
	"holdfast/internal/console"
	"holdfast/internal/control"
	"holdfast/internal/googleapi"
	"holdfast/internal/journal"
	"holdfast/internal/metrics"
)

// openDoors prepares the doors for operators, and the console.
func (s *Server) openDoors() error {
	tokens, err := auth.Open(s.cfg.Data)
	if err != nil {
		return err
	}
	guard := auth.NewGuard(tokens, s.cfg.Log.With("room", "auth"), s.ownNames()...)
	if err := s.openConsole(tokens, guard); err != nil || !s.cfg.operated() {
		return err
	}
	ours := admin.New(admin.Engine{
		Control: s.control,
		Store:   s.wishes,
		Sources: s.keep.sources,
		Sockets: s.tunnels,
		House:   house{s},
	}, admin.Config{
		Guard:   guard,
		Tokens:  tokens,
		Invite:  s.invite,
		Goodbye: s.deploys.Done(),
		Log:     s.cfg.Log.With("room", "admin"),
	})
	theirs, err := googleapi.New(googleapi.Engine{
		Control: s.control,
		Store:   s.wishes,
		Sources: s.keep.sources,
		House:   house{s},
	}, googleapi.Config{
		Guard:   guard,
		Dir:     filepath.Join(s.cfg.Data, "staging"),
		Goodbye: s.deploys.Done(),
		Log:     s.cfg.Log.With("room", "googleapi"),
	})
	if err != nil {
		return err
	}
	numbers := s.numbers(guard)
	s.door = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == metrics.Path:
			numbers.ServeHTTP(w, r)
		case googleapi.Serves(r.URL.Path):
			theirs.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, console.Prefix), r.URL.Path == "/":
			s.console.ServeHTTP(w, r)
		default:
			ours.ServeHTTP(w, r)
		}
	})
	return nil
}

// openConsole prepares the pages for people.
func (s *Server) openConsole(tokens *auth.Tokens, guard *auth.Guard) error {
	sessions := auth.NewSessions(guard, console.Prefix)
	s.invite = sessions.Invite
	pages, err := console.New(console.Engine{
		Control: s.control,
		Store:   s.wishes,
		Sockets: s.tunnels,
		Journal: s.journal,
		Tokens:  tokens,
		About:   s.about,
		Certs:   s.certificates,
		Memory:  s.driver.Memory,
		LogDir:  s.LogDir(),
		Reports: filepath.Join(s.cfg.Data, "operations"),
	}, console.Config{
		Sessions: sessions,
		Goodbye:  s.deploys.Done(),
		Log:      s.cfg.Log.With("room", "console"),
	})
	if err != nil {
		return err
	}
	s.console = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, console.Prefix, http.StatusSeeOther)
			return
		}
		pages.ServeHTTP(w, r)
	})
	return nil
}

// Invitation is the path, with a code, by which a browser on this machine gets
// into the console as its owner while the server runs. It needs a listener that
// has one.
func (s *Server) Invitation() string {
	return console.Entrance(s.invite(auth.Caller{Name: auth.Owner, Role: auth.Admin}, true))
}

func (s *Server) about() console.About {
	a := console.About{
		Version: s.cfg.Program, PID: os.Getpid(), Started: s.started, Data: s.cfg.Data,
		Domains: s.cfg.Domains, Region: s.cfg.Region, Limits: s.driver.Limits(), SocketsMax: socketsMax(),
	}
	for _, l := range (house{s}).listeners() {
		a.Listeners = append(a.Listeners, console.Listener(l))
	}
	if s.cfg.Console != nil {
		a.Listeners = append(a.Listeners, console.Listener{Name: "console", Addr: s.cfg.Console.Addr().String()})
	}
	return a
}

func (s *Server) certificates() (all []console.Cert) {
	if s.certs == nil {
		return nil
	}
	for _, e := range s.certs.List() {
		all = append(all, console.Cert{Names: e.Names, From: e.From, Issuer: e.Issuer, Until: e.Until, Problem: e.Problem, Again: e.Next})
	}
	return all
}

// openJournal opens what remembers. A server whose instances end with it keeps
// nothing of them either.
func (s *Server) openJournal() (err error) {
	cfg := journal.Config{
		Open: func(instance string) int { return s.tunnels.Count(instance) },
		All: func() map[app.ServiceKey]int {
			open := map[app.ServiceKey]int{}
			for _, i := range s.control.Instances() {
				open[i.Key.ServiceKey()] += i.Sockets
			}
			return open
		},
		Log:      s.cfg.Log.With("room", "journal"),
		Requests: s.LogDir(),
	}
	if s.cfg.operated() {
		cfg.Dir = filepath.Join(s.cfg.Data, "journal")
	}
	s.journal, err = journal.Open(cfg)
	return err
}

// event tells of a change of an instance those who want to know.
func (s *Server) event(e control.Event) {
	s.journal.ToldInstance(e.Time, e.Instance, e.Detail)
	if s.cfg.Events != nil {
		s.cfg.Events(e)
	}
}

// ownNames is what this machine is called by its neighbours, as far as it knows,
// and by operators elsewhere, who come over TLS.
func (s *Server) ownNames() (names []string) {
	if len(s.cfg.AdminTLS) > 0 {
		names = slices.Clone(s.cfg.Domains)
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return names // it can still be asked by its address
	}
	short, _, long := strings.Cut(name, ".")
	names = append(names, short, short+".local")
	if long && name != short+".local" {
		names = append(names, name)
	}
	return names
}
