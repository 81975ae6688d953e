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
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// ErrChanged means that a folder is not any more what it was when it was listed.
var ErrChanged = errors.New("the files changed meanwhile")

const (
	// copiersMax is how many files are read or written at once: enough for a
	// disk to order its work, few enough not to starve what the machine serves.
	copiersMax = 8

	bufferBytes = 64 << 10
)

// Of makes a tree of a folder's files, which have no hashes yet. It is
// ErrChanged when a file is not as it was listed.
func Of(ctx context.Context, folder *os.Root, files []File) (Tree, error) {
	t := Tree(slices.Clone(files))
	err := each(ctx, len(t), func(i int, buf []byte) error {
		f := &t[i]
		if f.Link != "" {
			return nil
		}
		r, err := openFile(folder, *f)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Path, changed(err))
		}
		defer r.Close()
		h := sha256.New()
		// A file that grows while it is read must not be read for ever.
		n, err := io.CopyBuffer(h, plain{io.LimitReader(r, f.Size+1)}, buf)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Path, err)
		}
		if n != f.Size {
			return fmt.Errorf("read %s: %w", f.Path, ErrChanged)
		}
		f.Hash = hex.EncodeToString(h.Sum(nil))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	return t, t.Check()
}

// Copy copies a folder's files, which t lists, into dir, which exists and is
// empty. What was written has the hashes of t, or Copy is ErrChanged.
func Copy(ctx context.Context, folder *os.Root, t Tree, dir string) error {
	for _, f := range t {
		if f.Link == "" {
			continue
		}
		if to, err := folder.Readlink(f.Path); err != nil || to != f.Link {
			return fmt.Errorf("copy %s: %w", f.Path, ErrChanged)
		}
	}
	return write(ctx, t, dir, func(f File) (io.ReadCloser, error) {
		r, err := openFile(folder, f)
		return r, changed(err)
	}, func(File) error { return ErrChanged })
}

// write makes the files of t, which has passed Check, in dir. open gives what a
// file holds; differs says what it means that this is not what t says.
func write(ctx context.Context, t Tree, dir string, open func(File) (io.ReadCloser, error), differs func(File) error) error {
	to, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	defer to.Close()
	last := "."
	for _, f := range t {
		if parent := path.Dir(f.Path); parent != last {
			if err := to.MkdirAll(parent, 0o755); err != nil {
				return fmt.Errorf("make the directory of %s: %w", shown(f.Path), full(dir, err))
			}
			last = parent
		}
	}
	err = each(ctx, len(t), func(i int, buf []byte) error {
		if t[i].Link != "" {
			return nil
		}
		err := writeFile(to, t[i], open, differs, buf)
		switch {
		case errors.Is(err, fs.ErrExist):
			// A file system that does not tell upper from lower case, say.
			return fmt.Errorf("copy %s: another file is in its place: %w", shown(t[i].Path), err)
		case err != nil:
			return fmt.Errorf("copy %s: %w", shown(t[i].Path), full(dir, err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Links come last, so that nothing is ever written through one, whatever the
	// file system makes of names.
	for _, f := range t {
		if f.Link != "" {
			if err := to.Symlink(f.Link, f.Path); err != nil {
				return fmt.Errorf("make the symlink %s: %w", shown(f.Path), full(dir, err))
			}
		}
	}
	return nil
}

func writeFile(to *os.Root, f File, open func(File) (io.ReadCloser, error), differs func(File) error, buf []byte) error {
	r, err := open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	mode := fs.FileMode(0o644)
	if f.Exec {
		mode = 0o755
	}
	w, err := to.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(w, h), plain{io.LimitReader(r, f.Size+1)}, buf)
	err = errors.Join(err, w.Chmod(mode), w.Close())
	if err == nil && (n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.Hash) {
		return differs(f)
	}
	return err
}

// each calls do for 0 to n-1, several at a time, each with a buffer of its own,
// until one fails or ctx ends.
func each(ctx context.Context, n int, do func(i int, buf []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), copiersMax, n)
	for w := range workers {
		g.Go(func() error {
			buf := make([]byte, bufferBytes)
			for i := w; i < n; i += workers {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(i, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// openFile opens a file that was listed. What was a file then may have become a
// pipe, which must not be waited for.
func openFile(folder *os.Root, f File) (*os.File, error) {
	r, err := folder.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := r.Stat(); err != nil || !info.Mode().IsRegular() || (info.Mode()&0o100 != 0) != f.Exec {
		r.Close()
		return nil, ErrChanged
	}
	return r, nil
}

// changed is what it means that a file of a folder cannot be opened.
func changed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrChanged
	}
	return err
}

// full says what to do about a full disk.
func full(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk that holds %s is full; free some space there and try again: %w", dir, err)
	}
	return err
}

// plain hides what else a reader can do: io.CopyBuffer shall use its buffer.
type plain struct{ io.Reader }
