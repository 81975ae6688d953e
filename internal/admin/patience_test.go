package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/logs"
	"holdfast/internal/store"
)

// bubble runs a test with a world in fake time, on a network of pipes.
func bubble(t *testing.T, test func(t *testing.T, w *world, net *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, network := newWorld(t), &pipes{}
		transport := &http.Transport{DialContext: network.dial}
		w.URL, w.HTTP = "http://127.0.0.1:8079", &http.Client{Transport: transport}
		stop := network.listen(w.door)
		test(t, w, network)
		transport.CloseIdleConnections()
		stop()
	})
}

// under puts an operation into the store that is under way.
func (w *world) under(id string) {
	w.t.Helper()
	if err := w.store.Update(func(s *store.Wishes) error {
		s.Operations[id] = app.Operation{ID: id, Verb: app.VerbDeploy, Stage: app.StageBuilding, Target: app.Key{App: "shop", Service: "chat", Version: "v1"}}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestALongPollAnswersWithTheChange(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.under("op")
		begin := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			w.clerk.finish("op", app.StageStarting, nil)
			time.Sleep(100 * time.Second) // longer than one question
			w.clerk.finish("op", app.StageDone, &app.Failure{Cause: app.Crashed, Tail: []string{"boom"}})
		}()
		var stages []string
		op := must(w.Follow(t.Context(), "op", func(o Operation) {
			stages = append(stages, fmt.Sprint(o.Stage, " after ", time.Since(begin)))
		}))(t)
		if want := []string{"building after 0s", "starting after 3s", "done after 1m43s"}; !slices.Equal(stages, want) {
			t.Errorf("stages %q, want %q", stages, want)
		}
		if op.Failure == nil || op.Failure.Cause != "crashed" || !slices.Equal(op.Failure.Tail, []string{"boom"}) {
			t.Errorf("failure %+v", op.Failure)
		}
	})
}

func TestALongPollIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.under("op")
		begin := time.Now()
		rec := w.ask("GET", Prefix+"operations/op?wait=86400&stage=building", "")
		if d := time.Since(begin); rec.Code != 200 || d != waitMax {
			t.Errorf("%d after %v, want %v", rec.Code, d, waitMax)
		}
		begin = time.Now()
		if rec := w.ask("GET", Prefix+"operations/op?wait=60&stage=starting", ""); rec.Code != 200 || time.Since(begin) != 0 {
			t.Errorf("the stage is another one already: %d after %v", rec.Code, time.Since(begin))
		}
	})
}

func TestFollowSurvivesARestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		network := &pipes{}
		first := network.listen(w.door)
		transport := &http.Transport{DialContext: network.dial}
		w.HTTP = &http.Client{Transport: transport}
		w.under("op")
		second := make(chan func(), 1)
		go func() {
			time.Sleep(10 * time.Second)
			close(w.goodbye) // as the server does first
			time.Sleep(time.Second)
			first()
			time.Sleep(40 * time.Second)
			w.clerk.finish("op", app.StageDone, nil)
			second <- network.listen(w.door)
		}()
		begin := time.Now()
		op, err := w.Follow(t.Context(), "op", nil)
		if d := time.Since(begin); err != nil || !op.Done() || d < 51*time.Second || d > 53*time.Second {
			t.Errorf("%+v, %v after %v", op, err, d)
		}
		transport.CloseIdleConnections()
		(<-second)()
	})
}

func TestFollowGivesUpAServerThatStaysAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		nobody := &pipes{}
		w.HTTP = &http.Client{Transport: &http.Transport{DialContext: nobody.dial}}
		begin := time.Now()
		_, err := w.Follow(t.Context(), "op", nil)
		var e *Error
		if d := time.Since(begin); !errors.As(err, &e) || e.Kind != KindUnreachable || d < lostMax || d > lostMax+2*time.Second {
			t.Errorf("%v after %v", err, d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := w.Follow(ctx, "op", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
	})
}

func TestFollowNoticesAServerThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		// Accepted, and never answered.
		w.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs) // ends with ours
			return ours, nil
		}}}
		begin := time.Now()
		_, err := w.Follow(t.Context(), "op", nil)
		var e *Error
		if d := time.Since(begin); !errors.As(err, &e) || e.Kind != KindUnreachable || d > lostMax+3*(followWait+silenceMax) {
			t.Errorf("%v after %v", err, d)
		}
		begin = time.Now()
		if err := w.Logs(t.Context(), LogQuery{Follow: true}, func(LogLine) error { return nil }); !errors.As(err, &e) || e.Kind != KindUnreachable || time.Since(begin) != silenceMax {
			t.Errorf("logs: %v after %v", err, time.Since(begin))
		}
	})
}

