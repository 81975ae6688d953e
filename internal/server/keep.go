package server

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

// A backup is a tar of what a server cannot find out again: first wishesEntry,
// a copy of the store's file; then the source trees of its versions, as the
// source room writes them. What was built of them is built again.
const wishesEntry = "holdfast.db"

// sourceDir is where the sources are kept in a data directory.
const sourceDir = "source"

// wishesMax bounds the copy of a store's file in a backup, in bytes: a thousand
// services with three versions each have some 10 MB.
const wishesMax = 1 << 30

// keep is what a server keeps on disk of what it was told.
type keep struct {
	wishes  *store.Store
	sources *source.Store
}

// openKeep opens what is kept in a data directory. A directory that another
// server uses is app.ErrBusy.
func openKeep(data string, log *slog.Logger) (*keep, error) {
	wishes, err := store.Open(filepath.Join(data, wishesEntry), store.Config{Log: log})
	if err != nil {
		return nil, err
	}
	sources, err := source.Open(filepath.Join(data, sourceDir))
	if err != nil {
		return nil, errors.Join(err, wishes.Close())
	}
	return &keep{wishes, sources}, nil
}

func (k *keep) close() error { return k.wishes.Close() }

// backup writes a backup, of one moment, while everything goes on.
func (k *keep) backup(ctx context.Context, w io.Writer) error {
	var file bytes.Buffer
	if err := k.wishes.Snapshot(&file); err != nil {
		return fmt.Errorf("back up the wishes: %w", err)
	}
	wishes, err := store.ReadSnapshot(bytes.NewReader(file.Bytes()))
	if err != nil {
		return fmt.Errorf("back up the wishes: %w", err)
	}
	out := tar.NewWriter(w)
	head := &tar.Header{Name: wishesEntry, Mode: 0o600, Size: int64(file.Len()), ModTime: time.Now(), Format: tar.FormatPAX}
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	if _, err := out.Write(file.Bytes()); err != nil {
		return err
	}
	if err := k.sources.Export(ctx, out, treesOf(wishes)); err != nil {
		return fmt.Errorf("back up the sources: %w", err)
	}
	return out.Close()
}

// restore reads a backup whole, keeps its sources, and returns its wishes. An
// error leaves nothing but sources that nobody needs. Trees that the backup
// lacks, and that are not here either, are an error.
func (k *keep) restore(ctx context.Context, r io.Reader) (store.Wishes, error) {
	in := tar.NewReader(r)
	head, err := in.Next()
	if err != nil || head.Name != wishesEntry || head.Size > wishesMax {
		return store.Wishes{}, fmt.Errorf("this is not a backup of Holdfast's (its first entry is not %s): %w", wishesEntry, app.ErrInvalid)
	}
	wishes, err := store.ReadSnapshot(io.LimitReader(in, wishesMax))
	if err != nil {
		return store.Wishes{}, fmt.Errorf("read the backup's wishes: %w", err)
	}
	if err := k.sources.Import(ctx, in); err != nil {
		return store.Wishes{}, fmt.Errorf("read the backup's sources: %w", err)
	}
	for key, v := range wishes.Versions {
		if v.Source == "" {
			continue
		}
		if _, err := k.sources.Tree(v.Source); err != nil {
			return store.Wishes{}, fmt.Errorf("the backup lacks the sources of %s: %w", key, app.ErrInvalid)
		}
	}
	return wishes, nil
}

// treesOf lists the source trees that wishes need.
func treesOf(w store.Wishes) []string {
	var ids []string
	for _, v := range w.Versions {
		if v.Source != "" {
			ids = append(ids, v.Source)
		}
	}
	return ids
}

// RestoreInto makes the data directory of a server that does not run what it
// was when the backup was taken: the way back when its file is damaged. What was
// there stays beside it under the name that is returned, "" if nothing was. A
// directory in use is app.ErrBusy.
func RestoreInto(ctx context.Context, data string, r io.Reader, log *slog.Logger) (former string, err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	sources, err := source.Open(filepath.Join(data, sourceDir))
	if err != nil {
		return "", err
	}
	wishes, err := (&keep{sources: sources}).restore(ctx, r)
	if err != nil {
		return "", err
	}
	return store.Restore(filepath.Join(data, wishesEntry), wishes, store.Config{Log: log})
}
