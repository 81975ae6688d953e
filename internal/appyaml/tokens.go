package appyaml

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// scan cuts the text into tokens and refuses what is too much, too deep, or of
// YAML's rarer parts. App Engine's own client takes no anchors either.
func (s *source) scan(text string) (token.Tokens, bool) {
	var tokens token.Tokens
	var sc scanner.Scanner
	sc.Init(text)
	for {
		some, err := sc.Scan()
		tokens.Add(some...)
		if len(tokens) > maxTokens {
			s.fail(placeOf(tokens[maxTokens]), "the file is too long from here on", fmt.Sprintf("at most %d keys, values and marks are read", maxTokens))
			return nil, false
		}
		if err != nil { // io.EOF; or the last token is invalid, which the parser reports
			break
		}
	}
	var d depth
	content, ended := false, false
	for i, t := range tokens {
		at := placeOf(t)
		if d.enter(t); d.now() > maxDepth {
			s.fail(at, fmt.Sprintf("nested deeper than %d", maxDepth), "")
			return nil, false
		}
		switch t.Type {
		case token.CommentType, token.InvalidType:
			continue
		case token.DocumentHeaderType:
			if content || ended || i > 0 && firstHeader(tokens[:i]) {
				s.fail(at, "a second document begins here", "an app.yaml is one document: put each service into a file of its own")
				return nil, false
			}
			continue
		case token.DocumentEndType:
			ended = true
			continue
		case token.DirectiveType:
			s.fail(at, "YAML directives are not read", "remove this line")
			return nil, false
		case token.AnchorType, token.MergeKeyType:
			s.fail(at, "YAML anchors and merge keys are not read (App Engine refuses them too)", "write the values out, or quote the text if it is one")
		case token.AliasType:
			s.fail(at, "YAML aliases are not read (App Engine refuses them too)", `write the value out; text that begins with "*" needs quotes`)
		case token.MappingKeyType:
			s.fail(at, `"? " begins a complex key, which no app.yaml has`, `write "key: value"`)
		case token.TagType:
			if t.Value != "!!str" {
				s.fail(at, "the YAML tag "+quote(t.Value)+" is not read", `remove it; text that begins with "!" needs quotes`)
			} else if i > 0 && tokens[i-1].Type == token.TagType {
				s.fail(at, "two tags for one value", "remove one")
			}
		}
		if message, hint := misread(t, d.brackets > 0); message != "" {
			s.fail(at, message, hint)
			return nil, false // it may have misled the scanner about all that follows
		}
		if ended {
			s.fail(at, `nothing may follow "..."`, "an app.yaml is one document")
			return nil, false
		}
		content = true
	}
	return tokens, len(s.errors) == 0
}

// misread finds what the scanner takes otherwise than YAML means it, without a
// word. Quotes help each time.
func misread(t *token.Token, inBrackets bool) (message, hint string) {
	tab := strings.Contains(strings.TrimSpace(t.Origin), "\t")
	switch {
	case t.Type == token.StringType && tab && !ofBlock(t):
		return "a tab within plain text", "put quotes around the text, or use blanks"
	case t.Type == token.DoubleQuoteType && tab:
		return "a tab within double quotes", `write it as \t`
	case t.Type == token.MappingValueType && inBrackets && t.Prev != nil && t.Next != nil:
		// In braces it cuts 2222:2221 at the colon, also in a list within them.
		quoted := t.Prev.Type == token.DoubleQuoteType || t.Prev.Type == token.SingleQuoteType
		adjacent := t.Next.Position.Line == t.Position.Line && t.Next.Position.Column == t.Position.Column+1
		end := t.Next.Type == token.CollectEntryType || t.Next.Type == token.MappingEndType
		if adjacent && !quoted && !end {
			return "no blank after a colon in braces", "add one if a key is before it, or put quotes around the text"
		}
	}
	return "", ""
}

// ofBlock says that a text is that of a "|" or ">".
func ofBlock(t *token.Token) bool {
	p := t.Prev
	for p != nil && p.Type == token.CommentType {
		p = p.Prev
	}
	return p != nil && (p.Type == token.LiteralType || p.Type == token.FoldedType)
}

func firstHeader(tokens token.Tokens) bool {
	for _, t := range tokens {
		if t.Type == token.DocumentHeaderType {
			return true
		}
	}
	return false
}

// depth follows how deep tokens are nested: brackets by counting, blocks by
// the columns at which their marks stand.
type depth struct {
	brackets int
	blocks   []block
}

type block struct {
	column int
	list   bool
}

func (d *depth) now() int { return d.brackets + len(d.blocks) }

func (d *depth) enter(t *token.Token) {
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		d.brackets++
	case token.SequenceEndType, token.MappingEndType:
		d.brackets = max(0, d.brackets-1)
	case token.SequenceEntryType:
		d.open(block{t.Position.Column, true})
	case token.MappingValueType:
		// A key counts from where it begins, which is the token before.
		if p := t.Prev; p != nil && p.Position.Line == t.Position.Line {
			t = p
		}
		d.open(block{t.Position.Column, false})
	}
}

func (d *depth) open(b block) {
	if d.brackets > 0 {
		return
	}
	for len(d.blocks) > 0 {
		top := d.blocks[len(d.blocks)-1]
		// A list may stand in the column of the key that it belongs to.
		if top.column < b.column || top == b || top.column == b.column && b.list {
			break
		}
		d.blocks = d.blocks[:len(d.blocks)-1]
	}
	if len(d.blocks) == 0 || d.blocks[len(d.blocks)-1] != b {
		d.blocks = append(d.blocks, b)
	}
}
