package build

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nearestFlag is how a person says Options.Nearest.
const nearestFlag = "--nearest-runtime"

// numbers are the parts of a version that was asked for or found: 3.12 is {3, 12}.
type numbers []int

// versionForm is what a version looks like, within whatever a tool prints.
var versionForm = regexp.MustCompile(`\d{1,6}(\.\d{1,6}){0,3}`)

// parseWanted reads a runtime_version: "3.12", "20", "v18.2.0", "3.x".
func parseWanted(s string) (numbers, bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "v")
	for _, any := range []string{".x", ".X", ".*"} {
		s = strings.TrimSuffix(s, any)
	}
	if versionForm.FindString(s) != s || s == "" {
		return nil, false
	}
	return parseFound(s), true
}

// parseFound reads the first version in what a tool says about itself.
func parseFound(s string) numbers {
	var n numbers
	for _, part := range strings.Split(versionForm.FindString(s), ".") {
		i, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		n = append(n, i)
	}
	return n
}

// matches says whether a version is one that n means: 3.12.1 is a 3.12.
func (n numbers) matches(found numbers) bool {
	return len(found) >= len(n) && slices.Equal(found[:len(n)], n)
}

// far is how far two versions are apart, the first part weighing most. Among
// equally far ones the newer is nearer.
func (n numbers) far(found numbers) numbers {
	var d numbers
	for i := range n {
		f := 0
		if i < len(found) {
			f = found[i]
		}
		d = append(d, max(n[i]-f, f-n[i]))
	}
	return d
}

// choice is what the app wants of a runtime and how the machine's are told apart.
type choice struct {
	name    string                 // as people call it: Python
	wanted  string                 // in the app's words
	where   string                 // where it says so: runtime_version
	matches func(numbers) bool     // nil: any will do
	nearer  func(x, y numbers) int // orders by nearness; nil: the newest first
	install string                 // how to get it: the next step
}

// take chooses a tool: the first that matches. With Options.Nearest it is the
// nearest one if none does.
func (j *job) take(c choice, have []tool) (tool, error) {
	if len(have) == 0 {
		return tool{}, refuse(Prepare, c.install, "runtime %s needs %s, which this machine does not have", j.recipe.Runtime, c.name)
	}
	for _, t := range have {
		if c.matches == nil || c.matches(parseFound(t.Version)) {
			return t, nil
		}
	}
	if c.nearer == nil {
		c.nearer = func(x, y numbers) int { return slices.Compare(y, x) }
	}
	best := slices.MinFunc(have, func(x, y tool) int { return c.nearer(parseFound(x.Version), parseFound(y.Version)) })
	if j.opt.Nearest {
		j.note("%s %s is not here; taking the nearest, %s", c.name, c.wanted, best.Version)
		return best, nil
	}
	var list []string
	for _, t := range have {
		list = append(list, t.Version+" ("+t.Path+")")
	}
	return tool{}, refuse(Prepare,
		fmt.Sprintf("install it, change %s, or take the nearest (%s) with %s", c.where, best.Version, nearestFlag),
		"the app wants %s %s (%s); this machine has %s", c.name, c.wanted, c.where, strings.Join(list, ", "))
}

// versioned is the choice that runtime_version, or an older name of it, makes.
func (j *job) versioned(name, install string, keys ...string) (choice, error) {
	c := choice{name: name, install: install}
	for _, key := range append([]string{"runtime_version"}, keys...) {
		if c.wanted = strings.TrimSpace(j.recipe.RuntimeConfig[key]); c.wanted == "" {
			continue
		}
		n, ok := parseWanted(c.wanted)
		if !ok {
			return c, refuse(Prepare, "write it as in \"3.12\"", "%s %q is not a version of %s", key, c.wanted, name)
		}
		c.where = key
		c.matches = n.matches
		c.nearer = func(x, y numbers) int {
			return cmp.Or(slices.Compare(n.far(x), n.far(y)), slices.Compare(y, x))
		}
		break
	}
	return c, nil
}

// before is what must go before PATH so that name means t.
func (j *job) before(t tool, name string) []string {
	if path, ok := j.machine.find(name); ok && path == t.Path {
		return nil
	}
	return []string{filepath.Dir(t.Path)}
}

// one finds the one tool of a name in PATH and asks its version.
func (j *job) one(ctx context.Context, name, executable string, args ...string) []tool {
	e := j.environ(nil, nil)
	path, ok := e.find(executable)
	if !ok {
		return nil
	}
	said, err := j.ask(ctx, e, append([]string{path}, args...)...)
	if err != nil {
		j.note("left out %s: %v", path, err)
		return nil
	}
	return []tool{{Name: name, Path: path, Version: versionForm.FindString(said)}}
}
