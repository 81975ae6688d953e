package logs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/app"
)

var chat1 = app.Key{App: "shop", Service: "chat", Version: "v1"}

// write makes a log of lines; each is stamped with the next microsecond of clock.
func writeLog(t *testing.T, dir, name string, k app.Key, limit Limit, lines ...Line) {
	t.Helper()
	path := filepath.Join(dir, name+".log")
	f, err := Create(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, l := range lines {
		if err := f.Append(l); err != nil {
			t.Fatal(err)
		}
	}
	if k != (app.Key{}) {
		if err := Own(path, k); err != nil {
			t.Fatal(err)
		}
	}
}

func textsOf(entries []Entry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Text)
	}
	return all
}

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }

func TestALevelIsWhatTheLineSaysElseWhatItsStreamSays(t *testing.T) {
	for _, c := range []struct {
		line Line
		want Level
	}{
		{Line{Stream: Out, Text: "hello"}, Info},
		{Line{Stream: Err, Text: "hello"}, Error},
		{Line{Stream: System, Text: "started"}, Info},
		{Line{Stream: Err, Text: `{"severity":"DEBUG"}`}, Debug},
		{Line{Stream: Out, Text: `{"level":"warn","msg":"x"}`}, Warning},
		{Line{Stream: Out, Text: `{"level":30,"msg":"pino"}`}, Info},
		{Line{Stream: Out, Text: `{"level":50}`}, Error},
		{Line{Stream: Out, Text: `{"level":60}`}, Critical},
		{Line{Stream: Out, Text: `{"level":10}`}, Debug},
		{Line{Stream: Out, Text: `{"severity":"EMERGENCY","level":"info"}`}, Critical},
		{Line{Stream: Err, Text: `{"level":null}`}, Error},
		{Line{Stream: Err, Text: `{"level":["info"]}`}, Error},
		{Line{Stream: Err, Text: `{"level":"info"`}, Error},
		{Line{Stream: Out, Text: `{"level":"whatever"}`}, Info},
	} {
		if got := levelOf(c.line); got != c.want {
			t.Errorf("levelOf(%s %s) = %s, want %s", c.line.Stream, c.line.Text, got, c.want)
		}
	}
	for _, l := range []Level{Debug, Info, Warning, Error, Critical} {
		if got, err := ParseLevel(l.String()); err != nil || got != l {
			t.Errorf("ParseLevel(%s) = %s, %v", l, got, err)
		}
	}
	if _, err := ParseLevel("loud"); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("ParseLevel(loud): %v", err)
	}
}

