package edge

import (
	"bytes"
	"strings"
)

// What two parsers could read differently is how a request is smuggled past one
// of them: net/http takes a line that ends in "\n" alone, an app's server may
// not. So HTTP/1 is read twice. The scanner goes over the bytes on their way to
// net/http, takes only what RFC 9112 lets be read in one way, and everything
// from the first byte on that it does not take stays out. What passes net/http
// reads as the scanner did, and so does whoever reads it next; a fuzzer holds
// that against two other parsers.

// state is where in a message the scanner stands. The way through one:
//
//	start ─► fields ─┬─► body ──────────────────────────────┬─► start
//	                 ├─► size ─► data ─► dataEnd ─► size      │
//	                 │     └──► trailers ────────────────────┤
//	                 ├────────────────────────────────────────┘
//	                 └─► asked: for another protocol
//
// and from everywhere to lost.
type state uint8

const (
	inStart state = iota
	inFields
	inBody
	inSize // of a chunk
	inData
	inDataEnd
	inTrailers
	inAsked
	inLost
)

const (
	// headMax bounds what the scanner goes over without the end of a head, in
	// bytes: twice what Limits.HeaderBytes may be. net/http says 431 before.
	headMax = 2 << 20

	// trailersMax bounds a request's trailers, in bytes, and sizeMax a chunk's
	// size with its extensions: nobody is known to need as much. net/http would say
	// of twice these trailers that they are too long.
	trailersMax = 2 << 10
	sizeMax     = 256
)

// scanner reads a client's side of an HTTP/1 connection. Its zero value stands
// before the first request.
type scanner struct {
	at    state
	fault string // lost: why, for the log
	line  []byte // the beginning of a line of which the end has not come
	left  uint64 // inBody and inData: bytes until its end
	room  int    // bytes that a head, a size or trailers may still have
	head  head
}

// head is what a request's head said so far.
type head struct {
	method    string
	authority string // of a target in absolute form
	absolute  bool
	old       bool // HTTP/1.0
	host      string
	hosts     int
	length    uint64
	lengths   int
	chunked   bool
	upgrades  int  // Upgrade headers
	switches  bool // Connection names upgrade
	keys      int  // Sec-WebSocket-Key
	versions  int  // Sec-WebSocket-Version
}

// scan goes over what came and returns how much of it may pass: all, or up to
// the byte that would complete what can be read in two ways, and it is lost
// then; or up to the end of a head that asks for another protocol.
func (s *scanner) scan(p []byte) (pass int) {
	for at := 0; at < len(p); {
		switch s.at {
		case inAsked, inLost:
			return at
		case inBody, inData:
			n := min(s.left, uint64(len(p)-at))
			at += int(n)
			if s.left -= n; s.left == 0 {
				s.ended()
			}
			continue
		}
		rest := p[at:]
		end := bytes.IndexByte(rest, '\n')
		n := end
		if end < 0 {
			n = len(rest)
		}
		if s.at == inStart && len(s.line) == 0 {
			s.head, s.room = head{}, headMax
		}
		if s.room -= n; s.room < 0 || s.at == inDataEnd && len(s.line)+n > 1 {
			s.lose("longer than it may be")
			return at
		}
		if end < 0 {
			s.line = append(s.line, rest...)
			return len(p)
		}
		line := rest[:end]
		if len(s.line) > 0 {
			line = append(s.line, line...)
			s.line = line[:0]
		}
		s.read(line)
		if s.at == inLost {
			return at + end
		}
		at += end + 1
	}
	return len(p)
}

// ended is called at the end of a body or of a chunk's data.
func (s *scanner) ended() {
	if s.at == inBody {
		s.at = inStart
		return
	}
	s.at, s.room = inDataEnd, 1
}

func (s *scanner) lose(why string) {
	if s.at != inLost {
		s.at, s.fault, s.line = inLost, why, nil
	}
}

