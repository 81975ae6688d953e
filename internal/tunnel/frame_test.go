package tunnel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// parsed is what reading a whole stream at once tells.
type parsed struct {
	Traffic Traffic
	Ends    []int // offsets where frames end
	Code    int
	Reason  string
	Partial bool // the stream ends within a frame
}

// parse is the reference: it has the whole stream and reads it as the RFC is
// written, without any state between two calls.
func parse(stream []byte, fromClient bool) parsed {
	p := parsed{Code: CodeAbnormal}
	p.Traffic.Bytes = int64(len(stream))
	message, size := byte(0), uint64(0)
	at := 0
	for at < len(stream) {
		b := stream[at:]
		if len(b) < 2 {
			p.Partial = true
			return p
		}
		fin, rsv, op := b[0]>>7 == 1, b[0]>>4&7, b[0]&15
		masked, length := b[1]>>7 == 1, uint64(b[1]&127)
		head := 2
		short := false
		switch length {
		case 126:
			if len(b) < 4 {
				p.Partial = true
				return p
			}
			length = uint64(binary.BigEndian.Uint16(b[2:]))
			short = length < 126
			head = 4
		case 127:
			if len(b) < 10 {
				p.Partial = true
				return p
			}
			length = binary.BigEndian.Uint64(b[2:])
			short = length < 65536
			head = 10
		}
		key := make([]byte, 4)
		if masked {
			if len(b) < head+4 {
				p.Partial = true
				return p
			}
			copy(key, b[head:])
			head += 4
		}
		// The header is whole: the rules.
		bad := false
		rule := func(broken bool) { bad = bad || broken }
		rule(short)
		rule(length >= 1<<63)
		rule(masked != fromClient)
		rule(p.Code != CodeAbnormal)
		rule(rsv&3 != 0)
		rule(rsv&4 != 0 && op != 1 && op != 2)
		if op >= 8 {
			rule(op > 10)
			rule(op <= 10 && (!fin || length > 125))
			rule(op == 8 && length == 1)
		} else {
			rule(op > 2)
			rule(op == 0 && message == 0)
			rule((op == 1 || op == 2) && message != 0)
		}
		switch op {
		case 1, 2:
			message, size = op, length
		case 0:
			size += length
		}
		if bad {
			p.Traffic.Faults++
		}
		if length > uint64(len(b)-head) {
			p.Partial = true
			return p
		}
		payload := slices.Clone(b[head : head+int(length)])
		if masked {
			for i := range payload {
				payload[i] ^= key[i%4]
			}
		}
		switch op {
		case 8:
			p.Traffic.Close++
			if p.Code == CodeAbnormal {
				p.Code = CodeNone
				payload = payload[:min(125, len(payload))]
				if len(payload) >= 2 {
					p.Code = int(payload[0])<<8 | int(payload[1])
					p.Reason = strings.ToValidUTF8(string(payload[2:]), "\uFFFD")
				}
			}
		case 9:
			p.Traffic.Ping++
		case 10:
			p.Traffic.Pong++
		case 0, 1, 2:
			if fin {
				if message != 0 {
					p.Traffic.Largest = max(p.Traffic.Largest, int64(size))
				}
				switch message {
				case 1:
					p.Traffic.Text++
				case 2:
					p.Traffic.Binary++
				}
				message = 0
			}
		}
		at += head + int(length)
		p.Ends = append(p.Ends, at)
	}
	return p
}

// scanned is the same from the scanner, given the stream in pieces of at most
// size(); by advance, which stops at every end, or by scan.
func scanned(stream []byte, fromClient, whole bool, size func() int) parsed {
	s := scanner{fromClient: fromClient}
	var p parsed
	at := 0
	for at < len(stream) {
		piece := stream[at:min(len(stream), at+size())]
		if whole {
			s.scan(piece)
			at += len(piece)
			continue
		}
		for len(piece) > 0 {
			n := s.advance(piece)
			piece = piece[n:]
			if at += n; s.between() {
				p.Ends = append(p.Ends, at)
			}
		}
	}
	p.Traffic = s.count.traffic()
	p.Partial = !s.between()
	p.Code, p.Reason = s.said()
	return p
}

func checkScanner(t *testing.T, stream []byte, fromClient bool, seed uint64) {
	t.Helper()
	want := parse(stream, fromClient)
	rng := rand.New(rand.NewPCG(seed, 1))
	same := func(how string, got parsed, ends bool) {
		t.Helper()
		if got.Traffic != want.Traffic || got.Partial != want.Partial || got.Code != want.Code || got.Reason != want.Reason ||
			ends && !slices.Equal(got.Ends, want.Ends) {
			t.Errorf("%s, from client %t, seed %d:\n got %+v\nwant %+v\nof % x", how, fromClient, seed, got, want, stream[:min(len(stream), 400)])
		}
	}
	same("at once", scanned(stream, fromClient, true, func() int { return len(stream) }), false)
	same("frame by frame", scanned(stream, fromClient, false, func() int { return len(stream) }), true)
	same("byte by byte", scanned(stream, fromClient, false, func() int { return 1 }), true)
	same("in pieces", scanned(stream, fromClient, true, func() int { return 1 + rng.IntN(9) }), false)
	same("in larger pieces", scanned(stream, fromClient, false, func() int { return 1 + rng.IntN(300) }), true)
}

