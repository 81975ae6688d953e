package console

import (
	"net/http"
	"net/url"
	"testing"

	"holdfast/internal/app"
	"holdfast/internal/auth"
)

func TestNobodyLooksWithoutSigningIn(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"", "sockets", "sockets/7", "nowhere"} {
		if status, page := w.get(path); status != http.StatusOK {
			t.Errorf("%q: %d", path, status)
		} else {
			has(t, page, `name="token"`)
		}
	}
	if status, page := w.signIn("holdfast_wrong"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d", status)
	} else {
		has(t, page, "none of this server&#39;s tokens")
	}
	if status, page := w.signIn(w.token); status != http.StatusOK {
		t.Errorf("the right token: %d\n%s", status, page)
	} else {
		has(t, page, "Nothing is deployed yet", "owner")
	}
	if status, _ := w.get("nowhere"); status != http.StatusNotFound {
		t.Errorf("a page that does not exist: %d", status)
	}
	if status, _ := w.post("sign-out", nil, nil); status != http.StatusOK {
		t.Errorf("sign out: %d", status)
	}
	if _, page := w.get(""); true {
		has(t, page, `name="token"`)
	}
}

func TestOtherSitesGetNothing(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	for name, headers := range map[string]map[string]string{
		"a form of another site":        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
		"an app on another port":        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
		"a form that hides whose it is": {"Origin": "null"},
		"who says nothing":              {"Origin": "", "Sec-Fetch-Site": ""},
	} {
		if status, _ := w.post("do/close-sockets", url.Values{"sure": {"yes"}, "code": {"1012"}}, headers); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	for name, headers := range map[string]map[string]string{
		"a WebSocket of another site": {"Origin": "http://evil.example", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
		"a picture of another site":   {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
	} {
		if status, _ := w.do("GET", "live", nil, headers); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	// A link in a mail is no attack: the browser is asked to come again.
	if status, page := w.do("GET", "sockets?q=a", nil, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}); status != http.StatusOK {
		t.Errorf("a link: %d", status)
	} else {
		has(t, page, `http-equiv="refresh" content="0; url=/console/sockets?q=a"`)
	}
}

func TestViewersLookAndDoNotAct(t *testing.T) {
	w := newWorld(t)
	token, err := w.tokens.Add("anna", auth.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	w.signIn(token)
	if status, _ := w.get("sockets"); status != http.StatusOK {
		t.Errorf("look: %d", status)
	}
	if status, page := w.post("do/close-sockets", url.Values{"id": {"7"}}, nil); status != http.StatusForbidden {
		t.Errorf("act: %d", status)
	} else {
		has(t, page, "needs the role deployer")
	}
}

func TestAStrangersTextStaysText(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	_, page := w.get("sockets?q=" + url.QueryEscape(`"><script>alert(1)</script>`))
	has(t, page, "&lt;script&gt;alert(1)")
	for _, to := range []string{"//evil.example/console/", "https://evil.example/console/", "/console/../x", "javascript:alert(1)"} {
		if got := own(to); got != Prefix && got != "/console/../x" {
			t.Errorf("own(%q) = %q", to, got)
		}
	}
}

func TestTheStoryOfASocketThatEnded(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	k := app.Key{App: "shop", Service: "default", Version: "v1"}
	w.request(k, 101)
	w.ended(k, "77", "aef-1", app.Deployed, 1012)
	status, page := w.get("sockets/77")
	if status != http.StatusOK {
		t.Fatalf("%d", status)
	}
	has(t, page, "ended: deployed", "Close code 1012", "Ended by Holdfast", "7 messages, 1.2 kB", "aef-1")
	if status, _ := w.get("sockets/78"); status != http.StatusNotFound {
		t.Errorf("a socket that never was: %d", status)
	}
}