func TestLinesOfManyLogsComeInTheOrderOfTime(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "a", chat1, Limit{}, Line{at(1), Out, "1"}, Line{at(4), Err, "4"}, Line{at(5), Out, "5"})
	writeLog(t, dir, "b", app.Key{App: "shop", Service: "chat", Version: "v2"}, Limit{}, Line{at(2), Out, "2"}, Line{at(6), Out, "6"})
	writeLog(t, dir, "c", app.Key{App: "shop", Service: "default", Version: "v1"}, Limit{}, Line{at(3), Out, `{"severity":"ERROR"}`})
	writeLog(t, dir, "old", app.Key{}, Limit{}, Line{at(0), Out, "0"})
	requests := strings.Join([]string{
		`{"time":"2026-11-22T12:00:02.5Z","level":"INFO","msg":"request","app":"shop","service":"chat","version":"v1","instance":"a","status":200}`,
		`{"time":"2026-11-22T12:00:05.5Z","level":"INFO","msg":"request","app":"shop","service":"chat","version":"v1","instance":"a","status":404}`,
		`{"time":"2026-11-22T12:00:05.7Z","level":"INFO","msg":"request","app":"shop","service":"default","version":"v1","instance":"c","status":502}`,
	}, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, RequestLog+".log"), []byte(requests), 0o600); err != nil {
		t.Fatal(err)
	}
	r := strings.Split(requests, "\n")
	const severe = `{"severity":"ERROR"}`
	for name, c := range map[string]struct {
		q    Query
		want []string
	}{
		"all":                    {Query{Level: Any}, []string{"0", "1", "2", severe, "4", "5", "6"}},
		"service":                {Query{Level: Any, Service: "chat"}, []string{"1", "2", "4", "5", "6"}},
		"version":                {Query{Level: Any, App: "shop", Service: "chat", Version: "v2"}, []string{"2", "6"}},
		"instance":               {Query{Level: Any, Instance: "old"}, []string{"0"}},
		"another application":    {Query{Level: Any, App: "other"}, nil},
		"errors":                 {Query{Level: Error}, []string{severe, "4"}},
		"the last":               {Query{Level: Any, Limit: 2}, []string{"5", "6"}},
		"since":                  {Query{Level: Any, Since: at(4)}, []string{"4", "5", "6"}},
		"since, between":         {Query{Level: Any, Since: at(4).Add(1)}, []string{"5", "6"}},
		"since, later than all":  {Query{Level: Any, Since: at(100)}, nil},
		"with requests":          {Query{Level: Any, Requests: true, Service: "chat"}, []string{"1", "2", r[0], "4", "5", r[1], "6"}},
		"requests of a level":    {Query{Level: Warning, Requests: true}, []string{severe, "4", r[1], r[2]}},
		"requests of instance a": {Query{Level: Any, Requests: true, Instance: "a"}, []string{"1", r[0], "4", "5", r[1]}},
	} {
		got, err := Read(dir, c.q)
		if err != nil || !slices.Equal(textsOf(got), c.want) {
			t.Errorf("%s: %q, %v, want %q", name, textsOf(got), err, c.want)
		}
	}
	got, err := Read(dir, Query{Level: Any, Instance: "a", Limit: 1})
	if err != nil || len(got) != 1 || got[0].Key != chat1 || got[0].Instance != "a" || got[0].Stream != Out || !got[0].Time.Equal(at(5)) {
		t.Errorf("an entry: %+v, %v", got, err)
	}
	if got, err := Read(filepath.Join(dir, "none"), Query{}); err != nil || got != nil {
		t.Errorf("a directory that is not there: %v, %v", got, err)
	}
}

// However long lines are and wherever files are rotated, reading backwards
// finds what was written.
func TestReadingBackwardsFindsWhatWasWritten(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 20 {
		dir := t.TempDir()
		var lines []Line
		var want []string
		limit := Limit{Bytes: 1 << (10 + rnd.IntN(8)), Files: 90}
		for i := range 20 + rnd.IntN(400) {
			length := rnd.IntN(60)
			if rnd.IntN(10) == 0 {
				length = rnd.IntN(lineMax)
			}
			text := fmt.Sprint(i, " ", strings.Repeat("x", length))
			lines, want = append(lines, Line{epoch.Add(time.Duration(i) * time.Microsecond), Out, text}), append(want, text)
		}
		writeLog(t, dir, "a", chat1, limit, lines...)
		files, err := filepath.Glob(filepath.Join(dir, "a.log*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 88 { // the oldest lines may be gone
			continue
		}
		n := 1 + rnd.IntN(len(want))
		got, err := Read(dir, Query{Level: Any, Limit: n})
		if err != nil || !slices.Equal(textsOf(got), want[len(want)-n:]) {
			t.Fatalf("seed %d, round %d: the last %d of %d lines in %d files: got %d, %v", seed, round, n, len(want), len(files), len(got), err)
		}
	}
}

func TestWhatIsNoLogIsReadAllTheSame(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("z", 3*rawMax)
	raw := "no stamp\n" + string(Line{at(1), Out, "one"}.appendTo(nil)) + "\n" + long + "\n" + string(Line{at(2), Out, "two"}.appendTo(nil)) + "half a li"
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, Query{Level: Any})
	if err != nil {
		t.Fatal(err)
	}
	all := textsOf(got)
	if all[0] != "no stamp" || all[1] != "one" || all[len(all)-1] != "two" {
		t.Errorf("got %.40q", all)
	}
	if z := strings.Count(strings.Join(all, ""), "z"); z != len(long) {
		t.Errorf("of the long line %d bytes are there, want %d", z, len(long))
	}
}

