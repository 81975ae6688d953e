package logs

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func texts(lines []Line) []string {
	var t []string
	for _, l := range lines {
		t = append(t, string(l.Stream)+" "+l.Text)
	}
	return t
}

func TestStreamCutsLinesWhereverWritesAreCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	var want []string
	var input strings.Builder
	for i := range 500 {
		text := fmt.Sprintf("line %d %s", i, strings.Repeat("x", rnd.IntN(200)))
		want = append(want, "out "+text)
		input.WriteString(text + "\n")
	}
	input.WriteString("unfinished")
	want = append(want, "out unfinished")

	path := filepath.Join(t.TempDir(), "a.log")
	f, err := Create(path, Limit{})
	if err != nil {
		t.Fatal(err)
	}
	s := f.Stream(Out)
	for rest := input.String(); rest != ""; {
		n := min(len(rest), 1+rnd.IntN(400))
		io.WriteString(s, rest[:n])
		rest = rest[n:]
	}
	s.Close()
	f.Close()

	lines, err := Tail(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(lines); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("seed %d: got %d lines, want %d; first got %q", seed, len(got), len(want), got[0])
	}
}

func TestLongLinesComeInPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f, _ := Create(path, Limit{})
	s := f.Stream(Err)
	io.WriteString(s, strings.Repeat("a", lineMax)+strings.Repeat("b", 10)+"\r\nnext\n")
	f.Close()
	lines, err := Tail(path, 10)
	if err != nil || len(lines) != 3 {
		t.Fatalf("Tail = %d lines, %v; want 3", len(lines), err)
	}
	if len(lines[0].Text) != lineMax || lines[1].Text != "bbbbbbbbbb" || lines[2].Text != "next" {
		t.Errorf("pieces of %d and %q, then %q", len(lines[0].Text), lines[1].Text, lines[2].Text)
	}
}

func TestTailReachesIntoRotatedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f, _ := Create(path, Limit{Bytes: 1000, Files: 4})
	for i := range 60 {
		if err := f.Append(Line{Time: time.Now(), Stream: Out, Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	lines, err := Tail(path, 50)
	if err != nil || len(lines) != 50 || lines[0].Text != "10" || lines[49].Text != "59" {
		t.Fatalf("Tail = %d lines, %v", len(lines), err)
	}
	if names, _ := filepath.Glob(path + "*"); len(names) > 4 {
		t.Errorf("kept %v, want at most 4 files", names)
	}
	if none, err := Tail(path+".absent", 5); err != nil || none != nil {
		t.Errorf("Tail of no log = %v, %v", none, err)
	}
}

// A follower sees every line once and in order, however often the log is
// rotated under it, as long as it keeps up with the files that are kept.
func TestFollowSurvivesRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	const lines = 3000
	next := 0
	seen := make(chan struct{}, lines)
	result := make(chan error, 1)
	go func() {
		result <- Follow(ctx, path, time.Time{}, func(l Line) error {
			if want := fmt.Sprint(next); l.Text != want {
				return fmt.Errorf("got line %q, want %q", l.Text, want)
			}
			next++
			seen <- struct{}{}
			return nil
		})
	}()

	f, err := Create(path, Limit{Bytes: 2000, Files: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range lines {
		if err := f.Append(Line{Time: time.Now(), Stream: Out, Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		// Six files hold some 300 lines; a writer further ahead than that drops
		// what nobody could read any more.
		if i%200 != 199 {
			continue
		}
		for range 200 {
			select {
			case <-seen:
			case err := <-result:
				t.Fatalf("Follow ended after %d lines: %v", next, err)
			}
		}
	}
	cancel()
	if err := <-result; err != nil || next != lines {
		t.Fatalf("Follow = %v after %d lines", err, next)
	}
}

func TestFollowBeginsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f, _ := Create(path, Limit{Bytes: 200, Files: 10})
	base := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i := range 20 {
		f.Append(Line{Time: base.Add(time.Duration(i) * time.Second), Stream: Out, Text: fmt.Sprint(i)})
	}
	f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var got []string
	err := Follow(ctx, path, base.Add(15*time.Second), func(l Line) error {
		got = append(got, l.Text)
		if len(got) == 5 {
			cancel()
		}
		return nil
	})
	if want := "[15 16 17 18 19]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
}

func TestAHalfWrittenLineStandsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("2026-11-22T12:00:00.0000"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, Limit{})
	if err != nil {
		t.Fatal(err)
	}
	f.Append(Line{Time: time.Now(), Stream: System, Text: "forged\n2026-11-22T12:00:00.000000Z out no"})
	f.Close()
	lines, err := Tail(path, 10)
	if err != nil || len(lines) != 2 {
		t.Fatalf("Tail = %v, %v; want two lines", texts(lines), err)
	}
	if lines[0].Text != "2026-11-22T12:00:00.0000" || !strings.HasPrefix(lines[1].Text, "forged 2026") {
		t.Errorf("got %q", texts(lines))
	}
}

// Whatever a file holds, reading it ends, and what is of our format comes back
// as it was written.
func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-11-22T12:00:00.000000Z out hello"))
	f.Add([]byte("2026-11-22T12:00:00.000000Z bad hello"))
	f.Add([]byte("no line of ours"))
	f.Add([]byte(" "))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := parse(raw)
		if l.Time.IsZero() && l.Text != string(raw) {
			t.Fatalf("parse(%q) hid text: %q", raw, l.Text)
		}
		if l.Time.IsZero() || strings.Contains(l.Text, "\n") {
			return
		}
		again := parse([]byte(strings.TrimSuffix(string(l.appendTo(nil)), "\n")))
		if !again.Time.Equal(l.Time) || again.Stream != l.Stream || again.Text != l.Text {
			t.Fatalf("parse(%q) = %v, written and read again %v", raw, l, again)
		}
	})
}

