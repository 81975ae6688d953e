package tunnel

import (
	"encoding/binary"
	"math"
	"strings"
)

// A frame begins with two to fourteen bytes (RFC 6455, 5.2):
//
//	byte 0     FIN, RSV1, RSV2, RSV3, four bits of opcode
//	byte 1     MASK, seven bits of length; 126 and 127 announce
//	2 or 8     the length itself, in network order
//	4          the masking key, if MASK is set
const (
	bitFIN  = 0x80
	bitRSV1 = 0x40
	bitRSV2 = 0x20
	bitRSV3 = 0x10
	bitMask = 0x80

	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	headerMax  = 14
	controlMax = 125 // bytes of payload in a control frame (RFC 6455, 5.5)
)

// scanner follows one direction of a WebSocket from frame to frame. It may be
// given the stream in pieces of any size. Payloads are skipped unseen, but for
// that of a Close frame, and what breaks the protocol is counted and followed
// all the same: the app remains the judge. The zero value stands before the
// first frame.
type scanner struct {
	fromClient bool // a client masks, an instance does not (RFC 6455, 5.1)
	closed     bool // a whole Close frame has passed

	message uint8 // opcode of the fragmented message under way; 0: none
	have    uint8 // header bytes of the frame under way; 0: between two frames
	head    [headerMax]byte
	left    uint64 // payload bytes of the frame under way that are still to come
	size    uint64 // payload bytes of the message under way, as far as announced

	count    counters
	farewell *farewell // of the first Close frame; kept apart because most of a life there is none
}

// counters are Traffic in fewer bytes. Control frames and faults stay at the
// end of their range rather than begin anew.
type counters struct {
	bytes, text, binary, largest uint64
	ping, pong, close, faults    uint32
}

func (c *counters) traffic() Traffic {
	return Traffic{
		Bytes: int64(c.bytes), Text: int64(c.text), Binary: int64(c.binary),
		Ping: int64(c.ping), Pong: int64(c.pong), Close: int64(c.close),
		Faults: int64(c.faults), Largest: int64(min(c.largest, math.MaxInt64)),
	}
}

func more(n *uint32) {
	if *n != math.MaxUint32 {
		*n++
	}
}

// farewell is the payload of a Close frame, unmasked.
type farewell struct {
	n    int
	body [controlMax]byte
}

// between says whether the stream stands between two frames. That is also so
// between the fragments of a message, where control frames may be put
// (RFC 6455, 5.4).
func (s *scanner) between() bool { return s.have == 0 }

// scan follows the stream through all of p.
func (s *scanner) scan(p []byte) {
	for len(p) > 0 {
		p = p[s.advance(p):]
	}
}

// advance follows the stream through p, but not beyond the end of the frame
// under way, or of the next one when none is. It returns how far it came.
func (s *scanner) advance(p []byte) int {
	n := 0
	if s.left == 0 { // in a header or before one, as a frame without payload ends with its header
		for s.have < 2 || s.have < headerSize(s.head[1]) {
			if n == len(p) {
				s.count.bytes += uint64(n)
				return n
			}
			s.head[s.have] = p[n]
			s.have++
			n++
		}
		s.begin()
	}
	rest := p[n:]
	if uint64(len(rest)) > s.left {
		rest = rest[:s.left]
	}
	if s.opcode() == opClose {
		s.listen(rest)
	}
	s.left -= uint64(len(rest))
	n += len(rest)
	if s.left == 0 {
		s.end()
	}
	s.count.bytes += uint64(n)
	return n
}

// skip follows the stream through n bytes of the payload under way, at most
// left, that nobody looked at. It must not be that of a Close frame.
func (s *scanner) skip(n int) {
	s.left -= uint64(n)
	s.count.bytes += uint64(n)
	if s.left == 0 {
		s.end()
	}
}

// header is the beginning of a frame, understood.
type header struct {
	first, second byte
	size          int    // bytes of the header itself
	length        uint64 // bytes of the payload
	wasteful      bool   // the length could be written shorter, or has its first bit set
}

