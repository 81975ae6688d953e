package source

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/app"
)

// kept is a tree or a blob that nothing uses.
type kept struct {
	name string
	size int64
	used time.Time // when it was last relied on
	tree bool
}

// Collect removes what no tree of inUse has, what was used longest ago first,
// until everything together takes at most bytesMax. What is left of it makes
// the next deploy of something like it a small upload. What was relied on within the last 50 minutes
// stays, since it may belong to an upload under way. A tree in use that is not
// here or damaged is told as app.ErrNotFound, after everything else was done.
func (s *Store) Collect(inUse []string, bytesMax int64) error {
	now := time.Now()
	var errs []error
	uses := map[string]bool{} // hashes of files in use
	for _, id := range inUse {
		t, err := s.Tree(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		// When it is not used any more, its age begins there.
		if err := os.Chtimes(s.tree(id), now, now); err != nil {
			errs = append(errs, fmt.Errorf("collect sources: %w", err))
		}
		for _, f := range t {
			uses[f.Hash] = true
		}
	}

	unused, bytes, err := s.unused(inUse, uses)
	errs = append(errs, err)
	slices.SortFunc(unused, func(x, y kept) int {
		// A tree is never younger than its files and goes before them: a tree
		// that is kept is whole.
		if c := x.used.Compare(y.used); c != 0 || x.tree == y.tree {
			return cmp.Or(c, cmp.Compare(x.name, y.name))
		}
		if x.tree {
			return -1
		}
		return 1
	})
	for _, k := range unused {
		if bytes <= bytesMax || now.Sub(k.used) < grace {
			break
		}
		gone, err := s.remove(k.name, now)
		errs = append(errs, err)
		if gone {
			bytes -= k.size
		}
	}
	errs = append(errs, s.sweep(now))
	return errors.Join(errs...)
}

// unused lists trees that are not in use and the files that no tree in use has;
// bytes is the size of these and all others together.
func (s *Store) unused(inUse []string, uses map[string]bool) (all []kept, bytes int64, err error) {
	used := map[string]time.Time{} // when a tree that has the file was last relied on
	list, err := os.ReadDir(filepath.Join(s.dir, "trees"))
	if err != nil {
		return nil, 0, fmt.Errorf("collect sources: %w", err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if bytes += info.Size(); slices.Contains(inUse, e.Name()) {
			continue
		}
		t, err := s.Tree(e.Name())
		if errors.Is(err, app.ErrNotFound) {
			bytes -= info.Size() // damaged, and taken away
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		all = append(all, kept{name: s.tree(e.Name()), size: info.Size(), used: info.ModTime(), tree: true})
		for _, f := range t {
			if info.ModTime().After(used[f.Hash]) {
				used[f.Hash] = info.ModTime()
			}
		}
	}
	dirs, err := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if err != nil {
		return nil, 0, fmt.Errorf("collect sources: %w", err)
	}
	for _, d := range dirs {
		list, err := os.ReadDir(filepath.Join(s.dir, "blobs", d.Name()))
		if err != nil {
			return nil, 0, fmt.Errorf("collect sources: %w", err)
		}
		for _, e := range list {
			info, err := e.Info()
			if err != nil {
				continue
			}
			if bytes += info.Size(); uses[e.Name()] {
				continue
			}
			k := kept{name: filepath.Join(s.dir, "blobs", d.Name(), e.Name()), size: info.Size(), used: info.ModTime()}
			if used[e.Name()].After(k.used) {
				k.used = used[e.Name()]
			}
			all = append(all, k)
		}
	}
	return all, bytes, nil
}

// remove removes a file unless somebody began to rely on it meanwhile.
func (s *Store) remove(name string, now time.Time) (gone bool, err error) {
	s.removing.Lock()
	defer s.removing.Unlock()
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil && now.Sub(info.ModTime()) < grace {
		return false, nil
	}
	if err == nil {
		err = os.Remove(name)
	}
	if err != nil {
		return false, fmt.Errorf("collect sources: %w", err)
	}
	return true, nil
}

// sweep removes what uploads that were cut off left behind. One that is under
// way has written within the grace time.
func (s *Store) sweep(now time.Time) error {
	list, err := os.ReadDir(filepath.Join(s.dir, "new"))
	if err != nil {
		return fmt.Errorf("collect sources: %w", err)
	}
	for _, e := range list {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > grace {
			os.Remove(filepath.Join(s.dir, "new", e.Name()))
		}
	}
	return nil
}
