package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"holdfast/internal/app"
)

// # How a file stays whole
//
// Each Update is one bbolt transaction: new pages are written beside the old ones
// and synced, then one of the two meta pages is written, which leads to them, and
// synced. A crash leaves the old meta page or the new one; half a meta page has a
// wrong checksum, and then the other one counts.
//
// That last rule would also lose the latest transaction in silence if its meta
// page were damaged later. So every transaction is followed by an empty one, and
// only then it is acknowledged: both meta pages lead to the same records, and
// either may be lost.
//
// Each record has a checksum, and a digest over all of them is exchanged in the
// same transaction and names it. So a page that was said to be written and was not
// is noticed, although it is right in itself. Opening reads the whole file, by
// image.go and not by bbolt, and believes it when every page, every checksum and the
// digest agree. From then on Wishes are served from memory.
//
// The list of free pages is kept in the file. Without it bbolt would walk all
// pages after each failed write, in a goroutine of its own, and a page that cannot
// be read there ends the process. All else that may touch the mapped file runs
// in guarded, where that is an error.
//
// After a write that failed, what the file holds is unknown (the meta page may be
// in it although syncing it failed). It is let go, read again as if opened anew,
// and when that is not what was acknowledged, written afresh from memory.

// ErrDamaged says that a file is not as it was written. Nothing has been
// written to it since that was noticed.
var ErrDamaged = errors.New("the file is damaged")

// The bucket that is about the file itself.
const (
	bucketFile = "holdfast"
	keyFormat  = "format" // a number; written in this way in every format to come
	keyDigest  = "digest"
)

// disk is the file of a Store, guarded by its writing lock.
type disk struct {
	path   string
	log    *slog.Logger
	format int
	lock   *lock

	db     *bolt.DB    // nil after a failure, until the next write
	file   *os.File    // bbolt's descriptor
	info   os.FileInfo // which file that is
	inUse  int64       // bytes of the file that it must at least have
	sums   map[id]sum  // of each record that was acknowledged
	digest digest      // of all of them
	about  string      // what the file says of them

	between func() // for tests: called between the two transactions of a write
}

// write makes changes to before in one transaction. Nothing has changed when it
// returns an error.
func (d *disk) write(changes []change, before Wishes) error {
	if err := d.ready(before); err != nil {
		return fmt.Errorf("write %s: %w", d.path, d.advise(err))
	}
	next := d.digest
	for _, c := range changes {
		if old, has := d.sums[c.id]; has {
			next.remove(old)
		}
		if c.value != nil {
			next.add(sumOf(c.id, c.value))
		}
	}
	if err := d.commit(changes, next); err != nil {
		d.letGo(err)
		// What was refused must not come back with a restart: it is undone now if the
		// disk allows that, else by the next write.
		if again := d.ready(before); again != nil {
			d.log.Warn("store stays closed until the next change", "err", again)
		}
		return fmt.Errorf("write %s: %w", d.path, d.advise(err))
	}
	for _, c := range changes {
		if c.value == nil {
			delete(d.sums, c.id)
		} else {
			d.sums[c.id] = sumOf(c.id, c.value)
		}
	}
	d.digest = next
	return nil
}

// advise adds to err what can be done about it.
func (d *disk) advise(err error) error {
	switch {
	case noRoom(err):
		return fmt.Errorf("%w; nothing has changed: make room on the disk and try again", err)
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Errorf("it would be larger than %d MB: delete versions that nobody needs: %w", fileBytesMax>>20, app.ErrInvalid)
	}
	return fmt.Errorf("%w; nothing has changed", err)
}

// noRoom says that err is about a disk, a quota or a limit that is used up. bbolt
// keeps only the text of some errors.
func noRoom(err error) bool {
	if err == nil {
		return false
	}
	for _, kind := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, kind) || strings.HasSuffix(err.Error(), kind.Error()) {
			return true
		}
	}
	return false
}

