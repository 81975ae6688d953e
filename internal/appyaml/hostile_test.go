package appyaml

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// quick is far above what any file takes (half a second on a slow machine),
// with the race detector and other work beside it, and far below what the
// parser would take without the bounds: minutes, or the memory of the machine.
const quick = 10 * time.Second

// TestHostileFilesAreRefusedQuickly: each of these stops a parser somewhere.
func TestHostileFilesAreRefusedQuickly(t *testing.T) {
	t.Parallel()
	indent := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat(" ", i) + line + "\n")
		}
		return b.String()
	}
	laughs := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	many := func(f string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, f, i)
		}
		return b.String()
	}
	files := map[string]string{
		"over 1 MiB":              strings.Repeat("#", 1<<20+1),
		"billion laughs":          laughs,
		"deep indentation":        indent(1400, "a:"),
		"deep lists":              indent(1400, "-"),
		"deep mappings in lists":  indent(1000, "- a:"),
		"many variables":          "env_variables:\n" + many("  K%d: v\n", 60_000),
		"many unknown keys":       many("key%d: v\n", 6_000),
		"many wrong values":       "env_variables:\n" + many("  K%d: []\n", 3_900),
		"many bad patterns":       "skip_files:\n" + many("- (%d\n", 9_900),
		"long pattern":            "skip_files: " + strings.Repeat("(a*)*", 200_000),
		"wide flow":               "a: [" + strings.Repeat("[[[[[[[[a]]]]]]]],", 50_000) + "]",
		"wide flow within bounds": "a: [" + strings.Repeat("[[[[[[[[a]]]]]]]],", 1_000) + "]",
		"blank lines in a text":   "a: |\n x" + strings.Repeat("\n", 1<<20-10),
		"blank lines with blanks": "a: |\n x" + strings.Repeat("\n  ", 15_000),
		"blank lines in bounds":   strings.Repeat("a: |\n x"+strings.Repeat("\n", 999), 20),
		"long blank lines":        "a: |\n x" + strings.Repeat("\n"+strings.Repeat(" ", 1000), 1000),
		"long key":                strings.Repeat("k", 1<<20-10) + ": x",
		"long quoted key":         "'" + strings.Repeat("k", 1<<20-10) + "': x",
		"open quote":              `a: "` + strings.Repeat(`\n`, 1<<19-10),
		"one long line":           "entrypoint: " + strings.Repeat("x ", 1<<19-10),
		"comments":                strings.Repeat("# c\n", 19_000),
		"NUL":                     "a: \x00",
		"escaped NUL":             `entrypoint: "a\0b"`,
		"UTF-16":                  "\xff\xfer\x00u\x00",
		"not UTF-8":               "a: \xff\xfe\xfd",
		"line separators":         strings.Repeat("a: b\u2028", 100_000),
	}
	for _, s := range []string{
		"[", "{", "- ", "? ", "a: ", "{a: ", "&a ", "!!str ", "!a ", "*a ", "|\n", "'", `"`, "%", "%YAML 1.1\n", "\t", "- [", "@",
		"a:\n", "---\n", "...\n", "\r", "\n", ": ", ">", "a: &a ", "- !a ", "{? ", "[? a: ", "a: [\n", "- a: ", "[a,", "<<: ", "!!str\n- ", "- !!str ", "\ufeff", "- -\n", "? -\n", "[]: ", "{}: ",
	} {
		files[fmt.Sprintf("%.9q", s)+" repeated"] = strings.Repeat(s, 100_000)
	}
	// Not in parallel: the time of each is its own.
	for name, file := range files {
		if len(file) > 1<<20 && name != "over 1 MiB" {
			file = file[:1<<20]
		}
		start := time.Now()
		_, _, err := Parse("app.yaml", []byte(file))
		took := time.Since(start)
		if err == nil {
			t.Errorf("%s: Parse took it", name)
			continue
		}
		if took > quick {
			t.Errorf("%s: Parse took %v, must not take over %v", name, took, quick)
		}
		if n := len(err.Error()); n > 100_000 {
			t.Errorf("%s: the message has %d bytes", name, n)
		}
		if testing.Verbose() {
			t.Logf("%-28s %8v %.150s", name, took.Round(time.Millisecond), strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
}

// TestMessagesAreSafeToPrint: what a file says reaches no terminal as a command.
func TestMessagesAreSafeToPrint(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"env: \"\\e[31m\"\n", "\"\\e[31m\": x\n", "env_variables: {\"\\e\": }\n", "beta_settings: {\"holdfast.\\e\": 1}\n",
		"env: \x1b\n", "env: \u202eflex\n", "runtime_config: {\"\\e[m\": [1]}\n", "entrypoint: !\u202e x\n", "a: [\u202e\n",
	} {
		_, warnings, err := Parse("app.yaml", []byte(file))
		if err == nil {
			t.Errorf("Parse(%q) took it", file)
			continue
		}
		checkPrintable(t, file, err, warnings)
	}
}
