package googleapi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sessionsMax bounds the uploads in pieces at once; each has a file. gcloud
	// has sixteen under way at most.
	sessionsMax = 64

	// sessionIdle is how long such an upload may pause until it is given up.
	sessionIdle = time.Hour

	// partMax bounds what stands before a file in a multipart upload, in bytes.
	partMax = 64 << 10
)

// upload takes a file whole, or begins one that comes in pieces.
func (d *door) upload(c *call) (any, error) {
	bucket, err := c.bucket()
	if err != nil {
		return nil, err
	}
	switch kind := c.query.Get("uploadType"); kind {
	case "multipart":
		return d.uploadMultipart(c, bucket)
	case "media":
		return d.take(bucket, c.query.Get("name"), -1, c.arriving(objectMax))
	case "resumable":
		return d.beginResumable(c, bucket)
	default:
		return nil, wrong("uploadType", "%s: want multipart, resumable or media", shown(kind))
	}
}

// named refuses what is not one file of an app under the name of its contents.
func named(name string) error {
	if isSHA1(name) {
		return nil
	}
	if strings.Contains(name, "/appengine/") {
		return unsupported("builds by the client", "Leave app/trigger_build_server_side unset or true, so that the server builds")
	}
	return wrong("name", "%s: files are kept by the SHA-1 of what they hold, in lower-case hex", shown(name))
}

// take keeps what r gives, which must have the SHA-1 that is its name. size is
// how long it was said to be, -1 if nobody did.
func (d *door) take(bucket, name string, size int64, r io.Reader) (any, error) {
	if err := named(name); err != nil {
		return nil, err
	}
	a, err := d.shelf.begin()
	if err != nil {
		return nil, err
	}
	defer a.drop()
	if _, err := io.Copy(a, r); err != nil {
		return nil, err
	}
	return d.finish(bucket, name, size, a)
}

func (d *door) finish(bucket, name string, size int64, a *arrival) (any, error) {
	if size >= 0 && a.size != size {
		return nil, wrong("size", "%d bytes came of %d", a.size, size)
	}
	o, err := d.shelf.keep(a, name)
	if err != nil {
		return nil, err
	}
	return o.wire(bucket), nil
}

func (d *door) uploadMultipart(c *call, bucket string) (any, error) {
	parts, err := openParts(c.Header.Get("Content-Type"), c.arriving(objectMax+partMax))
	if err != nil {
		return nil, err
	}
	about, file, err := parts.next()
	if err != nil {
		return nil, err
	}
	name := c.query.Get("name")
	if name == "" {
		name = about.Name
	}
	size := int64(-1)
	if about.Size != "" {
		if size, err = strconv.ParseInt(about.Size, 10, 64); err != nil || size < 0 {
			return nil, wrong("size", "%s is no size", shown(about.Size))
		}
	}
	answer, err := d.take(bucket, name, size, file)
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// aboutObject is the first part of a multipart upload, and the body that
// begins a resumable one.
type aboutObject struct {
	Name string `json:"name"`
	Size string `json:"size"`
}

// parts reads a multipart/related body: what the file is, then the file.
type parts struct{ r *multipart.Reader }

// openParts reads the boundary of a body. gcloud writes it in single quotes,
// which no standard knows and which are not part of it, and ends its lines with
// a bare line feed.
func openParts(kind string, r io.Reader) (parts, error) {
	media, rest, _ := strings.Cut(kind, ";")
	if !strings.EqualFold(strings.TrimSpace(media), "multipart/related") {
		return parts{}, wrong("Content-Type", "%s: want multipart/related", shown(kind))
	}
	for p := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(name, "boundary") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '\'' || value[0] == '"') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		// RFC 2046, 5.1.1.
		if len(value) < 1 || len(value) > 70 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			break
		}
		return parts{multipart.NewReader(r, value)}, nil
	}
	return parts{}, wrong("Content-Type", "%s has no boundary that can be", shown(kind))
}

