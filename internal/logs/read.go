package logs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	// filesMax bounds how far back readers look for rotated files.
	filesMax = 100

	// pollInterval is how often Follow looks for more. Polling works on every
	// file system and costs one read; a person does not see a tenth of a second.
	pollInterval = 100 * time.Millisecond

	// rawMax is the longest raw line that a reader takes in one piece: a line
	// of lineMax and its stamp, with room to spare.
	rawMax = lineMax + 256
)

// Tail returns the last n lines of the log at path, oldest first, looking into
// rotated files as far as needed. A log that does not exist has no lines.
func Tail(path string, n int) ([]Line, error) {
	var lines []Line
	for i := 0; i < filesMax && len(lines) < n; i++ {
		older, err := tailFile(numbered(path, i), n-len(lines))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		lines = append(older, lines...)
	}
	return lines, nil
}

// tailFile reads the last n lines of one file from its end backwards.
func tailFile(name string, n int) ([]Line, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	// Twice the guess until enough lines are in, or the whole file.
	for window := int64(16 << 10); ; window *= 2 {
		start := max(0, end-window)
		section := io.NewSectionReader(f, start, end-start)
		lines, err := readAll(section, start > 0)
		if err != nil {
			return nil, err
		}
		if len(lines) >= n || start == 0 {
			return lines[max(0, len(lines)-n):], nil
		}
	}
}

// readAll parses r to its end. skipFirst drops the first line, which began
// before r did.
func readAll(r io.Reader, skipFirst bool) ([]Line, error) {
	var lines []Line
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 4096), rawMax)
	scan.Split(boundedLines)
	for scan.Scan() {
		if skipFirst {
			skipFirst = false
			continue
		}
		lines = append(lines, parse(scan.Bytes()))
	}
	return lines, scan.Err()
}

// boundedLines is bufio.ScanLines for files that may hold anything: a line
// longer than ours can be is handed out in pieces instead of failing the scan.
func boundedLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := indexNewline(data); i >= 0 {
		return i + 1, data[:i], nil
	}
	if len(data) >= rawMax-1 {
		return len(data), data, nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// Follow calls fn for every line of the log at path from the time from on, in
// order, and goes on with what is appended until ctx ends, which is not an
// error. It survives rotation and a file that does not exist yet. A zero from
// means the whole log. An error of fn ends it and is returned.
func Follow(ctx context.Context, path string, from time.Time, fn func(Line) error) error {
	f := follower{path: path, from: from, fn: fn}
	defer f.close()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if err := f.more(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			// What was written before the end was asked for still comes.
			return f.more()
		}
	}
}

type follower struct {
	path string
	from time.Time
	fn   func(Line) error

	file *os.File // the current file, nil until it exists
	part []byte   // an unfinished line; at most rawMax
	buf  [32 << 10]byte
}

// backlog gives the lines of rotated files, oldest first, and opens the current
// one. While there is none it gives nothing: what is rotated between that look
// and the next would be missed.
func (f *follower) backlog() error {
	var older []*os.File
	defer func() {
		for _, o := range older {
			o.Close()
		}
	}()
	// The current file is opened first: what is rotated while we open the rest
	// is then read from the open descriptor, and nothing is read twice.
	current, err := os.Open(f.path)
	if err != nil {
		return nil // not there yet, or between two renames
	}
	f.file = current
	last, _ := current.Stat() // of the file opened before
	for i := 1; i < filesMax; i++ {
		o, err := os.Open(numbered(f.path, i))
		if err != nil {
			break
		}
		info, err := o.Stat()
		if err == nil && last != nil && os.SameFile(info, last) {
			o.Close() // rotated since we opened it: met again under its next name
			continue
		}
		older, last = append(older, o), info
	}
	for i := len(older) - 1; i >= 0; i-- {
		if err := f.drain(older[i]); err != nil {
			return err
		}
	}
	return nil
}

// more reads what was appended, and moves to the new file after a rotation.
func (f *follower) more() error {
	for {
		if f.file == nil {
			if err := f.backlog(); err != nil || f.file == nil {
				return err
			}
		}
		// Asked before reading: what the writer appended before it rotated is
		// then sure to be in what we read.
		successors := f.successors()
		if err := f.drain(f.file); err != nil {
			return err
		}
		if len(successors) == 0 {
			return nil
		}
		f.file.Close()
		f.file = nil
		// Rotated more than once since the last look: the files between.
		for _, s := range successors[:len(successors)-1] {
			err := f.drain(s)
			s.Close()
			if err != nil {
				return err
			}
		}
		f.file = successors[len(successors)-1]
	}
}

// successors opens the files that came after f.file, oldest first; none while
// f.file is still the current one. The caller closes them.
func (f *follower) successors() []*os.File {
	have, err := f.file.Stat()
	if err != nil {
		return nil
	}
	var newer []*os.File
	var last os.FileInfo // of the file opened before
	for i := 0; i < filesMax; i++ {
		file, err := os.Open(numbered(f.path, i))
		if err != nil {
			if i == 0 {
				return nil // between two renames; the next look finds it
			}
			break
		}
		info, err := file.Stat()
		if err == nil && os.SameFile(info, have) {
			file.Close()
			break
		}
		if err == nil && last != nil && os.SameFile(info, last) {
			file.Close() // rotated while we look: met again under its next name
			continue
		}
		newer, last = append(newer, file), info
	}
	slices.Reverse(newer)
	return newer
}

// drain reads file to its present end and hands out the lines that are whole.
func (f *follower) drain(file *os.File) error {
	for {
		n, err := file.Read(f.buf[:])
		chunk := f.buf[:n]
		for len(chunk) > 0 {
			i := indexNewline(chunk)
			if i < 0 && len(f.part)+len(chunk) < rawMax {
				f.part = append(f.part, chunk...)
				break
			}
			cut, skip := i, i+1
			if i < 0 { // longer than a line of ours can be: in pieces
				cut, skip = len(chunk), len(chunk)
			}
			f.part = append(f.part, chunk[:cut]...)
			line := parse(f.part)
			f.part = f.part[:0]
			chunk = chunk[skip:]
			if line.Time.Before(f.from) && !line.Time.IsZero() {
				continue
			}
			if err := f.fn(line); err != nil {
				return err
			}
		}
		if err == io.EOF || n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
	}
}
