package googleapi

import (
	"strings"
	"time"

	"holdfast/internal/logs"
)

// The filters of Cloud Logging, as far as gcloud and people who add to them
// need: comparisons of a few names, joined by AND, OR, NOT and parentheses.

const (
	filterMax   = 20_000 // bytes, as in Cloud Logging
	filterDepth = 50     // parentheses within each other
)

// condition says whether a log entry is meant.
type condition func(e *wireEntry) bool

// filter is a parsed one: the condition, and what of it holds for all that it
// lets through, so that no more than that need be read.
type filter struct {
	meets            condition
	service, version string    // "": any
	since            time.Time // zero: any
}

type filterReader struct {
	text string // what is left
	err  error
	f    filter
}

func parseFilter(text string) (filter, error) {
	if len(text) > filterMax {
		return filter{}, wrong("filter", "it has more than %d characters", filterMax)
	}
	r := &filterReader{text: text}
	r.f.meets = func(*wireEntry) bool { return true }
	if r.peek() != "" {
		r.f.meets = r.or(0, true)
		if r.err == nil && r.peek() != "" {
			r.fail("after the end: %s", shown(r.text))
		}
	}
	return r.f, r.err
}

func (r *filterReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = wrong("filter", format, args...)
	}
	r.text = ""
}

// next takes a word: a string in quotes with its first quote before it, a
// symbol, or letters. "" is the end.
func (r *filterReader) next() string {
	r.text = strings.TrimLeft(r.text, " \t\r\n")
	switch {
	case r.text == "":
		return ""
	case r.text[0] == '"':
		var b strings.Builder
		b.WriteByte('"')
		for i := 1; i < len(r.text); i++ {
			switch ch := r.text[i]; {
			case ch == '"':
				r.text = r.text[i+1:]
				return b.String()
			case ch == '\\' && i+1 < len(r.text):
				i++
				b.WriteByte(r.text[i])
			default:
				b.WriteByte(ch)
			}
		}
		r.fail("a quote is not closed")
		return ""
	}
	for _, symbol := range []string{">=", "<=", "!=", "(", ")", "=", "<", ">", ":"} {
		if rest, ok := strings.CutPrefix(r.text, symbol); ok {
			r.text = rest
			return symbol
		}
	}
	n := strings.IndexAny(r.text, " \t\r\n\"()=<>!:")
	switch {
	case n == 0:
		r.fail("%s does not fit", shown(r.text[:1]))
		return ""
	case n < 0:
		n = len(r.text)
	}
	word := r.text[:n]
	r.text = r.text[n:]
	return word
}

func (r *filterReader) peek() string {
	before := r.text
	word := r.next()
	if r.err == nil {
		r.text = before
	}
	return word
}

// or reads what is joined by OR. top says that what it reads holds for all that
// the whole filter lets through.
func (r *filterReader) or(depth int, top bool) condition {
	if depth > filterDepth {
		r.fail("more than %d parentheses within each other", filterDepth)
		return nil
	}
	found := r.f // without what only one side says
	all := []condition{r.and(depth, top)}
	for r.err == nil && r.peek() == "OR" {
		r.next()
		all = append(all, r.and(depth, false))
	}
	if len(all) == 1 {
		return all[0]
	}
	r.f = found
	return anyOf(all)
}

func anyOf(all []condition) condition {
	return func(e *wireEntry) bool {
		for _, c := range all {
			if c(e) {
				return true
			}
		}
		return false
	}
}

func (r *filterReader) and(depth int, top bool) condition {
	all := []condition{r.one(depth, top)}
	for r.err == nil {
		switch r.peek() {
		case "AND":
			r.next()
		case "", "OR", ")":
			return func(e *wireEntry) bool {
				for _, c := range all {
					if !c(e) {
						return false
					}
				}
				return true
			}
		}
		all = append(all, r.one(depth, top))
	}
	return nil
}

