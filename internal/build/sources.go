package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

// sources is where an app comes from: a folder, or a tree that was uploaded.
type sources interface {
	// list lists what belongs to the app.
	list(ctx context.Context, j *job) (source.Tree, error)

	// copy writes t, which list gave, into dir, verified. errChanged means
	// that list would answer differently now.
	copy(ctx context.Context, t source.Tree, dir string) error

	// read reads a small file; has says whether there is one of that name.
	read(name string, most int64) (string, error)
	has(name string) bool

	String() string // for people
}

// errChanged means that a folder is not any more what was listed.
var errChanged = source.ErrChanged

// folder is a directory of this machine, which somebody may be working in.
type folder struct {
	root *os.Root
	dir  string
	own  string // the builder's directory within it, "" when it is elsewhere
}

func (f *folder) String() string { return f.dir }

func (f *folder) list(ctx context.Context, j *job) (source.Tree, error) {
	files, err := collect(ctx, f, j.recipe, j.note)
	if err != nil {
		return nil, err
	}
	t, err := source.Of(ctx, f.root, files)
	return t, refused(err)
}

func (f *folder) copy(ctx context.Context, t source.Tree, dir string) error {
	return source.Copy(ctx, f.root, t, dir)
}

func (f *folder) read(name string, most int64) (string, error) { return readSmall(f.root, name, most) }

func (f *folder) has(name string) bool {
	info, err := f.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// kept is a tree in a store. What was left out when it was listed is not there,
// and nothing more is left out: .gcloudignore and skip_files have had their say.
type kept struct {
	store *source.Store
	id    string
	tree  source.Tree
}

func (k *kept) String() string { return "the sources " + k.id[:12] }

func (k *kept) list(context.Context, *job) (source.Tree, error) { return k.tree, nil }

func (k *kept) copy(ctx context.Context, _ source.Tree, dir string) error {
	return k.store.Checkout(ctx, k.id, dir)
}

func (k *kept) read(name string, most int64) (string, error) {
	data, err := k.store.ReadFile(k.tree, name, most)
	return string(data), err
}

func (k *kept) has(name string) bool {
	_, ok := k.tree.Find(name)
	return ok
}

// List returns the tree of what belongs to the app in dir: what Build would
// copy, leaving out what .gcloudignore or skip_files say. What a person should
// know, such as what else was left out, reaches out line by line; out may be
// nil. An error that a person can act on is an *Error.
func List(ctx context.Context, dir string, r app.Recipe, out io.Writer) (source.Tree, error) {
	if out == nil {
		out = io.Discard
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &Error{Phase: Collect, Err: err, Next: noFolder}
	}
	defer root.Close()
	from := &folder{root: root, dir: dir}
	j := &job{src: from, recipe: r, out: &output{to: out}}
	for range changesMax {
		t, err := from.list(ctx, j)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return nil, ended(ctx, Collect, err)
		}
		return t, nil
	}
	return nil, restless(from)
}

const noFolder = "name the directory that holds app.yaml"

// restless is for what does not hold still.
func restless(s sources) error {
	return &Error{Phase: Collect,
		Err:  fmt.Errorf("the files under %s changed %d times while they were being copied", s, changesMax),
		Next: "exclude what changes by itself (logs, databases) in .gcloudignore"}
}

// refused makes an *Error of what the source room refuses.
func refused(err error) error {
	var r *source.Refusal
	if errors.As(err, &r) {
		return &Error{Phase: Collect, Err: errors.New(r.What), Next: r.Next}
	}
	return err
}
