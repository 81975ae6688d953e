package build

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

func TestLinesAreHarmless(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain\ttext", "plain\ttext"},
		{"10%\r50%\r100%", "100%"},
		{"dos\r", "dos"},
		{"\x1b[31mred\x1b[0m", "red"},
		{"\x1b]0;title\x07x", "x"},
		{"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"},
		{"\x1b", ""},
		{"a\x1bcb", "ab"},
		{"bell\a\b\x00", "bell"},
		{"\u009b31mé", "31mé"},
		{"bad \xff", "bad \uFFFD"},
	} {
		if got := clean(c.in); got != c.want {
			t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestOutputDoesNotDependOnCuts(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 4))
	var text strings.Builder
	for i := range 50 {
		fmt.Fprintf(&text, "line %d %s\n", i, strings.Repeat("x", random.IntN(lineMax/8)))
	}
	text.WriteString(strings.Repeat("y", lineMax*2+7))
	var whole strings.Builder
	o := &output{to: &whole}
	o.Write([]byte(text.String()))
	o.flush()
	for range 20 {
		var got strings.Builder
		o := &output{to: &got}
		for rest := text.String(); rest != ""; {
			n := 1 + random.IntN(len(rest))
			o.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		o.flush()
		if got.String() != whole.String() {
			t.Fatalf("seed %d: cut elsewhere, the output differs", seed)
		}
	}
	if tail := o.take(); len(tail) != tailMax || tail[tailMax-1] != "yyyyyyy" {
		t.Errorf("the tail has %d lines, the last %q", len(tail), tail[len(tail)-1])
	}
}

func TestKeptOutputIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	var all strings.Builder
	o := &output{to: &all}
	if err := o.open(name); err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("z", 1<<10) + "\n")
	for range logMax/len(line) + 100 {
		o.Write(line)
	}
	o.close()
	info, err := os.Stat(name)
	if err != nil || info.Size() > logMax+100 || all.Len() <= logMax {
		t.Errorf("kept %v, %v; out got %d bytes", info, err, all.Len())
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"\x1b[31mred\x1b[0m", "a\rb", "\x1b]0;x\x07y", "\x1bP\x1b", "\xff\x1b\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if strings.ContainsFunc(got, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) {
			t.Fatalf("clean(%q) = %q", s, got)
		}
		if again := clean(got); again != got {
			t.Fatalf("clean(%q) = %q, and cleaned again %q", s, got, again)
		}
	})
}
