package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"holdfast/internal/spelling"
)

// FileBytesMax is how much of a file is read; the longest sensible one has a
// page. The parser takes time that grows faster than its input.
const FileBytesMax = 16 << 10

// readFile finds the settings in a file, by key. It is YAML: a mapping of keys
// to single values, and lists for those that take several.
func readFile(name string, data []byte) (map[string]said, error) {
	body, err := parse(name, data)
	if err != nil || body == nil {
		return nil, err
	}
	var pairs []*ast.MappingValueNode
	switch body := body.(type) {
	case *ast.MappingNode:
		pairs = body.Values
	case *ast.MappingValueNode: // a mapping of one
		pairs = []*ast.MappingValueNode{body}
	default:
		return nil, &Error{From: place(name, body.GetToken()), What: "the file is no mapping of keys to values", Hint: `write lines such as "listen: :80"`}
	}
	byKey := map[string]Setting{}
	var known []string
	for _, s := range Settings() {
		byKey[s.Key()] = s
		known = append(known, s.Key())
	}
	found := map[string]said{}
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		at := place(name, p.Key.GetToken())
		s, ok := byKey[key]
		if !ok {
			hint := spelling.DidYouMean(key, slices.Values(known), "holdfast serve --help lists the keys")
			return nil, &Error{From: at, Key: key, What: "no setting is called so", Hint: hint}
		}
		if before, ok := found[key]; ok {
			return nil, &Error{From: at, Key: key, What: "it is there twice", Hint: "the first is at " + before.from}
		}
		text, wrong := value(s, p.Value)
		if wrong != nil {
			return nil, &Error{From: at, Key: key, What: wrong.what, Hint: wrong.hint}
		}
		found[key] = said{text: text, from: at, err: Error{From: at, Key: key}}
	}
	return found, nil
}

// parse makes the syntax tree of the only document; nil if the file says
// nothing.
func parse(name string, data []byte) (body ast.Node, err error) {
	if len(data) > FileBytesMax {
		return nil, &Error{From: name, What: fmt.Sprintf("the file has more than %d bytes", FileBytesMax), Hint: "is it the right one?"}
	}
	// A bug of the parser that shows as a panic is one more thing that is wrong
	// with the file.
	unreadable := &Error{From: name, What: "this is not YAML that can be read", Hint: "check the quotes and the indentation"}
	defer func() {
		if recover() != nil {
			body, err = nil, unreadable
		}
	}()
	if bytes.ContainsAny(data, "\x00\t") {
		return nil, &Error{From: name, What: "the file has tabs in it", Hint: "indent with blanks"}
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var e interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &e) {
			unreadable.From, unreadable.What = place(name, e.GetToken()), e.GetMessage()
		}
		return nil, unreadable
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, &Error{From: place(name, doc.Body.GetToken()), What: "the file has a second document", Hint: `remove the line "---" and what follows`}
		}
		body = doc.Body
	}
	return body, nil
}

// value is what a key was given, spelt as in the file.
func value(s Setting, n ast.Node) (string, *fault) {
	switch n := n.(type) {
	case *ast.SequenceNode:
		if !s.many {
			return "", &fault{"it takes a single value, not a list", "write " + s.Key() + ": " + s.Takes}
		}
		var all []string
		for _, item := range n.Values {
			text, wrong := value(Setting{Name: s.Name, Takes: s.Takes}, item)
			if wrong != nil {
				return "", wrong
			}
			all = append(all, text)
		}
		if len(all) == 0 {
			return "", &fault{"the list is empty", "remove the line"}
		}
		return strings.Join(all, ","), nil
	case nil, *ast.NullNode:
		return "", &fault{"it has no value", "give it one or remove the line"}
	case *ast.LiteralNode, *ast.TagNode, *ast.AnchorNode, *ast.AliasNode:
	case ast.ScalarNode:
		return n.GetToken().Value, nil
	}
	return "", &fault{"it takes a single value", "write " + s.Key() + ": " + s.Takes}
}

func place(name string, t *token.Token) string {
	if t == nil || t.Position == nil {
		return name
	}
	return fmt.Sprintf("%s:%d", name, t.Position.Line)
}
