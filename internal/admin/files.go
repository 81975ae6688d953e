package admin

import (
	"errors"
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
	body := d.arriving(a, source.BytesMax)
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

// arriving is a request's body that must keep coming.
func (d *door) arriving(a *visit, most int64) *arriving {
	return &arriving{noted: noted{r: http.MaxBytesReader(a.w, a.Body, most)}, control: http.NewResponseController(a.w)}
}

type arriving struct {
	noted
	control *http.ResponseController
}

func (b *arriving) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(pieceTime)) // not all can; see room
	n, err := b.noted.Read(p)
	if err != nil {
		// Else the connection's end would be seen at that time.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// broken is what the client did wrong, if it did: all else is ours.
func (b *arriving) broken() error {
	var long *http.MaxBytesError
	switch {
	case b.err == nil:
		return nil
	case errors.As(b.err, &long):
		return invalid("the request is longer than %d bytes", long.Limit)
	default:
		return invalid("the request broke off: %v", b.err)
	}
}
