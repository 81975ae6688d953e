package auth

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// browser is who keeps cookies.
type browser struct {
	*Sessions
	cookies []*http.Cookie
}

func (b *browser) request(method string) *http.Request {
	r := httptest.NewRequest(method, "http://127.0.0.1:8079/console/", nil)
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	return r
}

func (b *browser) keep(w *httptest.ResponseRecorder) { b.cookies = w.Result().Cookies() }

func newBrowser(t *testing.T, tokens *Tokens) *browser {
	t.Helper()
	return &browser{Sessions: NewSessions(NewGuard(tokens, slog.New(slog.DiscardHandler)), "/console/")}
}

func TestASessionBeginsWithATokenAndEndsWithIt(t *testing.T) {
	tokens := open(t, t.TempDir())
	token, err := tokens.Add("anna", Viewer)
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, tokens)
	if _, ok := b.Who(b.request("GET")); ok {
		t.Error("a stranger has a session")
	}
	w := httptest.NewRecorder()
	if _, err := b.SignIn(w, b.request("POST"), token+"x"); err == nil || len(w.Result().Cookies()) > 0 {
		t.Errorf("a wrong token: %v, %v", err, w.Result().Cookies())
	}
	w = httptest.NewRecorder()
	if _, err := b.SignIn(w, b.request("POST"), " "+token+"\n"); err != nil {
		t.Fatal(err)
	}
	b.keep(w)
	if c := b.cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/console/" || c.Secure {
		t.Errorf("cookie %v", c)
	}
	if who, ok := b.Who(b.request("GET")); !ok || who != (Caller{"anna", Viewer}) {
		t.Errorf("Who = %v, %v", who, ok)
	}
	// Another token by the same name is another one.
	if err := tokens.Remove("anna"); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Add("anna", Viewer); err != nil {
		t.Fatal(err)
	}
	if who, ok := b.Who(b.request("GET")); ok {
		t.Errorf("the session of a removed token is %v's", who)
	}
}

func TestACodeOpensOneSessionWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBrowser(t, open(t, t.TempDir()))
		owner := Caller{Owner, Admin}
		enter := func(code string) bool {
			w := httptest.NewRecorder()
			err := b.Enter(w, b.request("GET"), code)
			b.keep(w)
			return err == nil
		}
		late, code, often := b.Invite(owner, false), b.Invite(owner, false), b.Invite(owner, true)
		if !enter(code) {
			t.Fatal("a fresh code is refused")
		}
		if who, ok := b.Who(b.request("GET")); !ok || who != owner {
			t.Errorf("Who = %v, %v", who, ok)
		}
		if enter(code) {
			t.Error("a code was good twice")
		}
		time.Sleep(codeLife + time.Second)
		if enter(late) || enter("") || enter("holdfast_guess") {
			t.Error("what is no code, or an old one, was good")
		}
		for range 2 {
			if !enter(often) {
				t.Error("the code of the machine's own person is not good twice")
			}
		}
		time.Sleep(sessionLife + time.Second)
		if _, ok := b.Who(b.request("GET")); ok {
			t.Error("a session lasts longer than a day's work")
		}
	})
}

func TestSigningOutEndsTheSession(t *testing.T) {
	b := newBrowser(t, open(t, t.TempDir()))
	w := httptest.NewRecorder()
	if err := b.Enter(w, b.request("GET"), b.Invite(Caller{Owner, Admin}, false)); err != nil {
		t.Fatal(err)
	}
	b.keep(w)
	had := b.cookies
	b.SignOut(httptest.NewRecorder(), b.request("POST"))
	b.cookies = had // who has stolen it
	if _, ok := b.Who(b.request("GET")); ok {
		t.Error("the session goes on")
	}
}

func TestOnlyTheServersOwnPagesMayChangeAnything(t *testing.T) {
	b := newBrowser(t, open(t, t.TempDir()))
	for origin, good := range map[string]bool{
		"http://127.0.0.1:8079": true, "": false, "null": false, "http://127.0.0.1:8080": false, "http://evil.example": false, "http://localhost:8079": false,
	} {
		r := b.request("POST")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if err := b.Same(r); (err == nil) != good {
			t.Errorf("from %q: %v", origin, err)
		}
	}
	r := b.request("POST")
	r.Host = "rebound.example"
	r.Header.Set("Origin", (&url.URL{Scheme: "http", Host: r.Host}).String())
	if b.Same(r) == nil || b.Called(r) == nil {
		t.Error("a stranger's name leads in")
	}
}

func TestThereAreOnlySoManySessions(t *testing.T) {
	b := newBrowser(t, open(t, t.TempDir()))
	for range sessionsMax + 5 {
		if err := b.Enter(httptest.NewRecorder(), b.request("GET"), b.Invite(Caller{Owner, Admin}, false)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.known); n != sessionsMax {
		t.Errorf("%d sessions are kept, want %d", n, sessionsMax)
	}
	for range codesMax + 5 {
		b.Invite(Caller{Owner, Admin}, false)
	}
	if n := len(b.codes); n > codesMax {
		t.Errorf("%d codes are kept", n)
	}
}
