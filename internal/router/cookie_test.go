package router

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/app"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func testSealer(t testing.TB) sealer {
	s, err := newSealer(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// given is the cookie of that name which an answer sets, nil for none.
func given(res *http.Response, name string) *http.Cookie {
	for _, c := range res.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func withCookie(name, value string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Add("Cookie", name+"="+value) }
}

func TestAffinityCookie(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{Affinity: true}, naming("a"), naming("b"), naming("c"))
	res, home := f.get("/")
	c := given(res, affinityCookie)
	if c == nil {
		t.Fatalf("no cookie: %v", res.Header)
	}
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure || c.Path != "/" || c.Domain != "" || c.MaxAge != 30*24*3600 ||
		time.Until(c.Expires) < 30*24*time.Hour-time.Minute {
		t.Errorf("flags: %s", c.Raw)
	}
	if cc := res.Header["Cache-Control"]; !slices.Equal(cc, []string{"private"}) {
		t.Errorf("Cache-Control %v, want private: the answer carries somebody's cookie", cc)
	}
	if strings.Contains(c.Value, home) && len(c.Value) < 60 {
		t.Errorf("value %q tells the instance", c.Value)
	}
	for range 20 {
		res, body := f.get("/", withCookie(affinityCookie, c.Value))
		if body != home || given(res, affinityCookie) != nil || res.Header["Cache-Control"] != nil {
			t.Fatalf("with the cookie: %s (home is %s), %v", body, home, res.Header)
		}
	}
	// Beside others, after a forged one of the same name, and quoted.
	for _, header := range []string{"x=y; GAESA=" + c.Value, "GAESA=forged; GAESA=" + c.Value, `GAESA="` + c.Value + `"; z`} {
		if _, body := f.get("/", func(req *http.Request) { req.Header.Set("Cookie", header) }); body != home {
			t.Errorf("Cookie: %s leads to %s, home is %s", header, body, home)
		}
	}
}

func TestAffinityWithoutTheSetting(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{}, func(w http.ResponseWriter, _ *http.Request) { w.Header().Add("Set-Cookie", "GAESA=the-app's") })
	res, _ := f.get("/")
	if res.Header["Set-Cookie"] != nil {
		t.Errorf("off: %v, want no cookie: others of the same host may use that name", res.Header)
	}
}

func TestPlatformCookiesAreThePlatforms(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	f.serve(Pool{Affinity: true}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "GAESA=stolen; Path=/")
		w.Header().Add("Set-Cookie", "mine=1")
		w.Header().Add("Set-Cookie", " GAESA =stolen")
	})
	res, _ := f.get("/")
	if got := strings.Join(res.Header["Set-Cookie"], "|"); strings.Contains(got, "stolen") || !strings.Contains(got, "mine=1") || given(res, affinityCookie) == nil {
		t.Errorf("Set-Cookie: %s", got)
	}
}

func TestCookieThatDoesNotCount(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	all := f.serve(Pool{Affinity: true}, naming("a"), naming("b"))
	s, now := testSealer(t), time.Now()
	other, err := newSealer([]byte("another installation's secret   "))
	if err != nil {
		t.Fatal(err)
	}
	ses := newSession()
	ses.instance, ses.issued = all[0].ID, now
	old, ahead := ses, ses
	old.issued, ahead.issued = now.Add(-cookieLife-time.Second), now.Add(time.Hour)
	elsewhere := all[0].Key
	elsewhere.Version = "v2"
	good := s.seal(all[0].Key, ses)
	flipped := []byte(good)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct{ rule, value string }{
		{"empty", ""},
		{"an instance's name", "a"},
		{"not base64", "!!!"},
		{"random bytes", base64.RawURLEncoding.EncodeToString(make([]byte, 80))},
		{"one bit changed", string(flipped)},
		{"cut", good[:len(good)-4]},
		{"another key", other.seal(all[0].Key, ses)},
		{"another version's", s.seal(elsewhere, ses)},
		{"stale", s.seal(all[0].Key, old)},
		{"from the future", s.seal(all[0].Key, ahead)},
		{"huge", strings.Repeat("A", 4000)},
	} {
		seen := map[string]bool{}
		for range 6 {
			res, body := f.get("/", withCookie(affinityCookie, c.value))
			seen[body] = true
			if n := given(res, affinityCookie); n == nil || n.Value == c.value {
				t.Errorf("%s: no new cookie", c.rule)
			}
		}
		if len(seen) != 2 {
			t.Errorf("%s: steered to %v %v", c.rule, seen, f.Load())
		}
	}
	if res, body := f.get("/", withCookie(affinityCookie, good)); body != "a" || given(res, affinityCookie) != nil {
		t.Errorf("the good one: %s, %v", body, res.Header)
	}
	young, half := ses, ses
	young.issued, half.issued = now.Add(-cookieRefresh+time.Minute), now.Add(-cookieRefresh-time.Minute)
	if res, body := f.get("/", withCookie(affinityCookie, s.seal(all[0].Key, young))); body != "a" || given(res, affinityCookie) != nil {
		t.Errorf("not yet half its life: %s, %v", body, res.Header)
	}
	res, body := f.get("/", withCookie(affinityCookie, s.seal(all[0].Key, half)))
	if c := given(res, affinityCookie); body != "a" || c == nil {
		t.Errorf("over half its life: %s, %v; want a new cookie for the same instance", body, res.Header)
	} else if again, ok := s.open(all[0].Key, c.Value, time.Now()); !ok || again.id != ses.id || again.instance != "a" {
		t.Errorf("renewed: %v, %v; want the same session and instance", again, ok)
	}
}