func TestPruneKeepsTheLatestAndTheBusy(t *testing.T) {
	dir := t.TempDir()
	base := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i, name := range []string{"a.log", "b.log.1", "b.log", "c.log", "d.log", "requests.log", "notes.txt"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := base.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	busy := func(name string) bool { return name == "a" || name == "requests" }
	if err := Prune(dir, Keep{Logs: 2}, base, busy); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	for i, path := range left {
		left[i] = filepath.Base(path)
	}
	if got, want := strings.Join(left, " "), "a.log c.log d.log notes.txt requests.log"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	if err := Prune(filepath.Join(dir, "absent"), Keep{}, base, busy); err != nil {
		t.Errorf("Prune of no directory: %v", err)
	}
}

func TestPruneKeepsWithinBytesAndDays(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		rule string
		keep Keep
		want string
	}{
		{"no bounds: all stay", Keep{Logs: 9}, "busy.log busy.log.1 new.log new.log.1 old.log requests.log"},
		{"too many bytes: the oldest goes, with what was rotated away from it", Keep{Logs: 9, Bytes: 500}, "busy.log busy.log.1 new.log new.log.1 requests.log"},
		{"what is being written stays however much it is", Keep{Logs: 9, Bytes: 1}, "busy.log busy.log.1 requests.log"},
		{"too old: gone, also what was rotated away from a busy one", Keep{Logs: 9, Age: 3 * day}, "busy.log new.log new.log.1 requests.log"},
	} {
		dir := t.TempDir()
		for name, age := range map[string]time.Duration{
			"busy.log": 9 * day, "busy.log.1": 10 * day, "requests.log": 0, "new.log": day, "new.log.1": 4 * day, "old.log": 5 * day,
		} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Prune(dir, c.keep, now, func(name string) bool { return name == "busy" || name == "requests" }); err != nil {
			t.Fatal(err)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		for i, path := range left {
			left[i] = filepath.Base(path)
		}
		if got := strings.Join(left, " "); got != c.want {
			t.Errorf("%s: left %s, want %s", c.rule, got, c.want)
		}
	}
}

// Many write while files are rotated, and every line is there, once, in the order
// in which its writer wrote it.
func TestRotationUnderLoadLosesNoLine(t *testing.T) {
	const writers, each = 8, 2000
	path := filepath.Join(t.TempDir(), "busy.log")
	f, err := Create(path, Limit{Bytes: 8 << 10, Files: 200})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			out := f.Stream(Out)
			for n := range each {
				fmt.Fprintf(out, "writer %d line %d\n", w, n)
			}
		})
	}
	all.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(path + ".*"); len(files) < 20 {
		t.Errorf("it was rotated %d times, which is no load", len(files))
	}
	lines, err := Tail(path, writers*each+1)
	if err != nil || len(lines) != writers*each {
		t.Fatalf("%d lines, %v; want %d", len(lines), err, writers*each)
	}
	next := [writers]int{}
	for _, l := range lines {
		var w, n int
		if _, err := fmt.Sscanf(l.Text, "writer %d line %d", &w, &n); err != nil || next[w] != n {
			t.Fatalf("%q, where line %d of its writer comes next", l.Text, next[w])
		}
		next[w]++
	}
}