// streams are the shapes that count, for the tests and to seed the fuzzers.
func streams(masked bool) map[string][]byte {
	f := func(fin bool, op byte, n int) []byte { return frame(fin, op, masked, bytes.Repeat([]byte("x"), n)) }
	cat := func(ps ...[]byte) []byte { return bytes.Join(ps, nil) }
	raw := func(first, second byte, rest ...byte) []byte { return append([]byte{first, second}, rest...) }
	return map[string][]byte{
		"empty":                        {},
		"empty frames":                 cat(f(true, opText, 0), f(true, opBinary, 0), f(true, opPing, 0), f(true, opPong, 0)),
		"every length form":            cat(f(true, opText, 125), f(true, opText, 126), f(true, opBinary, 65535), f(true, opBinary, 65536)),
		"fragments":                    cat(f(false, opText, 3), f(true, opPing, 4), f(false, opContinuation, 0), f(true, opContinuation, 9), f(true, opBinary, 1)),
		"close":                        cat(f(true, opText, 3), closing(masked, 1000, "bye")),
		"close without code":           frame(true, opClose, masked, nil),
		"close with half a code":       frame(true, opClose, masked, []byte{3}),
		"close with bad utf-8":         closing(masked, 1001, "a\xff\xfeb"),
		"close of full length":         closing(masked, 4999, strings.Repeat("r", 123)),
		"close too long":               closing(masked, 4999, strings.Repeat("r", 500)),
		"two closes":                   cat(closing(masked, 1001, "first"), closing(masked, 1002, "second"), f(true, opText, 2)),
		"fragmented close":             frame(false, opClose, masked, []byte{3, 232}),
		"continuation of nothing":      f(true, opContinuation, 3),
		"message within message":       cat(f(false, opText, 3), f(true, opBinary, 3), f(true, opContinuation, 1)),
		"reserved opcodes":             cat(f(true, 3, 3), f(true, 7, 3), f(true, 11, 3), f(true, 15, 3)),
		"reserved bits":                cat(raw(0xC1, 0), raw(0xA1, 0), raw(0x91, 0), raw(0xC9, 0), raw(0xC0, 0)),
		"wrong mask":                   cat(frame(true, opText, !masked, []byte("x")), closing(!masked, 1000, "bye")),
		"length that could be shorter": cat(raw(0x82, 126, 0, 1, 'x'), raw(0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'x')),
		"length beyond all":            raw(0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 'x', 'y'),
		"long ping":                    f(true, opPing, 200),
		"cut in the header":            f(true, opBinary, 70000)[:7],
		"cut in the payload":           f(true, opBinary, 70000)[:300],
	}
}

func TestScanner(t *testing.T) {
	for _, fromClient := range []bool{true, false} {
		for name, stream := range streams(fromClient) {
			t.Run(name, func(t *testing.T) { checkScanner(t, stream, fromClient, 7) })
		}
	}
}

// Cutting the stream anywhere changes nothing, and an independent parser that
// has it all at once finds the same.
func FuzzScanner(f *testing.F) {
	for _, fromClient := range []bool{true, false} {
		for _, stream := range streams(fromClient) {
			if len(stream) < 1000 {
				f.Add(stream, fromClient, uint64(1))
			}
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, fromClient bool, seed uint64) {
		checkScanner(t, stream, fromClient, seed)
	})
}

func TestScannerDoesNotAllocate(t *testing.T) {
	stream := bytes.Join([][]byte{
		frame(true, opText, true, []byte("hello")), frame(false, opBinary, true, make([]byte, 70000)),
		frame(true, opPing, true, nil), frame(true, opContinuation, true, make([]byte, 300)),
	}, nil)
	s := scanner{fromClient: true}
	if n := testing.AllocsPerRun(100, func() { s.scan(stream) }); n != 0 {
		t.Errorf("scanning allocates %v times", n)
	}
}

func BenchmarkScanner(b *testing.B) {
	for name, size := range map[string]int{"16": 16, "128": 128, "4096": 4096} {
		b.Run(name, func(b *testing.B) {
			stream := bytes.Repeat(frame(true, opText, true, make([]byte, size)), 1+16<<10/size)
			s := scanner{fromClient: true}
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				s.scan(stream)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(1+16<<10/size), "ns/frame")
		})
	}
}
