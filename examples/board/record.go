package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
)

const (
	updateMax  = 512 << 10 // bytes of one update; a page that brings the whole document back sends one
	logMax     = 2 << 20   // bytes of all updates: what a page gets when it comes
	entriesMax = 2000      // updates; bounds what peers exchange to compare

	// Typing makes some 16 updates a second, of some 30 bytes each. Folded they
	// are one, a fraction of the size; see fold.
	foldEntries = 400       // updates that are worth folding
	foldBytes   = 256 << 10 // bytes beside the last fold that are
)

// errFull says that an update does not fit until the log has been folded, or
// until somebody deletes much of the text.
var errFull = errors.New("the document is full")

// An id names an update by what it contains, so that one that comes twice, from
// a page and from a peer, is known.
type id [16]byte

type entry struct {
	id     id
	update []byte // never changed
}

// A record is the set of the updates that are the document. It is not safe for
// concurrent use.
type record struct {
	entries []entry // in order of arrival, which matters to nobody
	have    map[id]struct{}
	bytes   int // of all updates
	folded  int // of the latest fold
}

func idOf(update []byte) id {
	sum := sha256.Sum256(update)
	return id(sum[:len(id{})])
}

// add takes one more update, which belongs to the log from here on, and says
// whether it was news. The only error is errFull.
func (l *record) add(update []byte) (news bool, err error) {
	name := idOf(update)
	if _, known := l.have[name]; known {
		return false, nil
	}
	if len(l.entries) >= entriesMax || l.bytes+len(update) > logMax {
		return false, errFull
	}
	if l.have == nil {
		l.have = map[id]struct{}{}
	}
	l.entries = append(l.entries, entry{name, update})
	l.have[name] = struct{}{}
	l.bytes += len(update)
	return true, nil
}

// crowded says that the log should be folded.
func (l *record) crowded() bool {
	return len(l.entries) > foldEntries || l.bytes > 2*l.folded+foldBytes
}

// fold puts one update, which belongs to the record from here on, in the place
// of those that it covers, and says whether all of those were known. Some may
// come again from a peer that had not heard: they say nothing new and go with
// the next fold.
func (l *record) fold(update []byte, covers []id) (known bool, err error) {
	gone := make(map[id]struct{}, len(covers))
	known = true
	freed := 0
	for _, name := range covers {
		gone[name] = struct{}{}
		if _, ok := l.have[name]; !ok {
			known = false
		}
	}
	for _, e := range l.entries {
		if _, ok := gone[e.id]; ok {
			freed += len(e.update)
		}
	}
	if l.bytes-freed+len(update) > logMax {
		return known, errFull // nothing is taken away for something that is not kept
	}
	l.entries = slices.DeleteFunc(l.entries, func(e entry) bool {
		_, covered := gone[e.id]
		if covered {
			delete(l.have, e.id)
		}
		return covered
	})
	l.bytes -= freed
	l.folded = len(update)
	_, err = l.add(update)
	return known, err
}

// ids are the names of all updates.
func (l *record) ids() []id {
	all := make([]id, len(l.entries))
	for i, e := range l.entries {
		all[i] = e.id
	}
	return all
}

// digest is the same for two logs with the same updates.
func (l *record) digest() id {
	all := l.ids()
	slices.SortFunc(all, func(a, b id) int { return slices.Compare(a[:], b[:]) })
	h := sha256.New()
	for _, name := range all {
		h.Write(name[:])
	}
	return id(h.Sum(nil)[:len(id{})])
}

// missing are the updates that somebody with the given ones lacks, and those
// that we lack.
func (l *record) missing(theirs []id) (they [][]byte, we []id) {
	have := make(map[id]struct{}, len(theirs))
	for _, name := range theirs {
		have[name] = struct{}{}
		if _, ok := l.have[name]; !ok {
			we = append(we, name)
		}
	}
	for _, e := range l.entries {
		if _, ok := have[e.id]; !ok {
			they = append(they, e.update)
		}
	}
	return they, we
}

// whole is the log as a page gets it: each update behind its length, a uvarint.
func (l *record) whole(head byte) []byte {
	b := make([]byte, 1, 1+l.bytes+len(l.entries)*binary.MaxVarintLen32)
	b[0] = head
	for _, e := range l.entries {
		b = binary.AppendUvarint(b, uint64(len(e.update)))
		b = append(b, e.update...)
	}
	return b
}
