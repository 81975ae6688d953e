package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long a tree has to be still before a change counts: editors
	// save in several steps, and checkouts touch many files.
	quiet = 150 * time.Millisecond

	// watchedMax bounds the folders that are watched: the kernel's default is
	// 8,192 for a user on small machines.
	watchedMax = 4000
)

// unwatched are folders in which tools work, not people.
var unwatched = map[string]bool{"node_modules": true, "__pycache__": true, "venv": true, "vendor": true}

// tree watches a folder and those below it.
type tree struct {
	dir     string
	watcher *fsnotify.Watcher
}

// watchTree begins to watch dir: what changes from here on is seen by run,
// which must be called.
func watchTree(dir string) (*tree, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if err := addFolders(w, dir); err != nil {
		w.Close()
		return nil, err
	}
	return &tree{dir, w}, nil
}

// run puts a value into changed, which should have a capacity of one, after
// each burst of changes, until ctx ends.
func (t *tree) run(ctx context.Context, changed chan<- struct{}) error {
	w, dir := t.watcher, t.dir
	defer w.Close()
	still := time.NewTimer(0)
	<-still.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return nil
			}
			if e.Op == fsnotify.Chmod || ignorable(filepath.Base(e.Name)) {
				continue
			}
			if e.Op.Has(fsnotify.Create) {
				if info, err := os.Lstat(e.Name); err == nil && info.IsDir() {
					if err := addFolders(w, e.Name); err != nil {
						return err
					}
				}
			}
			still.Reset(quiet)
		case err, ok := <-w.Errors:
			if !ok {
				return nil
			}
			if err == fsnotify.ErrEventOverflow {
				still.Reset(quiet) // something was missed, so something changed
				continue
			}
			return fmt.Errorf("watch %s: %w", dir, err)
		case <-still.C:
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

// addFolders watches dir and the folders below it.
func addFolders(w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone while we walked, or a file: its folder is watched
		}
		if path != dir && ignorable(d.Name()) {
			return filepath.SkipDir
		}
		if len(w.WatchList()) >= watchedMax {
			return fmt.Errorf("watch %s: more than %d folders", dir, watchedMax)
		}
		if err := w.Add(path); err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		return nil
	})
}

// ignorable tells names that people's saving does not touch: hidden files but
// those that matter to us, tools' folders, editors' leftovers.
func ignorable(name string) bool {
	if name == ".gcloudignore" || name == ".gitignore" {
		return false
	}
	return strings.HasPrefix(name, ".") || unwatched[name] ||
		strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".pyc") || strings.HasSuffix(name, ".swp")
}
