package source

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/app"
)

// A tree's canonical form is what its ID is the hash of, and what is kept on
// disk and in backups. It begins with formHead; each file follows as
//
//	f HASH SIZE PATH NUL     a file
//	x HASH SIZE PATH NUL     an executable one
//	l PATH NUL TARGET NUL    a symlink
//
// in the order of their paths. No path and no target has a NUL in it, so one
// tree has one form and one form is one tree. It must never change, or no tree
// would be found again; another form gets another head.
const formHead = "holdfast tree 1\x00"

func (t Tree) encode() []byte {
	b := []byte(formHead)
	for _, f := range t {
		if f.Link != "" {
			b = fmt.Appendf(b, "l %s\x00%s\x00", f.Path, f.Link)
			continue
		}
		kind := "f"
		if f.Exec {
			kind = "x"
		}
		b = fmt.Appendf(b, "%s %s %d %s\x00", kind, f.Hash, f.Size, f.Path)
	}
	return b
}

// decode reads a canonical form and checks the tree. Whatever is not the form of
// a tree that passes is refused with app.ErrInvalid.
func decode(form []byte) (Tree, error) {
	if len(form) > formMax {
		return nil, fmt.Errorf("a tree of more than %d bytes: %w", formMax, app.ErrInvalid)
	}
	rest, ok := strings.CutPrefix(string(form), formHead)
	if !ok {
		return nil, fmt.Errorf("not a tree that this version can read: %w", app.ErrInvalid)
	}
	var t Tree
	cut := func(sep string) string {
		var s string
		var found bool
		s, rest, found = strings.Cut(rest, sep)
		ok = ok && found
		return s
	}
	for rest != "" && ok && len(t) <= FilesMax {
		var f File
		switch kind := cut(" "); kind {
		case "l":
			f.Path, f.Link = cut("\x00"), cut("\x00")
			ok = ok && f.Link != ""
		case "f", "x":
			f.Exec = kind == "x"
			f.Hash = cut(" ")
			size, err := strconv.ParseInt(cut(" "), 10, 64)
			ok = ok && err == nil
			f.Size, f.Path = size, cut("\x00")
		default:
			ok = false
		}
		t = append(t, f)
	}
	// Written again it must be the same: a size of "+07" is nobody's form.
	if !ok || !bytes.Equal(t.encode(), form) {
		return nil, fmt.Errorf("not a tree in its canonical form: %w", app.ErrInvalid)
	}
	return t, t.Check()
}
