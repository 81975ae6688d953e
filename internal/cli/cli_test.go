package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

// What an app writes may colour its text and nothing else: no cursor, no bell,
// no title, no answer-back.
func TestCleanTakesOutWhatMovesATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":                    "plain text",
		"tab\tstays":                    "tab\tstays",
		"\x1b[31mred\x1b[0m":            "\x1b[31mred\x1b[0m",
		"\x1b[2J\x1b[Hwiped":            "[2J[Hwiped",
		"\x1b]0;title\x07text":          "]0;titletext",
		"bell\a, back\b, return\rforge": "bell, back, returnforge",
		"del\x7f":                       "del",
		"unfinished \x1b[3":             "unfinished [3",
		"grün, 東京":                      "grün, 東京",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m")
	f.Add("\x1b[")
	f.Add("\x1b\x1b[1;2;3m")
	f.Fuzz(func(t *testing.T, in string) {
		got := clean(in)
		if again := clean(got); again != got {
			t.Fatalf("clean(%q) = %q, cleaned again %q", in, got, again)
		}
		for rest := got; ; {
			i := strings.IndexFunc(rest, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
			if i < 0 {
				break
			}
			n := colourSequence(rest[i:])
			if n == 0 {
				t.Fatalf("clean(%q) = %q, which has %q left", in, got, rest[i])
			}
			rest = rest[i+n:]
		}
	})
}

func TestProjectIsMadeOfTheFoldersName(t *testing.T) {
	for folder, want := range map[string]string{
		"chat":                  "chat",
		"My Chat_App":           "my-chat-app",
		"--":                    "app",
		"東京":                    "app",
		strings.Repeat("x", 40): strings.Repeat("x", 30),
	} {
		if got := projectFrom(folder); got != want || !label.MatchString(got) {
			t.Errorf("projectFrom(%q) = %q, want %q", folder, got, want)
		}
	}
}

// The same app with the same settings is the same version, so that instances
// which outlived us are known again; whatever an instance could notice makes
// another one.
func TestVersionIDNamesWhatInstancesAre(t *testing.T) {
	v := app.Version{
		Key:      app.Key{App: "a", Service: "default"},
		Artifact: app.Artifact{ID: "1", Command: "run"},
		Env:      map[string]string{"A": "1", "B": "2"},
	}
	id := versionID(v)
	later := v
	later.CreatedAt, later.Serving, later.Version = time.Now(), true, "v1"
	if got := versionID(later); got != id {
		t.Errorf("a later deploy of the same is %s, was %s", got, id)
	}
	for what, change := range map[string]func(*app.Version){
		"artifact": func(v *app.Version) { v.Artifact.ID = "2" },
		"variable": func(v *app.Version) { v.Env = map[string]string{"A": "1", "B": "3"} },
		"check":    func(v *app.Version) { v.Ready.Path = "/ready" },
		"affinity": func(v *app.Version) { v.Affinity = true },
		"service":  func(v *app.Version) { v.Service = "other" },
	} {
		changed := v
		change(&changed)
		if versionID(changed) == id {
			t.Errorf("another %s has the same id", what)
		}
	}
}

// A burst of saves is one change, new folders are watched, tools' folders are not.
func TestWatchTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "node_modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := watchTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- w.run(t.Context(), changed) }()
	save := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(time.Now().String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not seen", what)
		}
	}
	for range 20 {
		save("main.go")
	}
	wait("a burst of saves")

	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	wait("a new folder")
	save("sub/page.html")
	wait("a file in a new folder")

	save("node_modules/cache.js")
	save(".main.go.swp")
	select {
	case <-changed:
		t.Error("a tool's file counted as a save")
	case <-time.After(3 * quiet):
	}
}
