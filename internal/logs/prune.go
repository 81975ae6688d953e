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

// Prune removes the logs in dir that were written last longest ago, with their
// rotated files, until keep are left. Logs are named NAME.log; those that busy
// claims, by NAME, are not removed and count nothing.
func Prune(dir string, keep int, busy func(name string) bool) error {
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
		files   []string
	}
	logs := map[string]*log{}
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), ".log")
		info, err := e.Info()
		if !ok || err != nil || busy(name) {
			continue
		}
		l := logs[name]
		if l == nil {
			l = &log{name: name}
			logs[name] = l
		}
		l.files = append(l.files, filepath.Join(dir, e.Name()))
		if info.ModTime().After(l.written) {
			l.written = info.ModTime()
		}
	}
	var all []*log
	for _, l := range logs {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *log) int { return b.written.Compare(a.written) })
	var failed error
	for _, l := range all[min(keep, len(all)):] {
		for _, f := range l.files {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}
