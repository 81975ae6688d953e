package logs

import (
	"context"
	"os"
	"slices"
	"time"

	"holdfast/internal/app"
)

const (
	// relistEvery is how many polls pass until Watch looks for new logs, and into
	// those that rest.
	relistEvery = 10

	// restAfter is how many polls a log may be silent until Watch closes it and
	// only asks for its size: most logs are those of instances that are gone.
	restAfter = 100

	// batchMax is how many bytes of text are collected before fn gets them: a
	// client that was slow comes back to more than memory should hold.
	batchMax = 1 << 20
)

// Watch calls fn with the lines that Read gives, and then, until ctx ends, with
// those that are appended until that, of logs that appear later too. It calls fn at
// once, then ten times a second and once in the end, also with nothing, so that fn may do what has to
// be done now and then. Each call's entries are in the order of time; between
// logs, lines that are written at the same moment may come in two calls. An
// error of fn ends it and is returned; that ctx ends is no error.
func Watch(ctx context.Context, dir string, q Query, fn func([]Entry) error) error {
	w := &watcher{dir: dir, q: q, fn: fn, known: map[string]app.Key{}, logs: map[string]*watched{}}
	defer w.close()
	sources, err := q.sources(dir, w.known)
	if err != nil {
		return err
	}
	cursors, err := open(sources)
	if err != nil {
		closeAll(cursors)
		return err
	}
	w.batch, err = q.last(cursors)
	for _, c := range cursors {
		if seeking := w.adopt(c); err == nil {
			err = seeking
		}
	}
	if err != nil {
		return err
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := w.flush(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			// What was written until now: the last words of many. Who was watching may
			// have left, and that is no error.
			_ = w.poll(true)
			_ = w.flush()
			return nil
		}
		// A log that is named is looked for each time: its writer may have begun
		// and ended before the next look at all.
		if err := w.poll(n%relistEvery == 0 || q.Instance != "" && len(w.logs) == 0); err != nil {
			return err
		}
	}
}

type watcher struct {
	dir   string
	q     Query
	fn    func([]Entry) error
	known map[string]app.Key // see Query.sources
	logs  map[string]*watched
	batch []Entry // to be handed on
	bytes int     // of its text
}

// watched is one log that is followed.
type watched struct {
	follower
	silent int // polls since its last line
	later  time.Time

	// While it rests: what it was and how far it was read.
	rests  os.FileInfo // nil: it does not
	offset int64
}

// adopt goes on forwards where a cursor began, and takes its file.
func (w *watcher) adopt(c *cursor) error {
	l := w.add(c.source)
	l.file, c.first = c.first, nil
	if c.file != nil && c.file != l.file {
		c.file.Close()
	}
	_, err := l.file.Seek(c.end, 0)
	return err
}

// add follows a log from its beginning.
func (w *watcher) add(s source) *watched {
	l := &watched{}
	l.path, l.later = s.path, time.Now()
	l.fn = func(line Line) error {
		l.silent = 0
		e, ok := w.q.entry(s, line)
		if !e.Time.IsZero() {
			l.later = e.Time
		}
		if ok {
			e.at = l.later
			w.batch = append(w.batch, e)
			w.bytes += len(e.Text)
		}
		if w.bytes > batchMax {
			return w.flush()
		}
		return nil
	}
	w.logs[s.name] = l
	return l
}

// flush hands on what was collected.
func (w *watcher) flush() error {
	slices.SortStableFunc(w.batch, func(a, b Entry) int { return a.at.Compare(b.at) })
	batch := w.batch
	w.batch, w.bytes = nil, 0
	return w.fn(batch)
}

// poll collects what was appended since; with all it looks everywhere.
func (w *watcher) poll(all bool) error {
	if all {
		sources, err := w.q.sources(w.dir, w.known)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, s := range sources {
			there[s.name] = true
			if w.logs[s.name] == nil {
				w.add(s)
			}
		}
		for name, l := range w.logs {
			if !there[name] && l.rests != nil { // pruned
				delete(w.logs, name)
			}
		}
	}
	for _, l := range w.logs {
		if l.rests != nil && (!all || !l.wake()) {
			continue
		}
		l.silent++
		if err := l.more(); err != nil {
			return err
		}
		if l.silent >= restAfter {
			l.rest()
		}
	}
	return nil
}

// rest closes the file until there is more in it.
func (l *watched) rest() {
	if l.file == nil {
		return
	}
	info, err := l.file.Stat()
	offset, seekErr := l.file.Seek(0, 1)
	if err != nil || seekErr != nil || len(l.part) > 0 {
		return
	}
	l.file.Close()
	l.file, l.rests, l.offset, l.silent = nil, info, offset, 0
}

// wake opens the file where it was left, if anything has happened to the log.
func (l *watched) wake() bool {
	now, err := os.Stat(l.path)
	if err == nil && os.SameFile(now, l.rests) && now.Size() == l.offset {
		return false
	}
	// It may have been rotated since, and more than once.
	for i := 0; i < filesMax; i++ {
		f, err := os.Open(numbered(l.path, i))
		if err != nil {
			if i == 0 {
				continue // between two renames, or gone
			}
			break
		}
		if info, err := f.Stat(); err == nil && os.SameFile(info, l.rests) {
			if _, err := f.Seek(l.offset, 0); err == nil {
				l.file, l.rests = f, nil
				return true
			}
		}
		f.Close()
	}
	l.rests = nil // it is not there any more: what there is now is new
	return true
}

func (w *watcher) close() {
	for _, l := range w.logs {
		l.close()
	}
}
