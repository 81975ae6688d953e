package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An app sees nothing of what the server keeps, or of another app, but all that
// is its own and what the machine has for everybody.
func TestAppsAreKeptApart(t *testing.T) { keptApart(t, "") }

func TestAppsOfAnotherUserAreKeptApart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start apps as another user")
	}
	keptApart(t, "nobody")
}

func keptApart(t *testing.T, user string) {
	if !CanConfine() {
		t.Skip("this kernel has no Landlock")
	}
	data := t.TempDir()
	enterable(t, filepath.Join(data, "x"))
	beside := filepath.Join(filepath.Dir(data), "beside") // a folder next to it
	for path, text := range map[string]string{
		filepath.Join(data, "token"): "secret", filepath.Join(data, "certificates/key"): "secret", filepath.Join(beside, "file"): "common",
	} {
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666),
			os.Chmod(filepath.Dir(path), 0o777), os.Chmod(path, 0o666)) // whatever our umask is
		if err != nil {
			t.Fatal(err)
		}
	}
	w := openAt(t, Config{Dir: filepath.Join(data, "instances"), Logs: filepath.Join(data, "logs"), Hidden: []string{data}, User: user})
	victim := script(t, "victim", "echo own >mine; touch ready; exec sleep 1000")
	w.start("victim", victim)
	w.file("victim", "mine")

	// Each line tries one thing, and says whether it can.
	type try struct {
		what, command string
		can           bool
	}
	tries := []try{
		{"its own file", "cat run.sh", true},
		{"a file of its own that is new", "echo x >new && cat new", true},
		{"a folder of its own", "mkdir -p a/b && mv new a/b && ls a/b", true},
		{"its own TMPDIR", "echo x >$TMPDIR/x && cat $TMPDIR/x", true},
		{"its build", "cat $BUILD/run.sh", true},
		{"a file for everybody", "cat " + beside + "/file", true},
		{"to write a file for everybody", "echo x >" + beside + "/new", true},
		{"the machine's settings", "cat /etc/passwd && ls /usr", true},
		{"devices", "head -c1 /dev/urandom >/dev/null", true},
		{"a program", "/bin/true", true},
		{"its own environment", "cat /proc/self/environ", true},
		{"to signal a child", "sleep 100 & kill $!", true},

		{"the server's token", "cat " + data + "/token", false},
		{"a key", "cat " + data + "/certificates/key", false},
		{"to list what the server keeps", "ls " + data, false},
		{"to write there", "echo x >" + data + "/x", false},
		{"to remove there", "rm " + data + "/token", false},
		{"another app's file", "cat " + w.path("victim", "mine"), false},
		{"another app's log", "cat " + data + "/logs/victim.log", false},
		{"a link to it", "ln -s " + data + "/token link; cat link", false},
		{"a hard link to it", "ln " + data + "/token hard && cat hard", false},
		{"a way around", "cat /proc/self/root" + data + "/token", false},
		{"to write into its build", "echo x >$BUILD/run.sh", false},
		{"another app's folder by its process", fmt.Sprintf("cat /proc/%d/cwd/mine", w.keeper("victim").App), false},
	}
	no := func(what, command string, pid int) {
		tries = append(tries, try{what, fmt.Sprintf(command, pid), false})
	}
	if landlock() >= versionSignals {
		no("to signal another app", "kill -0 %d", w.keeper("victim").App)
	}
	if user != "" || os.Geteuid() != 0 { // root may, whatever Landlock says: it has CAP_PERFMON
		no("another app's environment", "cat /proc/%d/environ", w.keeper("victim").App)
		no("the server's environment", "cat /proc/%d/environ", os.Getpid())
	}
	var text strings.Builder
	for i, try := range tries {
		fmt.Fprintf(&text, "if (%s) >/dev/null 2>&1; then echo %d >>can; else echo %d >>cannot; fi\n", try.command, i, i)
	}
	text.WriteString("echo done >done; exec sleep 1000\n")
	attacker := script(t, "attacker", text.String())
	built := filepath.Join(data, "builds", "attacker", "app")
	if err := errors.Join(os.MkdirAll(filepath.Dir(built), 0o755), os.Rename(attacker.Artifact.Dir, built), os.Chmod(filepath.Join(built, "run.sh"), 0o777)); err != nil {
		t.Fatal(err)
	}
	attacker.Artifact.Dir = built
	attacker.Env = map[string]string{"BUILD": attacker.Artifact.Dir}
	w.start("attacker", attacker)
	w.file("attacker", "done")
	can := map[string]bool{}
	for _, i := range strings.Fields(w.file("attacker", "can")) {
		can[i] = true
	}
	for i, try := range tries {
		if got := can[fmt.Sprint(i)]; got != try.can {
			t.Errorf("%s: it can: %v, want %v (%s)", try.what, got, try.can, try.command)
		}
	}
	for _, secret := range []string{"/token", "/certificates/key"} {
		if b, err := os.ReadFile(data + secret); err != nil || string(b) != "secret" {
			t.Errorf("%s is %q, %v", secret, b, err)
		}
	}
	w.stop("attacker", patience)
}

// Nothing hidden, nothing taken: as for an app that somebody runs from their own
// folder.
func TestNothingIsTakenUnasked(t *testing.T) {
	w := open(t)
	secret := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(secret, []byte("open"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.start("a", script(t, "v1", "cat "+secret+" >seen; touch ready; exec sleep 1000"))
	if got := w.file("a", "seen"); got != "open" {
		t.Errorf("it sees %q", got)
	}
}

func BenchmarkStartConfined(b *testing.B) {
	data := b.TempDir()
	w := openAt(b, Config{Dir: filepath.Join(data, "instances"), Logs: filepath.Join(data, "logs"), Hidden: []string{data}})
	v := script(b, "v1", polite)
	for b.Loop() {
		w.start("a", v)
		w.stop("a", 0)
	}
}
