package build

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	lineMax = 4 << 10 // bytes; a longer line is cut into pieces
	tailMax = 20      // lines that an error carries
	logMax  = 8 << 20 // bytes of a build's output that are kept
)

// output takes what the tools write, cuts it into lines, makes them harmless for
// a terminal and hands them on, keeps them in a file, and remembers the last.
type output struct {
	to io.Writer

	mu   sync.Mutex // guards the following
	part []byte     // the line that has begun
	tail []string
	log  *os.File // nil while there is no file
	left int      // bytes that log may still take
}

// open begins to keep the lines in the file name.
func (o *output) open(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("keep the build's output: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log, o.left = f, logMax
	return nil
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.log != nil {
		o.log.Close()
		o.log = nil
	}
}

// Write takes a piece of what a tool writes. It never fails, since a tool must
// not die of a closed terminal.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rest := p
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		line := rest
		if i >= 0 {
			line = rest[:i]
		}
		if room := lineMax - len(o.part); len(line) > room {
			o.part = append(o.part, line[:room]...)
			rest = rest[room:]
			o.flushLocked()
			continue
		}
		o.part = append(o.part, line...)
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		o.flushLocked()
	}
	return len(p), nil
}

// flush ends a line that has begun.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.part) > 0 {
		o.flushLocked()
	}
}

func (o *output) flushLocked() {
	line := clean(string(o.part))
	o.part = o.part[:0]
	o.lineLocked(line)
}

func (o *output) lineLocked(line string) {
	if o.tail = append(o.tail, line); len(o.tail) > tailMax {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	line += "\n"
	_, _ = io.WriteString(o.to, line)
	if o.log == nil || o.left <= 0 {
		return
	}
	if o.left -= len(line); o.left <= 0 {
		line = "(what follows is not kept)\n"
	}
	_, _ = o.log.WriteString(line)
}

// take returns the last lines and forgets them, so that the next command's error
// does not show this one's.
func (o *output) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.tail
	o.tail = nil
	return t
}

// note writes a line of our own.
func (j *job) note(format string, args ...any) {
	j.out.flush()
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	j.out.lineLocked(clean(fmt.Sprintf(format, args...)))
}

// clean makes a line harmless: no escape sequences, no control characters, and
// of a line that a progress bar overwrote only its last state.
func clean(s string) string {
	s = strings.TrimRight(s, "\r")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == 0x1b {
			s = s[escapeLength(s):]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		if r == '\t' || !unicode.IsControl(r) {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// escapeLength is the length of the ANSI escape sequence (ECMA-48) that s begins
// with, of the whole rest if it does not end.
func escapeLength(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[': // CSI: parameters, then a final byte
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', '_', '^', 'X': // strings, ended by BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && strings.HasPrefix(s[i+1:], `\`) {
				return i + 2
			}
			if s[i] == 0x1b { // another sequence begins; this one was never ended
				return i
			}
		}
		return len(s)
	}
	if s[1] < 0x80 {
		return 2
	}
	return 1
}