func TestShareable(t *testing.T) {
	for _, c := range []struct {
		header     string // "name: value; ..." by |
		status     int
		keep, open bool
	}{
		{"", 200, false, true},
		{"", 302, false, true},
		{"", 304, true, false},
		{"Cache-Control: private", 200, false, false},
		{"Cache-Control: no-store", 200, false, false},
		{"Cache-Control: max-age=0, private, must-revalidate", 200, false, false},
		{"Cache-Control: public, no-store", 200, false, false},
		{"Cache-Control: PUBLIC, max-age=60", 200, true, false},
		{"Cache-Control: public", 404, true, false},
		{"Cache-Control: s-maxage=10", 200, true, false},
		{"Cache-Control: max-age=60", 200, true, false},
		{"Cache-Control: max-age=0", 200, true, false},
		{"Cache-Control: max-age=60|Cache-Control: private", 200, false, false},
		{`Cache-Control: private="set-cookie, x", max-age=5`, 200, true, false},
		{`Cache-Control: ext="private, no-store"`, 200, false, true},
		{`Cache-Control: ext="a\", private", public`, 200, true, false},
		{"Cache-Control: no-cache", 200, false, true},
		{"Expires: Thu, 01 Dec 2994 16:00:00 GMT", 200, true, false},
		{"Expires: 0|Cache-Control: no-store", 200, false, false},
		{"Etag: \"x\"", 200, false, true},
		{"Last-Modified: Thu, 01 Dec 1994 16:00:00 GMT", 200, true, false},
		{"Last-Modified: Thu, 01 Dec 1994 16:00:00 GMT|Cache-Control: private", 200, false, false},
		{"Cdn-Cache-Control: max-age=60", 200, true, false},
	} {
		h := http.Header{}
		for _, line := range strings.Split(c.header, "|") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				h.Add(name, value)
			}
		}
		if keep, open := shareable(c.status, h); keep != c.keep || open != c.open {
			t.Errorf("%d %q: keep %v, open %v; want %v, %v", c.status, c.header, keep, open, c.keep, c.open)
		}
		f := newFront(t, Config{Secret: secret})
		f.serve(Pool{Affinity: true}, func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range h {
				w.Header()[k] = v
			}
			w.WriteHeader(c.status)
		})
		res, _ := f.get("/")
		if set := given(res, affinityCookie) != nil; set == c.keep {
			t.Errorf("%d %q: cookie set: %v", c.status, c.header, set)
		}
		if private := strings.Contains(strings.Join(res.Header["Cache-Control"], ","), "private"); c.open && !private {
			t.Errorf("%d %q: Cache-Control %v with a cookie", c.status, c.header, res.Header["Cache-Control"])
		}
		if c.keep && !slices.Equal(res.Header["Cache-Control"], h["Cache-Control"]) {
			t.Errorf("%d %q: Cache-Control became %v", c.status, c.header, res.Header["Cache-Control"])
		}
	}
}

