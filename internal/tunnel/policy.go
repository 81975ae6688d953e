package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"holdfast/internal/app"
)

const (
	// heldMax is what may be held back of a frame, in bytes: a header that is
	// not whole yet, or what may become a pong of ours but for one byte.
	heldMax = max(headerMax, 2+4+pingSize) - 1

	// headroom is what a carrier leaves free in front of what it reads, in
	// bytes, for what had been held back.
	headroom = 16

	pingSize = 8 // bytes of payload in a ping of ours

	rateWindow = time.Second // of MaxMessagesPerSecond, beginning with a message
)

// careful is the part of a socket that is looked at frame by frame, because its
// version has a frame policy or wants pings. Most have neither.
//
// What came of a frame is held back until its header is whole, and as long as
// it may be the answer to a ping of ours, so that the other end's stream stands
// between two frames when a frame turns out not to be passed on. Nothing that
// is held back was given to the scanner, so that the scanner stands where the
// other end's stream does.
type careful struct {
	messageMax uint64 // 0: none
	rateMax    int    // 0: none
	strict     bool
	extended   bool // the ends agreed on an extension: it says what reserved bits mean

	began instant // of the window
	count int     // messages begun in it

	held [2]struct {
		n int
		p [heldMax]byte
	}

	every     time.Duration // 0: no pings
	pingAt    instant       // the next one
	lastPing  instant
	nonce     uint64 // the payload of ping n is nonce+n, which no other end guesses
	pings     uint64 // asked
	pongs     uint64 // the last one that was answered
	roundTrip time.Duration
}

// newCareful is nil when nothing has to be looked at.
func newCareful(sock Socket, now instant) *careful {
	if sock.MaxMessageBytes <= 0 && sock.MaxMessagesPerSecond <= 0 && !sock.StrictFrames && sock.PingInterval <= 0 {
		return nil
	}
	c := &careful{
		messageMax: uint64(max(0, sock.MaxMessageBytes)),
		rateMax:    max(0, sock.MaxMessagesPerSecond),
		strict:     sock.StrictFrames,
		extended:   sock.Extended,
	}
	if sock.PingInterval > 0 {
		var b [8]byte
		rand.Read(b[:])
		c.nonce = binary.BigEndian.Uint64(b[:])
		c.every = sock.PingInterval
		c.pingAt = now.add(c.every)
	}
	return c
}

// pingDue is when the client is to be pinged; zero is not. A ping has to wait
// for the end of a frame that is under way to the client: who gets one is alive.
func (s *socket) pingDue() instant {
	c, i, l := s.careful, &s.ends[instance], &s.ends[client]
	if c == nil || c.every == 0 || !i.scan.between() || s.leaving || s.over || l.voice != open || l.heard || l.shut || l.ended != 0 || i.ended != 0 {
		return 0
	}
	return c.pingAt
}

// ping is a ping to the client. The answer may come before it is known that it
// was written, so it counts from here.
func (c *careful) ping(now instant) []byte {
	c.pings++
	c.lastPing = now
	c.pingAt = now.add(c.every)
	f := []byte{bitFIN | opPing, pingSize}
	return binary.BigEndian.AppendUint64(f, c.nonce+c.pings)
}

// ours says whether a pong from the client, with this header, answers a ping of
// ours. It is not known until enough of p is there.
func (c *careful) ours(h header, p []byte, now instant) (ours, known bool) {
	if c.pings == 0 || h.first != bitFIN|opPong || h.second != bitMask|pingSize {
		return false, true
	}
	if len(p) < h.size+pingSize {
		return false, false
	}
	key, body := p[h.size-4:h.size], [pingSize]byte(p[h.size:])
	for i := range body {
		body[i] ^= key[i%4]
	}
	n := binary.BigEndian.Uint64(body[:]) - c.nonce
	if n == 0 || n > c.pings {
		return false, true
	}
	if n == c.pings && n != c.pongs {
		c.roundTrip = time.Duration(now - c.lastPing)
	}
	c.pongs = n
	return true, true
}

// unhold gives what buf holds behind its headroom, with what had been held back
// of that end's stream put in front of it.
func (c *careful) unhold(from side, buf []byte) []byte {
	h := &c.held[from]
	p := buf[headroom-h.n:]
	copy(p, h.p[:h.n])
	h.n = 0
	return p
}

func (c *careful) hold(from side, p []byte) {
	c.held[from].n = copy(c.held[from].p[:], p)
}

// sift passes on what may pass, compacted at the beginning of p. When a frame
// may not, the goodbye begins in front of it; rest is what came from there on.
func (s *socket) sift(from side, p []byte, now instant) (out, rest []byte) {
	c, scan := s.careful, &s.ends[from].scan
	kept, at := 0, 0
	for at < len(p) {
		if scan.between() {
			h, whole := readHeader(p[at:])
			if !whole {
				c.hold(from, p[at:])
				break
			}
			if cause := s.judge(from, h, now); cause != "" {
				s.goodbye(because(cause), now)
				return p[:kept], p[at:]
			}
			if from == client {
				ours, known := c.ours(h, p[at:], now)
				if !known {
					c.hold(from, p[at:])
					break
				}
				if ours {
					at += scan.advance(p[at:])
					continue
				}
			}
		}
		n := scan.advance(p[at:])
		if kept != at {
			copy(p[kept:], p[at:at+n])
		}
		kept += n
		at += n
	}
	return p[:kept], nil
}

// judge says why a frame must not pass; "" is that it may.
func (s *socket) judge(from side, h header, now instant) app.Cause {
	c, scan := s.careful, &s.ends[from].scan
	if s.leaving || s.ends[client].heard || s.ends[instance].heard {
		return "" // they take leave already, and no other reason can be given
	}
	if c.strict && s.breaks(scan, h) {
		return app.Broken
	}
	if from != client || !h.data() {
		return ""
	}
	size := h.length
	if h.opcode() == opContinuation {
		size = grown(scan.size, size)
	}
	if c.messageMax > 0 && size > c.messageMax {
		return app.TooBig
	}
	if c.rateMax > 0 && h.opcode() != opContinuation {
		if now-c.began >= instant(rateWindow) {
			c.began, c.count = now, 0
		}
		if c.count++; c.count > c.rateMax {
			return app.TooMany
		}
	}
	return ""
}

// breaks is the scanner's judgement, with what was agreed upon at the handshake.
func (s *socket) breaks(scan *scanner, h header) bool {
	const reserved = bitRSV1 | bitRSV2 | bitRSV3
	if s.careful.extended {
		h.first &^= reserved
	} else if h.first&reserved != 0 {
		return true
	}
	return scan.breaks(h)
}
