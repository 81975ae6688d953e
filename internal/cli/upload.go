package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"holdfast/internal/admin"
	"holdfast/internal/app"
	"holdfast/internal/build"
)

// upload brings what belongs to the app in dir to the server, as far as it is
// not there, and returns the tree's id.
func (r *remote) upload(ctx context.Context, s *screen, dir string, v app.Version) (string, error) {
	s.begin("Uploading %s", shorten(dir))
	tree, err := build.List(ctx, dir, v.Recipe, s)
	if err != nil {
		s.fail()
		return "", buildProblem(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	files := make([]admin.File, 0, len(tree))
	for _, f := range tree {
		files = append(files, admin.File{Path: f.Path, Hash: f.Hash, Size: f.Size, Exec: f.Exec, Link: f.Link})
	}
	var sent admin.Progress
	id, err := r.Upload(ctx, files,
		func(f admin.File) (io.ReadCloser, error) { return root.Open(f.Path) },
		func(p admin.Progress) {
			sent = p
			s.note("%d of %s, %s of %s", p.Files, count(p.FilesAll, "file"), bytesText(p.Bytes), bytesText(p.BytesAll))
		})
	if err != nil {
		s.fail()
		return "", err
	}
	if sent.FilesAll == 0 {
		s.done("Nothing to upload: the server has %s", count(len(files), "file"))
	} else {
		s.done("Uploaded %s of %d, %s", count(sent.FilesAll, "file"), len(files), bytesText(sent.BytesAll))
	}
	return id, nil
}

// buildProblem tells an error of the build room, with its last lines and the
// next step on lines of their own.
func buildProblem(err error) error {
	var failed *build.Error
	if !errors.As(err, &failed) {
		return err
	}
	p := &problem{what: failed.Error(), title: "The last lines of the build:", lines: failed.Tail, err: err}
	if failed.Next != "" {
		p.what, p.next = strings.TrimSuffix(p.what, "; "+failed.Next), "Next: "+failed.Next
	}
	return p
}

// note shows how far the step under way has come. Only a terminal has room for
// it: elsewhere it would be a line for each.
func (s *screen) note(format string, args ...any) {
	s.mu.Lock()
	lively := s.spin != nil
	s.mu.Unlock()
	if lively {
		fmt.Fprintf(s, format+"\n", args...)
	}
}
