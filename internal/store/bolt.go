package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"holdfast/internal/app"
)

const (
	// boltWait bounds the wait for bbolt's own lock. Ours is held already, so
	// whoever has it is another program, looking at the file.
	boltWait = time.Second

	permFile = 0o600 // what is asked for may contain secrets of apps
)

// fault is a panic within bbolt, also from mapped memory that the file does not
// back any more.
type fault struct{ what any }

func (f fault) Error() string { return fmt.Sprintf("the file changed while it was in use: %v", f.what) }

// guarded is fn(), with a panic and a memory fault as an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fault{p}
		}
	}()
	return fn()
}

// transact is bolt.DB.Update, but that it does not touch the file again when fn
// panics: by then it may be gone.
func transact(db *bolt.DB, fn func(*bolt.Tx) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// openBolt opens a file that readFile believed, or a new one.
func openBolt(path string) (db *bolt.DB, file *os.File, err error) {
	err = guarded(func() (err error) {
		db, err = bolt.Open(path, permFile, &bolt.Options{
			Timeout:      boltWait,
			MaxSize:      fileBytesMax,
			NoStatistics: true,
			OpenFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, flag, perm)
				return file, err
			},
		})
		return err
	})
	if errors.Is(err, berrors.ErrTimeout) {
		err = fmt.Errorf("another program holds it open: %w", app.ErrBusy)
	}
	if err != nil && file != nil {
		_ = file.Close() // after a panic; else it is closed
	}
	return db, file, err
}

// besides is where a file is written before it takes path's place.
func besides(path string) string { return path + ".new" }

// build writes a file that holds r, beside path and then in its place. path is as
// it was when build returns an error.
func build(path string, r records, format int) error {
	beside := besides(path)
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, file, err := openBolt(beside)
	if err == nil {
		err = guarded(func() error {
			err := transact(db, func(tx *bolt.Tx) error { return fill(tx, r, format) })
			if err != nil {
				return err
			}
			return transact(db, func(*bolt.Tx) error { return nil })
		})
		var f fault
		if errors.As(err, &f) {
			_ = file.Close()
		} else {
			err = errors.Join(err, db.Close())
		}
	}
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		_ = os.Remove(beside)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fill(tx *bolt.Tx, r records, format int) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	for _, i := range r.ids() {
		b, err := tx.CreateBucketIfNotExists([]byte(i.bucket))
		if err != nil {
			return err
		}
		if err := b.Put([]byte(i.key), sealed(i, r[i])); err != nil {
			return err
		}
	}
	return errors.Join(
		putAbout(tx, keyFormat, strconv.Itoa(format)),
		putAbout(tx, keyDigest, r.digest().in(tx.ID())))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// putAbout stores what is known about the file itself.
func putAbout(tx *bolt.Tx, key, value string) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketFile))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), sealed(id{bucketFile, key}, []byte(value)))
}
