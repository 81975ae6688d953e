package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// sessionLife is how long a browser is let in without asking again: a working
	// day.
	sessionLife = 12 * time.Hour

	// sessionsMax bounds how many browsers are let in at once. The oldest goes
	// where there are more.
	sessionsMax = 1000

	// codeLife is how long a code that opens a session may be on its way from a
	// command to the browser that the command opens.
	codeLife = time.Minute

	// codesMax bounds the codes that are on their way.
	codesMax = 100

	// CookieName is the cookie that a session is known by. Apps on other ports of
	// the same host would be sent it too: a router drops it.
	CookieName = "holdfast_console"
)

// Sessions lets browsers in that a token or a code was shown for once. They know
// each by a cookie. They are kept in memory only: after a restart people sign in
// again.
type Sessions struct {
	guard *Guard
	path  string

	mu    sync.Mutex // guards the following
	known map[[sha256.Size]byte]session
	codes map[[sha256.Size]byte]code
}

// session is kept by the hash of what the browser has.
type session struct {
	who   Caller
	token string // the hash of the named token that opened it; "" for the server's own
	until time.Time
}

type code struct {
	session
	often bool
}

// NewSessions makes an empty table of sessions for the pages below path, behind
// a guard.
func NewSessions(g *Guard, path string) *Sessions {
	return &Sessions{guard: g, path: path, known: map[[sha256.Size]byte]session{}, codes: map[[sha256.Size]byte]code{}}
}

// SignIn opens a session for whoever has the token, and says by whose name. The
// error is a *Refusal; who is wrong again and again waits for it, as at Admit.
func (s *Sessions) SignIn(w http.ResponseWriter, r *http.Request, token string) (Caller, error) {
	asked := r.Clone(r.Context())
	asked.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	who, err := s.guard.Admit(asked)
	if err != nil {
		return who, err
	}
	s.open(w, r, s.sessionOf(who))
	return who, nil
}

// Invite makes a code that opens a session for c: once and within a minute, or
// with often at any time while the server runs.
func (s *Sessions) Invite(c Caller, often bool) string {
	text := fresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for k, old := range s.codes {
		if !old.often && now.After(old.until) {
			delete(s.codes, k)
		}
	}
	if len(s.codes) >= codesMax {
		clear(s.codes)
	}
	invited := s.sessionOf(c)
	invited.until = now.Add(codeLife)
	s.codes[sha256.Sum256([]byte(text))] = code{invited, often}
	return text
}

// Enter opens a session for whoever has a code. A code that is not known any
// more is a *Refusal.
func (s *Sessions) Enter(w http.ResponseWriter, r *http.Request, text string) error {
	key := sha256.Sum256([]byte(text))
	s.mu.Lock()
	c, ok := s.codes[key]
	if ok && !c.often {
		delete(s.codes, key)
		ok = time.Now().Before(c.until)
	}
	s.mu.Unlock()
	if !ok {
		s.guard.failures.failed(r)
		return &Refusal{http.StatusUnauthorized, "this link has been used, or is older than a minute", "Run holdfast console again, or sign in with a token."}
	}
	s.open(w, r, c.session)
	return nil
}

func (s *Sessions) sessionOf(c Caller) session {
	made := session{who: c}
	if c.Name != Owner {
		made.token = s.guard.tokens.hashOf(c)
	}
	return made
}

// open gives the browser its cookie.
func (s *Sessions) open(w http.ResponseWriter, r *http.Request, made session) {
	b := make([]byte, tokenBytes)
	rand.Read(b) // never fails: crypto/rand.Read
	text := base64.RawURLEncoding.EncodeToString(b)
	made.until = time.Now().Add(sessionLife)
	s.mu.Lock()
	if len(s.known) >= sessionsMax {
		s.dropOldestLocked()
	}
	s.known[sha256.Sum256([]byte(text))] = made
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(r, text, int(sessionLife.Seconds())))
}

func (s *Sessions) dropOldestLocked() {
	var oldest [sha256.Size]byte
	var until time.Time
	for k, one := range s.known {
		if until.IsZero() || one.until.Before(until) {
			oldest, until = k, one.until
		}
	}
	delete(s.known, oldest)
}

func (s *Sessions) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{Name: CookieName, Value: value, Path: s.path, MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

// Who says whose session a request belongs to. A session ends with its token:
// one whose token was removed or has another role by now is none.
func (s *Sessions) Who(r *http.Request) (Caller, bool) {
	cookies := r.CookiesNamed(CookieName)
	if len(cookies) != 1 {
		return Caller{}, false
	}
	key := sha256.Sum256([]byte(cookies[0].Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.known[key]
	if !ok {
		return Caller{}, false
	}
	if time.Now().After(one.until) || one.who.Name != Owner && (one.token == "" || one.token != s.guard.tokens.hashOf(one.who)) {
		delete(s.known, key)
		return Caller{}, false
	}
	return one.who, true
}

// SignOut ends the session that a request belongs to.
func (s *Sessions) SignOut(w http.ResponseWriter, r *http.Request) {
	for _, c := range r.CookiesNamed(CookieName) {
		s.mu.Lock()
		delete(s.known, sha256.Sum256([]byte(c.Value)))
		s.mu.Unlock()
	}
	http.SetCookie(w, s.cookie(r, "", -1))
}

// Same says whether a request that may change something comes from one of the
// server's own pages: the guard's rules for browsers, and that the browser says
// where it comes from, as all do for what is not a GET, and for a WebSocket.
func (s *Sessions) Same(r *http.Request) error {
	if err := s.guard.browser(r); err != nil {
		return err
	}
	if o, err := url.Parse(r.Header.Get("Origin")); err != nil || o.Host == "" {
		return &Refusal{http.StatusForbidden, "the request does not say which page it comes from", "Use the buttons of the console; programs use the admin API."}
	}
	return nil
}

// Called says whether a request asks for one of the server's own names, whatever
// page it comes from.
func (s *Sessions) Called(r *http.Request) error {
	plain := &http.Request{Host: r.Host, Header: http.Header{}}
	return s.guard.browser(plain)
}

// hashOf is the hash of the token that a caller has, "" where it is none any
// more.
func (t *Tokens) hashOf(c Caller) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, there := slices.BinarySearchFunc(t.named, c.Name, byName)
	if !there || t.named[i].Role != c.Role {
		return ""
	}
	return t.named[i].Hash
}
