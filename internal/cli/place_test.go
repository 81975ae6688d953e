package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/auth"
)

// home gives a test folders of its own where commands look for servers.
func home(t *testing.T) string {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, value := range map[string]string{
		"HOME": dir, "XDG_CONFIG_HOME": filepath.Join(dir, "config"), "HOLDFAST_DATA": "", "HOLDFAST_SERVER": "", "HOLDFAST_TOKEN_FILE": "",
	} {
		t.Setenv(name, value)
	}
	return dir
}

// serverIn makes a data directory whose server listens.
func serverIn(t *testing.T, data string) (url string, stop func()) {
	t.Helper()
	if _, err := auth.Open(data); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := place{"http://" + l.Addr().String(), os.Getpid()}
	if err := announcePlace(data, p); err != nil {
		t.Fatal(err)
	}
	return p.URL, func() { l.Close() }
}

func tokenOf(t *testing.T, data string) string {
	t.Helper()
	token, err := auth.Read(auth.Path(data))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// The order in which a server is looked for: what was said, the saved context,
// the folder here, the one started last.
func TestFindServer(t *testing.T) {
	dir := home(t)
	check := func(what, server, tokenFile, url, token string) {
		t.Helper()
		r, err := findServer(server, tokenFile)
		if err != nil || r.url != url || r.token != token {
			t.Errorf("%s: %s by %s, %v; want %s", what, r.url, r.how, err, url)
		}
	}
	var p *problem
	if _, err := findServer("", ""); !errors.As(err, &p) || !strings.Contains(p.next, "holdfast serve") || len(p.lines) < 2 {
		t.Errorf("nothing runs: %v", err)
	}
	elsewhere := filepath.Join(dir, "elsewhere")
	latestURL, _ := serverIn(t, elsewhere)
	check("the one started last", "", "", latestURL, tokenOf(t, elsewhere))

	here := filepath.Join(dir, "holdfast-data")
	hereURL, stopHere := serverIn(t, here)
	if err := writeJSON(filepath.Join(dir, "config/holdfast", latestFile), latest{elsewhere}, 0o600); err != nil {
		t.Fatal(err)
	}
	check("the one here", "", "", hereURL, tokenOf(t, here))
	check("said, of this machine", strings.TrimPrefix(latestURL, "http://"), "", latestURL, tokenOf(t, elsewhere))
	check("said, with a token", "http://h:1", auth.Path(here), "http://h:1", tokenOf(t, here))
	if _, err := findServer("http://h:1", ""); !errors.As(err, &p) || !strings.Contains(p.next, "--token-file") {
		t.Errorf("said, without a token: %v", err)
	}

	all := contexts{Current: "far", Contexts: map[string]savedContext{"far": {"https://far.example", "secret"}}}
	if err := all.write(); err != nil {
		t.Fatal(err)
	}
	check("the saved context", "", "", "https://far.example", "secret")
	check("the token of a context, by its URL", "https://far.example/", "", "https://far.example", "secret")
	if info, err := os.Stat(filepath.Join(dir, "config/holdfast", contextsFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with tokens: %v, %v", info.Mode(), err)
	}
	if err := changeContexts(localContext, func(c *contexts, name string) { c.Current = name }); err != nil {
		t.Fatal(err)
	}
	check("local again", "", "", hereURL, tokenOf(t, here))

	// After a crash its file is still there, and its port may be another's.
	now := place{hereURL, os.Getpid()}
	for what, p := range map[string]place{"whose process is gone": {hereURL, 1 << 30}, "whose file makes no sense": {hereURL, 0}} {
		if err := writeJSON(filepath.Join(here, placeFile), p, 0o644); err != nil {
			t.Fatal(err)
		}
		check("one "+what+" is passed over", "", "", latestURL, tokenOf(t, elsewhere))
	}
	if err := writeJSON(filepath.Join(here, placeFile), now, 0o644); err != nil {
		t.Fatal(err)
	}
	stopHere()
	check("one that does not listen is passed over", "", "", latestURL, tokenOf(t, elsewhere))
}

// A server takes back its own word only.
func TestForgetPlace(t *testing.T) {
	home(t)
	data := t.TempDir()
	first, second := place{"http://127.0.0.1:1", 1}, place{"http://127.0.0.1:1", 2}
	for _, p := range []place{first, second} {
		if err := announcePlace(data, p); err != nil {
			t.Fatal(err)
		}
	}
	forgetPlace(data, first)
	var now place
	if err := readJSON(filepath.Join(data, placeFile), &now); err != nil || now != second {
		t.Errorf("after the first one's goodbye: %v, %v", now, err)
	}
	forgetPlace(data, second)
	if err := readJSON(filepath.Join(data, placeFile), &now); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the second one's: %v", err)
	}
}

func TestServerURL(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8079": "http://127.0.0.1:8079", "https://a.example/": "https://a.example", "http://[::1]:1": "http://[::1]:1", "localhost": "http://localhost",
	} {
		if got, err := serverURL(text); err != nil || got != want {
			t.Errorf("serverURL(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	var m misuse
	for _, text := range []string{"", "ftp://a", "http://a/b", "http://a?b", "http://%zz"} {
		if got, err := serverURL(text); !errors.As(err, &m) {
			t.Errorf("serverURL(%q) = %q, %v", text, got, err)
		}
	}
}
