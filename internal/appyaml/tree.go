package appyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// # Bounds before the parser
//
// The YAML parser recurses, and parts of it take time that grows with the
// square of what they are given: 100,000 brackets keep it busy for a minute.
// So the text is measured first, then its tokens, and the parser gets only
// what is small and flat. With these bounds no file takes it half a second,
// and none of them is near any app.yaml that a person wrote.
const (
	maxBytes  = 1 << 20 // of the file
	maxLines  = 20_000
	maxBlank  = 1_000   // blank lines in a row: the scanner's work is their square
	maxMarks  = 200_000 // characters that may be a token: the scanner makes 300 bytes of each
	maxTokens = 20_000  // some 6,000 keys with a value
	maxDepth  = 32      // lists and mappings within one another; app.yaml itself has 4
)

// node is one value of a file: what remains of YAML when its syntax is gone.
type node struct {
	place
	kind  kind
	text  string  // of a scalar, as it was written, without quotes
	plain bool    // a scalar without quotes: may be a number or a boolean
	items []*node // of a list
	pairs []pair  // of a mapping, in the order of the file

	// Set when the value is read.
	name string // its place in the schema, for messages: "network.session_affinity"
	key  place  // of its key; of itself in a list
	bad  bool   // an error was reported: what depends on it is not judged
}

type pair struct{ key, value *node }

type kind uint8

const (
	null kind = iota
	scalar
	list
	mapping
)

var kindNames = [...]string{"nothing", "a single value", "a list", "a mapping"}

func (k kind) String() string { return kindNames[k] }

// tree makes the file's tree, a mapping. It is nil after errors that leave
// nothing to judge; others leave out or mark as bad what they are about.
func (s *source) tree(data []byte) *node {
	text, ok := s.decode(data)
	if !ok {
		return nil
	}
	body, ok := s.parse(text)
	if !ok {
		return nil
	}
	if body == nil {
		s.fail(place{1, 1}, "the file is empty", s.least)
		return nil
	}
	root := s.convert(body)
	if root.kind != mapping {
		s.fail(root.place, "the file must be a mapping of keys to values, not "+root.kind.String(), s.least)
		return nil
	}
	return root
}

// decode makes clean text of the bytes, with every line ended by "\n", or says
// why it cannot.
func (s *source) decode(data []byte) (string, bool) {
	if len(data) > maxBytes {
		s.fail(place{1, 1}, fmt.Sprintf("the file has %d bytes", len(data)), fmt.Sprintf("at most %d (1 MiB) are read", maxBytes))
		return "", false
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		s.fail(place{1, 1}, "the file is UTF-16", "save it as UTF-8")
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	s.lines = strings.Split(text, "\n")
	if len(s.lines) > 1 && s.lines[len(s.lines)-1] == "" {
		s.lines = s.lines[:len(s.lines)-1]
	}
	if len(s.lines) > maxLines {
		s.fail(place{maxLines + 1, 1}, fmt.Sprintf("the file has %d lines", len(s.lines)), fmt.Sprintf("at most %d are read", maxLines))
		return "", false
	}
	marks, blank := 0, 0
	for i, line := range s.lines {
		if at, what, hint := unprintable(line); what != "" {
			s.fail(place{i + 1, at}, what, hint)
			return "", false
		}
		for j := range len(line) {
			if strings.IndexByte("[]{},:-?&*!|>%", line[j]) >= 0 {
				marks++
			}
		}
		if marks > maxMarks {
			s.fail(place{i + 1, 1}, fmt.Sprintf("the file has more than %d brackets, commas, colons and the like", maxMarks), "put large values into a file of their own")
			return "", false
		}
		if strings.TrimSpace(line) != "" {
			blank = 0
		} else if blank++; blank > maxBlank {
			s.fail(place{i + 1, 1}, fmt.Sprintf("more than %d blank lines in a row", maxBlank), "remove them")
			return "", false
		}
	}
	return text, true
}

// unprintable finds what YAML allows in no text (YAML 1.1, 5.1).
func unprintable(line string) (column int, what, hint string) {
	column = 1
	for i, c := range line {
		switch {
		case c == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(line[i:]); size == 1 {
				return column, "this is not UTF-8", "save the file as UTF-8 text"
			}
		case c < ' ' && c != '\t', c >= 0x7f && c < 0xa0 && c != 0x85, c == 0xfffe, c == 0xffff:
			return column, fmt.Sprintf("unprintable character %U", c), "remove it"
		}
		column++
	}
	return 0, "", ""
}

// parse makes the syntax tree of the only document; nil if there is nothing in
// the file.
func (s *source) parse(text string) (body ast.Node, ok bool) {
	// A bug of the parser that shows as a panic is no reason to end everything
	// else that runs in this process. It cannot overflow the stack: maxTokens.
	at := place{1, 1}
	defer func() {
		if p := recover(); p != nil {
			s.fail(at, "this is not YAML that can be read", "check the quotes and the indentation")
			body, ok = nil, false
		}
	}()
	tokens, ok := s.scan(text)
	if !ok {
		return nil, false
	}
	if first := firstContent(tokens); first == nil {
		return nil, true
	} else {
		at = placeOf(first)
	}
	// Duplicates are for convert, which knows where the first one was.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		s.syntax(at, err)
		return nil, false
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			body = doc.Body
		}
	}
	return body, true
}