// log writes lines of one instance.
func (w *world) log(instance string, k app.Key, lines ...string) {
	w.t.Helper()
	path := filepath.Join(w.house.LogDir(), instance+".log")
	f, err := logs.Create(path, logs.Limit{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if err := logs.Own(path, k); err != nil {
		w.t.Fatal(err)
	}
	for _, l := range lines {
		if err := f.Append(logs.Line{Time: time.Now(), Stream: logs.Out, Text: l}); err != nil {
			w.t.Fatal(err)
		}
	}
}

var v1, v2 = app.Key{App: "shop", Service: "chat", Version: "v1"}, app.Key{App: "shop", Service: "chat", Version: "v2"}

// waiting is how many places for those that wait are taken.
func (w *world) waiting() int { return len(w.door.(*door).waiters) }

func TestLogsAreFollowedAcrossInstancesUntilTheServerEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.log("a", v1, "one")
		w.log("other", app.Key{App: "shop", Service: "default", Version: "v1"}, "not asked for")
		go func() {
			time.Sleep(time.Minute) // of nothing but signs of life
			w.log("a", v1, "two")
			w.log("b", v2, "three")
			time.Sleep(5 * time.Second)
			close(w.goodbye)
		}()
		begin := time.Now()
		var got []string
		err := w.Logs(t.Context(), LogQuery{Service: "chat", Follow: true}, func(l LogLine) error {
			got = append(got, fmt.Sprint(l.Version, " ", l.Instance, " ", l.Level, " ", l.Stream, " ", l.Text))
			return nil
		})
		slices.Sort(got[1:]) // b is found up to a second later
		if want := []string{"v1 a info out one", "v1 a info out two", "v2 b info out three"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if d := time.Since(begin); d < 65*time.Second || d > 66*time.Second {
			t.Errorf("it ended after %v", d)
		}
		synctest.Wait()
		if n := w.waiting(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
}

func TestAFollowerThatLeavesIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.under("op")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 3)
		go func() { ended <- w.Logs(ctx, LogQuery{Follow: true}, func(LogLine) error { return nil }) }()
		go func() { ended <- w.OperationLog(ctx, "op", true, func(LogLine) error { return nil }) }()
		go func() { _, err := w.Follow(ctx, "op", nil); ended <- err }()
		time.Sleep(5 * time.Second)
		if n := w.waiting(); n != 3 {
			t.Errorf("%d wait, want 3", n)
		}
		cancel()
		for range 3 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
		time.Sleep(time.Second) // the look that notices
		if n := w.waiting(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
}

// dial speaks HTTP by hand, for clients that are worse than ours.
func (w *world) dial(t *testing.T, network *pipes, head string) net.Conn {
	t.Helper()
	c := must(network.dial(t.Context(), "", ""))(t)
	if _, err := fmt.Fprintf(c, "%s\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n", head, w.token); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFollowerThatDoesNotReadIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, network *pipes) {
		w.log("a", v1, "one")
		c := w.dial(t, network, "GET "+Prefix+"logs?follow=true HTTP/1.1")
		defer c.Close()
		io.WriteString(c, "\r\n") // and reads nothing
		time.Sleep(time.Second)
		if n := w.waiting(); n != 1 {
			t.Fatalf("%d wait, want 1", n)
		}
		time.Sleep(writeTime + time.Second)
		if n := w.waiting(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
}

func TestAnUploadThatStallsIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, network *pipes) {
		const ofX = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
		puts := func() int { return len(w.door.(*door).puts) }
		for range putsMax {
			c := w.dial(t, network, "PUT "+Prefix+"blobs/"+ofX+" HTTP/1.1")
			defer c.Close()
			go func() {
				io.WriteString(c, "Content-Length: 1000\r\n\r\nx") // and no more
				io.Copy(io.Discard, c)
			}()
		}
		synctest.Wait()
		if puts() != putsMax {
			t.Fatalf("%d uploads, want %d", puts(), putsMax)
		}
		rec := w.ask("PUT", Prefix+"blobs/"+ofX, "x")
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") != "1" || kind(rec) != KindUnavailable {
			t.Errorf("one more: %d %v %s", rec.Code, rec.Header(), rec.Body)
		}
		time.Sleep(pieceTime + time.Second)
		if puts() != 0 {
			t.Errorf("after a minute of nothing %d uploads are under way", puts())
		}
		if rec := w.ask("PUT", Prefix+"blobs/"+ofX, "x"); rec.Code != 200 {
			t.Errorf("then: %d %s", rec.Code, rec.Body)
		}
	})
}

