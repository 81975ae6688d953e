package appyaml

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/app"
	"holdfast/internal/spelling"
)

// reader fills a version from a tree, value by value.
type reader struct {
	*source
	v     app.Version
	table section          // the schema
	seen  map[string]*node // what the file has, by its name in the schema

	ignored                          []*node // what flex ignores
	affinityAbove, affinityInNetwork *bool   // session_affinity, where it stands
	legacy                           legacyCheck
	differing                        []string // env_variables that App Engine would spell otherwise
}

// A taker reads one value of the tree: a section, or a reader of a single
// value. The node has its name and key when it comes.
type taker interface{ take(r *reader, n *node) }

type value func(n *node)

func (f value) take(_ *reader, n *node) { f(n) }

// section is a mapping whose keys are known.
type section map[string]taker

func (s section) take(r *reader, n *node) {
	if !r.is(n, mapping) {
		return
	}
	for _, p := range n.pairs {
		name := p.key.text
		if n.name != "" {
			name = n.name + "." + name
		}
		p.value.name, p.value.key = name, p.key.place
		t, ok := s[p.key.text]
		if !ok {
			r.unknown(s, n, p)
			continue
		}
		r.seen[name] = p.value
		t.take(r, p.value)
	}
}

// unknown reports a key that a section does not have: with the nearest that it
// has, or with the section that has it.
func (r *reader) unknown(s section, n *node, p pair) {
	n.bad = true
	if r.full() {
		r.more++
		return // a hint takes long to find
	}
	message := "unknown key " + quote(p.key.text)
	if n.name != "" {
		message += " in " + n.name
	}
	hint := spelling.DidYouMean(p.key.text, maps.Keys(s), "")
	if hint == "" {
		if home := r.table.home("", p.key.text); home != "" {
			hint = "it belongs into " + home
		}
	}
	r.fail(p.key.place, message, hint)
}

// home is the name of a section that has the key; "" if none has.
func (s section) home(name, key string) string {
	for _, k := range slices.Sorted(maps.Keys(s)) {
		sub, ok := s[k].(section)
		if !ok {
			continue
		}
		path := strings.TrimPrefix(name+"."+k, ".")
		if _, ok := sub[key]; ok {
			return path
		}
		if found := sub.home(path, key); found != "" {
			return found
		}
	}
	return ""
}

// wrong reports what is wrong with a value.
func (r *reader) wrong(n *node, hint, format string, args ...any) {
	n.bad = true
	r.fail(n.place, fmt.Sprintf(format, args...), hint)
}

// good says that values, those of them that the file has, were read without
// error, so that it makes sense to judge them together.
func (r *reader) good(names ...string) bool {
	for _, name := range names {
		if n := r.seen[name]; n != nil && n.bad {
			return false
		}
	}
	return true
}

// where is the first of the named values that the file has.
func (r *reader) where(names ...string) *node {
	for _, name := range names {
		if n := r.seen[name]; n != nil {
			return n
		}
	}
	return &node{place: place{1, 1}}
}

// is reports a value of another kind.
func (r *reader) is(n *node, k kind) bool {
	if n.kind == k && !n.bad {
		return true
	}
	if n.bad {
		return false // reported already
	}
	if n.kind == null {
		r.wrong(n, "give it a value or remove the line", "%s has no value", n.name)
	} else {
		r.wrong(n, "", "%s must be %s, not %s", n.name, k, n.kind)
	}
	return false
}

// text reads a string of the given shape; what names the shape for people.
// Numbers and booleans are strings too, spelt as in the file.
func (r *reader) text(to *string, shape *regexp.Regexp, what string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		if !shape.MatchString(n.text) {
			r.wrong(n, "it must be "+what, "%s: %s does not fit", n.name, quote(n.text))
			return
		}
		*to = n.text
	}
}

// oneOf reads one of some words.
func (r *reader) oneOf(to *string, words ...string) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		if !slices.Contains(words, n.text) {
			r.wrong(n, "it must be "+either(words), "%s: %s does not fit", n.name, quote(n.text))
			return
		}
		*to = n.text
	}
}

func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// YAML 1.1, which App Engine's client speaks, has more words for yes than most
// people want, but they are in people's files.
var (
	yes = words("y", "yes", "on", "true")
	no  = words("n", "no", "off", "false")
)

func words(lower ...string) map[string]bool {
	all := map[string]bool{}
	for _, w := range lower {
		all[w], all[strings.ToUpper(w)], all[strings.ToUpper(w[:1])+w[1:]] = true, true, true
	}
	return all
}

