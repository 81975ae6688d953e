package admin

import (
	"errors"
	"io"
	"net/http"
	"time"

	"holdfast/internal/source"
)

// treeMax bounds a tree's JSON, in bytes: source.FilesMax files with paths of
// usual length. The tree itself is checked by the room that keeps it.
const treeMax = 64 << 20

// putBlob keeps one file. It is written to disk as it arrives.
func (d *door) putBlob(a *visit) (any, error) {
	leave, err := place(d.puts, "uploads")
	if err != nil {
		return nil, err
	}
	defer leave()
	if a.ContentLength > source.BytesMax {
		return nil, invalid("a file may have %d bytes", int64(source.BytesMax))
	}
	body := a.arriving(source.BytesMax, pieceTime)
	err = d.Sources.PutBlob(a.PathValue("hash"), body)
	if broken := body.broken(); err != nil && broken != nil {
		return nil, broken
	}
	return struct{}{}, err
}

// putTree keeps a tree whose files are all here, or says which are not.
func (d *door) putTree(a *visit) (any, error) {
	// The largest ones take hundreds of megabytes to look at.
	leave, err := place(d.puts, "uploads")
	if err != nil {
		return nil, err
	}
	defer leave()
	var w treeRequest
	if err := a.body(&w, treeMax); err != nil {
		return nil, err
	}
	if w.Files == nil {
		return nil, invalid("the request has no files")
	}
	tree := make(source.Tree, len(w.Files))
	for i, f := range w.Files {
		tree[i] = source.File(f)
	}
	missing, err := d.Sources.Missing(tree)
	if err != nil || len(missing) > 0 {
		return treeAnswer{Missing: missing}, err
	}
	id, err := d.Sources.PutTree(tree)
	return treeAnswer{ID: id}, err
}

// arriving is the request's body, of at most most bytes. Each piece may take
// pace to arrive; 0 leaves the bound that all of it has.
func (a *visit) arriving(most int64, pace time.Duration) *arriving {
	b := &arriving{control: http.NewResponseController(a.w), pace: pace}
	b.r = http.MaxBytesReader(a.w, a.Body, most)
	return b
}

type arriving struct {
	noted
	control *http.ResponseController
	pace    time.Duration
}

func (b *arriving) Read(p []byte) (int, error) {
	if b.pace > 0 {
		_ = b.control.SetReadDeadline(time.Now().Add(b.pace)) // not all can; see ServeHTTP
	}
	n, err := b.noted.Read(p)
	if err == io.EOF {
		// From here on net/http reads only to notice the client's end, which has
		// until it comes. After other errors the bound stays: see ServeHTTP.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// broken is what the client did wrong, if it did: all else is ours.
func (b *arriving) broken() error {
	_, err := b.seen()
	var long *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF:
		return nil
	case errors.As(err, &long):
		return invalid("the request is longer than %d bytes", long.Limit)
	default:
		return invalid("the request broke off: %v", err)
	}
}