func TestAnUploadThatGoesOnSlowlyIsLetBe(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, network *pipes) {
		text := strings.Repeat("x", 20)
		files, _ := tree(map[string]string{"a": text})
		c := w.dial(t, network, "PUT "+Prefix+"blobs/"+files[0].Hash+" HTTP/1.1")
		defer c.Close()
		answer := make(chan string, 1)
		go func() {
			buf := make([]byte, 100)
			n, _ := c.Read(buf)
			answer <- string(buf[:n])
			io.Copy(io.Discard, c)
		}()
		fmt.Fprintf(c, "Content-Length: %d\r\n\r\n", len(text))
		for i := range text {
			time.Sleep(pieceTime - time.Second)
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("answer %q", got)
		}
	})
}

func TestJSONThatStallsIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, network *pipes) {
		c := w.dial(t, network, "POST "+Prefix+"trees HTTP/1.1")
		defer c.Close()
		begin := time.Now()
		io.WriteString(c, "Content-Length: 1000\r\n\r\n{")
		answer, _ := io.ReadAll(c)
		if d := time.Since(begin); d < readTime || d > readTime+10*time.Second || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
			t.Errorf("after %v: %.200q", d, answer)
		}
	})
}

func TestThoseWhoWaitAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.under("op")
		for range waitersMax {
			go w.ask("GET", Prefix+"operations/op?wait=60", "")
		}
		synctest.Wait()
		for _, path := range []string{"operations/op?wait=60", "logs?follow=true", "operations/op/log", "backup"} {
			if rec := w.ask("GET", Prefix+path, ""); rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
		if rec := w.ask("GET", Prefix+"operations/op", ""); rec.Code != 200 {
			t.Errorf("who does not wait: %d %s", rec.Code, rec.Body)
		}
		time.Sleep(waitMax)
		synctest.Wait()
		if n := w.waiting(); n != 0 {
			t.Errorf("%d places are still taken", n)
		}
	})
}

func TestAnOperationsLogEndsWithIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, _ *pipes) {
		w.under("op")
		f := must(logs.Create(filepath.Join(w.house.OperationLogDir(), "op.log"), logs.Limit{}))(t)
		defer f.Close()
		out := f.Stream(logs.Out)
		go func() {
			for i := range 5 {
				fmt.Fprintln(out, "building", i)
				time.Sleep(7 * time.Second)
			}
			fmt.Fprintln(out, "built")
			w.clerk.finish("op", app.StageDone, nil)
		}()
		begin := time.Now()
		var got []string
		note := func(l LogLine) error {
			if l.Instance != "" {
				t.Errorf("a line of instance %s", l.Instance)
			}
			got = append(got, l.Text)
			return nil
		}
		err := w.OperationLog(t.Context(), "op", true, note)
		want := []string{"building 0", "building 1", "building 2", "building 3", "building 4", "built"}
		if d := time.Since(begin); err != nil || !slices.Equal(got, want) || d > 36*time.Second {
			t.Errorf("got %q, %v after %v", got, err, d)
		}
		got = nil
		if err := w.OperationLog(t.Context(), "op", false, note); err != nil || !slices.Equal(got, want) {
			t.Errorf("afterwards: %q, %v", got, err)
		}
		if err := w.OperationLog(t.Context(), "none", true, note); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("of none: %v", err)
		}
	})
}

func TestLogsAreFiltered(t *testing.T) {
	w := reachable(t)
	w.log("a", v1, "plain", `{"severity":"ERROR","message":"bad"}`)
	w.log("b", v2, "newer")
	for name, c := range map[string]struct {
		q    LogQuery
		want []string
	}{
		"all":     {LogQuery{}, []string{"plain", `{"severity":"ERROR","message":"bad"}`, "newer"}},
		"version": {LogQuery{App: "shop", Service: "chat", Version: "v2"}, []string{"newer"}},
		"level":   {LogQuery{Level: "error"}, []string{`{"severity":"ERROR","message":"bad"}`}},
		"limit":   {LogQuery{Limit: 1}, []string{"newer"}},
		"since":   {LogQuery{Since: time.Now().Add(time.Hour)}, nil},
	} {
		var got []string
		err := w.Logs(t.Context(), c.q, func(l LogLine) error { got = append(got, l.Text); return nil })
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	enough := errors.New("enough")
	if err := w.Logs(t.Context(), LogQuery{Follow: true}, func(LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("who has enough: %v", err)
	}
	if err := w.Logs(t.Context(), LogQuery{Level: "loud"}, nil); !errors.Is(err, app.ErrInvalid) {
		t.Errorf("no level: %v", err)
	}
}
