package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"holdfast/internal/app"
)

// Checkout writes the tree id into dir, which exists and is empty: files of mode
// 0644 or 0755, directories and symlinks, nothing outside dir. Every file is
// verified as it is written. One that is damaged on the disk is named in the
// error and counts as missing from then on, so that the next upload of the same
// sources brings it back; that, and a tree that is not here, is
// app.ErrNotFound. After an error something may have been written.
func (s *Store) Checkout(ctx context.Context, id string, dir string) error {
	t, err := s.Tree(id)
	if err != nil {
		return err
	}
	if err := write(ctx, t, dir, func(f File) (io.ReadCloser, error) { return s.open(f) }, s.differs); err != nil {
		return fmt.Errorf("check out the sources: %w", err)
	}
	return nil
}

// ReadFile returns what the file name of t holds, through links, verified. One
// that is not in t is fs.ErrNotExist; one of more than most bytes is refused;
// one that is damaged or not here is app.ErrNotFound, as with Checkout.
func (s *Store) ReadFile(t Tree, name string, most int64) ([]byte, error) {
	f, ok := t.Find(name)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	if f.Size > most {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", shown(name), most, app.ErrInvalid)
	}
	r, err := s.open(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, f.Size+1))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.Hash {
		return nil, s.differs(f)
	}
	return data, nil
}

// open opens the blob of a file.
func (s *Store) open(f File) (*reader, error) {
	r, err := os.Open(s.blob(f.Hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the file %s (%s) is not here any more; deploy the sources again: %w", shown(f.Path), f.Hash, app.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &reader{s: s, f: f, r: r}, nil
}

// reader reads a blob. What the disk cannot read is as good as damaged.
type reader struct {
	s *Store
	f File
	r *os.File
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.s.damaged(r.r, r.s.blob(r.f.Hash))
		err = fmt.Errorf("%w (%w)", damage(r.f), err)
	}
	return n, err
}

func (r *reader) Close() error { return r.r.Close() }

// differs looks once more, since what was read may be older than what is there
// now, and takes the blob away if it is damaged.
func (s *Store) differs(f File) error {
	if r, err := os.Open(s.blob(f.Hash)); err == nil {
		defer r.Close()
		_ = s.verify(f, r)
	}
	return damage(f)
}

// verify reads the blob of f to its end and takes it away if it is damaged.
func (s *Store) verify(f File, r *os.File) error {
	h := sha256.New()
	n, err := io.CopyBuffer(h, plain{r}, make([]byte, bufferBytes))
	if err == nil && n == f.Size && hex.EncodeToString(h.Sum(nil)) == f.Hash {
		return nil
	}
	s.damaged(r, s.blob(f.Hash))
	return damage(f)
}

func damage(f File) error {
	return fmt.Errorf("the kept file %s (%s) is damaged on the disk; deploy the sources again: %w", shown(f.Path), f.Hash, app.ErrNotFound)
}
