package googleapi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Uploads that come in pieces. What came of one lies in a file, with a note
// beside it of what it is to become, so that it goes on after a restart of ours.

const (
	// sessionsMax bounds the uploads in pieces at once; each has a file. gcloud
	// has sixteen under way at most.
	sessionsMax = 64

	// sessionIdle is how long such an upload may pause until it is given up.
	sessionIdle = time.Hour

	// noteMax bounds a note, in bytes.
	noteMax = 4 << 10
)

// session is an upload that comes in pieces. What is exported is its note, and
// does not change.
type session struct {
	Bucket, Name string
	Size         int64 // as it was said; -1: not yet

	busy    sync.Mutex // held while a piece arrives; guards the following
	arrival *arrival   // nil: what a former server took lies in the file
	over    bool

	last time.Time // when something came; guarded by shelf.mu
}

// pieces is the file of what came of a session; its note has noteEnd behind that.
func (s *shelf) pieces(id string) string { return filepath.Join(s.dir, "pieces", id) }

const noteEnd = ".json"

// sessionIDs have this length: they are rand.Text's.
var sessionIDs = len(rand.Text())

func (d *door) beginResumable(c *call, bucket string) (any, error) {
	var about aboutObject
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &about); err != nil {
			return nil, invalid("the request is no JSON that fits: %s", shown(jsonText(err)))
		}
	}
	s := &session{Bucket: bucket, Name: c.query.Get("name"), Size: -1}
	if s.Name == "" {
		s.Name = about.Name
	}
	if err := named(s.Name); err != nil {
		return nil, err
	}
	for _, said := range []string{about.Size, c.Header.Get("X-Upload-Content-Length")} {
		if said == "" {
			continue
		}
		if s.Size, err = strconv.ParseInt(said, 10, 64); err != nil || s.Size < 0 || s.Size > objectMax {
			return nil, wrong("size", "%s: want up to %d bytes", shown(said), int64(objectMax))
		}
	}
	id, err := d.shelf.open(s)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	at := url.URL{Scheme: scheme, Host: c.Host, Path: c.URL.Path, RawQuery: url.Values{"uploadType": {"resumable"}, "name": {s.Name}, "upload_id": {id}}.Encode()}
	return raw{kind: "application/json", header: map[string]string{"Location": at.String(), "X-GUploader-UploadID": id}}, nil
}

// open makes room for a session and writes it down; those that nobody continues
// go.
func (s *shelf) open(new *session) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.sessions {
		if time.Since(old.last) > sessionIdle && old.busy.TryLock() {
			s.endLocked(id, old)
			old.busy.Unlock()
		}
	}
	if len(s.sessions) >= sessionsMax {
		return "", refuse(http.StatusTooManyRequests, "%d uploads are under way, which is the most at once; try again later", sessionsMax)
	}
	id = rand.Text()
	f, err := os.OpenFile(s.pieces(id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	new.arrival, new.last = newArrival(f), time.Now()
	note, err := json.Marshal(new)
	if err == nil {
		err = os.WriteFile(f.Name()+noteEnd, note, 0o600)
	}
	if err != nil {
		s.endLocked(id, new)
		return "", err
	}
	s.sessions[id] = new
	return id, nil
}

// end forgets a session, which the caller keeps busy, and what came of it.
func (s *shelf) end(id string, was *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(id, was)
}

func (s *shelf) endLocked(id string, was *session) {
	delete(s.sessions, id)
	was.over = true
	if was.arrival != nil {
		was.arrival.drop()
		was.arrival = nil
	}
	os.Remove(s.pieces(id))
	os.Remove(s.pieces(id) + noteEnd)
}

// session is the session of that id, nil if there is none.
func (s *shelf) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.sessions[id]
	if found != nil {
		found.last = time.Now()
	}
	return found
}

// findSessions takes up what a former server did not finish, unless it is too
// old. What is damaged is removed.
func (s *shelf) findSessions() error {
	dir := filepath.Join(s.dir, "pieces")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		id := strings.TrimSuffix(f.Name(), noteEnd)
		if s.sessions[id] != nil {
			continue
		}
		if found := readSession(s.pieces(id)); found != nil && len(id) == sessionIDs && len(s.sessions) < sessionsMax {
			s.sessions[id] = found
			continue
		}
		os.Remove(s.pieces(id))
		os.Remove(s.pieces(id) + noteEnd)
	}
	return nil
}