// ready makes sure that d.db is open on the file at d.path, and that it is the one
// that holds what was acknowledged.
func (d *disk) ready(now Wishes) error {
	info, err := os.Stat(d.path)
	if err == nil && !os.SameFile(info, d.info) {
		return errors.New("somebody put another file in its place: restart Holdfast to use that one, or put the former one back")
	}
	if d.db != nil {
		if err == nil && info.Size() >= d.inUse {
			return nil
		}
		d.letGo(errors.New("the file was removed or cut off"))
	}
	if c, err := readFile(d.path, d.format); err == nil && c.digest == d.digest {
		return d.open(c)
	}
	r, err := now.records()
	if err != nil {
		return err
	}
	if err := build(d.path, r, d.format); err != nil {
		return err
	}
	if d.info, err = os.Stat(d.path); err != nil {
		return err
	}
	d.log.Warn("store written afresh from memory", "file", d.path)
	c, err := readFile(d.path, d.format)
	if err != nil {
		return err
	}
	return d.open(c)
}

// open opens the file for writing, which was found to hold c.
func (d *disk) open(c contents) error {
	db, file, err := openBolt(d.path)
	if err != nil {
		return err
	}
	d.db, d.file, d.inUse, d.digest, d.about = db, file, c.size, c.digest, c.about
	err = guarded(func() (err error) {
		if d.info, err = file.Stat(); err != nil {
			return err
		}
		return db.View(d.unchanged)
	})
	if err == nil && !c.settled {
		err = d.commit(nil, c.digest)
	}
	if err != nil {
		d.letGo(err)
		return err
	}
	d.sums = make(map[id]sum, len(c.records))
	for i, value := range c.records {
		d.sums[i] = sumOf(i, value)
	}
	return nil
}

// unchanged sees that the file holds what was last acknowledged: somebody may
// have copied another one over it.
func (d *disk) unchanged(tx *bolt.Tx) error {
	i := id{bucketFile, keyDigest}
	b := tx.Bucket([]byte(i.bucket))
	if b == nil || !bytes.Equal(b.Get([]byte(i.key)), sealed(i, []byte(d.about))) {
		return errors.New("the file changed while it was in use")
	}
	return nil
}

// commit makes changes in a transaction, after which the file holds all, and
// confirms it with a second one.
func (d *disk) commit(changes []change, all digest) error {
	var about string
	err := guarded(func() error {
		err := transact(d.db, func(tx *bolt.Tx) error {
			if err := d.unchanged(tx); err != nil {
				return err
			}
			for _, c := range changes {
				b, err := tx.CreateBucketIfNotExists([]byte(c.bucket))
				if err != nil {
					return err
				}
				if c.value == nil {
					err = b.Delete([]byte(c.key))
				} else {
					err = b.Put([]byte(c.key), sealed(c.id, c.value))
				}
				if err != nil {
					return err
				}
			}
			about = all.in(tx.ID())
			return putAbout(tx, keyDigest, about)
		})
		if err != nil {
			return err
		}
		if d.between != nil {
			d.between()
		}
		return transact(d.db, func(tx *bolt.Tx) error {
			d.inUse = tx.Size()
			return nil
		})
	})
	if err == nil {
		d.about = about
	}
	return err
}

// in is what the file says of its records: their digest, and the transaction that
// wrote it. The next one only confirms it.
func (d digest) in(txid int) string { return fmt.Sprint(d, " ", txid) }

// letGo closes the file after err.
func (d *disk) letGo(err error) {
	var f fault
	if errors.As(err, &f) {
		// bbolt was left with its locks held and must not be called again. Its
		// mapping stays until we end; its descriptor, and the lock with it, goes.
		_ = d.file.Close()
	} else {
		_ = guarded(d.db.Close)
	}
	d.db, d.file = nil, nil
}

func (d *disk) close() error {
	var err error
	if d.db != nil {
		err = guarded(d.db.Close)
		d.db, d.file = nil, nil
	}
	return errors.Join(err, d.lock.release())
}
