package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"holdfast/internal/app"
)

// What is left out of an app follows gcloud for the flexible environment: a
// .gcloudignore in the app's directory decides alone; without one it is
// skip_files, or flex's default of it. Both together are an error.

const (
	ignoreFile     = ".gcloudignore"
	ignoreBytesMax = 1 << 20
	ignoreLinesMax = 10_000
)

// flexSkipFiles is App Engine's default of skip_files, with the difference that
// .git and node_modules are not even walked through.
var flexSkipFiles = regexp.MustCompile(`^(?:(.*/)?#.*#|(.*/)?.*~|(.*/)?.*\.py[co]|(.*/)?.*/RCS/.*|(.*/)?\.git|(.*/)?\.git(ignore|/.*)|(.*/)?node_modules(/.*)?)$`)

// skipper returns what says whether a path, relative and slash-separated, is
// left out. What is below a directory that is left out is not asked about.
func skipper(f *folder, r app.Recipe) (func(name string, dir bool) bool, error) {
	text, err := readSmall(f.root, ignoreFile, ignoreBytesMax)
	var skip func(name string, dir bool) bool
	switch {
	case err == nil && r.SkipFiles != nil:
		return nil, refuse(Collect, "write the skip_files as patterns into .gcloudignore and remove them from app.yaml",
			"app.yaml has skip_files and there is a .gcloudignore; App Engine allows only one of them")
	case err == nil:
		patterns, err := parseIgnore(text, func(name string) (string, error) {
			return readSmall(f.root, name, ignoreBytesMax)
		})
		if err != nil {
			return nil, err
		}
		skip = patterns.match
	case !errors.Is(err, fs.ErrNotExist):
		return nil, refuse(Collect, "", "read %s: %w", ignoreFile, err)
	case r.SkipFiles != nil:
		skip, err = skipFiles(r.SkipFiles)
		if err != nil {
			return nil, err
		}
	default:
		skip = func(name string, _ bool) bool { return flexSkipFiles.MatchString(name) }
	}
	return func(name string, dir bool) bool {
		return name == f.own || name != "app.yaml" && skip(name, dir)
	}, nil
}

// skipFiles compiles the skip_files of app.yaml. As with App Engine they are
// matched from the start of the path, not necessarily to its end.
func skipFiles(list []string) (func(string, bool) bool, error) {
	var all []*regexp.Regexp
	for _, s := range list {
		re, err := regexp.Compile(`\A(?:` + s + `)`)
		if err != nil {
			return nil, refuse(Collect, "simplify it (Go's regular expressions have no lookaround), or use .gcloudignore",
				"skip_files: %w", err)
		}
		all = append(all, re)
	}
	return func(name string, _ bool) bool {
		for _, re := range all {
			if re.MatchString(name) {
				return true
			}
		}
		return false
	}, nil
}

// patterns are the lines of a .gcloudignore; the last one that matches decides.
type patterns []pattern

type pattern struct {
	glob    string // for doublestar, over the whole path
	include bool   // the line began with !
	dirOnly bool   // the line ended with /
}

// parseIgnore reads a .gcloudignore. include reads a file that a "#!include:"
// line names; what is included does not include further, as with gcloud.
func parseIgnore(text string, include func(name string) (string, error)) (patterns, error) {
	var all patterns
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if len(all) > ignoreLinesMax {
			return nil, refuse(Collect, "", "%s has more than %d patterns", ignoreFile, ignoreLinesMax)
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			name, ok := strings.CutPrefix(strings.TrimLeft(comment, " \t"), "!include:")
			if !ok || include == nil {
				continue
			}
			name = strings.TrimSpace(name)
			if name == "" || name == ".." || strings.ContainsAny(name, "/\x00") {
				return nil, refuse(Collect, "", "%s: #!include:%s: only a file in the same directory can be included", ignoreFile, name)
			}
			more, err := include(name)
			if err != nil {
				return nil, refuse(Collect, "create "+name+" or remove the line", "%s: #!include:%s: %w", ignoreFile, name, err)
			}
			included, err := parseIgnore(more, nil)
			if err != nil {
				return nil, err
			}
			all = append(all, included...)
			continue
		}
		if p, ok := parsePattern(line); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// parsePattern reads one line as gitignore(5) describes. Blank and malformed
// lines match nothing, as with git.
func parsePattern(line string) (p pattern, ok bool) {
	line, p.include = strings.CutPrefix(line, "!")
	line = trimSpaces(line)
	line, p.dirOnly = strings.CutSuffix(line, "/")
	if line == "" {
		return pattern{}, false
	}
	switch {
	case !strings.Contains(line, "/"):
		line = "**/" + line // at any depth
	default:
		line = strings.TrimPrefix(line, "/")
	}
	if strings.HasSuffix(line, "/**") {
		line += "/*" // everything inside, not the directory itself
	}
	// Braces are ordinary characters to git, alternatives to doublestar.
	p.glob = strings.NewReplacer(`\\`, `\\`, `\{`, `\{`, `\}`, `\}`, `{`, `\{`, `}`, `\}`).Replace(line)
	if line == "" || !doublestar.ValidatePattern(p.glob) {
		return pattern{}, false
	}
	return p, true
}

// trimSpaces removes trailing spaces but for one that a backslash protects.
func trimSpaces(s string) string {
	t := strings.TrimRight(s, " ")
	if len(t) == len(s) {
		return s
	}
	slashes := len(t) - len(strings.TrimRight(t, `\`))
	if slashes%2 == 1 {
		t += " "
	}
	return t
}

// match says whether the patterns leave name out. The caller does not ask about
// what is below a directory that is left out: nothing there can come back.
func (all patterns) match(name string, dir bool) bool {
	for i := len(all) - 1; i >= 0; i-- {
		p := all[i]
		if p.dirOnly && !dir {
			continue
		}
		if ok, err := doublestar.Match(p.glob, name); ok && err == nil {
			return !p.include
		}
	}
	return false
}

// readSmall reads a file of the app that is expected to be small.
func readSmall(root *os.Root, name string, most int64) (string, error) {
	if info, err := root.Stat(name); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if int64(len(data)) > most {
		return "", fmt.Errorf("%s has more than %d bytes", path.Base(name), most)
	}
	return string(data), nil
}