func firstContent(tokens token.Tokens) *token.Token {
	for _, t := range tokens {
		switch t.Type {
		case token.CommentType, token.DocumentHeaderType, token.DocumentEndType:
		default:
			return t
		}
	}
	return nil
}

// syntaxHints say what to do about the parser's more frequent complaints.
var syntaxHints = []struct{ message, hint string }{
	{"mapping value is not allowed in this context", `check the indentation; text with ": " in it needs quotes`},
	{"value is not allowed in this context", "check the indentation of this line and the one above"},
	{"cannot start any token", "indent with blanks, not with tabs"},
	{"non-map value is specified", `write "key: value", with a blank after the colon`},
	{"could not find end character", "the closing quote is missing"},
	{"end token", "the closing bracket is missing"},
	{"is a reserved character", "text that begins with it needs quotes"},
}

// syntax reports the error of the parser, which stops at its first.
func (s *source) syntax(at place, err error) {
	message, hint := "this is not YAML that can be read", ""
	var e interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &e) {
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = placeOf(t)
		}
		message = strings.ReplaceAll(e.GetMessage(), "\t", `\t`)
	}
	for _, h := range syntaxHints {
		if strings.Contains(message, h.message) {
			hint = h.hint
			break
		}
	}
	s.fail(at, message, hint)
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// convert makes our tree of the parser's.
func (s *source) convert(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		m := &node{place: placeOf(n.GetToken()), kind: mapping}
		for _, v := range n.Values {
			m.pairs = append(m.pairs, s.pair(v))
		}
		if !n.IsFlowStyle && len(m.pairs) > 0 {
			m.place = m.pairs[0].key.place // the parser's own is the first colon
		}
		s.duplicates(m)
		return m
	case *ast.MappingValueNode:
		p := s.pair(n)
		m := &node{place: p.key.place, kind: mapping, pairs: []pair{p}}
		s.duplicates(m)
		return m
	case *ast.SequenceNode:
		l := &node{place: placeOf(n.GetToken()), kind: list}
		for _, v := range n.Values {
			l.items = append(l.items, s.convert(v))
		}
		return l
	case *ast.TagNode: // scan lets !!str through, nothing else
		v := s.convert(n.Value)
		v.place, v.plain = placeOf(n.GetToken()), false
		if v.kind == null {
			v.kind, v.text = scalar, ""
		}
		if v.kind != scalar {
			v.bad = true
			s.fail(v.place, "!!str is for a single value, not for "+v.kind.String(), "remove it")
		}
		return v
	case *ast.NullNode:
		return &node{place: placeOf(n.GetToken()), kind: null}
	case *ast.LiteralNode:
		return s.text(n.GetToken(), n.Value.Value, false)
	case ast.ScalarNode:
		t := n.GetToken()
		quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
		return s.text(t, t.Value, !quoted)
	}
	at := place{1, 1}
	if n != nil {
		at = placeOf(n.GetToken())
	}
	s.fail(at, "this part of YAML is not read", "write plain keys and values")
	return &node{place: at, kind: null, bad: true}
}

func (s *source) text(t *token.Token, text string, plain bool) *node {
	n := &node{place: placeOf(t), kind: scalar, text: text, plain: plain}
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		// From escapes such as "\0": no variable, path or command can hold it.
		n.bad = true
		s.fail(n.place, "the text has a NUL or a broken character in it", "remove the escape")
	}
	return n
}

func (s *source) pair(v *ast.MappingValueNode) pair {
	key := s.convert(v.Key)
	if key.kind != scalar && !key.bad {
		s.fail(key.place, "a key must be a word, not "+key.kind.String(), "")
	}
	p := pair{key, s.convert(v.Value)}
	if p.value.kind == null {
		p.value.place = key.place // an absent value has no place of its own
	}
	return p
}

// duplicates reports the keys that are there twice, or are no words, and
// leaves the first of each.
func (s *source) duplicates(m *node) {
	first := make(map[string]int, len(m.pairs))
	kept := m.pairs[:0]
	for _, p := range m.pairs {
		if p.key.kind != scalar {
			continue
		}
		if line, ok := first[p.key.text]; ok {
			s.fail(p.key.place, fmt.Sprintf("the key %s is there twice", quote(p.key.text)), fmt.Sprintf("the first is in line %d; remove one", line))
			continue
		}
		first[p.key.text] = p.key.line
		kept = append(kept, p)
	}
	m.pairs = kept
}
