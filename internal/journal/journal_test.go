package journal

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
)

var shop = app.Key{App: "shop", Service: "default", Version: "v1"}

func open(t *testing.T, cfg Config) *Journal {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// run runs a journal until the function that it returns is called.
func run(t *testing.T, j *Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- j.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// records is a router's log before the journal.
func records(j *Journal) func(what string, attrs ...slog.Attr) {
	log := slog.New(j.Tap(slog.NewJSONHandler(io.Discard, nil)))
	return func(what string, attrs ...slog.Attr) {
		all := append([]slog.Attr{slog.String("app", shop.App), slog.String("service", shop.Service), slog.String("version", shop.Version)}, attrs...)
		log.LogAttrs(context.Background(), slog.LevelInfo, what, all...)
	}
}

func TestAnHourIsCountedInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sockets := 3
		j := open(t, Config{All: func() map[app.ServiceKey]int { return map[app.ServiceKey]int{shop.ServiceKey(): sockets} }})
		stop := run(t, j)
		defer stop()
		record := records(j)
		for range 5 {
			record("request", slog.Int("status", 200))
		}
		record("request", slog.Int("status", 500))
		record("request", slog.Int("status", 503), slog.String("err", "no instance is ready"))
		record("request", slog.Int("status", 101))
		time.Sleep(Step)
		last := j.Series(shop.ServiceKey(), time.Now())[Points-2]
		if want := (Point{Time: last.Time, Requests: 8, Errors: 2, Opened: 1, Sockets: 3}); last != want {
			t.Errorf("the last step is %+v, want %+v", last, want)
		}
		if got, want := j.Totals(shop.ServiceKey()), (Totals{Requests: 8, Errors: 2, Lost: 1, Opened: 1}); got != want {
			t.Errorf("totals %+v, want %+v", got, want)
		}
		time.Sleep(time.Hour + Step)
		for _, p := range j.Series(shop.ServiceKey(), time.Now()) {
			if p.Requests != 0 {
				t.Errorf("an hour later: %+v", p)
			}
		}
	})
}

// A deploy moves three sockets of two clients. One of them comes back, once.
func TestADeployIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, Config{Dir: dir, Open: func(string) int { return 3 }})
		stop := run(t, j)
		record := records(j)
		op := app.Operation{ID: "20261127-1", Verb: app.VerbDeploy, Target: shop, By: "anna", Stage: app.StageStarting, Asked: time.Now()}
		j.ToldOperation(op)
		record("request", slog.Int("status", 200))
		record("request", slog.Int("status", 503), slog.String("err", "no instance is ready"))
		op.Stage, op.Ended = app.StageDone, time.Now()
		j.ToldOperation(op)
		old := app.Instance{ID: "old", Key: shop, State: app.Draining, Cause: app.Deployed}
		j.ToldInstance(time.Now(), old, "")
		ends := func(id, client string, cause app.Cause) {
			record("socket", slog.String("id", id), slog.String("client", client), slog.String("instance", "old"), slog.String("cause", string(cause)))
		}
		ends("1", "10.0.0.1", app.Deployed)
		ends("2", "10.0.0.1", app.Deployed)
		ends("3", "10.0.0.2", app.Closed)
		time.Sleep(2 * time.Second)
		record("request", slog.Int("status", 101), slog.String("client", "10.0.0.1"))
		record("request", slog.Int("status", 101), slog.String("client", "10.0.0.9"))
		old.State = app.Stopped
		j.ToldInstance(time.Now(), old, "")

		check := func(j *Journal, settled bool) {
			t.Helper()
			all := j.Reports(shop.ServiceKey())
			if len(all) != 1 {
				t.Fatalf("%d reports", len(all))
			}
			r := all[0]
			if r.Sockets != 3 || r.Instances != 1 || r.Endings["deployed"] != 2 || r.Endings["closed"] != 1 || r.Back != 1 || r.BackMost != 2*time.Second || r.Requests != 4 || r.Lost != 1 {
				t.Errorf("the report is %+v", r)
			}
			if r.Settled.IsZero() == settled {
				t.Errorf("settled: %v, want %v", r.Settled, settled)
			}
		}
		check(j, false)
		time.Sleep(settleAfter + 2*time.Second)
		check(j, true)
		stop()

		// What was decided outlives us.
		j = open(t, Config{Dir: dir})
		check(j, true)
		all, _ := j.Entries(Filter{}, 10)
		if len(all) != 4 || all[0].What != "stopped" || all[3].Operation != op.ID || all[1].Sockets != 3 || all[1].Cause != app.Deployed {
			t.Errorf("after a restart: %+v", all)
		}
		if err := j.file.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestEntriesAreFoundByWhatTheyAreAbout(t *testing.T) {
	j := open(t, Config{})
	at := time.Now()
	for i, id := range []string{"a", "b", "c"} {
		j.ToldInstance(at.Add(time.Duration(i)*time.Second), app.Instance{ID: id, Key: shop, State: app.Ready}, "answers 200")
	}
	records(j)("socket", slog.String("id", "7"), slog.String("instance", "a"), slog.String("cause", "lost"), slog.String("client", "10.0.0.7"))
	for name, c := range map[string]struct {
		f    Filter
		want int
	}{
		"all":               {Filter{}, 3},
		"of an instance":    {Filter{Instance: "b"}, 1},
		"of another app":    {Filter{Key: app.Key{App: "blog"}}, 0},
		"text in any case":  {Filter{Text: "ANSWERS"}, 3},
		"up to a moment":    {Filter{Until: at.Add(time.Second)}, 2},
		"sockets":           {Filter{Kind: Socket}, 1},
		"sockets by client": {Filter{Kind: Socket, Text: "10.0.0.7"}, 1},
		"sockets by cause":  {Filter{Kind: Socket, Cause: app.Deployed}, 0},
	} {
		if all, _ := j.Entries(c.f, 100); len(all) != c.want {
			t.Errorf("%s: %d entries, want %d", name, len(all), c.want)
		}
	}
	if all, more := j.Entries(Filter{}, 2); len(all) != 2 || !more || all[0].Instance != "c" {
		t.Errorf("two of three: %+v, %v", all, more)
	}
	if e, ok := j.SocketEnding("7"); !ok || e.Cause != app.Lost {
		t.Errorf("the ending is %+v, %v", e, ok)
	}
}

