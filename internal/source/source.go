// Package source keeps the sources of apps by what they contain: what was
// uploaded once need not be uploaded again, a version can be built anew from
// what it was deployed with, and a backup holds everything that is needed for
// that. It knows files and trees of them, and nothing of runtimes, builds or
// what belongs to an app. Start with Tree and its Check, which is all the trust
// that an upload gets; then Store.
package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/app"
)

// The layout under a store's directory:
//
//	blobs/AB/HASH  what a file holds, found by its SHA-256 (AB are its first digits)
//	trees/ID       a tree in its canonical form
//	new/...        being written; counts only once it is renamed to one of the above
//
// Nothing is changed in place. The time of a file is when it was last relied on.

const (
	// grace is how long what an upload relies on stays, whatever Collect is told:
	// an upload of 4 GiB over a slow line, and the deploy that follows it.
	grace = time.Hour

	// touchAfter is how old a file's time may be before relying on it renews it:
	// far below grace, and it spares most uploads most of the work.
	touchAfter = 10 * time.Minute
)

// Store keeps sources under a directory. All methods may be called from several
// goroutines; one process at a time has a directory.
type Store struct {
	dir string

	// Held for writing around the removal of one file, for reading by those who
	// give a file its name, or see that it is there and renew its time.
	removing sync.RWMutex
}

// Open opens the store in dir, which is made when it is missing. Nothing needs
// to be closed.
func Open(dir string) (*Store, error) {
	for _, sub := range []string{"blobs", "trees", "new"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open the sources: %w", full(dir, err))
		}
	}
	return &Store{dir: dir}, nil
}

func (s *Store) blob(hash string) string { return filepath.Join(s.dir, "blobs", hash[:2], hash) }
func (s *Store) tree(id string) string   { return filepath.Join(s.dir, "trees", id) }

// Missing checks t and returns the hashes of the files that this store lacks,
// sorted. What it does not return stays for at least 50 minutes from now, for
// the upload that begins. A tree that does not pass Check is refused.
func (s *Store) Missing(t Tree) ([]string, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	var missing []string
	asked := make(map[string]bool, len(t))
	for _, f := range t {
		if f.Link != "" || asked[f.Hash] {
			continue
		}
		asked[f.Hash] = true
		if !s.rely(s.blob(f.Hash), f.Size) {
			missing = append(missing, f.Hash)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// rely says whether a file is there with the size that it should have, and
// keeps it from being collected for a while if it is.
func (s *Store) rely(name string, size int64) bool {
	s.removing.RLock()
	defer s.removing.RUnlock()
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > touchAfter {
		return os.Chtimes(name, now, now) == nil
	}
	return true
}

// PutBlob keeps what r gives if its SHA-256 is hash, else it is app.ErrInvalid
// and nothing is kept. One that is there already is written anew, which mends
// it if it is damaged. It counts for good once a tree that has it is put.
func (s *Store) PutBlob(hash string, r io.Reader) error {
	if !isHash(hash) {
		return fmt.Errorf("%s is not a SHA-256 in lower-case hex: %w", shown(hash), app.ErrInvalid)
	}
	err := s.put(s.blob(hash), func(w io.Writer) error {
		h := sha256.New()
		n, err := io.CopyBuffer(io.MultiWriter(w, h), plain{io.LimitReader(r, BytesMax+1)}, make([]byte, bufferBytes))
		switch got := hex.EncodeToString(h.Sum(nil)); {
		case err != nil:
			return err
		case n > BytesMax:
			return fmt.Errorf("it has more than %d GiB: %w", BytesMax>>30, app.ErrInvalid)
		case got != hash:
			return fmt.Errorf("what came has the SHA-256 %s: %w", got, app.ErrInvalid)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep the file %s: %w", hash, err)
	}
	return nil
}

// PutTree keeps a tree and returns its ID. All its files must be here, else it
// is app.ErrNotFound. When it returns the tree and its files survive whatever
// happens to the machine; for the next 50 minutes Collect leaves them alone.
func (s *Store) PutTree(t Tree) (id string, err error) {
	missing, err := s.Missing(t)
	if err != nil {
		return "", err
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%d files of the tree are not here, such as %s; upload them first: %w", len(missing), missing[0], app.ErrNotFound)
	}
	// The blobs' names must be on the disk before the tree's is.
	dirs := map[string]bool{}
	for _, f := range t {
		if f.Link == "" {
			dirs[filepath.Dir(s.blob(f.Hash))] = true
		}
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return "", fmt.Errorf("keep the tree: %w", err)
		}
	}
	id = t.ID()
	if err := s.put(s.tree(id), func(w io.Writer) error {
		_, err := w.Write(t.encode())
		return err
	}); err != nil {
		return "", fmt.Errorf("keep the tree: %w", err)
	}
	if err := syncDir(filepath.Join(s.dir, "trees")); err != nil {
		return "", fmt.Errorf("keep the tree: %w", err)
	}
	return id, nil
}

// put writes a file beside, syncs it and gives it its name.
func (s *Store) put(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "new"), "")
	if err != nil {
		return full(s.dir, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return full(s.dir, err)
	}
	if err := os.Mkdir(filepath.Dir(name), 0o700); err == nil {
		if err := syncDir(filepath.Dir(filepath.Dir(name))); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return full(s.dir, err)
	}
	// Collect must not look at the old file and remove the new one.
	s.removing.RLock()
	defer s.removing.RUnlock()
	return full(s.dir, os.Rename(f.Name(), name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Tree returns the tree id, or app.ErrNotFound when it is not here or damaged
// on the disk. Who put it may put it again.
func (s *Store) Tree(id string) (Tree, error) {
	if !isHash(id) {
		return nil, fmt.Errorf("source tree %s: %w", shown(id), app.ErrNotFound)
	}
	f, err := os.Open(s.tree(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("source tree %s: %w", id, app.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("source tree %s: %w", id, err)
	}
	defer f.Close()
	form, err := io.ReadAll(io.LimitReader(f, formMax+1))
	if err == nil {
		if sum := sha256.Sum256(form); hex.EncodeToString(sum[:]) == id {
			return decode(form)
		}
	}
	s.damaged(f, s.tree(id))
	return nil, fmt.Errorf("source tree %s is damaged on the disk; deploy the sources again: %w", id, app.ErrNotFound)
}

// damaged takes away what the open file f shows is not what its name says. The
// next upload brings it back.
func (s *Store) damaged(f *os.File, name string) {
	s.removing.Lock()
	defer s.removing.Unlock()
	ours, err := f.Stat()
	if err != nil {
		return
	}
	// It may have been mended since f was opened.
	if named, err := os.Lstat(name); err == nil && os.SameFile(ours, named) {
		os.Remove(name)
	}
}
