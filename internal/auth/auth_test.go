package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/app"
)

func open(t *testing.T, dir string) *Tokens {
	t.Helper()
	tokens, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestTheServersTokenIsMadeOnceAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	tokens := open(t, dir)
	info, err := os.Stat(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	token, err := Read(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(prefix) + 43; len(token) != want {
		t.Errorf("%d characters, want %d", len(token), want)
	}
	if who, ok := tokens.Who("Bearer " + token); !ok || who != (Caller{Owner, Admin}) {
		t.Errorf("Who(its own token) = %q, %v", who, ok)
	}
	if who, ok := open(t, dir).Who("bearer " + token); !ok || who != (Caller{Owner, Admin}) {
		t.Errorf("after opening again: Who = %q, %v", who, ok)
	}
	if other, _ := Read(Path(t.TempDir())); other == token {
		t.Error("two servers have the same token")
	}
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	dir := t.TempDir()
	tokens := open(t, dir)
	token, err := Read(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{
		"", " ", "Bearer", "Bearer ", token, "Basic " + token, "Bearer " + token[1:], "Bearer " + token + "x", "Bearer " + strings.ToUpper(token),
		"Bearer " + strings.Repeat("x", 1<<20), "Bearer \x00", "Bearer " + token + " " + token,
	} {
		if who, ok := tokens.Who(header); ok || who != (Caller{}) {
			t.Errorf("Who(%.80q) = %q, %v", header, who, ok)
		}
	}
}

func TestAFileThatOthersMayReadIsRefusedWithTheWayToMendIt(t *testing.T) {
	for _, file := range []string{tokenFile, namedFile} {
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o644, 0o620, 0o666} {
			dir := t.TempDir()
			if _, err := open(t, dir).Add("ci", Deployer); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, file)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("%s with mode %v: %v", file, mode, err)
				continue
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			open(t, dir)
		}
	}
}

func TestFilesThatHoldNoTokenAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "secret\n", "two lines": strings.Repeat("a", 40) + "\n" + strings.Repeat("b", 40) + "\n",
		"long": strings.Repeat("a", 4000), "control characters": strings.Repeat("a", 40) + "\x01", "not ASCII": strings.Repeat("ä", 40),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(Path(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"tokens":[{"name":"a","sha256":"00"}]}`, `{"tokens":[],"more":1}`, `{"tokens":[{"name":"owner","sha256":"` + strings.Repeat("0", 64) + `"}]}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, namedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("named %q: %v", text, err)
		}
	}
}

func TestNamedTokensAreKeptAsHashesAndCanBeTakenBack(t *testing.T) {
	dir := t.TempDir()
	tokens := open(t, dir)
	given := map[string]string{}
	for _, name := range []string{"laptop", "ci", "anna@example.org"} {
		token, err := tokens.Add(name, Deployer)
		if err != nil {
			t.Fatal(err)
		}
		given[name] = token
	}
	if _, err := tokens.Add("ci", Deployer); !errors.Is(err, app.ErrExists) {
		t.Errorf("the same name again: %v", err)
	}
	for _, name := range []string{"", Owner, "a b", "-x", strings.Repeat("x", 65), "a\nb"} {
		if _, err := tokens.Add(name, Deployer); !errors.Is(err, app.ErrInvalid) {
			t.Errorf("Add(%q): %v", name, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, namedFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []*Tokens{tokens, open(t, dir)} {
		for name, token := range given {
			if who, ok := of.Who("Bearer " + token); !ok || who != (Caller{name, Deployer}) {
				t.Errorf("Who(the token of %s) = %q, %v", name, who, ok)
			}
			if strings.Contains(string(data), token) {
				t.Errorf("the token of %s is on the disk", name)
			}
		}
	}
	if err := tokens.Remove("ci"); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Remove("ci"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	for _, of := range []*Tokens{tokens, open(t, dir)} {
		if who, ok := of.Who("Bearer " + given["ci"]); ok {
			t.Errorf("a removed token is %q's", who)
		}
		if list := of.List(); len(list) != 2 || list[0].Name != "anna@example.org" || list[1].Name != "laptop" {
			t.Errorf("List() = %v", list)
		}
	}
	// What is beside the files was renamed or removed.
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("the directory has %v", entries)
	}
}

func TestTokensMayBeAddedAndAskedForAtOnce(t *testing.T) {
	tokens := open(t, t.TempDir())
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			token, err := tokens.Add(name, Deployer)
			if err != nil {
				t.Error(err)
			}
			if who, ok := tokens.Who("Bearer " + token); !ok || who != (Caller{name, Deployer}) {
				t.Errorf("Who = %q, %v, want %q", who, ok, name)
			}
			if err := tokens.Remove(name); err != nil {
				t.Error(err)
			}
			if _, ok := tokens.Who("Bearer " + token); ok {
				t.Errorf("%s was removed", name)
			}
		})
	}
	wg.Wait()
	if list := tokens.List(); len(list) != 0 {
		t.Errorf("List() = %v", list)
	}
}
