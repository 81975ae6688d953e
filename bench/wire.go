//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
)

// What the two ends say: WebSocket frames (RFC 6455, 5.2) and as much HTTP/1.1
// as they need.

const (
	opText   = 1
	opBinary = 2
	opClose  = 8
)

// maskZero is the masking key of the generator's frames. It is a valid one,
// and what is masked with it need not be touched.
var maskZero = [4]byte{}

// appendHead begins an unfragmented frame of n bytes.
func appendHead(b []byte, op byte, n int, masked bool) []byte {
	var bit byte
	if masked {
		bit = 0x80
	}
	b = append(b, 0x80|op)
	switch {
	case n <= 125:
		b = append(b, bit|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|127), uint64(n))
	}
	if masked {
		b = append(b, maskZero[:]...)
	}
	return b
}

// frames finds the frames in a stream that comes in any pieces.
type frames struct {
	head       [14]byte
	have, size uint8 // of head; size is 0 until it is known
	op         byte
	mask       [4]byte
	length     uint64 // of the payload
	done       uint64 // bytes of it that were given
}

var errFrame = errors.New("malformed frame")

// next takes bytes of p up to the end of one frame at most. It returns the
// part of the payload among them and where in the payload it stands, what is
// left of p, and whether the frame ended.
func (f *frames) next(p []byte) (part []byte, at uint64, rest []byte, ended bool, err error) {
	for f.size == 0 || f.have < f.size {
		if len(p) == 0 {
			return nil, 0, nil, false, nil
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		if f.have == 2 {
			if f.head[0]&0xf0 != 0x80 && f.head[0]&0xf0 != 0 {
				return nil, 0, nil, false, errFrame
			}
			f.size = 2
			switch f.head[1] & 0x7f {
			case 126:
				f.size += 2
			case 127:
				f.size += 8
			}
			if f.head[1]&0x80 != 0 {
				f.size += 4
			}
		}
		if f.size != 0 && f.have == f.size {
			f.read()
		}
	}
	at = f.done
	n := min(f.length-f.done, uint64(len(p)))
	part, rest = p[:n], p[n:]
	f.done += n
	if f.done == f.length {
		f.have, f.size = 0, 0
		ended = true
	}
	return part, at, rest, ended, nil
}

func (f *frames) read() {
	f.op, f.done = f.head[0]&0x0f, 0
	h := f.head[2:f.size]
	switch n := f.head[1] & 0x7f; n {
	case 126:
		f.length, h = uint64(binary.BigEndian.Uint16(h)), h[2:]
	case 127:
		f.length, h = binary.BigEndian.Uint64(h), h[8:]
	default:
		f.length = uint64(n)
	}
	f.mask = [4]byte{}
	copy(f.mask[:], h)
}

// unmask undoes the masking of part, which stands at at in its payload.
func (f *frames) unmask(part []byte, at uint64) {
	if f.mask == maskZero {
		return
	}
	for i := range part {
		part[i] ^= f.mask[(at+uint64(i))&3]
	}
}

// acceptKey answers a handshake's key (RFC 6455, 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// headMax bounds a head that either end reads, in bytes.
const headMax = 64 << 10

var errHead = errors.New("malformed HTTP head")

// cutHead splits p after an HTTP head; ok is false while it has not all come.
func cutHead(p []byte) (head, rest []byte, ok bool) {
	head, rest, ok = bytes.Cut(p, []byte("\r\n\r\n"))
	return head, rest, ok
}

// header finds a header line's value; "" where there is none.
func header(head []byte, name string) string {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		k, v, ok := bytes.Cut(line, []byte(":"))
		if ok && len(k) == len(name) && bytes.EqualFold(k, []byte(name)) {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// status is the one of an answer's head.
func status(head []byte) (int, error) {
	if len(head) < len("HTTP/1.1 200") || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return 0, errHead
	}
	n, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return 0, errHead
	}
	return n, nil
}