// readSession reads a note, and when something last came; nil if there is nothing
// to go on with.
func readSession(pieces string) *session {
	info, err := os.Lstat(pieces)
	if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) > sessionIdle {
		return nil
	}
	f, err := os.Open(pieces + noteEnd)
	if err != nil {
		return nil
	}
	defer f.Close()
	found := &session{last: info.ModTime()}
	if err := json.NewDecoder(io.LimitReader(f, noteMax)).Decode(found); err != nil || named(found.Name) != nil {
		return nil
	}
	return found
}

// reopen goes on with what a former server took: it reads all of it, for its sums.
func reopen(pieces string) (*arrival, error) {
	f, err := os.OpenFile(pieces, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(http.StatusNotFound, "the upload has ended; deploy again")
	} else if err != nil {
		return nil, err
	}
	a := newArrival(f)
	if _, err := io.Copy(sums{a}, io.LimitReader(f, objectMax)); err != nil {
		f.Close()
		return nil, fmt.Errorf("go on with an upload: %w", err)
	}
	return a, nil
}

// resume takes one piece of an upload.
func (d *door) resume(c *call) (any, error) {
	id := c.query.Get("upload_id")
	r, err := parseRange(c.Header.Get("Content-Range"))
	if err != nil {
		return nil, err
	}
	s := d.shelf.session(id)
	if s == nil {
		return nil, refuse(http.StatusNotFound, "no such upload is under way; deploy again")
	}
	if !s.busy.TryLock() {
		return nil, refuse(http.StatusConflict, "another piece of this upload is arriving")
	}
	defer s.busy.Unlock()
	if s.over {
		return nil, refuse(http.StatusNotFound, "the upload has ended; deploy again")
	}
	if s.arrival == nil {
		if s.arrival, err = reopen(d.shelf.pieces(id)); err != nil {
			return nil, err
		}
	}
	if !r.asks {
		if r.from != s.arrival.size {
			return nil, wrong("Content-Range", "the piece begins at %d, and %d bytes are here", r.from, s.arrival.size)
		}
		most := int64(objectMax)
		if r.to >= 0 {
			most = r.to - r.from + 1
		}
		n, err := io.Copy(s.arrival, c.arriving(most))
		if err != nil {
			return nil, err
		}
		if r.to >= 0 && n != most {
			return nil, wrong("Content-Range", "%d bytes came of %d", n, most)
		}
		if r.to < 0 && r.total < 0 {
			r.total = s.arrival.size // it says nothing, so this was all
		}
	}
	if r.total < 0 || s.arrival.size < r.total {
		answer := raw{kind: "application/json", status: http.StatusPermanentRedirect, header: map[string]string{}}
		if s.arrival.size > 0 {
			answer.header["Range"] = "bytes=0-" + strconv.FormatInt(s.arrival.size-1, 10)
		}
		return answer, nil
	}
	defer d.shelf.end(id, s)
	if s.Size >= 0 && s.Size != r.total {
		return nil, wrong("size", "%d bytes came of %d", r.total, s.Size)
	}
	return d.finish(s.Bucket, s.Name, r.total, s.arrival)
}

// piece is a Content-Range: the bytes that come, of how many.
type piece struct {
	from, to int64 // both included; to -1: as many as come
	total    int64 // -1: not known yet
	asks     bool  // nothing comes: how much is here?
}

// parseRange reads a Content-Range of a piece: "bytes 0-99/200", "bytes
// 0-99/*", "bytes */200" to ask, and "" for all that comes.
func parseRange(text string) (p piece, err error) {
	p = piece{to: -1, total: -1}
	if text == "" {
		return p, nil
	}
	bad := wrong("Content-Range", "%s: want bytes FIRST-LAST/TOTAL", shown(text))
	number := func(s string) int64 {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return -1
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > objectMax {
			return -1
		}
		return n
	}
	rest, ok := strings.CutPrefix(text, "bytes ")
	span, total, found := strings.Cut(rest, "/")
	if !ok || !found {
		return p, bad
	}
	if total != "*" {
		if p.total = number(total); p.total < 0 {
			return p, bad
		}
	}
	if span == "*" {
		p.asks = true
		return p, nil
	}
	first, last, found := strings.Cut(span, "-")
	p.from, p.to = number(first), number(last)
	if !found || p.from < 0 || p.to < p.from || p.total >= 0 && p.to >= p.total {
		return p, bad
	}
	return p, nil
}
