package bus

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// The bounds of what is read. A stranger gets Redis's own, which are enough to
// say who one is.
const (
	readBytes        = 1 << 10 // an idle connection's buffer
	readKeptMax      = 64 << 10
	lineBytesMax     = 64 << 10 // of an inline command, as in Redis
	headBytesMax     = 32       // of *N and $N: 64-bit numbers have 20 digits
	argsMax          = 10_001   // a command and channelsPerConnMax names
	commandBytesMax  = messageBytesMax + 256<<10
	strangerArgsMax  = 10
	strangerBytesMax = 16 << 10
)

// parser cuts a stream into commands. It keeps what is not complete, and where
// in it it stopped, so that no byte is looked at twice however the stream is cut.
type parser struct {
	known bool // who sends is known: more is allowed

	buf        []byte
	start, end int // what is there and not given out

	// Within the command that begins at start; offsets count from there.
	at    int    // parsed up to here
	seen  int    // searched for a line's end up to here
	want  int    // arguments that it will have; 0: not known yet
	size  int    // of the argument at hand; -1: not known yet
	spans []span // arguments that are complete
	args  [][]byte
}

type span struct{ from, to int }

// room is where the next bytes are to be read into; never empty. What next
// returned before is not valid any more.
func (p *parser) room() []byte {
	if p.start == p.end {
		p.start, p.end = 0, 0
		if p.at == 0 && len(p.buf) > readKeptMax {
			p.buf = nil // a large message was a guest
		}
	}
	if p.buf == nil {
		p.buf = make([]byte, readBytes)
	}
	if p.end == len(p.buf) {
		if p.start > 0 {
			p.end = copy(p.buf, p.buf[p.start:p.end])
			p.start = 0
		}
		if p.end > len(p.buf)/2 {
			// With what has come, not with what was announced.
			p.buf = append(p.buf[:p.end], make([]byte, len(p.buf))...)
		}
	}
	return p.buf[p.end:]
}

// fed says that n bytes were read into room.
func (p *parser) fed(n int) { p.end += n }

// size in memory, beyond what every connection has.
func (p *parser) extra() int {
	if n := len(p.buf); n > readKeptMax {
		return n
	}
	return 0
}

// next is the next command, nil when it is not complete yet. What it returns
// is valid until room is called. After an error nothing more can be read.
func (p *parser) next() ([][]byte, error) {
	for {
		if p.want == 0 {
			args, more, err := p.begin()
			if err != nil || len(args) > 0 || !more {
				return args, err
			}
			continue
		}
		for len(p.spans) < p.want {
			ok, err := p.argument()
			if err != nil || !ok {
				return nil, err
			}
		}
		args := p.args[:0]
		for _, s := range p.spans {
			args = append(args, p.buf[p.start+s.from:p.start+s.to])
		}
		p.args = args
		p.done()
		return args, nil
	}
}

// done ends the command at hand.
func (p *parser) done() {
	p.start += p.at
	p.at, p.seen, p.want, p.size = 0, 0, 0, -1
	if p.spans = p.spans[:0]; cap(p.spans) > argsKept {
		p.spans, p.args = nil, nil
	}
}

// argsKept is how long a list of arguments is kept for the next command.
const argsKept = 64

// line is the next line without its end, nil if it is not complete.
func (p *parser) line(most int, what string) ([]byte, error) {
	rest := p.buf[p.start+p.at : p.end]
	n := bytes.IndexByte(rest[p.seen-p.at:], '\n')
	if n < 0 {
		p.seen = p.end - p.start
		if len(rest) > most+1 { // a \r may be the last
			return nil, errors.New("too big " + what)
		}
		return nil, nil
	}
	n += p.seen - p.at
	if n > most+1 {
		return nil, errors.New("too big " + what)
	}
	p.at += n + 1
	p.seen = p.at
	return bytes.TrimSuffix(rest[:n:n], []byte("\r")), nil
}

