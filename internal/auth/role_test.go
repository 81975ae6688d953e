package auth

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachRoleMayWhatTheOneBeforeMay(t *testing.T) {
	for i, have := range Roles() {
		for j, need := range Roles() {
			if got := (Caller{"x", have}).May(need); got != (i >= j) {
				t.Errorf("%s may what needs %s: %v", have, need, got)
			}
		}
	}
	if (Caller{}).May(Viewer) || (Caller{"x", "king"}).May(Viewer) || (Caller{"x", Admin}).May("king") {
		t.Error("a role that does not exist may something")
	}
}

// Tokens of the time before roles could do everything, and still can; a role
// that nobody knows is not guessed at.
func TestRolesAreKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := open(t, dir).Add("look", Viewer); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Add("king", "king"); err == nil {
		t.Error("a token with a role that does not exist was made")
	}
	if list := open(t, dir).List(); len(list) != 1 || list[0].Role != Viewer {
		t.Errorf("kept: %v", list)
	}
	path := filepath.Join(dir, namedFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Role{"": Admin, `"role": "king",`: ""} {
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), `"role": "viewer",`, text, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := Open(dir)
		if want == "" {
			if err == nil {
				t.Error("a role that does not exist was read")
			}
			continue
		}
		if err != nil || tokens.List()[0].Role != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Who tries again and again waits longer and longer, others do not.
func TestFailuresAreSlowedDownAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var log strings.Builder
		g := NewGuard(open(t, dir), slog.New(slog.NewTextHandler(&log, nil)))
		token, err := Read(Path(dir))
		if err != nil {
			t.Fatal(err)
		}
		ask := func(client, token string) (time.Duration, error) {
			r := httptest.NewRequest("GET", "http://127.0.0.1/", nil)
			r.RemoteAddr = client + ":1234"
			r.Header.Set("Authorization", "Bearer "+token)
			began := time.Now()
			_, err := g.Admit(r)
			return time.Since(began), err
		}
		for i := range 40 {
			took, err := ask("192.0.2.1", "wrong")
			var refused *Refusal
			if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
				t.Fatalf("attempt %d: %v", i, err)
			}
			if free := i < slowAfter; free != (took == 0) || took > slowMost {
				t.Errorf("attempt %d took %v", i, took)
			}
		}
		if took, err := ask("192.0.2.2", "wrong"); took != 0 || err == nil {
			t.Errorf("another address waited %v: %v", took, err)
		}
		if took, err := ask("192.0.2.1", token); took != 0 || err != nil {
			t.Errorf("a good token waited %v: %v", took, err)
		}
		if n := strings.Count(log.String(), "client=192.0.2.1 "); n != 6 || strings.Contains(log.String(), "wrong") {
			t.Errorf("logged %d times, want the attempts 1, 2, 4, 8, 16 and 32:\n%s", n, &log)
		}
		time.Sleep(failuresFor + time.Second)
		if took, _ := ask("192.0.2.1", "wrong"); took != 0 {
			t.Errorf("it is not forgotten: %v", took)
		}
	})
}