// watch runs Watch until what it gave is what is wanted.
func watch(t *testing.T, dir string, q Query, want []string, meanwhile func(got []string)) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	enough := errors.New("enough")
	var got []string
	err := Watch(ctx, dir, q, func(batch []Entry) error {
		got = append(got, textsOf(batch)...)
		if len(got) >= len(want) {
			return enough
		}
		meanwhile(got)
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(got, want) {
		t.Fatalf("watched %q, %v, want %q", got, err, want)
	}
}

func TestWatchGoesOnWhereReadEnds(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "a", chat1, Limit{}, Line{at(1), Out, "1"}, Line{at(2), Out, "2"})
	writeLog(t, dir, "b", app.Key{App: "shop", Service: "other", Version: "v1"}, Limit{}, Line{at(3), Out, "not asked for"})
	step := 0
	watch(t, dir, Query{Level: Any, Service: "chat", Limit: 1}, []string{"2", "3", "4", "5"}, func(got []string) {
		switch {
		case step == 0:
			writeLog(t, dir, "a", chat1, Limit{Bytes: 100}, Line{at(3), Out, "3"}, Line{at(4), Err, "4"}) // rotates
			step++
		case step == 1 && len(got) == 3: // a new instance, after the others were found
			writeLog(t, dir, "c", chat1, Limit{}, Line{at(5), Out, "5"})
			step++
		}
	})
}

func TestALogThatRestedIsTakenUpWhereItWasLeft(t *testing.T) {
	for _, limit := range []Limit{{}, {Bytes: 60}} { // with the second every line is in a file of its own
		dir := t.TempDir()
		writeLog(t, dir, "a", chat1, limit, Line{at(1), Out, "1"})
		w := &watcher{dir: dir, q: Query{Level: Any}, known: map[string]app.Key{}, logs: map[string]*watched{}}
		defer w.close()
		var got []string
		w.fn = func(batch []Entry) error { got = append(got, textsOf(batch)...); return nil }
		poll := func(n int) {
			t.Helper()
			for range n {
				if err := w.poll(true); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
		}
		poll(restAfter + 2)
		if l := w.logs["a"]; l == nil || l.file != nil || l.rests == nil {
			t.Fatalf("after %d silent polls it is still open", restAfter)
		}
		writeLog(t, dir, "a", chat1, limit, Line{at(2), Out, "2"}, Line{at(3), Out, "3"})
		poll(1)
		poll(restAfter + 2)
		writeLog(t, dir, "a", chat1, limit, Line{at(4), Out, "4"})
		poll(1)
		if want := []string{"1", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("limit %+v: got %q, want %q", limit, got, want)
		}
		poll(restAfter + 2)
		for _, pattern := range []string{"a.log*"} {
			files, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, f := range files {
				os.Remove(f)
			}
		}
		poll(2)
		if len(w.logs) != 0 {
			t.Errorf("a log that was removed is still watched")
		}
	}
}

func TestPruneTakesTheOwnersNoteWithTheLog(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "a", chat1, Limit{}, Line{at(1), Out, "1"})
	if err := Prune(dir, Keep{}, time.Now(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzReadBackwards(f *testing.F) {
	f.Add([]byte("2026-11-22T12:00:00.000000Z out a\n2026-11-22T12:00:00.000001Z err b\n"), []byte("x"))
	f.Add([]byte("\n\n"), []byte(`{"time":1}`))
	f.Fuzz(func(t *testing.T, current, older []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"a.log": current, "a.log.1": older, "requests.log": current} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Read(dir, Query{Level: Any, Requests: true})
		if err != nil {
			t.Fatal(err)
		}
		if most := 2*len(current) + len(older) + 3; len(got) > most {
			t.Errorf("%d entries of %d bytes", len(got), most)
		}
	})
}
