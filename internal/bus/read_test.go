package bus

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// parse feeds input in pieces as long as cut says.
func parse(input []byte, known bool, cut func() int) (got []string) {
	p := parser{known: known, size: -1}
	for {
		for {
			args, err := p.next()
			if err != nil {
				return append(got, err.Error())
			}
			if args == nil {
				break
			}
			got = append(got, fmt.Sprintf("%q", args))
		}
		if len(input) == 0 {
			return got
		}
		n := copy(p.room(), input[:min(len(input), cut())])
		p.fed(n)
		input = input[n:]
	}
}

// However the stream is cut, the commands are the same, and so is the error.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$4\r\nPING\r\n$1\r\nx\r\nPING y\r\n", "*0\r\n*-1\r\n\r\nPING\r\n", `SUBSCRIBE "a\x41\n" 'b\'c'` + "\r\n",
		"*1\r\n$-5\r\n", "*1\r\n$9223372036854775800\r\nPING\r\n", "*99999999\r\n", "$3\r\nfoo\r\n", "\x00\r\n", "*1\r\n$4\r\nPINGxx",
		"*11\r\n", "*1\r\n$16385\r\n", `"a"b` + "\r\n", `"a\` + "\r\n", "*1\n$1\nx\n\n",
		"*100\r\n" + strings.Repeat("$1\r\nx\r\n", 100) + "PING\r\n",
	} {
		f.Add([]byte(s), uint64(1), true)
		f.Add([]byte(s), uint64(2), false)
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64, known bool) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		whole := parse(input, known, func() int { return len(input) })
		cut := parse(input, known, func() int { return 1 + rnd.IntN(7) })
		if fmt.Sprint(whole) != fmt.Sprint(cut) {
			t.Errorf("%q with seed %d: whole\n%s\ncut\n%s", input, seed, whole, cut)
		}
	})
}

// What was large does not stay.
func TestALargeMessageIsAGuest(t *testing.T) {
	t.Parallel()
	p := parser{known: true, size: -1}
	feed := func(b []byte) {
		for len(b) > 0 {
			n := copy(p.room(), b)
			p.fed(n)
			b = b[n:]
		}
	}
	feed(wire("PUBLISH", "a", string(make([]byte, messageBytesMax))))
	if args, err := p.next(); len(args) != 3 || err != nil {
		t.Fatalf("next: %d arguments, %v", len(args), err)
	}
	if got := p.extra(); got < messageBytesMax || got > 2*commandBytesMax {
		t.Errorf("with the message: %d bytes", got)
	}
	p.room()
	if got := p.extra(); got != 0 {
		t.Errorf("after it: %d bytes", got)
	}
}
