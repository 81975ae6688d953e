// Package logs keeps what instances and requests wrote: it appends to rotated
// files, reads their last lines back and follows them while they grow. It knows
// lines, streams and files, and nothing of instances. Writer and reader share
// one file format and one rule of rotation, which is why both live here; they
// are usually different processes.
//
// A line in a file is
//
//	2026-11-22T18:30:00.123456Z out listening on 8080
//
// in UTC: time, stream, text. Rotation renames FILE to FILE.1, FILE.1 to FILE.2
// and so on, drops the oldest, and begins a new FILE; it happens between lines.
// Start reading at File and Follow.
package logs

import (
	"bytes"
	"strings"
	"time"
)

// Stream says where a line came from.
type Stream string

// The streams.
const (
	Out    Stream = "out" // the app's standard output
	Err    Stream = "err" // the app's standard error
	System Stream = "sys" // Holdfast's own remark about the instance
)

// Line is one line of a log.
type Line struct {
	Time   time.Time
	Stream Stream
	Text   string // without the newline; may hold any other byte
}

// stampLayout has a fixed width, so that lines align and sort as text.
const stampLayout = "2006-01-02T15:04:05.000000Z"

// appendTo formats l as it stands in a file, newline included. A newline inside
// the text would forge a line, so it becomes a space.
func (l Line) appendTo(b []byte) []byte {
	b = l.Time.UTC().AppendFormat(b, stampLayout)
	b = append(b, ' ')
	b = append(b, l.Stream...)
	b = append(b, ' ')
	b = append(b, strings.ReplaceAll(l.Text, "\n", " ")...)
	return append(b, '\n')
}

// parse reads one line of a file, without its newline. What is not of our
// format, as after a crash in the middle of a write, comes back whole as text
// of the System stream with a zero time: nothing that was written is hidden.
func parse(raw []byte) Line {
	stamp, rest, ok := bytes.Cut(raw, []byte(" "))
	if ok && len(stamp) == len(stampLayout) {
		stream, text, ok := bytes.Cut(rest, []byte(" "))
		t, err := time.Parse(stampLayout, string(stamp))
		if s := Stream(stream); ok && err == nil && (s == Out || s == Err || s == System) {
			return Line{Time: t, Stream: s, Text: string(text)}
		}
	}
	return Line{Stream: System, Text: string(raw)}
}