// next returns both parts; the file is to be read before anything else.
func (p parts) next() (about aboutObject, file io.Reader, err error) {
	part, err := p.r.NextRawPart()
	if err != nil {
		return about, nil, broken(err)
	}
	text, err := io.ReadAll(io.LimitReader(part, partMax+1))
	switch {
	case err != nil:
		return about, nil, broken(err)
	case len(text) > partMax:
		return about, nil, invalid("the upload says more than %d bytes about its file", partMax)
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return about, nil, invalid("the upload does not begin with JSON that fits: %s", shown(jsonText(err)))
	}
	part, err = p.r.NextRawPart()
	if err != nil {
		return about, nil, broken(err)
	}
	return about, whole{part}, nil
}

// whole tells a part that breaks off from one that ends.
type whole struct{ r io.Reader }

func (w whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		err = broken(err)
	}
	return n, err
}

func broken(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return invalid("the upload is no multipart body: %s", shown(err.Error()))
}

// session is an upload that comes in pieces.
type session struct {
	bucket, name string
	size         int64 // as it was said; -1: not yet

	busy    sync.Mutex // held while a piece arrives
	arrival *arrival

	last time.Time // when something came; guarded by shelf.mu
}

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
	s := &session{bucket: bucket, name: c.query.Get("name"), size: -1, last: time.Now()}
	if s.name == "" {
		s.name = about.Name
	}
	if err := named(s.name); err != nil {
		return nil, err
	}
	for _, said := range []string{about.Size, c.Header.Get("X-Upload-Content-Length")} {
		if said == "" {
			continue
		}
		if s.size, err = strconv.ParseInt(said, 10, 64); err != nil || s.size < 0 || s.size > objectMax {
			return nil, wrong("size", "%s: want up to %d bytes", shown(said), int64(objectMax))
		}
	}
	id := rand.Text()
	if err := d.shelf.open(id, s); err != nil {
		return nil, err
	}
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	at := url.URL{Scheme: scheme, Host: c.Host, Path: c.URL.Path, RawQuery: url.Values{"uploadType": {"resumable"}, "name": {s.name}, "upload_id": {id}}.Encode()}
	return raw{kind: "application/json", header: map[string]string{"Location": at.String(), "X-GUploader-UploadID": id}}, nil
}

// open makes room for a session; those that nobody continues go.
func (s *shelf) open(id string, new *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.sessions {
		if time.Since(old.last) > sessionIdle && old.busy.TryLock() {
			if old.arrival != nil {
				old.arrival.drop()
			}
			old.arrival = nil
			delete(s.sessions, id)
			old.busy.Unlock()
		}
	}
	if len(s.sessions) >= sessionsMax {
		return refuse(http.StatusTooManyRequests, "%d uploads are under way, which is the most at once; try again later", sessionsMax)
	}
	var err error
	if new.arrival, err = s.begin(); err != nil {
		return err
	}
	s.sessions[id] = new
	return nil
}

// resume takes one piece of an upload.
func (d *door) resume(c *call) (any, error) {
	id := c.query.Get("upload_id")
	d.shelf.mu.Lock()
	s := d.shelf.sessions[id]
	if s != nil {
		s.last = time.Now()
	}
	d.shelf.mu.Unlock()
	if s == nil {
		return nil, refuse(http.StatusNotFound, "no such upload is under way; deploy again")
	}
	if !s.busy.TryLock() {
		return nil, refuse(http.StatusConflict, "another piece of this upload is arriving")
	}
	defer s.busy.Unlock()
	if s.arrival == nil {
		return nil, refuse(http.StatusNotFound, "the upload was given up; deploy again")
	}
	r, err := parseRange(c.Header.Get("Content-Range"))
	if err != nil {
		return nil, err
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
	d.shelf.mu.Lock()
	delete(d.shelf.sessions, id)
	d.shelf.mu.Unlock()
	defer func() { s.arrival.drop(); s.arrival = nil }()
	if s.size >= 0 && s.size != r.total {
		return nil, wrong("size", "%d bytes came of %d", r.total, s.size)
	}
	return d.finish(s.bucket, s.name, r.total, s.arrival)
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
