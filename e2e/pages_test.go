package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages whose commands are run: README.md and everything in docs/. A fence
// of the language sh is commands, run in the order of the page as TestGuide
// tells. What a test has to know and a reader has not stands before the fence
// in HTML comments, which are no part of the rendered page:
//
//	<!-- not run: WHY -->     the next fence is left out
//	<!-- stays: REGEXP -->    its one command goes on, and has printed this
//	<!-- prints: REGEXP -->   it prints this; several are fine
//	<!-- fails -->            it ends with something else than 0
//	<!-- ctrl-c -->           ends what stayed last; no fence follows
//	<!-- run                  a hidden fence, which may have marks too
//	COMMANDS
//	-->
//
// A mark that belongs to nothing, and a fence that does not say its language,
// are mistakes: so no command is left out without saying so.

// A block is one fence of commands, or one hidden comment of them.
type block struct {
	line   int // where it begins in the page, for people
	text   string
	notRun string
	stays  *regexp.Regexp
	prints []*regexp.Regexp
	fails  bool
	ctrlC  bool // no commands: end what stayed last
}

var (
	oneLineMark = regexp.MustCompile(`^<!-- (not run|stays|prints|fails|ctrl-c)(?:: (.+))? -->$`)
	fence       = regexp.MustCompile("^\\s*```(.*)$")
)

// pages are the names of all pages, below the repository's root.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("../docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	names = append(names, "../README.md")
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], "../")
	}
	return names
}

// blocks reads what is to be run of a page.
func blocks(page string) ([]block, error) {
	text, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		return nil, err
	}
	var (
		found []block
		next  block // what marks have said about the fence that follows
		mark  bool
	)
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		line, at := lines[i], i+1
		if m := oneLineMark.FindStringSubmatch(line); m != nil {
			if m[1] == "ctrl-c" {
				found = append(found, block{line: at, ctrlC: true})
				continue
			}
			if err := next.note(m[1], m[2]); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", page, at, err)
			}
			mark = true
			continue
		}
		if line == "<!-- run" {
			end := i + 1 + slices.Index(lines[i+1:], "-->")
			if end == i {
				return nil, fmt.Errorf("%s:%d: a comment without an end", page, at)
			}
			next.line, next.text = at, strings.Join(lines[i+1:end], "\n")
			found = append(found, next)
			next, mark, i = block{}, false, end
			continue
		}
		m := fence.FindStringSubmatch(line)
		if mark && m == nil && strings.TrimSpace(line) != "" {
			return nil, fmt.Errorf("%s:%d: a mark, and no fence of commands after it", page, at)
		}
		if m == nil {
			continue
		}
		if m[1] == "" {
			return nil, fmt.Errorf("%s:%d: a fence without a language; commands are sh, what they print is text", page, at)
		}
		end := i + 1
		for end < len(lines) && strings.TrimSpace(lines[end]) != "```" {
			end++
		}
		if m[1] == "sh" {
			next.line, next.text = at, strings.Join(lines[i+1:min(end, len(lines))], "\n")
			found = append(found, next)
		} else if mark {
			return nil, fmt.Errorf("%s:%d: a mark before a fence of %s", page, at, m[1])
		}
		next, mark, i = block{}, false, end
	}
	return found, nil
}

// note takes down what a mark says.
func (b *block) note(mark, value string) (err error) {
	switch mark {
	case "fails":
		b.fails = true
		return nil
	case "not run":
		b.notRun = value
	case "stays":
		b.stays, err = regexp.Compile(value)
	case "prints":
		var what *regexp.Regexp
		what, err = regexp.Compile(value)
		b.prints = append(b.prints, what)
	}
	if value == "" {
		return fmt.Errorf("%q says nothing", mark)
	}
	return err
}
