package build

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// leavesOut asks as the collector does: directory by directory.
func (all patterns) leavesOut(name string) bool {
	parts := strings.Split(name, "/")
	for i := range parts {
		if all.match(path.Join(parts[:i+1]...), i+1 < len(parts)) {
			return true
		}
	}
	return false
}

func TestIgnorePatterns(t *testing.T) {
	for _, c := range []struct {
		lines string
		out   string // left out
		in    string // kept
	}{
		{"a", "a x/a a/b", "ab"},
		{"/a", "a a/b", "x/a"},
		{"a/", "a/b x/a/b", "a x/a"},
		{"x/a", "x/a x/a/b", "y/x/a a"},
		{"*.log", "a.log x/b.log", "log"},
		{"*.log\n!keep.log", "a.log", "keep.log x/keep.log"},
		{"x/\n!x/keep", "x/keep", "keep"},
		{"x/*\n!x/keep", "x/a x/b/c", "x/keep"},
		{"x/**\n!x/keep", "x/a", "x/keep"},
		{"**/a/b", "a/b x/a/b a/x/a/b", "a/x/b"},
		{"a/**/b", "a/b a/x/y/b", "x/a/b"},
		{"a?c", "abc", "ac a/c"},
		{"[ab]", "a b", "c"},
		{"[!ab]", "c", "a"},
		{`\#a`, "#a", "a"},
		{`\!a`, "!a", "a"},
		{"# a\n\n  \n", "", "a #"},
		{"a  ", "a", "a.b"},
		{`a\ `, "a ", "a"},
		{"{a,b}", "{a,b}", "a b"},
		{"[", "", "[ a"},
		{"a\r\nb\r\n", "a b", "c"},
		{"/", "", "a"},
		{"!", "", "a"},
	} {
		p, err := parseIgnore(c.lines, nil)
		if err != nil {
			t.Errorf("%q: %v", c.lines, err)
		}
		check := func(list string, want bool) {
			names := strings.Fields(list)
			if strings.HasSuffix(list, " ") {
				names = []string{list}
			}
			for _, name := range names {
				if got := p.leavesOut(name); got != want {
					t.Errorf("%q: leaves %q out: %v, want %v", c.lines, name, got, want)
				}
			}
		}
		check(c.out, true)
		check(c.in, false)
	}
}

// TestIgnoreAsGitDoes compares with git itself on random patterns.
func TestIgnoreAsGitDoes(t *testing.T) {
	need(t, "git")
	dir := tree(t, nil)
	git := func(stdin string, args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"}
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout = &out
		_ = cmd.Run() // 1 means that nothing is ignored
		return out.String()
	}
	git("", "init", "-q")
	names := []string{"a", "b", "ab", "a.b", "{a}", "c"}
	var paths []string
	for _, x := range names {
		for _, y := range names {
			for _, z := range names {
				paths = append(paths, x+"/"+y+"/"+z)
			}
		}
	}
	pieces := []string{"a", "b", "ab", "*", "**", "a*", "?b", "[ab]", "[!a]", "a.b", "*.b", `\a`, "{a}", "[a-b]*"}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	for i := range 60 {
		var lines []string
		for range 1 + random.IntN(3) {
			var s []string
			for range 1 + random.IntN(4) {
				s = append(s, pieces[random.IntN(len(pieces))])
			}
			line := strings.Join(s, "/")
			for _, decorate := range []string{"!%s", "/%s", "%s/", "%s/**"} {
				if random.IntN(5) == 0 {
					line = fmt.Sprintf(decorate, line)
				}
			}
			lines = append(lines, strings.Replace(line, "/!", "!/", 1))
		}
		text := strings.Join(lines, "\n") + "\n"
		put(t, path.Join(dir, ".gitignore"), text)
		ignored := map[string]bool{}
		for line := range strings.Lines(git(strings.Join(paths, "\n"), "check-ignore", "--stdin", "--no-index")) {
			ignored[strings.TrimSpace(line)] = true
		}
		p, err := parseIgnore(text, nil)
		if err != nil {
			t.Fatalf("seed %d, %q: %v", seed, text, err)
		}
		for _, name := range paths {
			if got := p.leavesOut(name); got != ignored[name] {
				t.Errorf("seed %d, round %d: %q leaves %s out: %v; git says %v", seed, i, text, name, got, ignored[name])
				break
			}
		}
	}
}

func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.log\n!a\n/b/\n", "#!include:x\n", "[a-\n\\", "**/**/*a*a*a*a*b", "a\\ ", "{,}", "!/", "[[:alpha:]]"} {
		f.Add(s, "x/a.log")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := parseIgnore(text, func(string) (string, error) { return "a", nil })
		if err != nil || len(text) > 4096 || len(name) > 256 {
			return
		}
		p.match(name, false)
		p.match(name, true)
		// A last line that names everything decides, whatever came before.
		everything, err := parseIgnore(strings.TrimRight(text, "\r\n")+"\n*\n", nil)
		if err == nil && name != "" && !strings.Contains(name, "/") && !everything.match(name, false) {
			t.Fatalf("%q and then * keep %q", text, name)
		}
	})
}