func (r *reader) boolean(set func(bool)) value {
	return func(n *node) {
		if !r.is(n, scalar) {
			return
		}
		switch {
		case n.plain && yes[n.text]:
			set(true)
		case n.plain && no[n.text]:
			set(false)
		case yes[n.text] || no[n.text]:
			r.wrong(n, "remove the quotes", "%s must be true or false, not text", n.name)
		default:
			r.wrong(n, "", "%s must be true or false, not %s", n.name, quote(n.text))
		}
	}
}

// whole reads an integer within bounds, both included.
func (r *reader) whole(to *int, least, most int) value {
	return func(n *node) {
		if i, ok := r.integer(n); ok {
			if i < int64(least) || i > int64(most) {
				r.wrong(n, "", "%s must be from %d to %d, not %d", n.name, least, most, i)
				return
			}
			*to = int(i)
		}
	}
}

// seconds reads whole seconds within bounds, both included.
func (r *reader) seconds(to *time.Duration, least, most int) value {
	return func(n *node) {
		var i int
		r.whole(&i, least, most)(n)
		if !n.bad {
			*to = time.Duration(i) * time.Second
		}
	}
}

// number reads a number within bounds, both included.
func (r *reader) number(to *float64, least, most float64) value {
	return func(n *node) {
		f, ok := r.float(n)
		if !ok {
			return
		}
		if f < least || f > most {
			r.wrong(n, "", "%s must be from %v to %v, not %s", n.name, least, most, n.text)
			return
		}
		*to = f
	}
}

var (
	decimal = regexp.MustCompile(`^[-+]?(0|[1-9][0-9_]*)(\.0*)?$`)
	based   = regexp.MustCompile(`^[-+]?0([xX][0-9a-fA-F_]+|b[01_]+|o[0-7_]+|[0-7_]+)$`)
	real    = regexp.MustCompile(`^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]{1,3})?$`)
)

// parseInteger reads what YAML 1.1 calls an integer, but for its numbers to
// base 60, and whole numbers with a point, such as 2.0.
func parseInteger(text string) (int64, bool) {
	digits, base := strings.ReplaceAll(text, "_", ""), 10
	switch {
	case decimal.MatchString(text):
		digits, _, _ = strings.Cut(digits, ".")
	case based.MatchString(text):
		base = 0 // by its prefix; 017 is octal
	default:
		return 0, false
	}
	i, err := strconv.ParseInt(digits, base, 64)
	return i, err == nil
}

func parseFloat(text string) (float64, bool) {
	if i, ok := parseInteger(text); ok {
		return float64(i), true
	}
	if !real.MatchString(text) {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	return f, err == nil
}

func (r *reader) integer(n *node) (int64, bool) {
	if !r.is(n, scalar) {
		return 0, false
	}
	i, ok := parseInteger(n.text)
	if !ok {
		r.wrong(n, "", "%s must be a whole number, not %s", n.name, quote(n.text))
	}
	return i, ok
}

func (r *reader) float(n *node) (float64, bool) {
	if !r.is(n, scalar) {
		return 0, false
	}
	f, ok := parseFloat(n.text)
	if !ok {
		r.wrong(n, "", "%s must be a number, not %s", n.name, quote(n.text))
	}
	return f, ok
}

// each reads a list, item by item. The items are named "list[0]" and so on.
func (r *reader) each(item func(n *node)) value {
	return func(n *node) {
		if !r.is(n, list) {
			return
		}
		for i, it := range n.items {
			it.name, it.key = fmt.Sprintf("%s[%d]", n.name, i), it.place
			item(it)
			n.bad = n.bad || it.bad
		}
	}
}

var identifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// entries walks a mapping whose keys are free, and whose values are text.
func (r *reader) entries(n *node) iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) {
		if !r.is(n, mapping) {
			return
		}
		for _, p := range n.pairs {
			p.value.name, p.value.key = n.name+"."+p.key.text, p.key.place
			if p.value.kind == null {
				r.wrong(p.value, `write "" for an empty text`, "%s has no value", p.value.name)
				continue
			}
			if r.is(p.value, scalar) && !yield(p.key.text, p.value) {
				return
			}
		}
	}
}

// variables reads a mapping of names to text.
func (r *reader) variables(to *map[string]string) value {
	return func(n *node) {
		m := map[string]string{}
		for key, v := range r.entries(n) {
			if !identifier.MatchString(key) {
				r.fail(v.key, fmt.Sprintf("%s: %s is no name", n.name, quote(key)), "a name has letters, digits and _, and does not begin with a digit")
				continue
			}
			m[key] = v.text
		}
		*to = m
	}
}
