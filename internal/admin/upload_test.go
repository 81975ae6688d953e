package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// answers is a transport that always answers the same.
type answers struct {
	status int
	body   string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: a.status, Status: fmt.Sprint(a.status), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
	}, nil
}

// through is a transport that may answer by itself, and counts.
type through struct {
	http.RoundTripper
	before func(n int64, r *http.Request) *http.Response // nil: it goes through
	n      atomic.Int64
}

func (t *through) RoundTrip(r *http.Request) (*http.Response, error) {
	if resp := t.before(t.n.Add(1), r); resp != nil {
		return resp, nil
	}
	return t.RoundTripper.RoundTrip(r)
}

func TestOnlyWhatIsMissingIsSent(t *testing.T) {
	w, ctx := reachable(t), t.Context()
	contents := map[string]string{"empty": "", "same": "twice", "again": "twice", "big": strings.Repeat("0123456789", 200_000)}
	for i := range 50 {
		contents[fmt.Sprint("dir/file", i)] = fmt.Sprint("contents ", i)
	}
	files, open := tree(contents)
	files = append(files, File{Path: "zlink", Link: "big"})
	var mu sync.Mutex
	var opened []string
	counting := func(f File) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		opened = append(opened, f.Hash)
		return open(f)
	}
	var seen []Progress
	id := must(w.Upload(ctx, files, counting, func(p Progress) { seen = append(seen, p) }))(t)
	if got, err := w.sources.Tree(id); err != nil || len(got) != len(files) {
		t.Errorf("the server has %d files, %v, want %d", len(got), err, len(files))
	}
	different := len(contents) - 1
	if len(opened) != different {
		t.Errorf("%d files were sent, want %d", len(opened), different)
	}
	first, last := seen[0], seen[len(seen)-1]
	if len(seen) != different+1 || first != (Progress{FilesAll: different, BytesAll: last.BytesAll}) ||
		last.Files != different || last.Bytes != last.BytesAll || last.BytesAll < 2_000_000 {
		t.Errorf("progress from %+v to %+v in %d steps", first, last, len(seen))
	}
	if !slices.IsSortedFunc(seen, func(a, b Progress) int { return a.Files - b.Files }) {
		t.Errorf("progress goes back: %+v", seen)
	}

	opened, seen = nil, nil
	contents["dir/file7"] = "changed"
	files, _ = tree(contents)
	if other := must(w.Upload(ctx, files, counting, nil))(t); other == id || len(opened) != 1 {
		t.Errorf("after one change %d files were sent, tree %s", len(opened), other)
	}
	opened = nil
	if must(w.Upload(ctx, files, counting, func(p Progress) { seen = append(seen, p) }))(t); len(opened) != 0 || len(seen) != 1 {
		t.Errorf("unchanged: %d files were sent, progress %+v", len(opened), seen)
	}
}

func TestAFileThatChangesMeanwhileIsNamed(t *testing.T) {
	for name, now := range map[string]string{"longer": strings.Repeat("ab", 100), "shorter": "a", "another": strings.Repeat("b", 100)} {
		w := reachable(t)
		files, _ := tree(map[string]string{"main.go": strings.Repeat("a", 100)})
		_, err := w.Upload(t.Context(), files, func(File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(now)), nil }, nil)
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindInvalid || !strings.Contains(err.Error(), "main.go") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := reachable(t)
	files, _ := tree(map[string]string{"main.go": "a"})
	gone := errors.New("no such file")
	if _, err := w.Upload(t.Context(), files, func(File) (io.ReadCloser, error) { return nil, gone }, nil); !errors.Is(err, gone) || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestAnUploadRidesOverABusyServer(t *testing.T) {
	w := reachable(t)
	files, open := tree(map[string]string{"a": "1", "b": "2", "c": "3"})
	busy := &through{RoundTripper: w.HTTP.Transport, before: func(n int64, r *http.Request) *http.Response {
		if n%2 == 1 {
			resp, _ := answers{503, `{"error":{"kind":"unavailable","message":"full"}}`}.RoundTrip(r)
			return resp
		}
		return nil
	}}
	w.HTTP = &http.Client{Transport: busy}
	if _, err := w.Upload(t.Context(), files, open, nil); err != nil {
		t.Errorf("every second request is refused: %v", err)
	}
}

func TestWhatChangesIsNotSentTwice(t *testing.T) {
	w := reachable(t)
	refusing := &through{before: func(n int64, r *http.Request) *http.Response {
		resp, _ := answers{503, `{"error":{"kind":"unavailable","message":"full"}}`}.RoundTrip(r)
		return resp
	}}
	w.HTTP = &http.Client{Transport: refusing}
	if _, err := w.RestartInstance(t.Context(), "a"); err == nil || refusing.n.Load() != 1 {
		t.Errorf("sent %d times, %v", refusing.n.Load(), err)
	}
	refusing.n.Store(0)
	if _, err := w.Instances(t.Context(), Filter{}); err == nil || refusing.n.Load() != tries {
		t.Errorf("a list was asked for %d times, %v, want %d", refusing.n.Load(), err, tries)
	}
}

func TestAServerThatForgetsWhatWasSentIsGivenUp(t *testing.T) {
	w := reachable(t)
	files, open := tree(map[string]string{"a": "1"})
	forgetful := &through{RoundTripper: w.HTTP.Transport, before: func(_ int64, r *http.Request) *http.Response {
		if r.Method == http.MethodPut {
			io.Copy(io.Discard, r.Body)
			resp, _ := answers{200, `{}`}.RoundTrip(r)
			return resp
		}
		return nil
	}}
	w.HTTP = &http.Client{Transport: forgetful}
	var e *Error
	if _, err := w.Upload(t.Context(), files, open, nil); !errors.As(err, &e) || e.Kind != KindInternal {
		t.Errorf("a server that loses files: %v", err)
	}
}
