package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limit bounds one log. Its zero value means the defaults.
type Limit struct {
	Bytes int64 // a file's size before it is rotated; 0 means 10 MiB
	Files int   // files kept, the current one included; 0 means 5
}

const (
	defaultBytes = 10 << 20
	defaultFiles = 5

	// lineMax is the longest text of one line, in bytes. Longer ones are cut
	// into several lines: a reader's buffer must have a bound.
	lineMax = 16 << 10
)

func (l Limit) orDefaults() Limit {
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	if l.Files <= 0 {
		l.Files = defaultFiles
	}
	return l
}

// File is a rotated log that is being written. One process writes a log at a
// time; within it, all methods may be called from several goroutines.
type File struct {
	path  string
	limit Limit

	mu   sync.Mutex // guards the following
	f    *os.File   // nil after Close, and after a failed rotation until the next write
	size int64
	shut bool
}

// Create opens the log at path for appending, making it and its directory when
// they do not exist (0600 and 0700: apps write secrets into logs).
func Create(path string, limit Limit) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f := &File{path: path, limit: limit.orDefaults()}
	if err := f.openLocked(); err != nil {
		return nil, err
	}
	return f, nil
}

// openLocked opens the current file, ending a line that a crash left half
// written so that the next one stands alone.
func (f *File) openLocked() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	size := info.Size()
	if size > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, size-1); err == nil && last[0] != '\n' {
			n, _ := file.Write([]byte{'\n'})
			size += int64(n)
		}
	}
	f.f, f.size = file, size
	return nil
}

// Write appends p, which must be whole lines with their newlines, and rotates
// first when p would not fit.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return 0, fs.ErrClosed
	}
	if f.f != nil && f.size > 0 && f.size+int64(len(p)) > f.limit.Bytes {
		// A rotation that fails (a full disk, a removed directory) must not cost
		// the line: what could not be renamed is appended to.
		if err := f.rotateLocked(); err != nil && f.f == nil {
			return 0, err
		}
	}
	if f.f == nil {
		if err := f.openLocked(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *File) rotateLocked() error {
	f.f.Close()
	f.f = nil
	for i := f.limit.Files - 1; i >= 1; i-- {
		err := os.Rename(numbered(f.path, i-1), numbered(f.path, i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("rotate: %w", err), f.openLocked())
		}
	}
	if f.limit.Files == 1 {
		os.Remove(f.path)
	}
	return f.openLocked()
}

// numbered is the name of the i-th file of a log; 0 is the current one.
func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// Append writes one line.
func (f *File) Append(l Line) error {
	_, err := f.Write(l.appendTo(nil))
	return err
}

// Close ends writing. Streams that still write get fs.ErrClosed.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

// Stream returns a writer that cuts what it is given into lines, stamps each
// with the time and s, and appends them. Closing it writes an unfinished last
// line, and leaves the file open. One goroutine uses a stream; several streams
// may share a file.
func (f *File) Stream(s Stream) io.WriteCloser { return &stream{file: f, name: s} }

type stream struct {
	file *File
	name Stream
	part []byte // a line that has not ended yet; at most lineMax
	out  []byte // reused between writes
}

func (s *stream) Write(p []byte) (int, error) {
	now := time.Now()
	s.out = s.out[:0]
	rest := p
	for len(rest) > 0 {
		n := lineMax - len(s.part)
		chunk, ended := rest[:min(n, len(rest))], false
		if i := indexNewline(chunk); i >= 0 {
			chunk, ended = chunk[:i], true
		}
		s.part = append(s.part, chunk...)
		rest = rest[len(chunk):]
		if ended {
			rest = rest[1:]
		}
		if ended || len(s.part) == lineMax {
			s.endLine(now)
		}
	}
	if len(s.out) == 0 {
		return len(p), nil
	}
	if _, err := s.file.Write(s.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stream) endLine(now time.Time) {
	text := s.part
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	s.out = Line{Time: now, Stream: s.name, Text: string(text)}.appendTo(s.out)
	s.part = s.part[:0]
}

func (s *stream) Close() error {
	if len(s.part) == 0 {
		return nil
	}
	s.out = s.out[:0]
	s.endLine(time.Now())
	_, err := s.file.Write(s.out)
	return err
}

func indexNewline(b []byte) int {
	for i, c := range b {
		if c == '\n' {
			return i
		}
	}
	return -1
}
