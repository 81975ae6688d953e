package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// uploadsAtOnce is how many files a client sends at the same time: small
	// files cost a round trip each, and a home line is full with four.
	uploadsAtOnce = 4

	// expectBytes is the size from which on the server is asked before a file is
	// sent: one that is full answers sooner than the file has gone.
	expectBytes = 256 << 10

	// uploadRounds bounds how often Upload asks what is missing: once before it
	// sends, once after, and once more when files were collected in between.
	uploadRounds = 4
)

// Progress is how far an upload has come.
type Progress struct {
	Files, FilesAll int   // that the server lacked, sent and all
	Bytes, BytesAll int64 // the same in bytes
}

// Upload brings a source tree to the server, which is asked first what it
// lacks, and returns the tree's id. open gives the contents of one of its
// files; it is called by several goroutines, also again for a file whose
// sending failed. progress, which may be nil, is called after every file and at
// the beginning, one call at a time. A file that changes while it is sent is an
// error of kind invalid.
func (c *Client) Upload(ctx context.Context, tree []File, open func(File) (io.ReadCloser, error), progress func(Progress)) (string, error) {
	if tree == nil {
		tree = []File{}
	}
	files := make(map[string]File, len(tree)) // by hash: the same contents are sent once
	for _, f := range tree {
		if f.Hash != "" {
			files[f.Hash] = f
		}
	}
	for round := 1; ; round++ {
		a, err := c.offer(ctx, tree)
		switch {
		case err != nil:
			return "", err
		case len(a.Missing) == 0:
			if progress != nil && round == 1 {
				progress(Progress{})
			}
			return a.ID, nil
		case round == uploadRounds:
			return "", &Error{Kind: KindInternal, Message: fmt.Sprintf("the server at %s still lacks %d files after they were sent", c.URL, len(a.Missing)), Next: "Its log says more."}
		}
		var send []File
		for _, hash := range a.Missing {
			f, ok := files[hash]
			if !ok {
				return "", c.strange(fmt.Errorf("it lacks a file that was not offered: %q", hash))
			}
			send = append(send, f)
		}
		if err := c.sendFiles(ctx, send, open, progress); err != nil {
			return "", err
		}
	}
}

// offer asks for the tree to be kept. It is safe to be sent twice.
func (c *Client) offer(ctx context.Context, tree []File) (treeAnswer, error) {
	var a treeAnswer
	err := c.again(ctx, true, func() error {
		resp, err := c.send(ctx, call{method: http.MethodPost, path: []string{"trees"}, body: treeRequest{tree}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		a, err = read[treeAnswer](ctx, c, resp.Body)
		return err
	})
	return a, err
}

func (c *Client) sendFiles(ctx context.Context, files []File, open func(File) (io.ReadCloser, error), progress func(Progress)) error {
	var mu sync.Mutex // guards p, and makes calls of progress one at a time
	p := Progress{FilesAll: len(files)}
	for _, f := range files {
		p.BytesAll += f.Size
	}
	tell := func(files int, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		p.Files, p.Bytes = p.Files+files, p.Bytes+bytes
		if progress != nil {
			progress(p)
		}
	}
	tell(0, 0)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploadsAtOnce)
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := c.again(ctx, true, func() error { return c.sendFile(ctx, f, open) }); err != nil {
				return err
			}
			tell(1, f.Size)
			return nil
		})
	}
	return g.Wait()
}

// sendFile sends one file once.
func (c *Client) sendFile(ctx context.Context, f File, open func(File) (io.ReadCloser, error)) error {
	r, err := open(f)
	if err != nil {
		return fmt.Errorf("upload %s: %w", f.Path, err)
	}
	defer r.Close()
	// One byte more than promised is read, so that a file that grew is noticed
	// here; one that shrank is by the transport.
	body := &noted{r: io.LimitReader(r, f.Size+1)}
	req, err := c.request(ctx, call{method: http.MethodPut, path: []string{"blobs", f.Hash}}, body)
	if err != nil {
		return err
	}
	req.ContentLength = f.Size
	if f.Size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if f.Size > expectBytes {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.exchange(req)
	if err == nil {
		return resp.Body.Close()
	}
	n, end := body.seen()
	var e *Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case end != nil && end != io.EOF:
		return fmt.Errorf("upload %s: %w", f.Path, end)
	case n > f.Size, end == io.EOF && n < f.Size, errors.As(err, &e) && e.Kind == KindInvalid:
		return &Error{Kind: KindInvalid, err: err, Message: fmt.Sprintf("upload %s: it is not what it was when the upload began", f.Path), Next: "If it was saved meanwhile, deploy again."}
	}
	return err
}
