package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/app"
)

// Config is what Open takes besides the path. Its zero value works.
type Config struct {
	Log *slog.Logger // what was mended or upgraded; nil: nowhere
}

func (c Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// upgrade brings records from one format to the next. It may change r.
type upgrade func(r records) (records, error)

// upgrades are the ways from older formats to this one's: the first from format 1
// to 2. A change to the types in app that an old file would not survive needs
// another one; the golden test says when.
func upgrades() []upgrade { return nil }

// Open is the store in the file at path, which is made if there is none; its
// folder must exist. Beside it path.lock comes to be, and path.new for moments.
//
// The file is read as a whole and checked before it is believed or written to:
// one that is damaged is ErrDamaged, one that a newer Holdfast wrote
// app.ErrInvalid, and both are left as they are. One of an older format is
// upgraded; what it was stays beside it as path.formatN. When another process, or
// another Store of this one, has the file open, that is app.ErrBusy, with its
// process id, within a tenth of a second.
func Open(path string, cfg Config) (*Store, error) {
	s, err := open(path, cfg, upgrades())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, advise(err))
	}
	return s, nil
}

// advise adds to why a file was refused what can be done about it.
func advise(err error) error {
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w; nothing was written to it. `holdfast restore BACKUP` puts a backup in its place and keeps this file beside it", err)
	}
	return err
}

func open(path string, cfg Config, ups []upgrade) (_ *Store, err error) {
	path = where(path)
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	d := &disk{path: path, log: cfg.log(), format: len(ups) + 1, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	_ = os.Remove(besides(path)) // of a crash
	// A link that leads nowhere is not a file that is missing: its disk may be.
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := build(path, records{}, d.format); err != nil {
			return nil, err
		}
	}
	c, err := readFile(path, d.format)
	if err != nil {
		return nil, err
	}
	w, err := c.records.upgraded(c.format, ups)
	if err != nil {
		return nil, err
	}
	if c.format < d.format {
		if c, err = d.upgrade(c.format, w); err != nil {
			return nil, fmt.Errorf("upgrade it from format %d to %d: %w", c.format, d.format, err)
		}
	}
	if err := d.open(c); noRoom(err) {
		// The one meta page that leads to the records could not be doubled. They can be
		// served, and the next change tries again.
		d.log.Warn("disk is full, store opened for reading until there is room", "file", path, "err", err)
	} else if err != nil {
		return nil, err
	}
	return &Store{disk: d, wishes: w, changed: make(chan struct{})}, nil
}

// where is the file that path leads to: what is beside it and renamed into its
// place belongs there, not where a link is.
func where(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// upgraded are the wishes in r, which has the given format.
func (r records) upgraded(format int, ups []upgrade) (w Wishes, err error) {
	for ; format <= len(ups); format++ {
		if r, err = ups[format-1](r); err != nil {
			return w, fmt.Errorf("upgrade from format %d: %w", format, err)
		}
	}
	if w, err = r.wishes(); err != nil {
		return w, fmt.Errorf("%w: its checksum is right, so another Holdfast wrote it, probably a newer one: run that: %w", err, app.ErrInvalid)
	}
	return w, nil
}

// upgrade puts a file of this format, that holds w, in the place of the older one,
// which stays beside it.
func (d *disk) upgrade(from int, w Wishes) (contents, error) {
	aside := fmt.Sprintf("%s.format%d", d.path, from)
	if err := keep(d.path, aside); err != nil {
		return contents{format: from}, err
	}
	r, err := w.records()
	if err != nil {
		return contents{format: from}, err
	}
	if err := build(d.path, r, d.format); err != nil {
		return contents{format: from}, err
	}
	d.log.Info("store upgraded", "file", d.path, "from", from, "to", d.format, "former", aside)
	return readFile(d.path, d.format)
}

// keep gives the file at path a second name. path itself stays, so that there is
// no moment without it; whoever puts another file there leaves this one alone.
func keep(path, aside string) error {
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(path, aside) == nil {
		return nil
	}
	return copyFile(path, aside) // a file system without second names
}

func copyFile(from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, permFile)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Sync(), w.Close())
}

// Restore puts a file that holds w in the place of the one at path, whatever that
// is: damaged, newer or not there. What was there is kept beside it under the name
// that is returned, "" if there was nothing. w must have come from a Store or a
// snapshot. It is app.ErrBusy while a Store has the file open; that one's Replace
// does the same.
func Restore(path string, w Wishes, cfg Config) (former string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore %s: %w", path, err)
		}
	}()
	r, err := w.records()
	if err != nil {
		return "", err
	}
	path = where(path)
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if _, err := os.Lstat(path); err == nil {
		former = path + time.Now().UTC().Format(".20060102T150405.000Z")
		if err := keep(path, former); err != nil {
			return "", err
		}
	}
	if err := build(path, r, len(upgrades())+1); err != nil {
		return "", err
	}
	cfg.log().Info("store restored", "file", path, "former", former)
	return former, nil
}
