package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"holdfast/internal/app"
)

// Names in a backup. Files come before the trees that have them.
const (
	tarBlobs = "source/blobs/"
	tarTrees = "source/trees/"
)

// Export appends trees and their files to a tar, each file once; w stays open.
// Every file is verified before it is written. What is damaged or missing is
// left out, with the trees that have it, and told as app.ErrNotFound once all
// the rest is written; any other error leaves the tar unfinished.
func (s *Store) Export(ctx context.Context, w *tar.Writer, ids []string) error {
	var lost []error
	done := map[string]bool{}
	for _, id := range ids {
		if done[id] {
			continue
		}
		done[id] = true
		err := s.exportTree(ctx, w, id, done)
		if errors.Is(err, app.ErrNotFound) {
			lost = append(lost, fmt.Errorf("export the sources: %w", err))
		} else if err != nil {
			return fmt.Errorf("export the sources: %w", err)
		}
	}
	return errors.Join(lost...)
}

func (s *Store) exportTree(ctx context.Context, w *tar.Writer, id string, done map[string]bool) error {
	t, err := s.Tree(id)
	if err != nil {
		return err
	}
	var lost error
	for _, f := range t {
		if f.Link != "" || done[f.Hash] {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := s.exportBlob(w, f)
		if errors.Is(err, app.ErrNotFound) {
			lost = errors.Join(lost, err) // the others may be in other trees too
			continue
		}
		if err != nil {
			return err
		}
		done[f.Hash] = true
	}
	if lost != nil {
		return lost
	}
	form := t.encode()
	if err := w.WriteHeader(header(tarTrees+id, int64(len(form)))); err != nil {
		return err
	}
	_, err = w.Write(form)
	return err
}

func (s *Store) exportBlob(w *tar.Writer, f File) error {
	r, err := s.open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	// A tar cannot take back what was written, so it is verified first.
	if err := s.verify(f, r.r); err != nil {
		return err
	}
	if _, err := r.r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := w.WriteHeader(header(tarBlobs+f.Hash, f.Size)); err != nil {
		return err
	}
	_, err = io.CopyBuffer(w, plain{r}, make([]byte, bufferBytes))
	return err
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600}
}

// Import takes what Export wrote, from r's next entry to its end. Everything is
// verified as if it had been uploaded: a file that is not what its name says, a
// tree that does not pass Check, and entries of other kinds are app.ErrInvalid.
// What was taken before an error stays, and counts as not in use.
func (s *Store) Import(ctx context.Context, r *tar.Reader) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("import the sources: %w", err)
		}
		if err := s.importEntry(h, r); err != nil {
			return fmt.Errorf("import the sources: %s: %w", shown(h.Name), err)
		}
	}
}

func (s *Store) importEntry(h *tar.Header, r io.Reader) error {
	dir, name := path.Split(h.Name)
	switch {
	case h.Typeflag != tar.TypeReg || !isHash(name):
	case dir == tarBlobs:
		return s.PutBlob(name, r)
	case dir == tarTrees:
		form, err := io.ReadAll(io.LimitReader(r, formMax+1))
		if err != nil {
			return err
		}
		t, err := decode(form)
		if err != nil {
			return err
		}
		if t.ID() != name {
			return fmt.Errorf("it is the tree %s: %w", t.ID(), app.ErrInvalid)
		}
		_, err = s.PutTree(t)
		return err
	}
	return fmt.Errorf("not an entry of a backup: %w", app.ErrInvalid)
}