// read takes a line, without the "\n" that ends it.
func (s *scanner) read(line []byte) {
	n := len(line) - 1
	if n < 0 || line[n] != '\r' || bytes.IndexByte(line[:n], '\r') >= 0 {
		s.lose("a line that does not end in CRLF, or a CR within one")
		return
	}
	line = line[:n]
	switch s.at {
	case inStart:
		if s.readStart(line); s.at != inLost {
			s.at = inFields
		}
	case inFields, inTrailers:
		if n > 0 {
			s.readField(line)
		} else if s.at == inFields {
			s.judge()
		} else {
			s.at = inStart
		}
	case inSize:
		s.readSize(line)
	case inDataEnd:
		s.at, s.room = inSize, sizeMax
	}
}

// readStart takes a request line: token SP target SP version (RFC 9112, 3).
func (s *scanner) readStart(line []byte) {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || !isToken(method) {
		s.lose("no request line")
		return
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		s.head.old = true
	default:
		s.lose("not HTTP/1.1 or HTTP/1.0")
		return
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f || c == '#' { // a fragment is not sent; who takes it for one cuts there
			s.lose("a byte that no target has")
			return
		}
	}
	s.head.method = string(method)
	switch {
	case s.head.method == "CONNECT":
		s.head.absolute, s.head.authority = true, string(target)
	case len(target) > 0 && target[0] == '/':
	case string(target) == "*" && s.head.method == "OPTIONS":
	default:
		scheme, rest, ok := strings.Cut(string(target), "://")
		if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
			s.lose("a target of no known form")
			return
		}
		if end := strings.IndexAny(rest, "/?"); end >= 0 {
			rest = rest[:end]
		}
		s.head.absolute, s.head.authority = true, rest
	}
}

// readField takes a header or a trailer (RFC 9112, 5): a token, a colon at once,
// and no line that goes on in the next.
func (s *scanner) readField(line []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !isToken(line[:colon]) {
		s.lose("no header's name before the colon")
		return
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			s.lose("a control byte in a header")
			return
		}
	}
	if s.at == inTrailers {
		if framing(name) {
			s.lose("a trailer that would have been a header")
		}
		return
	}
	switch len(name) {
	case len("Host"):
		if is(name, "Host") {
			s.head.host = string(value)
			s.head.hosts++
		}
	case len("Upgrade"):
		if is(name, "Upgrade") {
			s.head.upgrades++
		}
	case len("Connection"):
		if is(name, "Connection") {
			s.head.switches = s.head.switches || hasWord(value, "upgrade")
		}
	case len("Content-Length"):
		if is(name, "Content-Length") {
			s.readLength(value)
		} else if framing(name) {
			s.lose("a header that CGI takes for another") // Content_Length
		}
	case len("Transfer-Encoding"):
		switch {
		case is(name, "Transfer-Encoding"):
			if s.head.chunked || !is(value, "chunked") {
				s.lose("a transfer coding other than chunked")
			}
			s.head.chunked = true
		case is(name, "Sec-WebSocket-Key"):
			s.head.keys++
		case framing(name):
			s.lose("a header that CGI takes for another")
		}
	case len("Sec-WebSocket-Version"):
		if is(name, "Sec-WebSocket-Version") {
			s.head.versions++
		}
	}
}

// readLength takes a Content-Length: one number, in digits alone.
func (s *scanner) readLength(value []byte) {
	s.head.lengths++
	if len(value) == 0 || len(value) > len("999999999999999999") { // fits into 63 bits
		s.lose("a length that is none")
		return
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			s.lose("a length that is none")
			return
		}
		s.head.length = s.head.length*10 + uint64(c-'0')
	}
}

// judge looks at a whole head, and says what follows it.
func (s *scanner) judge() {
	h := &s.head
	asked := h.upgrades > 0 && h.switches && !h.old
	switch {
	case h.hosts > 1 || h.hosts == 0 && !h.old:
		s.lose("not one Host")
	case h.hosts > 0 && !isAuthority(h.host):
		s.lose("a Host that is none")
	case h.absolute && (h.authority == "" || !isAuthority(h.authority) || h.hosts > 0 && !strings.EqualFold(h.authority, h.host)):
		s.lose("a target and a Host that disagree")
	case h.lengths > 1 || h.lengths > 0 && h.chunked:
		s.lose("two lengths")
	case h.chunked && h.old:
		s.lose("a transfer coding in HTTP/1.0")
	case h.upgrades > 1 || h.keys > 1 || h.versions > 1:
		s.lose("an upgrade that is asked for twice")
	case asked && (h.chunked || h.length > 0):
		s.lose("an upgrade with a body")
	case asked:
		s.at = inAsked
	case h.chunked:
		s.at, s.room = inSize, sizeMax
	case h.length > 0:
		s.at, s.left = inBody, h.length
	default:
		s.at = inStart
	}
}

