package logs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// cursor reads a log backwards, through its rotated files too.
type cursor struct {
	source source
	first  *os.File // the current file; kept for who goes on forwards from end
	end    int64    // of first, after its last whole line, when the cursor was made

	file  *os.File  // being read; nil at the end of the log
	index int       // its number
	at    int64     // bytes before this one have not been read
	part  []byte    // the end of a line whose beginning has not been read; at most rawMax
	lines [][]byte  // read and not handed out, the latest last
	later time.Time // of the line before, in our direction
}

// windowBytes is how much is read at once: a screenful for people.
const windowBytes = 16 << 10

// open makes a cursor at the end of each log. Those that are gone meanwhile are
// left out. The caller closes all, also on error.
func open(sources []source) ([]*cursor, error) {
	var all []*cursor
	for _, s := range sources {
		f, err := os.Open(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, err
		}
		c := &cursor{source: s, first: f, file: f}
		all = append(all, c)
		info, err := f.Stat()
		if err != nil {
			return all, err
		}
		c.later = info.ModTime()
		if c.end, err = lineEnd(f, info.Size()); err != nil {
			return all, err
		}
		c.at = c.end
	}
	return all, nil
}

func closeAll(cursors []*cursor) {
	for _, c := range cursors {
		c.close()
	}
}

// close closes all that the cursor has open.
func (c *cursor) close() {
	if c.file != nil && c.file != c.first {
		c.file.Close()
	}
	c.file = nil
	if c.first != nil {
		c.first.Close()
		c.first = nil
	}
}

// lineEnd is the end of the last whole line before size: what is behind it is
// still being written.
func lineEnd(f *os.File, size int64) (int64, error) {
	buf := make([]byte, rawMax)
	start := max(0, size-int64(len(buf)))
	n, err := f.ReadAt(buf[:size-start], start)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
		return start + int64(i) + 1, nil
	}
	if start == 0 {
		return 0, nil
	}
	return size, nil // no line of ours; in pieces, then
}

// back is the entry before those that it gave already, and nil at the log's
// beginning or before q.Since.
func (c *cursor) back(q Query) (*Entry, error) {
	for {
		for len(c.lines) > 0 {
			raw := c.lines[len(c.lines)-1]
			c.lines = c.lines[:len(c.lines)-1]
			e, ok := q.entry(c.source, parse(raw))
			if !e.Time.IsZero() {
				c.later = e.Time
				if e.Time.Before(q.Since.Add(-disorder)) {
					c.lines, c.at = nil, 0
					c.leave()
					return nil, nil
				}
			}
			if ok {
				e.at = c.later
				return &e, nil
			}
		}
		if c.file == nil {
			return nil, nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads the window before c.at, or opens the file before.
func (c *cursor) fill() error {
	if c.at == 0 {
		return c.older()
	}
	start := max(0, c.at-windowBytes)
	buf := make([]byte, c.at-start, int(c.at-start)+len(c.part))
	n, err := c.file.ReadAt(buf, start)
	if n < len(buf) {
		if err == io.EOF { // it was cut short by somebody
			c.at = 0
			return nil
		}
		return err
	}
	buf = append(buf, c.part...)
	c.part, c.at = nil, start
	if start > 0 {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 && len(buf) < rawMax {
			c.part = buf
			return nil
		}
		// A line longer than ours can be is handed out in pieces.
		c.part, buf = buf[:max(i, 0)], buf[i+1:]
	}
	if len(buf) > 0 {
		c.lines = bytes.Split(bytes.TrimSuffix(buf, []byte("\n")), []byte("\n"))
	}
	return nil
}

// older goes on with the end of the file that was rotated before this one.
func (c *cursor) older() error {
	have, err := c.file.Stat()
	if err != nil {
		return err
	}
	c.leave()
	for i := c.index + 1; i < filesMax; i++ {
		f, err := os.Open(numbered(c.source.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return err
		}
		if os.SameFile(info, have) {
			f.Close() // rotated since: met again under its next name
			continue
		}
		c.file, c.index, c.at = f, i, info.Size()
		return nil
	}
	return nil
}

// leave ends reading the present file.
func (c *cursor) leave() {
	if c.file != c.first {
		c.file.Close()
	}
	c.file = nil
}
