package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

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

func TestEveryPageShowsWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	k := w.deploy("v1", 2)
	eventually(t, "two instances run", func() bool { return len(w.control.Instances()) == 2 })
	id := w.control.Instances()[0].ID
	w.request(k, 500)
	for path, texts := range map[string][]string{
		"":                      {"shop/", "v1", id},
		"services/shop/default": {"v1", id, "deploy", "under way"},
		"instances/" + id:       {id, "starting", "shop/default/v1"},
		"timeline":              {id, "deploy", "starting"},
		"timeline?q=nowhere":    {"Nothing matches"},
		"logs":                  {"No line matches"},
		"logs?level=error":      {"No line matches"},
		"settings":              {"None besides the server", "Everybody"},
	} {
		status, page := w.get(path)
		if status != http.StatusOK {
			t.Errorf("%q: %d", path, status)
		}
		has(t, page, texts...)
	}
	for path, want := range map[string]int{
		"services/shop/nowhere": 404, "instances/nothing": 404, "timeline?until=yesterday": 400, "logs?level=loud": 400, "logs?since=x": 400,
	} {
		if status, _ := w.get(path); status != want {
			t.Errorf("%q: %d, want %d", path, status, want)
		}
	}
}

// What is asked for is asked about first, and then is an operation of control.
func TestAnActIsAskedAboutAndThenDone(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	w.deploy("v1", 1)
	eventually(t, "an instance runs", func() bool { return len(w.control.Instances()) == 1 })
	form := url.Values{"instance": {w.control.Instances()[0].ID}, "from": {"/console/"}}
	operations := func() int { return len(w.store.Wishes().Operations) }
	before := operations()
	if _, page := w.post("do/restart-instance", form, nil); operations() != before {
		t.Error("it was done without a question")
	} else {
		has(t, page, `name="sure"`, "A successor is ready before it drains.")
	}
	form.Set("sure", "yes")
	if status, page := w.post("do/restart-instance", form, nil); status != http.StatusOK || operations() != before+1 {
		t.Errorf("%d, %d operations", status, operations())
	} else {
		has(t, page, "restart "+form.Get("instance")+":")
	}
	traffic := url.Values{"app": {"shop"}, "service": {"default"}, "sure": {"yes"}}
	for share, want := range map[string]int{"": 400, "x": 400, "-1": 400, "NaN": 400, "1e999": 400} {
		traffic.Set("share:v1", share)
		if status, _ := w.post("do/traffic", traffic, nil); status != want {
			t.Errorf("a share of %q: %d, want %d", share, status, want)
		}
	}
	if status, _ := w.post("do/remove-token", url.Values{"name": {"nobody"}, "sure": {"yes"}}, nil); status != http.StatusNotFound {
		t.Errorf("a token that is not there: %d", status)
	}
}

// A token is shown once, to an admin who asked for it on a page of ours.
func TestATokenIsMade(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	form := url.Values{"from": {"/console/settings"}}
	if _, page := w.post("do/add-token", form, nil); len(w.tokens.List()) != 0 {
		t.Error("it was made without a question")
	} else {
		has(t, page, `name="name"`, "<option>viewer</option><option>deployer</option><option>admin</option>")
	}
	form = url.Values{"from": {"/console/settings"}, "sure": {"yes"}, "name": {"anna"}, "role": {"viewer"}}
	if status, _ := w.post("do/add-token", form, map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}); status != http.StatusForbidden {
		t.Errorf("another site: %d", status)
	}
	status, page := w.post("do/add-token", form, nil)
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	_, rest, _ := strings.Cut(page, `readonly value="`)
	token, _, _ := strings.Cut(rest, `"`)
	if _, page := w.get("settings"); strings.Contains(page, token) {
		t.Error("it is shown again")
	} else {
		has(t, page, "anna", "viewer")
	}
	if status, page := w.post("do/add-token", form, nil); status != http.StatusConflict {
		t.Errorf("the same name again: %d\n%s", status, page)
	}
	form.Set("name", "Anna!")
	if status, page := w.post("do/add-token", form, nil); status != http.StatusBadRequest {
		t.Errorf("a name that cannot be: %d\n%s", status, page)
	}
	// It lets its owner in, who may not make others.
	w.browser = w.another()
	if status, page := w.signIn(token); status != http.StatusOK {
		t.Errorf("sign in with %q: %d", token, status)
	} else {
		has(t, page, "anna")
	}
	form.Set("name", "bert")
	if status, _ := w.post("do/add-token", form, nil); status != http.StatusForbidden {
		t.Errorf("a viewer: %d", status)
	}
	if _, page := w.get("settings"); strings.Contains(page, "New token") || !strings.Contains(page, "Admins see") {
		t.Error("a viewer is offered a token")
	}
}

func TestCertificatesSayHowTheyAre(t *testing.T) {
	w := newWorld(t)
	w.signIn(w.token)
	w.certs = []Cert{
		{Names: []string{"good.example"}, From: "acme", Issuer: "Authority R1", Until: time.Now().Add(80*24*time.Hour + time.Hour)},
		{Names: []string{"old.example"}, From: "file", Issuer: "Authority R2", Until: time.Now().Add(-time.Hour)},
		{Names: []string{"none.example"}, From: "acme", Problem: "the authority found no address", Again: time.Now().Add(10 * time.Minute)},
	}
	_, page := w.get("settings")
	has(t, page, "good.example", "Authority R1", `<td class="n">80 days</td>`, `<td class="n bad">ended</td>`, `<td class="n bad">none yet</td>`, "The authority found no address.", "Tried again in 9 min")
	if strings.Index(page, "good.example") < strings.Index(page, "none.example") {
		t.Error("what is wrong does not come first")
	}
}

func TestMomentsAsPeopleTypeThem(t *testing.T) {
	now := time.Date(2026, 11, 27, 15, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"10m": "2026-11-27T15:20:00Z", "15:04": "2026-11-27T15:04:00Z", "15:04:05": "2026-11-27T15:04:05Z", "16:00": "2026-11-26T16:00:00Z",
		"2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20 12:30": "2026-11-20T12:30:00Z", "2026-11-20T12:30:00+01:00": "2026-11-20T11:30:00Z",
		"": "", "yesterday": "", "-5m": "", "25:00": "",
	} {
		got, err := momentOf(now, text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is %v", text, got)
			}
		} else if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %v, %v, want %s", text, got, err, want)
		}
	}
}