func TestTheJournalIsBounded(t *testing.T) {
	before := time.Now()
	j := open(t, Config{})
	j.endings.most, j.decisions.most = 10, 10
	began := time.Now()
	if j.Remembers(before) || !j.Remembers(began) {
		t.Error("it remembers from before its beginning, or not from then on")
	}
	for i := range 25 {
		records(j)("socket", slog.String("id", string(rune('a'+i))))
		j.ToldInstance(time.Now(), app.Instance{ID: string(rune('a' + i)), State: app.Ready}, "")
	}
	for _, kind := range []Kind{Socket, Instance} {
		if all, _ := j.Entries(Filter{Kind: kind}, 100); len(all) != 10 || all[0].Seq < all[9].Seq {
			t.Errorf("%d entries of kind %s", len(all), kind)
		}
	}
	if j.Remembers(began) || !j.Remembers(time.Now()) {
		t.Error("it remembers what had to go, or not what is left")
	}
	if len(j.ended) != 10 {
		t.Errorf("%d endings are known by id", len(j.ended))
	}
}

// After a restart, how a socket ended is in the log of requests, and says the same.
func TestAnOlderEndingIsReadFromTheLog(t *testing.T) {
	dir := t.TempDir()
	file, err := logs.Create(filepath.Join(dir, logs.RequestLog+".log"), logs.Limit{Bytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	first := open(t, Config{})
	log := slog.New(first.Tap(slog.NewJSONHandler(file, nil)))
	const many = 500
	for i := range many {
		log.LogAttrs(t.Context(), slog.LevelInfo, "socket", slog.String("id", strconv.Itoa(i)), slog.String("path", `/"msg":"socket","id":"999"`),
			slog.String("app", shop.App), slog.String("service", shop.Service), slog.String("version", shop.Version), slog.String("instance", "aef-1"),
			slog.String("client", "10.0.0.1"), slog.Duration("dur", time.Duration(i)*time.Second), slog.String("by", "holdfast"), slog.String("cause", "deployed"),
			slog.Int("code", 1012), slog.String("reason", "deployed"), slog.Group("from_client", slog.Int64("bytes", int64(i)), slog.Int64("text", 3), slog.Int64("binary", 4)))
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, Config{Requests: dir})
	for _, i := range []int{0, 1, 250, many - 1} {
		id := strconv.Itoa(i)
		want, ok := first.SocketEnding(id)
		if !ok {
			t.Fatalf("the journal that was told of %s has forgotten it", id)
		}
		for range 2 { // from the log, and from memory
			got, ok := second.SocketEnding(id)
			if !ok || !got.Time.Equal(want.Time) || !got.Ending.Opened.Equal(want.Ending.Opened) {
				t.Fatalf("%s: %v, %+v, want %+v", id, ok, got.Ending, want.Ending)
			}
			got.Seq, got.Time, got.Ending.Opened = want.Seq, want.Time, want.Ending.Opened
			if *got.Ending != *want.Ending {
				t.Errorf("%s: %+v, want %+v", id, *got.Ending, *want.Ending)
			}
			got.Ending = want.Ending
			if got != want {
				t.Errorf("%s: %+v, want %+v", id, got, want)
			}
		}
	}
	for _, id := range []string{"999", "", "x", `0","trace":"`} {
		if e, ok := second.SocketEnding(id); ok {
			t.Errorf("%q: %+v", id, e)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	j, err := Open(Config{})
	if err != nil {
		b.Fatal(err)
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
	r.AddAttrs(slog.String("id", "1"), slog.String("trace", "t"), slog.String("method", "GET"), slog.String("host", "h"), slog.String("path", "/"), slog.String("client", "c"),
		slog.String("app", "shop"), slog.String("service", "default"), slog.String("version", "v"), slog.String("instance", "i"), slog.Int("status", 200), slog.Int64("in", 1), slog.Int64("out", 1), slog.Duration("dur", 1))
	h := j.Tap(slog.DiscardHandler)
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(context.Background(), r)
	}
}