// readSize takes a chunk's size: hexadecimal digits, then extensions as RFC
// 9112, 7.1.1, has them, without the spaces that it only tolerates.
func (s *scanner) readSize(line []byte) {
	n, digits := uint64(0), 0
	for ; digits < len(line); digits++ {
		d := unhex(line[digits])
		if d < 0 {
			break
		}
		n = n<<4 | uint64(d)
	}
	if digits == 0 || digits > 15 || !areExtensions(line[digits:]) {
		s.lose("a chunk's size that is none")
		return
	}
	if s.left = n; n == 0 {
		s.at, s.room = inTrailers, trailersMax
	} else {
		s.at = inData
	}
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// areExtensions: any number of ;name, ;name=token or ;name="quoted".
func areExtensions(p []byte) bool {
	for len(p) > 0 {
		if p[0] != ';' {
			return false
		}
		p = p[1:]
		n := tokenEnd(p)
		if n == 0 {
			return false
		}
		if p = p[n:]; len(p) == 0 || p[0] != '=' {
			continue
		}
		p = p[1:]
		if n = tokenEnd(p); n == 0 {
			n = quotedEnd(p)
		}
		if n == 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

// tokenEnd is how long the token is that p begins with.
func tokenEnd(p []byte) int {
	for i, c := range p {
		if !tokenBytes[c] {
			return i
		}
	}
	return len(p)
}

// quotedEnd is how long the quoted string is that p begins with; 0 for none.
func quotedEnd(p []byte) int {
	if len(p) == 0 || p[0] != '"' {
		return 0
	}
	for i := 1; i < len(p); i++ {
		switch c := p[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
		case c < ' ' && c != '\t' || c == 0x7f:
			return 0
		}
	}
	return 0
}

// framing tells whether a header says where a message ends or whose it is, or
// would to an app behind CGI or WSGI, where a hyphen and an underscore are one.
func framing(name []byte) bool {
	for _, n := range []string{"Content-Length", "Transfer-Encoding", "Host", "Trailer"} {
		if len(name) == len(n) && is(bytes.ReplaceAll(name, []byte("_"), []byte("-")), n) {
			return true
		}
	}
	return false
}

// is compares names of ASCII, without regard to case.
func is(name []byte, other string) bool {
	return len(name) == len(other) && strings.EqualFold(string(name), other)
}

// hasWord tells whether a comma-separated list has a word.
func hasWord(list []byte, word string) bool {
	for part := range bytes.SplitSeq(list, []byte(",")) {
		if is(bytes.Trim(part, " \t"), word) {
			return true
		}
	}
	return false
}

// isAuthority tells whether a Host can be read in one way: a name or an address,
// and perhaps a port.
func isAuthority(s string) bool {
	name, port := s, ""
	if end := strings.LastIndexByte(s, ']'); strings.HasPrefix(s, "[") {
		if end < 2 {
			return false
		}
		name, port = s[1:end], s[end+1:]
		if port != "" && port[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(port, ":")
		for _, c := range []byte(name) {
			if unhex(c) < 0 && c != ':' && c != '.' {
				return false
			}
		}
	} else {
		name, port, _ = strings.Cut(s, ":")
		for _, c := range []byte(name) {
			if !hostBytes[c] {
				return false
			}
		}
	}
	for _, c := range []byte(port) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(port) <= len("65535")
}

func isToken(p []byte) bool { return len(p) > 0 && tokenEnd(p) == len(p) }

// tokenBytes are what a header's name is made of (RFC 9110, 5.6.2), hostBytes
// what a host's name is.
var (
	tokenBytes = set("!#$%&'*+-.^_`|~" + alphanumeric)
	hostBytes  = set("-._" + alphanumeric)
)

const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func set(chars string) (t [256]bool) {
	for _, c := range []byte(chars) {
		t[c] = true
	}
	return t
}
