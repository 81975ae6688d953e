package logs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Keep says how much of what nobody writes any more is kept. What is zero is no
// bound, but for Logs.
type Keep struct {
	Logs  int           // of those that are not busy
	Bytes int64         // of all files, those of busy logs included; what is being written goes on all the same
	Age   time.Duration // since it was written last; files that were rotated away from busy logs too
}

// Prune removes the logs in dir that were written last longest ago, with their
// rotated files, until no more than keep is left, and whatever is too old now.
// Logs are named NAME.log; those that busy claims, by NAME, stay and count as
// bytes alone.
func Prune(dir string, keep Keep, now time.Time, busy func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	type log struct {
		name    string
		written time.Time
		bytes   int64
		files   []string
	}
	logs := map[string]*log{}
	var failed error
	remove := func(file string) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	var total int64
	for _, e := range entries {
		name, rotated, ok := strings.Cut(e.Name(), ".log")
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		if busy(name) {
			if number, ok := strings.CutPrefix(rotated, "."); ok && number != "" && strings.Trim(number, "0123456789") == "" && keep.old(info.ModTime(), now) {
				remove(filepath.Join(dir, e.Name()))
			} else {
				total += info.Size()
			}
			continue
		}
		l := logs[name]
		if l == nil {
			l = &log{name: name}
			logs[name] = l
		}
		l.files = append(l.files, filepath.Join(dir, e.Name()))
		l.bytes += info.Size()
		if info.ModTime().After(l.written) {
			l.written = info.ModTime()
		}
	}
	var all []*log
	for _, l := range logs {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *log) int { return b.written.Compare(a.written) })
	for n, l := range all {
		total += l.bytes
		if n < keep.Logs && (keep.Bytes == 0 || total <= keep.Bytes) && !keep.old(l.written, now) {
			continue
		}
		total -= l.bytes
		for _, f := range l.files {
			remove(f)
		}
	}
	return failed
}

func (k Keep) old(written, now time.Time) bool { return k.Age > 0 && now.Sub(written) > k.Age }
