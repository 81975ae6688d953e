package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

// visitedMax bounds what is looked at, ignored files included; what an app may
// consist of at most is said by the source room.
const visitedMax = 1_000_000

// serverFile is what a server's data directory has. One may lie beside app.yaml,
// and is no more a part of the app than a .git.
const serverFile = "holdfast.db"

// collector walks a folder. Directories are not listed: like gcloud, an app
// is made of files, and an empty directory is none.
type collector struct {
	root *os.Root
	skip func(path string, dir bool) bool
	note func(format string, args ...any)

	files   []source.File
	bytes   int64
	visited int
	perTop  map[string]int // files by first path element, to name the culprit
}

// collect lists what belongs to the app, without hashes.
func collect(ctx context.Context, f *folder, r app.Recipe, note func(format string, args ...any)) ([]source.File, error) {
	skip, err := skipper(f, r)
	if err != nil {
		return nil, err
	}
	c := &collector{root: f.root, skip: skip, note: note, perTop: map[string]int{}}
	if err := c.walk(ctx, ".", 0); err != nil {
		return nil, err
	}
	return c.files, refused(source.CheckFiles(c.files))
}

func (c *collector) walk(ctx context.Context, dir string, depth int) error {
	if depth > source.DepthMax {
		return refuse(Collect, "", "%s is more than %d directories deep", dir, source.DepthMax)
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
		if _, err := c.root.Lstat(path.Join(name, serverFile)); err == nil {
			c.note("left out %s/: a Holdfast server keeps its data there", name)
			return nil
		}
		return c.walk(ctx, name, depth+1)
	case e.Type()&fs.ModeSymlink != 0:
		to, err := c.root.Readlink(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return c.add(source.File{Path: name, Link: to})
	case e.Type().IsRegular():
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since the directory was read
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return c.add(source.File{Path: name, Exec: info.Mode()&0o100 != 0, Size: info.Size()})
	default:
		c.note("left out %s: neither a file nor a directory", name)
		return nil
	}
}

func (c *collector) add(f source.File) error {
	c.files = append(c.files, f)
	c.bytes += f.Size
	top, _, _ := strings.Cut(f.Path, "/")
	c.perTop[top]++
	switch {
	case len(c.files) > source.FilesMax:
		return c.tooMuch(fmt.Sprintf("more than %d files", source.FilesMax))
	case c.bytes > source.BytesMax || f.Size < 0:
		return c.tooMuch(fmt.Sprintf("more than %d GiB", source.BytesMax>>30))
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