// one reads a comparison, or what stands in parentheses.
func (r *filterReader) one(depth int, top bool) condition {
	switch word := r.next(); {
	case r.err != nil:
		return nil
	case word == "NOT":
		if depth > filterDepth {
			r.fail("more than %d words within each other", filterDepth)
			return nil
		}
		c := r.one(depth+1, false)
		return func(e *wireEntry) bool { return !c(e) }
	case word == "(":
		c := r.or(depth+1, top)
		if r.err == nil && r.next() != ")" {
			r.fail("a parenthesis is not closed")
		}
		return c
	case word == "" || word[0] == '"' || strings.ContainsAny(word, "()=<>!:"):
		r.fail("%s: want a name such as severity", shown(strings.TrimPrefix(word, `"`)))
		return nil
	default:
		return r.comparison(word, top)
	}
}

func (r *filterReader) comparison(name string, top bool) condition {
	if !knownField(name) {
		r.fail("%s is not known: want resource.type, resource.labels.module_id, resource.labels.version_id, severity, logName, timestamp, insertId or textPayload", shown(name))
		return nil
	}
	op := r.next()
	switch op {
	case "=", "!=", ">=", "<=", ">", "<", ":":
	default:
		r.fail("%s: want a comparison such as =", shown(name))
		return nil
	}
	if r.peek() != "(" {
		return r.compare(name, op, r.value(), top)
	}
	r.next()
	all := []condition{r.compare(name, op, r.value(), false)}
	for r.err == nil {
		switch r.next() {
		case ")":
			return anyOf(all)
		case "OR":
			all = append(all, r.compare(name, op, r.value(), false))
		default:
			r.fail("%s: want values with OR in between, and a parenthesis", shown(name))
		}
	}
	return nil
}

func (r *filterReader) value() string {
	word := r.next()
	if text, ok := strings.CutPrefix(word, `"`); ok {
		return text
	}
	if r.err == nil && (word == "" || strings.ContainsAny(word, "()=<>!:")) {
		r.fail("a value is missing")
	}
	return word
}

func knownField(name string) bool {
	switch name {
	case "resource.type", "resource.labels.project_id", "resource.labels.module_id", "resource.labels.version_id", "severity", "logName", "timestamp", "insertId", "textPayload":
		return true
	}
	return false
}

// of is an entry's value of a name.
func fieldOf(e *wireEntry, name string) string {
	switch name {
	case "resource.type":
		return e.Resource.Type
	case "resource.labels.project_id":
		return e.Resource.Labels.Project
	case "resource.labels.module_id":
		return e.Resource.Labels.Module
	case "resource.labels.version_id":
		return e.Resource.Labels.Version
	case "severity":
		return e.Severity
	case "logName":
		return e.LogName
	case "timestamp":
		return e.Timestamp
	case "insertId":
		return e.InsertID
	}
	return e.Text
}

// compare makes the condition of one comparison.
func (r *filterReader) compare(name, op, value string, top bool) condition {
	if r.err != nil {
		return nil
	}
	var order func(e *wireEntry) int
	switch name {
	case "severity":
		want, err := logs.ParseLevel(value)
		if err != nil {
			r.fail("severity %s: %v", shown(value), err)
			return nil
		}
		order = func(e *wireEntry) int { return int(e.level) - int(want) }
	case "timestamp":
		want, err := time.Parse(time.RFC3339, value)
		if err != nil {
			r.fail("timestamp %s: want a time such as 2026-11-22T18:30:00Z", shown(value))
			return nil
		}
		if top && (op == ">=" || op == ">" || op == "=") && want.After(r.f.since) {
			r.f.since = want
		}
		order = func(e *wireEntry) int { return e.time.Compare(want) }
	default:
		if top && op == "=" && name == "resource.labels.module_id" {
			r.f.service = value
		}
		if top && op == "=" && name == "resource.labels.version_id" {
			r.f.version = value
		}
		order = func(e *wireEntry) int { return strings.Compare(fieldOf(e, name), value) }
	}
	switch op {
	case "=":
		return func(e *wireEntry) bool { return order(e) == 0 }
	case "!=":
		return func(e *wireEntry) bool { return order(e) != 0 }
	case ">=":
		return func(e *wireEntry) bool { return order(e) >= 0 }
	case "<=":
		return func(e *wireEntry) bool { return order(e) <= 0 }
	case ">":
		return func(e *wireEntry) bool { return order(e) > 0 }
	case "<":
		return func(e *wireEntry) bool { return order(e) < 0 }
	}
	value = strings.ToLower(value)
	return func(e *wireEntry) bool { return strings.Contains(strings.ToLower(fieldOf(e, name)), value) }
}