// begin reads how many arguments there will be, or a whole inline command.
// more says that there may be more to read.
func (p *parser) begin() (args [][]byte, more bool, err error) {
	if p.start == p.end {
		return nil, false, nil
	}
	p.size = -1
	inline := p.buf[p.start] != '*'
	most, what := headBytesMax, "mbulk count string"
	if inline {
		most, what = lineBytesMax, "inline request"
		if !p.known {
			most = strangerBytesMax
		}
	}
	line, err := p.line(most, what)
	if err != nil || line == nil {
		return nil, false, err
	}
	if inline {
		args, err = splitLine(line)
		p.done()
		return args, true, err
	}
	n, err := strconv.Atoi(string(line[1:]))
	switch {
	case err != nil || n > argsMax:
		return nil, false, errors.New("invalid multibulk length")
	case n > strangerArgsMax && !p.known:
		return nil, false, errors.New("unauthenticated multibulk length")
	case n <= 0:
		p.done() // Redis takes it for nothing
	default:
		p.want = n
	}
	return nil, true, nil
}

// argument reads the next argument, or says that it is not complete.
func (p *parser) argument() (ok bool, err error) {
	if p.size < 0 {
		if p.start+p.at == p.end {
			return false, nil
		}
		if c := p.buf[p.start+p.at]; c != '$' {
			return false, errors.New("expected '$', got '" + string([]byte{c}) + "'")
		}
		line, err := p.line(headBytesMax, "bulk count string")
		if err != nil || line == nil {
			return false, err
		}
		n, err := strconv.Atoi(string(line[1:]))
		switch {
		case err != nil || n < 0:
			return false, errors.New("invalid bulk length")
		case n > strangerBytesMax && !p.known:
			return false, errors.New("unauthenticated bulk length")
		case n > messageBytesMax || p.at+n > commandBytesMax:
			return false, errors.New("invalid bulk length: a message may have " + strconv.Itoa(messageBytesMax) + " bytes here")
		}
		p.size = n
	}
	if p.end-p.start < p.at+p.size+2 {
		return false, nil
	}
	p.spans = append(p.spans, span{p.at, p.at + p.size})
	p.at += p.size + 2 // Redis does not look at the line's end either
	p.seen, p.size = p.at, -1
	return true, nil
}

var errQuotes = errors.New("unbalanced quotes in request")

// splitLine cuts an inline command into words. They may be quoted: "a\n\x41"
// knows escapes, 'a b' only \'. The words are the caller's.
func splitLine(line []byte) ([][]byte, error) {
	var args [][]byte
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) || line[i] == 0 { // a C string ends there
			return args, nil
		}
		word := []byte{}
		var quote byte
		for ; i < len(line) || quote != 0; i++ {
			if i >= len(line) {
				return nil, errQuotes
			}
			c := line[i]
			switch {
			case c == 0:
				if quote != 0 {
					return nil, errQuotes
				}
				return append(args, word), nil
			case quote == 0 && isSpace(c):
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
				continue
			case quote == '"' && c == '\\' && i+1 < len(line):
				var n int
				c, n = unescape(line[i:])
				word = append(word, c)
				i += n - 1
				continue
			case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
				word = append(word, '\'')
				i++
				continue
			case quote != 0 && c == quote:
				// Behind a closing quote there is a space or nothing.
				if i+1 < len(line) && !isSpace(line[i+1]) && line[i+1] != 0 {
					return nil, errQuotes
				}
				quote = 0
				i++
			default:
				word = append(word, c)
				continue
			}
			break
		}
		args = append(args, word)
	}
}

// unescape reads the escape that text begins with, and says how long it is.
func unescape(text []byte) (c byte, n int) {
	if len(text) >= 4 && text[1] == 'x' {
		if v, err := strconv.ParseUint(string(text[2:4]), 16, 8); err == nil {
			return byte(v), 4
		}
	}
	if i := strings.IndexByte("nrtba", text[1]); i >= 0 {
		return "\n\r\t\b\a"[i], 2
	}
	return text[1], 2
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
