package logs

import (
	"bytes"

	"holdfast/internal/app"
)

// Find gives the latest line of RequestLog that has text in it, byte by byte, and
// whether there is one. It may read all of the log, which its writer bounds.
func Find(dir, text string) (Entry, bool, error) {
	q := Query{RequestsOnly: true, Level: Any}
	sources, err := q.sources(dir, map[string]app.Key{})
	if err != nil {
		return Entry{}, false, err
	}
	cursors, err := open(sources)
	defer closeAll(cursors)
	if err != nil || len(cursors) == 0 {
		return Entry{}, false, err
	}
	for c := cursors[0]; ; {
		for len(c.lines) > 0 {
			raw := c.lines[len(c.lines)-1]
			c.lines = c.lines[:len(c.lines)-1]
			if bytes.Contains(raw, []byte(text)) {
				return requestEntry(parse(raw)), true, nil
			}
		}
		if c.file == nil {
			return Entry{}, false, nil
		}
		if err := c.fill(); err != nil {
			return Entry{}, false, err
		}
	}
}