func headerSize(second byte) uint8 {
	n := uint8(2)
	switch second &^ bitMask {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if second&bitMask != 0 {
		n += 4
	}
	return n
}

// readHeader understands the header at the beginning of p. It is false when p
// does not hold all of it.
func readHeader(p []byte) (h header, whole bool) {
	if len(p) < 2 || len(p) < int(headerSize(p[1])) {
		return header{}, false
	}
	h = header{first: p[0], second: p[1], size: int(headerSize(p[1]))}
	switch n := p[1] &^ bitMask; n {
	case 126:
		h.length = uint64(binary.BigEndian.Uint16(p[2:]))
		h.wasteful = h.length <= 125
	case 127:
		h.length = binary.BigEndian.Uint64(p[2:])
		h.wasteful = h.length <= 0xFFFF || h.length>>63 != 0
	default:
		h.length = uint64(n)
	}
	return h, true
}

func (h header) opcode() uint8 { return h.first & 0x0F }
func (h header) fin() bool     { return h.first&bitFIN != 0 }
func (h header) data() bool    { return h.opcode() <= opBinary }

// breaks says that a frame with this header, coming now, breaks RFC 6455.
func (s *scanner) breaks(h header) bool {
	op := h.opcode()
	control := op&0x8 != 0
	if h.wasteful || s.closed || (h.second&bitMask != 0) != s.fromClient {
		return true
	}
	// Of the reserved bits only the first is in use, by permessage-deflate, and
	// only where a message begins (RFC 7692, 6). Whether that was agreed upon
	// is not known here.
	if h.first&(bitRSV2|bitRSV3) != 0 || h.first&bitRSV1 != 0 && (control || op == opContinuation) {
		return true
	}
	switch op {
	case opContinuation:
		return s.message == 0
	case opText, opBinary:
		return s.message != 0
	case opClose, opPing, opPong:
		return !h.fin() || h.length > controlMax || op == opClose && h.length == 1
	}
	return true
}

// begin is called with a whole header.
func (s *scanner) begin() {
	h, _ := readHeader(s.head[:s.have])
	if s.breaks(h) {
		more(&s.count.faults)
	}
	s.left = h.length
	switch h.opcode() {
	case opText, opBinary:
		s.message, s.size = h.opcode(), h.length
	case opContinuation:
		s.size = grown(s.size, h.length)
	case opClose:
		if s.farewell == nil {
			s.farewell = new(farewell)
		}
	}
}

// grown is the size of a message with another n bytes, which may be announced
// beyond all measure.
func grown(size, n uint64) uint64 {
	if size+n < size {
		return math.MaxUint64
	}
	return size + n
}

func (s *scanner) opcode() uint8 { return s.head[0] & 0x0F }
func (s *scanner) fin() bool     { return s.head[0]&bitFIN != 0 }

// listen keeps what the first Close frame says.
func (s *scanner) listen(p []byte) {
	if s.closed {
		return
	}
	f := s.farewell
	var key []byte
	if s.head[1]&bitMask != 0 {
		key = s.head[s.have-4 : s.have]
	}
	for _, c := range p[:min(len(p), len(f.body)-f.n)] {
		if key != nil {
			c ^= key[f.n%4]
		}
		f.body[f.n] = c
		f.n++
	}
}

// end is called with the last byte of a frame.
func (s *scanner) end() {
	switch s.opcode() {
	case opPing:
		more(&s.count.ping)
	case opPong:
		more(&s.count.pong)
	case opClose:
		more(&s.count.close)
		s.closed = true
	case opContinuation, opText, opBinary:
		if !s.fin() {
			break
		}
		if s.message != 0 {
			s.count.largest = max(s.count.largest, s.size)
		}
		switch s.message {
		case opText:
			s.count.text++
		case opBinary:
			s.count.binary++
		}
		s.message = 0
	}
	s.have = 0
}

// said is the code and reason of the first Close frame: CodeAbnormal when none
// has passed, CodeNone when it had none. The reason is valid UTF-8 even when
// what was sent is not.
func (s *scanner) said() (code int, reason string) {
	if !s.closed {
		return CodeAbnormal, ""
	}
	body := s.farewell.body[:s.farewell.n]
	if len(body) < 2 {
		return CodeNone, ""
	}
	return int(binary.BigEndian.Uint16(body)), strings.ToValidUTF8(string(body[2:]), "\uFFFD")
}
