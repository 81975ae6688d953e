package googleapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"strconv"
	"strings"
)

// partMax bounds what stands before a file in a multipart upload, in bytes.
const partMax = 64 << 10

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