// 200 clients keep their instance across requests and sockets until it goes;
// then its clients spread over the others, the rest stay, and the sockets of
// the leaving instance are told why.
func TestAffinityOfManyClients(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	var handlers []http.HandlerFunc
	for _, name := range []string{"a", "b", "c", "d"} {
		handlers = append(handlers, socketApp(name))
	}
	all := f.serve(Pool{Affinity: true}, handlers...)

	clients := make([]*http.Client, 200)
	homes := make([]string, len(clients))
	each := func(what string, fn func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		turns := make(chan struct{}, 20)
		for i := range clients {
			wg.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				if err := fn(i); err != nil {
					t.Errorf("%s: client %d: %v", what, i, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	each("first", func(i int) error {
		jar, _ := cookiejar.New(nil)
		clients[i] = &http.Client{Jar: jar, Transport: plain.Transport, Timeout: 20 * time.Second}
		homes[i] = fetch(t, clients[i], f.url)
		return nil
	})
	count := map[string]int{}
	for _, h := range homes {
		count[h]++
	}
	for name, n := range count {
		if n < 47 || n > 53 {
			t.Errorf("%s is home to %d of 200: %v", name, n, count)
		}
	}
	stays := func(i int) error {
		for range 3 {
			if got := fetch(t, clients[i], f.url+"/more"); got != homes[i] {
				return fmt.Errorf("%s, home is %s", got, homes[i])
			}
		}
		name, end, err := openSocket(f.url, clients[i])
		if err != nil {
			return err
		}
		end()
		if name != homes[i] {
			return fmt.Errorf("socket on %s, home is %s", name, homes[i])
		}
		return nil
	}
	each("stay", stays)

	all[1].State, all[1].Cause, all[1].Until = app.Draining, app.Aged, time.Now().Add(time.Second)
	f.Set(routesTo(Pool{Affinity: true, Instances: all}))
	moved := map[string]int{}
	var mu sync.Mutex
	each("moved", func(i int) error {
		got := fetch(t, clients[i], f.url)
		switch {
		case homes[i] != "b" && got != homes[i]:
			return fmt.Errorf("moved from %s to %s though only b went", homes[i], got)
		case homes[i] == "b":
			mu.Lock()
			moved[got]++
			mu.Unlock()
			homes[i] = got
		}
		return nil
	})
	if len(moved) != 3 || moved["b"] > 0 {
		t.Errorf("b's clients went to %v, want all three others", moved)
	}
	each("stay after", stays)
}

func TestEqualRoutersAgree(t *testing.T) {
	var fronts []*front
	var all []app.Instance
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		all = append(all, instance(name, serving(t, naming(name))))
	}
	for range 2 {
		fronts = append(fronts, newFront(t, Config{Secret: secret}))
	}
	pool := Pool{Affinity: true, Instances: all}
	fronts[0].Set(routesTo(pool))
	back := slices.Clone(all)
	slices.Reverse(back)
	fronts[1].Set(routesTo(Pool{Affinity: true, Instances: back}))
	for range 20 {
		res, home := fronts[0].get("/")
		c := given(res, affinityCookie)
		if _, got := fronts[1].get("/", withCookie(affinityCookie, c.Value)); got != home {
			t.Fatalf("the other router leads to %s, home is %s", got, home)
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(i app.Instance) bool { return i.ID == home })
		left := [2]string{}
		for i, f := range fronts {
			f.Set(routesTo(Pool{Affinity: true, Instances: rest}))
			res, got := f.get("/", withCookie(affinityCookie, c.Value))
			if left[i] = got; given(res, affinityCookie) == nil {
				t.Errorf("moved without a new cookie")
			}
			f.Set(routesTo(pool))
		}
		if left[0] != left[1] {
			t.Fatalf("after %s went the routers chose %v", home, left)
		}
	}
}

func TestSplitCookie(t *testing.T) {
	f := newFront(t, Config{Secret: secret})
	v := func(name string) Pool {
		i := instance(name, serving(t, naming(name)))
		i.Key.Version = name
		return Pool{Instances: []app.Instance{i}}
	}
	routes := routesTo(Pool{})
	routes.Apps["shop"].Services["default"] = Service{
		Split: app.Split{By: app.ByCookie, Shares: map[string]float64{"v1": 0.5, "v2": 0.5}},
		Pools: map[string]Pool{"v1": v("v1"), "v2": v("v2"), "v3": v("v3")},
	}
	f.Set(routes)
	seen := map[string]bool{}
	for range 40 {
		res, first := f.get("/")
		seen[first] = true
		c := given(res, splitCookie)
		if c == nil || !c.HttpOnly {
			t.Fatalf("no cookie: %v", res.Header)
		}
		if res, again := f.get("/", withCookie(splitCookie, c.Value)); again != first || given(res, splitCookie) != nil {
			t.Fatalf("%s=%s led to %s, then to %s", splitCookie, c.Value, first, again)
		}
	}
	if !seen["v1"] || !seen["v2"] || seen["v3"] {
		t.Errorf("saw %v", seen)
	}
	res, got := f.get("/", func(req *http.Request) { req.Host = "v3-dot-shop.localhost" }, withCookie(splitCookie, "1"))
	if got != "v3" || given(res, splitCookie) != nil {
		t.Errorf("a version's host: %s %v, want v3 and no cookie", got, res.Header)
	}
}

func fetch(t *testing.T, client *http.Client, url string) string {
	res, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("GET %s: %d %v", url, res.StatusCode, err)
	}
	return string(b)
}

func FuzzCookie(f *testing.F) {
	s := testSealer(f)
	key := app.Key{App: "shop", Service: "default", Version: "v1"}
	ses := newSession()
	now := time.Unix(1_800_000_000, 0)
	ses.instance, ses.issued = "a", now
	good := s.seal(key, ses)
	for _, v := range []string{"", "a", good[:20], strings.Repeat("A", 600), good + "=", "\x00"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got, ok := s.open(key, value, now); ok {
			t.Fatalf("open(%q) = %v: nobody sealed that", value, got)
		}
		// Whatever surrounds a good cookie, it is found among the first few.
		n := 0
		eachCookie([]string{value}, affinityCookie, func(string) bool { n++; return false })
		if n > cookieTries {
			t.Fatalf("%d cookies were looked at", n)
		}
		found := false
		eachCookie([]string{"GAESA=" + good + ";" + value}, affinityCookie, func(v string) bool {
			_, found = s.open(key, v, now)
			return found
		})
		if !found {
			t.Fatalf("a good cookie is not found before %q", value)
		}
		h := http.Header{"Set-Cookie": {value, "keep=1"}, "Cache-Control": {value}}
		dropCookie(h, affinityCookie)
		shareable(200, h)
	})
}
