package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// What an app may consist of at most. App Engine's own bounds are lower (10,000
// files, 32 MB each); these exist so that a wrong directory, such as /, is
// refused in moments instead of being copied.
const (
	filesMax   = 100_000
	bytesMax   = 4 << 30 // 4 GiB
	visitedMax = 1_000_000
	depthMax   = 256
)

// file is one file or symlink of the app.
type file struct {
	path string // relative, slash-separated
	exec bool   // its owner may execute it; no other mode bit matters
	link string // where it leads, for a symlink; "" for a file
	size int64
}

// collector walks the sources. Directories are not listed: like gcloud, an app
// is made of files, and an empty directory is none.
type collector struct {
	root *os.Root
	skip func(path string, dir bool) bool
	note func(format string, args ...any)

	files   []file
	bytes   int64
	visited int
	perTop  map[string]int // files by first path element, to name the culprit
}

// collect lists what belongs to the app, sorted by path.
func (j *job) collect(ctx context.Context) ([]file, error) {
	skip, err := j.skipper()
	if err != nil {
		return nil, err
	}
	c := &collector{root: j.src, skip: skip, note: j.note, perTop: map[string]int{}}
	if err := c.walk(ctx, ".", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(c.files, func(x, y file) int { return strings.Compare(x.path, y.path) })
	return c.files, nil
}

func (c *collector) walk(ctx context.Context, dir string, depth int) error {
	if depth > depthMax {
		return refuse(Collect, "", "%s is more than %d directories deep", dir, depthMax)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := c.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) && depth > 0 {
		return nil // gone since its parent was read
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	defer d.Close()
	for {
		// In portions, so that a directory of millions is noticed before it is held.
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			if err := c.entry(ctx, path.Join(dir, e.Name()), e, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
	}
}

func (c *collector) entry(ctx context.Context, name string, e fs.DirEntry, depth int) error {
	c.visited++
	if c.visited > visitedMax {
		return c.tooMuch(fmt.Sprintf("more than %d files, ignored ones included", visitedMax))
	}
	dir := e.IsDir()
	if e.Type()&fs.ModeSymlink != 0 {
		if to, err := c.root.Stat(name); err == nil {
			dir = to.IsDir()
		}
	}
	if c.skip(name, dir) {
		return nil
	}
	switch {
	case e.IsDir():
		if _, err := c.root.Lstat(path.Join(name, "pyvenv.cfg")); err == nil {
			c.note("left out %s/: a Python virtual environment works only where it was made", name)
			return nil
		}
		return c.walk(ctx, name, depth+1)
	case e.Type()&fs.ModeSymlink != 0:
		link, err := c.link(name)
		if err != nil {
			return err
		}
		return c.add(file{path: name, link: link})
	case e.Type().IsRegular():
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since the directory was read
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return c.add(file{path: name, exec: info.Mode()&0o100 != 0, size: info.Size()})
	default:
		c.note("left out %s: neither a file nor a directory", name)
		return nil
	}
}

// link returns where a symlink leads, if that is inside the app. One that leads
// nowhere is kept: what it names may be made by the build.
func (c *collector) link(name string) (string, error) {
	to, err := c.root.Readlink(name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	const next = "copy what it leads to, or exclude it in .gcloudignore"
	if path.IsAbs(to) {
		return "", refuse(Collect, next, "the symlink %s leads to the absolute path %s", name, to)
	}
	// Root follows the whole chain and stops where it would leave the tree.
	if _, err := c.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if errors.Is(err, syscall.ELOOP) {
			return "", refuse(Collect, next, "the symlink %s leads to itself", name)
		}
		return "", refuse(Collect, next, "the symlink %s leads out of the app, to %s", name, to)
	}
	return to, nil
}

func (c *collector) add(f file) error {
	c.files = append(c.files, f)
	c.bytes += f.size
	top, _, _ := strings.Cut(f.path, "/")
	c.perTop[top]++
	switch {
	case len(c.files) > filesMax:
		return c.tooMuch(fmt.Sprintf("more than %d files", filesMax))
	case c.bytes > bytesMax || f.size < 0:
		return c.tooMuch(fmt.Sprintf("more than %d GiB", bytesMax>>30))
	}
	return nil
}

func (c *collector) tooMuch(what string) error {
	most := ""
	for top, n := range c.perTop {
		if n > c.perTop[most] || n == c.perTop[most] && top < most {
			most = top
		}
	}
	next := "is it the app's directory? Exclude what does not belong to the app in .gcloudignore"
	if most != "" && c.perTop[most] > 1 {
		next += fmt.Sprintf("; most files are in %s", most)
	}
	return refuse(Collect, next, "%s has %s", c.root.Name(), what)
}

// copyFiles copies the app into dir, which exists and is empty.
func copyFiles(ctx context.Context, from *os.Root, files []file, dir string) error {
	to, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	defer to.Close()
	last := "."
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if parent := path.Dir(f.path); parent != last {
			if err := to.MkdirAll(parent, 0o755); err != nil {
				return fmt.Errorf("copy %s: %w", parent, err)
			}
			last = parent
		}
		if err := copyFile(from, to, f); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return errChanged
			}
			return fmt.Errorf("copy %s: %w", f.path, err)
		}
	}
	return nil
}

func copyFile(from, to *os.Root, f file) error {
	if f.link != "" {
		return to.Symlink(f.link, f.path)
	}
	src, err := openFile(from, f.path)
	if err != nil {
		return err
	}
	defer src.Close()
	mode := fs.FileMode(0o644)
	if f.exec {
		mode = 0o755
	}
	dst, err := to.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	// A file that grows while it is copied must not fill the disk.
	_, err = io.Copy(dst, io.LimitReader(src, f.size+1))
	return errors.Join(err, dst.Chmod(mode), dst.Close())
}

// openFile opens a regular file for reading. What was a file when it was listed
// may have become a pipe, which must not be waited for.
func openFile(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errChanged
	}
	return f, nil
}
